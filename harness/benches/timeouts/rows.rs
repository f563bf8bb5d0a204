//! What is measured: one cluster for each election timeout, whose leader is frozen.

use firedrill::{
    fault::{FaultSpec, Freeze},
    history::Class,
    system::System,
    target::{ShardRef, Target, group_of},
};

use crate::{common::Result, messaging};

/// Heartbeats in the shortest election timeout, as in the service's defaults.
const HEARTBEATS: u32 = 6;

/// The messaging service with these timeouts, one shard.
pub(crate) fn make(seed: u64, election_ms: u32) -> Result<Box<dyn System>> {
    let settings = [
        ("timing.tick_ms", (election_ms / 30).clamp(1, 10).into()),
        ("timing.heartbeat_ms", (election_ms / HEARTBEATS).into()),
        ("timing.election_ms_min", election_ms.into()),
        ("timing.election_ms_max", (2 * election_ms).into()),
    ];
    messaging::messaging(seed, 1, &settings)
}

/// Which system a row is about.
#[derive(Clone, Copy)]
pub(crate) struct Kind;

impl Kind {
    /// The group whose leader is meant.
    #[expect(clippy::unused_self, reason = "a row asks its system")]
    pub(crate) fn group(self) -> String {
        group_of(0)
    }

    /// What its probe does.
    #[expect(clippy::unused_self, reason = "a row asks its system")]
    pub(crate) const fn class(self) -> Class {
        Class::Send
    }
}

/// Which acknowledgement shows that there is a new leader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// One of a write that was sent when the old leader was silent already.
    SentLater,
    /// One of another node.
    #[expect(dead_code, reason = "the outage knows it")]
    OtherNode,
}

/// One row.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) system: Kind,
    pub(crate) fault: fn() -> FaultSpec,
    pub(crate) shows: Shows,
    pub(crate) retried: bool,
}

/// Freezes of the leader.
pub(crate) fn frozen(election_ms: u32) -> Row {
    Row {
        name: format!("frozen {election_ms}"),
        system: Kind,
        fault: || FaultSpec::Freeze(Freeze(Target::LeaderOf(ShardRef { shard: 0 }))),
        shows: Shows::SentLater,
        retried: false,
    }
}
