//! People who sign up while the load runs: with numbers that are new, with numbers that were signed up before, and with one
//! number from two places at the same moment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rand_chacha::ChaCha8Rng;

use super::{
    Chat,
    life::{Deed, Life, below, policy},
    prepare::signing_up,
};
use crate::{
    base::Nanos,
    workload::{
        LifeSpec, SignUpSpec,
        engine::{Intent, Policy, lock},
    },
};

/// Numbers that one load can use up; then it goes on with those that it has.
const NUMBERS_MAX: usize = 100_000;
/// Whoever signs up is somebody of its own: the generator's sessions of these lie beyond those of devices.
const SESSIONS_FROM: u64 = 1 << 40;

/// The numbers that were signed up, or tried to be, and the group of clients that each belongs to.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<BTreeMap<String, usize>>);

impl Newcomers {
    /// All of them: group and number.
    pub(super) fn all(&self) -> Vec<(usize, String)> {
        let known = lock(&self.0);
        known.iter().map(|(phone, group)| (*group, phone.clone())).collect()
    }

    fn note(&self, phone: &str, group: usize) {
        lock(&self.0).entry(phone.to_owned()).or_insert(group);
    }
}

/// The `number`th that load `load` of a system signs up: one that no device of the run has.
pub(super) fn phone(system: u16, load: usize, number: usize) -> String {
    format!("+998{system:03}{load:02}{number:05}")
}

/// Those who sign up.
pub(super) struct SignUpLife {
    load: usize,
    spec: SignUpSpec,
    policy: Policy,
    /// Numbers that are in use.
    used: usize,
    turn: u64,
    rng: ChaCha8Rng,
}

impl SignUpLife {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        let spec = match chat.plan.loads[load].life {
            Some(LifeSpec::SignUp(spec)) => spec,
            _ => SignUpSpec::default(),
        };
        Self {
            load,
            spec,
            policy: policy(chat, load),
            used: 0,
            turn: 0,
            rng: chat.plan.engine.streams.stream(&format!("sign-ups {load}")),
        }
    }

    /// The number that is signed up next.
    fn draw(&mut self) -> usize {
        let again = self.used > 0 && below(&mut self.rng, 100) < self.spec.again_percent as usize;
        if again || self.used >= NUMBERS_MAX {
            return below(&mut self.rng, self.used);
        }
        self.used += 1;
        self.used - 1
    }
}

impl Life for SignUpLife {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let number = self.draw();
        let twice = below(&mut self.rng, 100) < self.spec.at_once_percent as usize;
        let phone = phone(chat.plan.number, self.load, number);
        let group = number % chat.plan.groups.len();
        let session = SESSIONS_FROM + ((self.load as u64) << 32) + self.turn * 2;
        self.turn += 1;
        let intent = signing_up(&chat.plan, group, &phone, session, intended);
        let policy = self.policy.clone();
        Deed::new(chat, intent, move |chat, intent| async move {
            chat.newcomers.note(&phone, group);
            let first = sign_up(&chat, group, &intent, &policy);
            if !twice {
                return first.await;
            }
            let elsewhere = (group + 1) % chat.plan.groups.len();
            let second = signing_up(&chat.plan, elsewhere, &phone, session + 1, intended);
            tokio::join!(first, sign_up(&chat, elsewhere, &second, &policy));
        })
    }
}

/// What becomes of it has been recorded.
async fn sign_up(chat: &Chat, group: usize, intent: &Intent, policy: &Policy) {
    let crate::history::Subject::Account { phone, .. } = &intent.subject else {
        return;
    };
    let client = &chat.plan.groups[group].client;
    let call = || client.sign_up(phone, policy.within);
    drop(chat.plan.engine.perform(intent, policy, call).await);
}
