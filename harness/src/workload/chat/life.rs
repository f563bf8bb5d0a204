//! The social loads: each draws one deed after the other at the instants of its schedule, one file for each kind.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::{
    Chat, contacts::ContactsLife, groups::GroupLife, opening::Opening, reading::Reading, sign_up::SignUpLife,
    watching::Watching,
};
use crate::{
    base::Nanos,
    history::Class,
    workload::{
        Budget,
        engine::{Intent, Policy},
    },
};

/// Something that somebody is about to do.
pub(super) struct Deed {
    pub(super) intent: Intent,
    pub(super) work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Deed {
    /// A deed that `work` does, given what is meant.
    pub(super) fn new<F>(chat: &Arc<Chat>, intent: Intent, work: impl FnOnce(Arc<Chat>, Intent) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            work: Box::pin(work(Arc::clone(chat), intent.clone())),
            intent,
        }
    }
}

/// A kind of life.
pub(super) trait Life: Send {
    /// What is done at the instant `intended`.
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed;
}

/// The life of load `number`; none for one that only sends to people.
pub(super) fn of(chat: &Chat, number: usize) -> Option<Box<dyn Life>> {
    match chat.plan.loads[number].class {
        Class::Group => Some(Box::new(GroupLife::new(chat, number))),
        Class::SignUp => Some(Box::new(SignUpLife::new(chat, number))),
        Class::Contacts => Some(Box::new(ContactsLife::new(chat, number))),
        Class::Open => Some(Box::new(Opening::new(chat, number))),
        Class::Receipt => Some(Box::new(Reading::new(chat, number))),
        Class::Presence => Some(Box::new(Watching::new(chat, number))),
        _ => None,
    }
}

/// A number below `bound`.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
    usize::try_from(rng.next_u64() % bound).unwrap_or(0)
}

/// How those of load `load` try again.
pub(super) fn policy(chat: &Chat, load: usize) -> Policy {
    let spec = &chat.plan.loads[load];
    let budget = Budget::new(spec.retry, chat.plan.engine.clock.now());
    Policy {
        retry: spec.retry,
        within: Duration::from_millis(spec.op_timeout_ms),
        budget: Some(Arc::new(Mutex::new(budget))),
    }
}
