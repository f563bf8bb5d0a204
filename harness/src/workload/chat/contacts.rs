//! People who add the numbers that they know to their address books, and look at whom the service has found for them.
//!
//! An address book holds the numbers of some others of the load, and some that nobody has yet: those of people who sign up
//! while the load runs, where there are some. What is added overlaps with what was added before.

use std::{ops::Range, sync::Arc, time::Duration};

use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::{
    Chat,
    life::{Deed, Life, below, policy},
    sign_up,
    world::World,
};
use crate::{
    base::Nanos,
    history::{Answer, Class, Event, Subject, Told},
    workload::{
        ContactsSpec, LifeSpec,
        engine::{Intent, Policy},
        people::Caller,
    },
};

/// Of so many entries of an address book one is a number that nobody has when the load begins.
const UNKNOWN_ONE_IN: usize = 4;
/// Numbers of those to come that address books hold, in all.
const TO_COME: usize = 64;
/// Numbers added at one time.
const BATCH: usize = 6;
/// Looks at one time, after the load.
const LOOKS_AT_ONCE: usize = 8;
/// How long all looks after the load may take.
const LOOKS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// The life of the people of one load.
pub(super) struct ContactsLife {
    people: Range<usize>,
    spec: ContactsSpec,
    policy: Policy,
    rng: ChaCha8Rng,
}

impl ContactsLife {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        Self {
            people: chat.ranges[load].clone(),
            spec: spec_of(chat, load).unwrap_or_default(),
            policy: policy(chat, load),
            rng: chat.plan.engine.streams.stream(&format!("contacts {load}")),
        }
    }
}

fn spec_of(chat: &Chat, load: usize) -> Option<ContactsSpec> {
    match chat.plan.loads[load].life {
        Some(LifeSpec::Contacts(spec)) => Some(spec),
        _ => None,
    }
}

/// Entry `at` of the address book of `person`: somebody a few places further on, or a number to come.
fn entry(chat: &Chat, people: &Range<usize>, person: usize, at: usize) -> String {
    if at % UNKNOWN_ONE_IN == UNKNOWN_ONE_IN - 1 {
        let signing_up = |load: &crate::workload::LoadSpec| load.class == Class::SignUp;
        let load = chat
            .plan
            .loads
            .iter()
            .position(signing_up)
            .unwrap_or(chat.plan.loads.len());
        return sign_up::phone(chat.plan.number, load, (person * 7 + at) % TO_COME);
    }
    let place = (person - people.start + 1 + at) % people.len();
    chat.world.people[people.start + place].phone.clone()
}

impl Life for ContactsLife {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let person = self.people.start + below(&mut self.rng, self.people.len());
        let slot =
            chat.world.people[person].first_slot + below(&mut self.rng, chat.world.people[person].devices as usize);
        let adds = below(&mut self.rng, 100) < self.spec.import_percent as usize;
        let policy = self.policy.clone();
        if !adds {
            let intent = intend(chat, slot, Subject::Nothing, intended);
            return Deed::new(chat, intent, move |chat, intent| async move {
                look(&chat, slot, &intent, &policy).await;
            });
        }
        let book = self.spec.book as usize;
        let from = below(&mut self.rng, book);
        let phones: Vec<String> = (from..from + BATCH.min(book))
            .map(|at| entry(chat, &self.people, person, at % book))
            .collect();
        let subject = Subject::Import {
            user: chat.world.people[person].user,
            phones: phones.clone(),
            added: None,
        };
        let intent = intend(chat, slot, subject, intended);
        Deed::new(chat, intent, move |chat, intent| async move {
            let client = &chat.plan.groups[chat.world.people[person].group].client;
            let call = || client.import_contacts(caller(&chat, slot), &phones, policy.within);
            drop(chat.plan.engine.perform(&intent, &policy, call).await);
        })
    }
}

fn intend(chat: &Chat, slot: usize, subject: Subject, intended: Nanos) -> Intent {
    let person = &chat.world.people[chat.world.slots[slot].person];
    let group = &chat.plan.groups[person.group];
    Intent {
        id: chat.plan.engine.next_id(),
        session: World::session_number(slot),
        class: Class::Contacts,
        needs: group.client.home_of_user(person.user),
        groups: group.labels.clone(),
        probe: false,
        intended,
        subject,
    }
}

/// A log-in in between gives the device another session.
fn caller(chat: &Chat, slot: usize) -> Caller {
    let device = &chat.world.slots[slot];
    Caller {
        user: chat.world.people[device.person].user,
        device: device.device,
        session: device.session(),
    }
}

async fn look(chat: &Chat, slot: usize, intent: &Intent, policy: &Policy) {
    let engine = &chat.plan.engine;
    let person = &chat.world.people[chat.world.slots[slot].person];
    let client = &chat.plan.groups[person.group].client;
    let began = engine.clock.now();
    let call = || client.contacts(caller(chat, slot), policy.within);
    if let Ok(contacts) = engine.perform(intent, policy, call).await {
        tell(chat, slot, began, Answer::Contacts { contacts });
    }
}

fn tell(chat: &Chat, slot: usize, began: Nanos, answer: Answer) {
    let engine = &chat.plan.engine;
    let Caller { user, device, .. } = caller(chat, slot);
    engine.recorder.record(Event::Told(Told {
        began,
        ended: engine.clock.now(),
        system: engine.system.clone(),
        session: World::session_number(slot),
        user,
        device,
        answer,
    }));
}

/// Everybody who has an address book looks at it once more, when the load is over and before sessions are ended. Who gets
/// no answer in time has not looked.
pub(super) async fn look_at_the_end(chat: &Arc<Chat>) {
    let deadline = chat.plan.engine.clock.now().plus(LOOKS_WITHIN);
    let loads = (0..chat.ranges.len()).filter(|load| spec_of(chat, *load).is_some());
    let people: Vec<usize> = loads.flat_map(|load| chat.ranges[load].clone()).collect();
    let mut waiting = people.into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < LOOKS_AT_ONCE
            && let Some(person) = waiting.next()
        {
            let (chat, slot) = (Arc::clone(chat), chat.world.people[person].first_slot);
            tasks.spawn(async move {
                let client = &chat.plan.groups[chat.world.people[person].group].client;
                let began = chat.plan.engine.clock.now();
                let call = || client.contacts(caller(&chat, slot), LOOK_WITHIN);
                let name = format!("contacts of {person}");
                if let Ok(contacts) = chat.insist(&name, deadline, call).await {
                    tell(&chat, slot, began, Answer::Contacts { contacts });
                }
            });
        }
        if tasks.join_next().await.is_none() {
            return;
        }
    }
}
