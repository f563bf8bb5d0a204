//! A client's cache before the directory, and its choice of a door.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Answer, Door};

/// How a client remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverOptions {
    /// Longest that any answer is kept, whatever it says.
    pub ttl_max: Duration,
    /// For how long it is remembered that the directory gave no answer at all.
    pub failure_ttl: Duration,
    /// Keep using the doors of an old answer while the directory gives none. An empty answer is an answer.
    pub serve_stale: bool,
    /// For how long a door that failed is passed over while there are others.
    pub avoid_for: Duration,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            ttl_max: Duration::from_secs(3600),
            failure_ttl: Duration::from_secs(1),
            serve_stale: false,
            avoid_for: Duration::from_secs(2),
        }
    }
}

/// What a client knows without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// These doors, the best first.
    Doors(Vec<Door>),
    /// There is none, and it needn't ask before this instant.
    Dark {
        /// When to ask again.
        until: Duration,
    },
    /// It must ask.
    Ask,
}

/// What one client, or a group of clients in one place, remembers of the directory.
#[derive(Clone, Debug)]
pub struct Resolver {
    zone: String,
    options: ResolverOptions,
    doors: Vec<Door>,
    /// When to ask again; none before the first answer.
    until: Option<Duration>,
    failed: BTreeMap<String, Duration>,
    asked: u64,
}

impl Resolver {
    /// A cache that knows nothing yet, for clients in `zone`.
    #[must_use]
    pub fn new(zone: &str, options: ResolverOptions) -> Self {
        Self {
            zone: zone.to_owned(),
            options,
            doors: Vec::new(),
            until: None,
            failed: BTreeMap::new(),
            asked: 0,
        }
    }

    /// What is known at `now`, for the client that is `lane`: doors of its own zone first, and among equals an order of
    /// the client's own, so that clients spread and each keeps to its door when another comes or goes.
    #[must_use]
    pub fn lookup(&self, lane: u64, now: Duration) -> Lookup {
        match self.until {
            Some(until) if now < until => {}
            _ => return Lookup::Ask,
        }
        if self.doors.is_empty() {
            return self.until.map_or(Lookup::Ask, |until| Lookup::Dark { until });
        }
        let mut doors = self.doors.clone();
        doors.sort_by_key(|door| {
            let avoided = self.failed.get(&door.name).is_some_and(|until| now < *until);
            let far = door.zone != self.zone;
            (avoided, far, Reverse(xxh3_64_with_seed(door.name.as_bytes(), lane)))
        });
        Lookup::Doors(doors)
    }

    /// Remembers an answer.
    pub fn answered(&mut self, answer: Answer, now: Duration) {
        self.asked += 1;
        self.until = Some(now + answer.ttl.min(self.options.ttl_max));
        self.doors = answer.doors;
        let doors = &self.doors;
        self.failed
            .retain(|name, _| doors.iter().any(|door| door.name == *name));
    }

    /// Remembers that the directory gave no answer.
    pub fn unanswered(&mut self, now: Duration) {
        self.asked += 1;
        self.until = Some(now + self.options.failure_ttl);
        if !self.options.serve_stale {
            self.doors.clear();
        }
    }

    /// Remembers that the door `name` let nobody in.
    pub fn shut(&mut self, name: &str, now: Duration) {
        if self.doors.iter().any(|door| door.name == name) {
            self.failed.insert(name.to_owned(), now + self.options.avoid_for);
        }
    }

    /// Remembers that the door `name` let somebody in.
    pub fn open(&mut self, name: &str) {
        self.failed.remove(name);
    }

    /// Questions asked so far, answered or not.
    #[must_use]
    pub const fn asked(&self) -> u64 {
        self.asked
    }
}
