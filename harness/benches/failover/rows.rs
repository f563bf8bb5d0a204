//! What is measured, one row each.

use firedrill::{
    backend::Plane,
    fault::{FaultSpec, Freeze, Isolate, Kill, Stop, TransferLeader},
    history::Class,
    system::{System, clients::ETCD_GROUP},
    target::{ShardRef, Target, group_of},
};

use crate::{common::Result, etcd, messaging};

/// The messaging service's defaults, said once more so that etcd's equal them whatever they become.
const HEARTBEAT_MS: u32 = 50;
const ELECTION_MS: u32 = 300;

/// Which system a row is about.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// The messaging service, one shard, default timeouts.
    Messaging,
    /// etcd at its default timeouts.
    EtcdDefaults,
    /// etcd at the messaging service's timeouts.
    EtcdEqual,
}

impl Kind {
    /// The system; the reason where this machine has none.
    pub(crate) fn make(self, seed: u64) -> Result<std::result::Result<Box<dyn System>, String>> {
        match self {
            Self::Messaging => {
                let settings = [
                    ("timing.heartbeat_ms", HEARTBEAT_MS.into()),
                    ("timing.election_ms_min", ELECTION_MS.into()),
                    ("timing.election_ms_max", (2 * ELECTION_MS).into()),
                ];
                Ok(Ok(messaging::messaging(seed, 1, &settings)?))
            }
            Self::EtcdDefaults => etcd::etcd(&[]),
            // etcd draws each time-out from one to two times what it is told, as the messaging service does.
            Self::EtcdEqual => etcd::etcd(&[
                format!("--heartbeat-interval={HEARTBEAT_MS}"),
                format!("--election-timeout={ELECTION_MS}"),
            ]),
        }
    }

    /// The group whose leader is meant.
    pub(crate) fn group(self) -> String {
        match self {
            Self::Messaging => group_of(0),
            Self::EtcdDefaults | Self::EtcdEqual => ETCD_GROUP.to_owned(),
        }
    }

    /// What its probe does.
    pub(crate) const fn class(self) -> Class {
        match self {
            Self::Messaging => Class::Send,
            Self::EtcdDefaults | Self::EtcdEqual => Class::Put,
        }
    }
}

/// Which acknowledgement shows that there is a new leader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// One of a write that was sent when the old leader was gone already.
    SentLater,
    /// One of another node: the old leader may go on until the new one takes over.
    OtherNode,
}

/// One row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) system: Kind,
    pub(crate) fault: fn() -> FaultSpec,
    pub(crate) shows: Shows,
    /// Writes of the probe a second; each has a table row and a cluster of its own.
    pub(crate) rates: &'static [u32],
    /// Whether a client repeats a write that surely did not happen.
    pub(crate) retried: bool,
    pub(crate) rounds: u32,
    pub(crate) rounds_quick: u32,
}

const fn leader_of_shard() -> Target {
    Target::LeaderOf(ShardRef { shard: 0 })
}

const fn isolate(plane: Plane) -> FaultSpec {
    FaultSpec::Isolate(Isolate {
        target: leader_of_shard(),
        plane,
    })
}

const fn isolate_leader(plane: Plane) -> FaultSpec {
    FaultSpec::Isolate(Isolate {
        target: Target::Leader,
        plane,
    })
}

const fn hand_over() -> FaultSpec {
    FaultSpec::TransferLeader(TransferLeader {
        shard: 0,
        to: Target::AnyFollower,
    })
}

const BOTH: &[u32] = &[300, 1000];

/// Every row.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "messaging: leader killed",
        system: Kind::Messaging,
        fault: || FaultSpec::Kill(Kill(leader_of_shard())),
        shows: Shows::SentLater,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 2,
    },
    Row {
        name: "messaging: leader cut off from all",
        system: Kind::Messaging,
        fault: || isolate(Plane::All),
        shows: Shows::SentLater,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader cut off from nodes",
        system: Kind::Messaging,
        fault: || isolate(Plane::BackEnd),
        shows: Shows::OtherNode,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader stopped",
        system: Kind::Messaging,
        fault: || FaultSpec::Stop(Stop(leader_of_shard())),
        shows: Shows::OtherNode,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader frozen",
        system: Kind::Messaging,
        fault: || FaultSpec::Freeze(Freeze(leader_of_shard())),
        shows: Shows::SentLater,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader stopped, writes repeated",
        system: Kind::Messaging,
        fault: || FaultSpec::Stop(Stop(leader_of_shard())),
        shows: Shows::OtherNode,
        rates: BOTH,
        retried: true,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader hands over, writes repeated",
        system: Kind::Messaging,
        fault: hand_over,
        shows: Shows::OtherNode,
        rates: BOTH,
        retried: true,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "messaging: leader hands over",
        system: Kind::Messaging,
        fault: hand_over,
        shows: Shows::OtherNode,
        rates: BOTH,
        retried: false,
        rounds: 50,
        rounds_quick: 1,
    },
    Row {
        name: "etcd, defaults: leader killed",
        system: Kind::EtcdDefaults,
        fault: || FaultSpec::Kill(Kill(Target::Leader)),
        shows: Shows::SentLater,
        rates: &[1000],
        retried: false,
        rounds: 10,
        rounds_quick: 1,
    },
    Row {
        name: "etcd, equal timeouts: leader killed",
        system: Kind::EtcdEqual,
        fault: || FaultSpec::Kill(Kill(Target::Leader)),
        shows: Shows::SentLater,
        rates: &[1000],
        retried: false,
        rounds: 10,
        rounds_quick: 1,
    },
    Row {
        name: "etcd, defaults: leader cut off from all",
        system: Kind::EtcdDefaults,
        fault: || isolate_leader(Plane::All),
        shows: Shows::SentLater,
        rates: &[1000],
        retried: false,
        rounds: 10,
        rounds_quick: 1,
    },
    Row {
        name: "etcd, equal timeouts: leader cut off from all",
        system: Kind::EtcdEqual,
        fault: || isolate_leader(Plane::All),
        shows: Shows::SentLater,
        rates: &[1000],
        retried: false,
        rounds: 10,
        rounds_quick: 1,
    },
];
