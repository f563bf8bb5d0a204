//! What a migration moves next, and where to: a function of the map, the goal, and who is up.
//!
//! Two replicas of a shard never stand on one node. Zones come before numbers: a replica goes where its shard has the fewest,
//! and then to the node that holds the least. Ties are broken by ids, so that everybody comes to the same choice.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::{LeaderWish, NodeState, PlacementMap, PlannedStep, migration_goal::Goal};

use super::nodes::{Layout, leaves, of_place, state, zone};

/// One replica that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Of which shard.
    pub shard: u32,
    /// Who holds it.
    pub from: u64,
    /// Who will.
    pub to: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This replica moves.
    Move(Relocation),
    /// Something has to end first.
    Wait,
    /// All is as the goal says.
    Nothing,
}

/// Why a replica can't go anywhere, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Obstacle(pub String);

/// Who is known to be up.
pub(super) type Up<'a> = &'a dyn Fn(u64) -> bool;

/// The next replica that a migration with this goal moves, given where everything will be; `nodes` are those whose state it
/// changed.
///
/// # Errors
/// When a replica has to move and can't.
pub fn next_relocation(
    map: &PlacementMap,
    layout: &Layout,
    goal: &Goal,
    nodes: &[u64],
    up: Up<'_>,
) -> Result<Next, Obstacle> {
    match goal {
        Goal::MoveShards(it) => {
            let to = it.to.as_ref().map(|place| of_place(map, place)).unwrap_or_default();
            let from = it.from.as_ref().map(|place| of_place(map, place));
            let goes = |node| match &from {
                Some(from) => from.contains(&node) && !to.contains(&node),
                None => !to.contains(&node),
            };
            let target = |node| to.contains(&node) && !leaves(map, node);
            let shards: Vec<u32> = match it.shards.is_empty() {
                true => layout.shards().collect(),
                false => it.shards.clone(),
            };
            evacuate(map, layout, &shards, (&goes, &target), true, up)
        }
        Goal::DrainNodes(_) | Goal::DrainZone(_) | Goal::RemoveNodes(_) => {
            let any_zone = match goal {
                Goal::DrainNodes(it) => it.any_zone,
                Goal::DrainZone(it) => it.any_zone,
                Goal::RemoveNodes(it) => it.any_zone,
                _ => false,
            };
            let goes = |node| nodes.contains(&node);
            let target = |node| state(map, node) == NodeState::Placeable;
            let shards: Vec<u32> = layout.shards().collect();
            evacuate(map, layout, &shards, (&goes, &target), any_zone, up)
        }
        Goal::AddNodes(_) | Goal::ReturnZone(_) | Goal::Rebalance(_) => Ok(balance(map, layout, up)),
        Goal::SpreadLeaders(_) | Goal::MoveLeader(_) => Ok(Next::Nothing),
    }
}

/// Which replicas go, and where they may go.
type Rule<'a> = (&'a dyn Fn(u64) -> bool, &'a dyn Fn(u64) -> bool);

fn evacuate(
    map: &PlacementMap,
    layout: &Layout,
    shards: &[u32],
    (goes, target): Rule<'_>,
    any_zone: bool,
    up: Up<'_>,
) -> Result<Next, Obstacle> {
    let mut waits = false;
    for &shard in shards {
        let members = layout.members(shard);
        let Some(from) = members.iter().copied().find(|node| goes(*node)) else {
            continue;
        };
        if layout.is_busy(shard) {
            waits = true;
            continue;
        }
        has_quorum(shard, members, up)?;
        let to = choose(map, layout, (shard, from), target, up)?;
        if !any_zone {
            keeps_zones(map, members, (shard, from, to))?;
        }
        return Ok(Next::Move(Relocation { shard, from, to }));
    }
    Ok(if waits { Next::Wait } else { Next::Nothing })
}

fn has_quorum(shard: u32, members: &[u64], up: Up<'_>) -> Result<(), Obstacle> {
    let heard: Vec<u64> = members.iter().copied().filter(|node| up(*node)).collect();
    if heard.len() > members.len() / 2 {
        return Ok(());
    }
    Err(Obstacle(format!(
        "shard {shard} would lose its quorum: of its nodes {members:?} only {heard:?} were heard lately"
    )))
}

fn choose(
    map: &PlacementMap,
    layout: &Layout,
    (shard, from): (u32, u64),
    target: &dyn Fn(u64) -> bool,
    up: Up<'_>,
) -> Result<u64, Obstacle> {
    let members = layout.members(shard);
    let counts = layout.counts();
    let nodes = map.nodes.iter().map(|it| it.node);
    let free: Vec<u64> = nodes.filter(|node| target(*node) && !members.contains(node)).collect();
    let crowd = |node: u64| {
        let others = members.iter().filter(|it| **it != from);
        others.filter(|it| zone(map, **it) == zone(map, node)).count()
    };
    let fit = free.iter().copied().filter(|node| up(*node));
    fit.min_by_key(|node| (crowd(*node), counts.get(node).copied().unwrap_or(0), *node))
        .ok_or_else(|| {
            Obstacle(match free.is_empty() {
                true => format!(
                    "shard {shard} has no target for its replica on node {from}: no node that may hold it is free \
                     of it, it is on {members:?}"
                ),
                false => format!(
                    "shard {shard} has no target for its replica on node {from}: nodes {free:?} were not heard lately"
                ),
            })
        })
}

fn zones(map: &PlacementMap, nodes: impl Iterator<Item = u64>) -> BTreeSet<&str> {
    nodes.map(|node| zone(map, node)).collect()
}

fn keeps_zones(map: &PlacementMap, members: &[u64], (shard, from, to): (u32, u64, u64)) -> Result<(), Obstacle> {
    let before = zones(map, members.iter().copied());
    let after = zones(map, after_move(members, from, to));
    match after.first() {
        Some(zone) if after.len() == 1 && before.len() > 1 => Err(Obstacle(format!(
            "shard {shard} would have all its replicas in zone {zone:?}, moving from node {from} to {to} at best: \
             any_zone permits that"
        ))),
        _ => Ok(()),
    }
}

fn after_move(members: &[u64], from: u64, to: u64) -> impl Iterator<Item = u64> {
    members.iter().copied().filter(move |node| *node != from).chain([to])
}

/// The move that brings the most: more zones for a shard, else a node that holds much for one that holds little. No move
/// costs a shard a zone, and each either adds a zone or evens the numbers out: so they end.
fn balance(map: &PlacementMap, layout: &Layout, up: Up<'_>) -> Next {
    let counts = layout.counts();
    let placeable = map.nodes.iter().filter(|it| it.state() == NodeState::Placeable);
    let targets: Vec<u64> = placeable.map(|it| it.node).filter(|node| up(*node)).collect();
    let held = |node: u64| counts.get(&node).copied().unwrap_or(0);
    let mut best: Option<((usize, usize), Relocation)> = None;
    let mut waits = false;
    for shard in layout.shards() {
        let members = layout.members(shard);
        let before = zones(map, members.iter().copied()).len();
        for &from in members {
            for &to in targets.iter().filter(|to| !members.contains(to)) {
                let after = zones(map, after_move(members, from, to)).len();
                let evens = held(from).saturating_sub(held(to));
                if after < before || (after == before && evens < 2) {
                    continue;
                }
                if layout.is_busy(shard) {
                    waits = true;
                    continue;
                }
                if has_quorum(shard, members, up).is_err() {
                    continue;
                }
                let gain = (after - before, evens);
                if best.is_none_or(|(most, _)| gain > most) {
                    best = Some((gain, Relocation { shard, from, to }));
                }
            }
        }
    }
    match best {
        Some((_, relocation)) => Next::Move(relocation),
        None if waits => Next::Wait,
        None => Next::Nothing,
    }
}

/// The leadership that moves next so that zones, and within a zone nodes, lead alike: each such move evens something out.
#[must_use]
pub fn next_leader(map: &PlacementMap, leaders: &BTreeMap<u32, u64>, up: Up<'_>) -> Option<LeaderWish> {
    let (mut by_zone, mut by_node) = (BTreeMap::<&str, usize>::new(), BTreeMap::<u64, usize>::new());
    for leader in leaders.values() {
        *by_zone.entry(zone(map, *leader)).or_default() += 1;
        *by_node.entry(*leader).or_default() += 1;
    }
    let mut best = None;
    for (&shard, &leader) in leaders {
        let Some(placed) = map.shards.get(shard as usize) else {
            continue;
        };
        if super::active(map, shard).is_some() {
            continue;
        }
        let fit = |node: &&u64| **node != leader && !leaves(map, **node) && up(**node);
        for &to in placed.members.iter().filter(fit) {
            let (home, away) = (zone(map, leader), zone(map, to));
            let zones = match home == away {
                true => 0,
                false => evens(&by_zone, home, away),
            };
            let nodes = evens(&by_node, leader, to);
            if zones < 2 && (home != away || nodes < 2) {
                continue;
            }
            if best.is_none_or(|(most, _)| (zones, nodes) > most) {
                best = Some(((zones, nodes), LeaderWish { shard, to }));
            }
        }
    }
    best.map(|(_, wish)| wish)
}

fn evens<K: Ord>(counts: &BTreeMap<K, usize>, more: K, less: K) -> usize {
    let of = |key: &K| counts.get(key).copied().unwrap_or(0);
    of(&more).saturating_sub(of(&less))
}

/// Everything that a migration would do as things stand, replicas first.
///
/// # Errors
/// When a replica has to move and can't.
pub fn rehearse(
    map: &PlacementMap,
    goal: &Goal,
    nodes: &[u64],
    leaders: &BTreeMap<u32, u64>,
    up: Up<'_>,
) -> Result<Vec<PlannedStep>, Obstacle> {
    let mut map = map.clone();
    let mut leaders = leaders.clone();
    let mut steps = Vec::new();
    // What goes on now has ended by then.
    let layout = Layout::of(&map);
    map.operations.clear();
    for shard in layout.shards() {
        map.shards[shard as usize].members = layout.members(shard).to_vec();
    }
    let moves_max = map.shards.len() * (map.nodes.len() + 8);
    while let Next::Move(it) = next_relocation(&map, &Layout::of(&map), goal, nodes, up)? {
        if steps.len() >= moves_max {
            return Err(Obstacle(format!("it would take more than {moves_max} moves")));
        }
        let members = &mut map.shards[it.shard as usize].members;
        *members = after_move(members, it.from, it.to).collect();
        members.sort_unstable();
        if leaders.get(&it.shard) == Some(&it.from) {
            leaders.remove(&it.shard);
        }
        steps.push(PlannedStep {
            shard: it.shard,
            from: it.from,
            to: it.to,
            leadership: false,
        });
    }
    if matches!(goal, Goal::SpreadLeaders(_) | Goal::AddNodes(_) | Goal::ReturnZone(_)) {
        for _ in 0..moves_max {
            let Some(wish) = next_leader(&map, &leaders, up) else {
                break;
            };
            let from = leaders.insert(wish.shard, wish.to).unwrap_or_default();
            steps.push(PlannedStep {
                shard: wish.shard,
                from,
                to: wish.to,
                leadership: true,
            });
        }
    }
    if let Goal::MoveLeader(it) = goal {
        steps.push(PlannedStep {
            shard: it.shard,
            from: leaders.get(&it.shard).copied().unwrap_or_default(),
            to: it.to,
            leadership: true,
        });
    }
    Ok(steps)
}
