//! One owner's sessions, as the owner has them or as another copied them.

use std::collections::BTreeMap;

use super::{
    MemberId,
    message::{News, Stamp},
};

/// Ends that are remembered one by one. Whoever lacks more than these is given the whole.
const ENDED_MAX: usize = 1024;

/// The sessions of one owner, with what is needed to say what changed since a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copy {
    stamp: Stamp,
    opened: BTreeMap<u64, u64>,
    ended: BTreeMap<u64, u64>,
    /// Ends up to this version may be forgotten.
    forgotten: u64,
}

impl Copy {
    /// Nothing yet, of a new life.
    pub(super) fn born(incarnation: u64) -> Self {
        Self {
            stamp: Stamp {
                incarnation,
                version: 0,
            },
            ..Self::default()
        }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) const fn opened(&self) -> &BTreeMap<u64, u64> {
        &self.opened
    }

    /// The owner opens a session; false when it is open.
    pub(super) fn open(&mut self, session: u64) -> bool {
        if self.opened.contains_key(&session) {
            return false;
        }
        self.stamp.version += 1;
        self.ended.remove(&session);
        self.opened.insert(session, self.stamp.version);
        true
    }

    /// The owner ends a session; false when it isn't open.
    pub(super) fn end(&mut self, session: u64) -> bool {
        if self.opened.remove(&session).is_none() {
            return false;
        }
        self.stamp.version += 1;
        self.ended.insert(session, self.stamp.version);
        self.forget();
        true
    }

    /// The owner begins a life later than `heard`, with the sessions that it has.
    pub(super) fn outlive(&mut self, heard: Stamp) {
        self.stamp.incarnation = heard.incarnation.saturating_add(1);
    }

    fn forget(&mut self) {
        if self.ended.len() <= ENDED_MAX {
            return;
        }
        let mut versions: Vec<u64> = self.ended.values().copied().collect();
        versions.sort_unstable();
        // Half at once, so that this isn't done at each end.
        self.forgotten = versions[versions.len() - ENDED_MAX / 2 - 1];
        let forgotten = self.forgotten;
        self.ended.retain(|_, version| *version > forgotten);
    }

    /// All of it.
    pub(super) fn whole(&self, owner: MemberId) -> News {
        News {
            owner,
            stamp: self.stamp,
            since: None,
            opened: self.opened.clone(),
            ended: BTreeMap::new(),
        }
    }

    /// What a copy as new as `has` lacks.
    pub(super) fn since(&self, owner: MemberId, has: Stamp) -> News {
        if has.incarnation != self.stamp.incarnation || has.version < self.forgotten {
            return self.whole(owner);
        }
        let newer = |changes: &BTreeMap<u64, u64>| {
            let newer = changes.iter().filter(|(_, version)| **version > has.version);
            newer.map(|(session, version)| (*session, *version)).collect()
        };
        News {
            owner,
            stamp: self.stamp,
            since: Some(has.version),
            opened: newer(&self.opened),
            ended: newer(&self.ended),
        }
    }

    /// Takes news of the owner; false when they are none, or need another copy than this one.
    pub(super) fn take(&mut self, news: &News) -> bool {
        if news.stamp <= self.stamp {
            return false;
        }
        let Some(since) = news.since else {
            *self = Self {
                stamp: news.stamp,
                opened: news.opened.clone(),
                ended: BTreeMap::new(),
                // What ended before isn't known here, so nobody can be told.
                forgotten: news.stamp.version,
            };
            return true;
        };
        if news.stamp.incarnation != self.stamp.incarnation || since > self.stamp.version {
            return false;
        }
        for (session, version) in &news.opened {
            self.ended.remove(session);
            self.opened.insert(*session, *version);
        }
        for (session, version) in &news.ended {
            self.opened.remove(session);
            self.ended.insert(*session, *version);
        }
        self.stamp = news.stamp;
        self.forget();
        true
    }
}
