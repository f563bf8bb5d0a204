//! What goes wrong and when: a schedule, made from a seed before anything runs.

use std::time::Duration;

use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

/// Whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A node by its id.
    Node(u64),
    /// Whoever led this shard last.
    LeaderOf(u32),
}

/// One act.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Cuts a node off from all others, both ways.
    Isolate(Victim),
    /// Cuts what a node sends to all others; it still hears them.
    Mute(Victim),
    /// Cuts what a node hears; it can still send.
    Deafen(Victim),
    /// Cuts one way of one pair.
    CutOneWay(u64, u64),
    /// Cuts both ways between the nodes with these ids and all others.
    Split(Vec<u64>),
    /// Loses this share of all batches, and delays all by up to this long.
    Degrade(f64, Duration),
    /// Heals the network.
    Heal,
    /// Kills the process.
    Crash(Victim),
    /// Cuts the power of one machine.
    PowerLoss(Victim),
    /// Cuts the power of one machine so many calls of its disk later: in the middle of whatever it does then.
    CutPower(Victim, u64),
    /// Cuts the power of all machines at one instant.
    PowerLossAll,
    /// The next sync of the node's log fails, which must end it.
    FailSync(Victim),
    /// Starts all nodes that are down.
    Restart,
    /// Asks the leader of a shard to hand over.
    Transfer(u32),
    /// Moves a replica of a shard to a node that has none, or aborts such a move; the number says which.
    Move(u32, u64),
    /// Stops a node gracefully.
    Stop(Victim),
}

impl Act {
    /// Its kind, as a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Isolate(_) => "isolate",
            Self::Mute(_) => "mute",
            Self::Deafen(_) => "deafen",
            Self::CutOneWay(..) => "one-way",
            Self::Split(_) => "split",
            Self::Degrade(..) => "degrade",
            Self::Heal => "heal",
            Self::Crash(_) => "crash",
            Self::PowerLoss(_) => "power-loss",
            Self::CutPower(..) => "cut-power",
            Self::PowerLossAll => "power-loss-all",
            Self::FailSync(_) => "fail-sync",
            Self::Restart => "restart",
            Self::Transfer(_) => "transfer",
            Self::Move(..) => "move",
            Self::Stop(_) => "stop",
        }
    }
}

/// An act and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Since the start.
    pub at: Duration,
    /// What happens.
    pub act: Act,
}

/// A schedule for `nodes` nodes (ids from 1) and `shards` shards that ends at `end`. What it broke is healed by whoever
/// runs it.
#[must_use]
pub fn schedule(rng: &mut ChaCha8Rng, nodes: u64, shards: u32, end: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = Duration::from_millis(rng.random_range(400..1500));
    while at < end {
        let act = act(rng, nodes, shards);
        // What takes nodes down is followed by a restart soon, or little else would be tested.
        let restart = matches!(
            act,
            Act::Crash(_) | Act::PowerLoss(_) | Act::CutPower(..) | Act::PowerLossAll | Act::FailSync(_) | Act::Stop(_)
        );
        steps.push(Step { at, act });
        if restart && rng.random_bool(0.7) {
            let after = rng.random_range(1..1200);
            steps.push(Step {
                at: at + Duration::from_millis(after),
                act: Act::Restart,
            });
        }
        at += Duration::from_millis(rng.random_range(20..900));
    }
    steps.sort_by_key(|step| step.at);
    steps
}

fn act(rng: &mut ChaCha8Rng, nodes: u64, shards: u32) -> Act {
    let node = rng.random_range(1..=nodes);
    let victim = if rng.random_bool(0.5) {
        Victim::LeaderOf(rng.random_range(0..shards))
    } else {
        Victim::Node(node)
    };
    match rng.random_range(0..100) {
        0..8 => Act::Isolate(victim),
        8..13 => Act::Mute(victim),
        13..18 => Act::Deafen(victim),
        18..24 => {
            let others: Vec<u64> = (1..=nodes).filter(|other| *other != node).collect();
            Act::CutOneWay(node, others.choose(rng).copied().unwrap_or(node))
        }
        24..30 => Act::Split((1..=nodes).filter(|_| rng.random_bool(0.5)).collect()),
        30..36 => Act::Degrade(
            rng.random_range(0.0..0.3),
            Duration::from_millis(rng.random_range(1..150)),
        ),
        36..50 => Act::Heal,
        50..56 => Act::CutPower(victim, rng.random_range(0..40)),
        56..66 => Act::Crash(victim),
        66..76 => Act::PowerLoss(victim),
        76..80 => Act::PowerLossAll,
        80..83 => Act::FailSync(victim),
        83..90 => Act::Restart,
        90..94 => Act::Move(rng.random_range(0..shards), rng.random_range(0..12)),
        94..97 => Act::Transfer(rng.random_range(0..shards)),
        _ => Act::Stop(victim),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::env::Streams;

    #[test]
    fn a_seed_is_a_schedule_and_schedules_have_every_kind() {
        let end = Duration::from_secs(6);
        let make = |seed| schedule(&mut Streams::new(seed).stream("nemesis"), 3, 2, end);
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
        let kinds: BTreeSet<_> = (0..40).flat_map(make).map(|step| step.act.kind()).collect();
        assert_eq!(kinds.len(), 16, "{kinds:?}");
    }
}
