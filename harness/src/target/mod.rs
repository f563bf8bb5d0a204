//! Whom a fault hits: nouns that are asked of the system at the instant, never fixed names of processes.

mod roster;

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use roster::{Roster, RosterNode, gateway_names};

use crate::history::NodeStatus;

/// A node's name within its system: `n1`, `n2`, ...
pub type NodeName = String;

/// What each node last said of itself; a node that said nothing has no entry.
pub type Observations = BTreeMap<NodeName, NodeStatus>;

/// Whom a fault hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// The node that leads most shards (the first by name among equals).
    Leader,
    /// Every node.
    All,
    /// Fewer than half of the nodes, as many as that allows; the busiest leader is among them.
    Minority,
    /// More than half of the nodes, as few as that allows; the busiest leader is among them.
    Majority,
    /// One node, at random, that is not the busiest leader; one that answers, where there is any.
    AnyFollower,
    /// The node that leads one shard.
    LeaderOf(ShardRef),
    /// The nodes that hold one shard and do not lead it.
    FollowersOf(ShardRef),
    /// Every node of a zone.
    Zone(String),
    /// One node by name.
    Node(NodeName),
    /// Nodes by name.
    Nodes(Vec<NodeName>),
    /// This many nodes, at random.
    Random(u32),
    /// One gateway by name: no node, and in no other target.
    Gateway(NodeName),
}

/// One shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardRef {
    /// Its number, from 0.
    pub shard: u32,
}

/// One way to write a target, for `list targets` and `explain`.
#[derive(Clone, Copy, Debug)]
pub struct TargetInfo {
    /// The word.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// As it is written in a scenario.
    pub example: &'static str,
    /// Whether the system must say who leads.
    pub needs_observation: bool,
}

/// Every way to write a target.
pub const ALL: &[TargetInfo] = &[
    TargetInfo {
        name: "leader",
        summary: "the node that leads most shards",
        example: "leader",
        needs_observation: true,
    },
    TargetInfo {
        name: "all",
        summary: "every node",
        example: "all",
        needs_observation: false,
    },
    TargetInfo {
        name: "minority",
        summary: "fewer than half of the nodes, the busiest leader among them",
        example: "minority",
        needs_observation: true,
    },
    TargetInfo {
        name: "majority",
        summary: "just more than half of the nodes, the busiest leader among them",
        example: "majority",
        needs_observation: true,
    },
    TargetInfo {
        name: "any_follower",
        summary: "one node at random that is not the busiest leader",
        example: "any_follower",
        needs_observation: true,
    },
    TargetInfo {
        name: "leader_of",
        summary: "the node that leads one shard",
        example: "{ leader_of: { shard: 0 } }",
        needs_observation: true,
    },
    TargetInfo {
        name: "followers_of",
        summary: "the nodes that hold one shard and do not lead it",
        example: "{ followers_of: { shard: 0 } }",
        needs_observation: true,
    },
    TargetInfo {
        name: "zone",
        summary: "every node of a zone",
        example: "{ zone: a }",
        needs_observation: false,
    },
    TargetInfo {
        name: "node",
        summary: "one node by name",
        example: "{ node: n2 }",
        needs_observation: false,
    },
    TargetInfo {
        name: "nodes",
        summary: "nodes by name",
        example: "{ nodes: [n1, n3] }",
        needs_observation: false,
    },
    TargetInfo {
        name: "random",
        summary: "this many nodes at random, drawn from the run's seed",
        example: "{ random: 2 }",
        needs_observation: false,
    },
    TargetInfo {
        name: "gateway",
        summary: "one gateway by name, such as gw-a-1 (the first of zone a), or gw-1 where there are no zones",
        example: "{ gateway: gw-a-1 }",
        needs_observation: false,
    },
];

/// A target that can not be resolved. The scenario is wrong when `is_static`; otherwise it is the system's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No node of that name.
    #[error("there is no node `{name}`; the nodes are {known}")]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No gateway of that name.
    #[error("there is no gateway `{name}`; the gateways are {known}")]
    UnknownGateway {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No zone of that name.
    #[error("there is no zone `{name}`; the zones are {known}")]
    UnknownZone {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No shard of that number.
    #[error("there is no shard {shard}; the groups are {known}")]
    UnknownShard {
        /// What was asked for.
        shard: u32,
        /// What there is.
        known: String,
    },
    /// More nodes asked for than there are, or none.
    #[error("`random: {asked}` does not fit: choose from 1 to {nodes} nodes")]
    BadCount {
        /// What was asked for.
        asked: u32,
        /// What there is.
        nodes: usize,
    },
    /// A minority of a system of one or two nodes is nobody.
    #[error("`{target}` of {nodes} nodes is nobody; it needs at least {needs}")]
    Nobody {
        /// What was asked for.
        target: &'static str,
        /// What there is.
        nodes: usize,
        /// What it takes.
        needs: usize,
    },
    /// Nobody says that it leads.
    #[error("no node says that it leads {what} at this moment")]
    NoLeader {
        /// `any shard`, or the group.
        what: String,
    },
}

impl TargetError {
    /// True when no state of the system could have resolved it: an invalid scenario rather than a fault to skip.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        !matches!(self, Self::NoLeader { .. })
    }
}

/// The name of a shard's group in observations and needs.
#[must_use]
pub fn group_of(shard: u32) -> String {
    format!("shard:{shard}")
}

/// The node that leads `group`: of those that say so, the one with the highest term.
#[must_use]
pub fn leader_of(group: &str, seen: &Observations) -> Option<NodeName> {
    seen.iter()
        .flat_map(|(node, status)| status.groups.iter().map(move |group| (node, group)))
        .filter(|(_, status)| status.group == group && status.leader)
        .max_by(|(a, x), (b, y)| x.term.cmp(&y.term).then_with(|| b.cmp(a)))
        .map(|(node, _)| node.clone())
}

/// The node that leads most groups; the first by name among equals.
#[must_use]
pub fn busiest_leader(roster: &Roster, seen: &Observations) -> Option<NodeName> {
    let groups: BTreeSet<&str> = seen
        .values()
        .flat_map(|status| status.groups.iter().map(|group| group.group.as_str()))
        .collect();
    let mut led: BTreeMap<NodeName, usize> = BTreeMap::new();
    for group in groups {
        if let Some(node) = leader_of(group, seen) {
            *led.entry(node).or_default() += 1;
        }
    }
    let most = led.values().copied().max()?;
    roster
        .nodes
        .iter()
        .map(|node| &node.name)
        .find(|name| led.get(*name) == Some(&most))
        .cloned()
}

/// Checks what can be checked before anything runs: names, zones, shards, counts.
///
/// # Errors
/// What does not exist, by name, with what does.
pub fn check(target: &Target, roster: &Roster) -> Result<(), TargetError> {
    let nodes = roster.nodes.len();
    match target {
        Target::Leader | Target::All | Target::Majority => need(nodes, 1, "majority"),
        Target::Minority => need(nodes, 3, "minority"),
        Target::AnyFollower => need(nodes, 2, "any_follower"),
        Target::LeaderOf(shard) | Target::FollowersOf(shard) => roster.holders(shard.shard).map(|_| ()),
        Target::Zone(zone) => in_zone(roster, zone).map(|_| ()),
        Target::Node(name) => roster.node(name).map(|_| ()),
        Target::Nodes(names) if names.is_empty() => Err(TargetError::Nobody {
            target: "nodes",
            nodes,
            needs: 1,
        }),
        Target::Nodes(names) => names.iter().try_for_each(|name| roster.node(name).map(|_| ())),
        Target::Random(count) => random_count(*count, nodes).map(|_| ()),
        Target::Gateway(name) => roster.gateway(name).map(|_| ()),
    }
}

/// True when the system must say who leads for `target` to be resolved.
#[must_use]
pub const fn needs_observation(target: &Target) -> bool {
    match target {
        Target::Leader
        | Target::Minority
        | Target::Majority
        | Target::AnyFollower
        | Target::LeaderOf(_)
        | Target::FollowersOf(_) => true,
        Target::All | Target::Zone(_) | Target::Node(_) | Target::Nodes(_) | Target::Random(_) | Target::Gateway(_) => {
            false
        }
    }
}

/// Resolves `target` against what the system says at this moment. The answer is in roster order, without repetition
/// and never empty.
///
/// # Errors
/// As [`check`], and when nobody leads what was asked for.
pub fn resolve(
    target: &Target,
    roster: &Roster,
    seen: &Observations,
    rng: &mut impl Rng,
) -> Result<Vec<NodeName>, TargetError> {
    check(target, roster)?;
    if let Target::Gateway(name) = target {
        return Ok(vec![roster.gateway(name)?]);
    }
    let nodes = roster.nodes.len();
    let chosen: Vec<NodeName> = match target {
        Target::All => roster.names(),
        Target::Leader => vec![busiest(roster, seen)?],
        Target::Minority => led_part(roster, seen, (nodes - 1) / 2, rng),
        Target::Majority => led_part(roster, seen, nodes / 2 + 1, rng),
        Target::AnyFollower => {
            let leader = busiest(roster, seen)?;
            let mut others: Vec<_> = roster.names().into_iter().filter(|name| *name != leader).collect();
            if others.iter().any(|name| seen.contains_key(name)) {
                others.retain(|name| seen.contains_key(name));
            }
            others.choose(rng).cloned().into_iter().collect()
        }
        Target::LeaderOf(shard) => vec![leader(shard.shard, seen)?],
        Target::FollowersOf(shard) => {
            let leader = leader(shard.shard, seen)?;
            roster
                .holders(shard.shard)?
                .iter()
                .filter(|name| **name != leader)
                .cloned()
                .collect()
        }
        Target::Zone(zone) => in_zone(roster, zone)?,
        Target::Node(name) => vec![roster.node(name)?],
        Target::Nodes(names) => names.clone(),
        Target::Gateway(name) => vec![roster.gateway(name)?],
        Target::Random(count) => sample(roster.names(), random_count(*count, nodes)?, rng),
    };
    let chosen: BTreeSet<NodeName> = chosen.into_iter().collect();
    let ordered: Vec<NodeName> = roster
        .names()
        .into_iter()
        .filter(|name| chosen.contains(name))
        .collect();
    if ordered.is_empty() {
        return Err(TargetError::Nobody {
            target: "this target",
            nodes,
            needs: 1,
        });
    }
    Ok(ordered)
}

fn need(nodes: usize, needs: usize, target: &'static str) -> Result<(), TargetError> {
    if nodes < needs {
        return Err(TargetError::Nobody { target, nodes, needs });
    }
    Ok(())
}

fn random_count(asked: u32, nodes: usize) -> Result<usize, TargetError> {
    usize::try_from(asked)
        .ok()
        .filter(|count| (1..=nodes).contains(count))
        .ok_or(TargetError::BadCount { asked, nodes })
}

fn in_zone(roster: &Roster, zone: &str) -> Result<Vec<NodeName>, TargetError> {
    let found: Vec<NodeName> = roster
        .nodes
        .iter()
        .filter(|node| node.zone == zone)
        .map(|node| node.name.clone())
        .collect();
    if found.is_empty() {
        let zones: BTreeSet<&str> = roster
            .nodes
            .iter()
            .map(|node| node.zone.as_str())
            .filter(|zone| !zone.is_empty())
            .collect();
        return Err(TargetError::UnknownZone {
            name: zone.to_owned(),
            known: zones.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    Ok(found)
}

fn leader(shard: u32, seen: &Observations) -> Result<NodeName, TargetError> {
    leader_of(&group_of(shard), seen).ok_or_else(|| TargetError::NoLeader { what: group_of(shard) })
}

fn busiest(roster: &Roster, seen: &Observations) -> Result<NodeName, TargetError> {
    busiest_leader(roster, seen).ok_or_else(|| TargetError::NoLeader {
        what: "any shard".to_owned(),
    })
}

/// `count` nodes: the busiest leader, if there is one, and others at random.
fn led_part(roster: &Roster, seen: &Observations, count: usize, rng: &mut impl Rng) -> Vec<NodeName> {
    let mut chosen: Vec<NodeName> = busiest_leader(roster, seen).into_iter().take(count).collect();
    let others: Vec<NodeName> = roster
        .names()
        .into_iter()
        .filter(|name| !chosen.contains(name))
        .collect();
    let more = count - chosen.len();
    chosen.extend(sample(others, more, rng));
    chosen
}

fn sample(mut names: Vec<NodeName>, count: usize, rng: &mut impl Rng) -> Vec<NodeName> {
    names.shuffle(rng);
    names.truncate(count);
    names
}

#[cfg(test)]
mod tests;
