//! The people of the loads that write, when they do something else: a load of that brings nobody of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::{Chat, world::World};
use crate::{
    base::Nanos,
    history::{Answer, Class, Event, Subject, Told},
    workload::{
        Budget,
        client::ChatClient,
        engine::{Intent, Policy},
        people::Caller,
    },
};

/// Whether a load of this class signs people up.
pub(super) const fn brings_people(class: Class) -> bool {
    matches!(class, Class::Send | Class::Group)
}

/// Whether a load of this class is lived by the people of others.
pub(super) const fn borrows_people(class: Class) -> bool {
    matches!(class, Class::Open | Class::Receipt | Class::Presence)
}

/// Everybody who writes, in turn.
#[derive(Debug)]
pub(super) struct Crowd {
    people: Vec<usize>,
    turn: usize,
    rng: ChaCha8Rng,
    pub(super) policy: Policy,
}

/// Somebody, at one of its devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Somebody {
    pub(super) person: usize,
    slot: usize,
}

/// Everybody whom a load has signed up to write.
pub(super) fn everybody(chat: &Chat) -> Vec<usize> {
    let loads = chat.ranges.iter().zip(&chat.plan.loads);
    let writing = loads.filter(|(_, load)| brings_people(load.class));
    writing.flat_map(|(people, _)| people.clone()).collect()
}

impl Crowd {
    /// The crowd of load `number`, which is there when the loads were prepared.
    pub(super) fn of(chat: &Chat, number: usize) -> Self {
        let (spec, engine) = (&chat.plan.loads[number], &chat.plan.engine);
        let budget = Budget::new(spec.retry, engine.clock.now());
        Self {
            people: everybody(chat),
            turn: 0,
            rng: engine.streams.stream(&format!("crowd {number}")),
            policy: Policy {
                retry: spec.retry,
                within: Duration::from_millis(spec.op_timeout_ms),
                budget: Some(Arc::new(Mutex::new(budget))),
            },
        }
    }

    /// The next one: people in turn, and in each round the next of their devices.
    pub(super) fn next(&mut self, chat: &Chat) -> Somebody {
        let (round, index) = (self.turn / self.people.len(), self.turn % self.people.len());
        self.turn += 1;
        let person = self.people[index];
        let known = &chat.world.people[person];
        let slot = known.first_slot + round % known.devices as usize;
        Somebody { person, slot }
    }

    /// A person, drawn.
    pub(super) fn anybody(&mut self) -> usize {
        let at = self.below(self.people.len());
        self.people[at]
    }

    /// A number below `bound`, or 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.rng.next_u64() % bound).unwrap_or(0)
    }
}

impl Somebody {
    /// Somebody at its first device.
    pub(super) fn at_first_device(chat: &Chat, person: usize) -> Self {
        let slot = chat.world.people[person].first_slot;
        Self { person, slot }
    }

    pub(super) fn user(self, chat: &Chat) -> u64 {
        chat.world.people[self.person].user
    }

    /// With the session that the device has now.
    pub(super) fn caller(self, chat: &Chat) -> Caller {
        let device = &chat.world.slots[self.slot];
        Caller {
            user: self.user(chat),
            device: device.device,
            session: device.session(),
        }
    }

    pub(super) fn client(self, chat: &Chat) -> &dyn ChatClient {
        &*chat.plan.groups[chat.world.people[self.person].group].client
    }

    /// What it is about to do.
    pub(super) fn intends(self, chat: &Chat, class: Class, needs: String, intended: Nanos, subject: Subject) -> Intent {
        Intent {
            id: chat.plan.engine.next_id(),
            session: World::session_number(self.slot),
            class,
            needs,
            groups: chat.plan.groups[chat.world.people[self.person].group].labels.clone(),
            probe: false,
            intended,
            subject,
        }
    }

    /// It has been told `answer`, which it had asked for at `began`.
    pub(super) fn told(self, chat: &Chat, began: Nanos, answer: Answer) {
        let (engine, caller) = (&chat.plan.engine, self.caller(chat));
        engine.recorder.record(Event::Told(Told {
            began,
            ended: engine.clock.now(),
            system: engine.system.clone(),
            session: World::session_number(self.slot),
            user: caller.user,
            device: caller.device,
            answer,
        }));
    }
}
