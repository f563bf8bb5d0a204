//! Who writes to whom: users, their devices, and fixed pairs, all drawn from the run's seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// With how many others a user talks, where there are that many.
const PARTNERS: usize = 3;

/// A user of the service.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) phone: String,
    /// The account's id, once signed up.
    pub(super) user: u64,
    /// Which client group the user belongs to.
    pub(super) group: usize,
    /// The user's devices: this many slots from this one on.
    pub(super) first_slot: usize,
    pub(super) devices: u32,
}

/// One device, as the load knows it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) person: usize,
    /// From 1.
    pub(super) device: u32,
    /// The service's session; 0 before the first log-in.
    session: AtomicU64,
    client_ids: AtomicU64,
    log_ins: AtomicU64,
}

impl Slot {
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }

    pub(super) fn set_session(&self, session: u64) {
        self.session.store(session, Ordering::Release);
    }

    /// The device's next own number, from 1.
    pub(super) fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for the next log-in, not used before by this device. `salt` is the run's.
    pub(super) fn next_nonce(&self, salt: u64) -> u64 {
        let count = self.log_ins.fetch_add(1, Ordering::Relaxed);
        let name = format!("{} {} {count}", self.person, self.device);
        xxh3_64_with_seed(name.as_bytes(), salt)
    }
}

/// Where a conversation of two is, and one of the two.
#[derive(Debug)]
pub(super) struct Held {
    /// The part of the service that holds it.
    pub(super) part: String,
    /// Somebody who may read it.
    pub(super) reader: usize,
}

/// Everybody.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) people: Vec<Person>,
    pub(super) slots: Vec<Slot>,
    /// Each conversation of the load or a probe.
    pub(super) conversations: BTreeMap<u64, Held>,
}

impl World {
    /// Adds a user, who has not signed up yet.
    pub(super) fn add(&mut self, phone: String, group: usize, devices: u32) -> usize {
        let person = self.people.len();
        self.people.push(Person {
            phone,
            user: 0,
            group,
            first_slot: self.slots.len(),
            devices,
        });
        self.slots.extend((1..=devices).map(|device| Slot {
            person,
            device,
            session: AtomicU64::new(0),
            client_ids: AtomicU64::new(0),
            log_ins: AtomicU64::new(0),
        }));
        person
    }

    /// The load's number for the session of a slot, from 1.
    pub(super) const fn session_number(slot: usize) -> u64 {
        slot as u64 + 1
    }

    /// The sessions' numbers of a user's devices.
    pub(super) fn sessions_of(&self, person: usize) -> impl Iterator<Item = u64> + use<> {
        let person = &self.people[person];
        let slots = person.first_slot..person.first_slot + person.devices as usize;
        slots.map(Self::session_number)
    }
}

/// Fixed pairs among `count` users from `first` on: each talks with a few others, in a seeded order.
pub(super) fn pairs(first: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<(usize, usize)> {
    let mut ring: Vec<usize> = (first..first + count).collect();
    shuffle(&mut ring, rng);
    let mut pairs = BTreeSet::new();
    for index in 0..count {
        for step in 1..=PARTNERS.min(count.saturating_sub(1)) {
            let (a, b) = (ring[index], ring[(index + step) % count]);
            pairs.insert((a.min(b), a.max(b)));
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    shuffle(&mut pairs, rng);
    pairs
}

fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
        let chosen = usize::try_from(rng.next_u64() % bound).unwrap_or(0);
        items.swap(last, chosen);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Streams;

    proptest! {
        #[test]
        fn everybody_talks_with_somebody_else(first in 0..50usize, count in 2..200usize, seed in any::<u64>()) {
            let pairs = pairs(first, count, &mut Streams::new(seed).stream("pairs"));
            let mut seen = BTreeSet::new();
            for (a, b) in &pairs {
                prop_assert!(a < b && *a >= first && *b < first + count);
                seen.extend([*a, *b]);
            }
            prop_assert_eq!(seen.len(), count);
            let distinct: BTreeSet<_> = pairs.iter().collect();
            prop_assert_eq!(distinct.len(), pairs.len());
            prop_assert!(pairs.len() <= count * PARTNERS);
        }
    }

    #[test]
    fn pairs_repeat_by_seed() {
        let of = |seed| pairs(0, 50, &mut Streams::new(seed).stream("pairs"));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn devices_are_numbered_through() {
        let mut world = World::default();
        world.add("1".to_owned(), 0, 2);
        let second = world.add("2".to_owned(), 0, 3);
        assert_eq!(world.sessions_of(second).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(world.slots[4].device, 3);
        assert_eq!(world.slots[4].next_client_id(), 1);
        assert_eq!(world.slots[4].next_client_id(), 2);
        let nonce = world.slots[4].next_nonce(7);
        assert_ne!(nonce, world.slots[4].next_nonce(7), "each log-in has its own");
    }
}
