//! People read what they were shown, and say so: their marks move, and what they have not read goes down. Some look at the
//! conversation first; and a few phones whose count is wrong claim to have read what is not there yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    Chat,
    crowd::{Crowd, Somebody},
    life::{Deed, Life},
};
use crate::{
    base::Nanos,
    history::{Answer, Class, Subject},
    workload::{
        LoadSpec,
        engine::{Policy, lock},
    },
};

/// Of a hundred, how many look at the conversation.
const LOOKS_PERCENT: usize = 20;
/// Of a hundred, how many claim too much.
const CLAIMS_PERCENT: usize = 8;
/// How much too much.
const CLAIMED: u64 = 1000;
/// Of a hundred, how many say only that it was delivered.
const DELIVERED_PERCENT: usize = 22;

/// The furthest position of each conversation of a person.
type Shown = BTreeMap<(usize, u64), u64>;

/// What each person was shown, kept where somebody will read it: whatever is shown passes here.
#[derive(Debug)]
pub(super) struct Shelf(Option<Mutex<Shown>>);

impl Shelf {
    /// A shelf for these loads.
    pub(super) fn of_loads(loads: &[LoadSpec]) -> Self {
        let somebody_reads = loads.iter().any(|load| load.class == Class::Receipt);
        Self(somebody_reads.then(Mutex::default))
    }

    pub(super) fn put(&self, person: usize, conversation: u64, position: u64) {
        let Some(shelf) = &self.0 else { return };
        let mut shelf = lock(shelf);
        let known = shelf.entry((person, conversation)).or_default();
        *known = (*known).max(position);
    }

    fn of(&self, person: usize) -> Vec<(u64, u64)> {
        let Some(shelf) = &self.0 else { return Vec::new() };
        let shelf = lock(shelf);
        let own = shelf.range((person, 0)..=(person, u64::MAX));
        own.map(|((_, conversation), position)| (*conversation, *position))
            .collect()
    }
}

/// One after the other reads something.
pub(super) struct Reading(Crowd);

impl Reading {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        Self(Crowd::of(chat, load))
    }

    /// Somebody, and a conversation of which it was shown something up to a position. Who was shown nothing yet reads what
    /// isn't there.
    fn draw(&mut self, chat: &Chat) -> (Somebody, u64, u64) {
        let who = self.0.next(chat);
        let shelf = chat.shelf.of(who.person);
        match shelf.get(self.0.below(shelf.len())) {
            Some((conversation, position)) => (who, *conversation, *position),
            None => (who, 0, 0),
        }
    }
}

impl Life for Reading {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let (who, conversation, shown) = self.draw(chat);
        let policy = self.0.policy.clone();
        let wish = self.0.below(100);
        let client = who.client(chat);
        if wish < LOOKS_PERCENT {
            let needs = client.home_of(conversation);
            let intent = who.intends(chat, Class::Read, needs, intended, Subject::Nothing);
            return Deed::new(chat, intent, move |chat, intent| async move {
                look(&chat, who, conversation, &intent, &policy).await;
            });
        }
        let (delivered, read) = match wish - LOOKS_PERCENT {
            wish if wish < CLAIMS_PERCENT => (shown + CLAIMED, shown + CLAIMED),
            wish if wish < CLAIMS_PERCENT + DELIVERED_PERCENT => (shown, 0),
            _ => (shown, shown),
        };
        let user = who.user(chat);
        let subject = Subject::Receipt {
            log: format!("c:{conversation}"),
            user,
            delivered,
            read,
            marks: None,
        };
        let intent = who.intends(chat, Class::Receipt, client.home_of_user(user), intended, subject);
        Deed::new(chat, intent, move |chat, intent| async move {
            let client = who.client(&chat);
            let call = || client.acquit(who.caller(&chat), conversation, delivered, read, policy.within);
            // Its answer is recorded with it.
            drop(chat.plan.engine.perform(&intent, &policy, call).await);
        })
    }
}

async fn look(
    chat: &Chat,
    who: Somebody,
    conversation: u64,
    intent: &crate::workload::engine::Intent,
    policy: &Policy,
) {
    let client = who.client(chat);
    let began = chat.plan.engine.clock.now();
    let call = || client.look(who.caller(chat), conversation, policy.within);
    if let Ok(page) = chat.plan.engine.perform(intent, policy, call).await {
        let answer = Answer::Log {
            log: format!("c:{conversation}"),
            last_position: page.last_position,
            items: page.items,
            changes: page.changes,
        };
        who.told(chat, began, answer);
    }
}
