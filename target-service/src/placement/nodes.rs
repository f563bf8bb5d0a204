//! Which nodes may hold anything, and where they stand.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::{NodeState, OperationPhase, Place, PlacementMap, PlacementNode};

use super::{active, is_active};

/// Whether a node may hold anything. One that the map doesn't name is a spare.
#[must_use]
pub fn state(map: &PlacementMap, node: u64) -> NodeState {
    let found = map.nodes.iter().find(|it| it.node == node).map(PlacementNode::state);
    match found {
        None | Some(NodeState::Unspecified) => NodeState::Spare,
        Some(state) => state,
    }
}

/// Whether a node is to lead nothing.
#[must_use]
pub fn leaves(map: &PlacementMap, node: u64) -> bool {
    matches!(
        state(map, node),
        NodeState::Draining | NodeState::Drained | NodeState::Removed
    )
}

/// Where a node stands; empty is not known.
#[must_use]
pub fn zone(map: &PlacementMap, node: u64) -> &str {
    map.nodes.iter().find(|it| it.node == node).map_or("", |it| &it.zone)
}

/// The nodes of a zone that are not gone for good, in the order of their ids.
#[must_use]
pub(super) fn in_zone(map: &PlacementMap, zone: &str) -> Vec<u64> {
    let nodes = map
        .nodes
        .iter()
        .filter(|it| it.zone == zone && it.state() != NodeState::Removed);
    nodes.map(|it| it.node).collect()
}

/// The nodes that a place means.
#[must_use]
pub(super) fn of_place(map: &PlacementMap, place: &Place) -> BTreeSet<u64> {
    let zone = (!place.zone.is_empty()).then(|| in_zone(map, &place.zone));
    place.nodes.iter().copied().chain(zone.into_iter().flatten()).collect()
}

/// The entry of a node, made if there is none.
pub(super) fn entry(map: &mut PlacementMap, node: u64) -> &mut PlacementNode {
    let at = map.nodes.partition_point(|it| it.node < node);
    if map.nodes.get(at).is_none_or(|it| it.node != node) {
        let fresh = PlacementNode {
            node,
            zone: String::new(),
            state: NodeState::Spare.into(),
        };
        map.nodes.insert(at, fresh);
    }
    &mut map.nodes[at]
}

/// Who will hold what once every move that goes on has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    members: Vec<Vec<u64>>,
    busy: BTreeSet<u32>,
}

impl Layout {
    /// By the map.
    #[must_use]
    pub fn of(map: &PlacementMap) -> Self {
        let mut layout = Self {
            members: map.shards.iter().map(|placed| placed.members.clone()).collect(),
            busy: BTreeSet::new(),
        };
        for operation in map.operations.iter().filter(|it| is_active(it)) {
            layout.busy.insert(operation.shard);
            if operation.phase() != OperationPhase::Aborting {
                layout.relocate(operation.shard, operation.from, operation.to);
            }
        }
        layout
    }

    /// One replica moves.
    pub fn relocate(&mut self, shard: u32, from: u64, to: u64) {
        if let Some(members) = self.members.get_mut(shard as usize) {
            members.retain(|node| *node != from && *node != to);
            members.push(to);
            members.sort_unstable();
        }
    }

    /// The nodes that hold a shard.
    #[must_use]
    pub fn members(&self, shard: u32) -> &[u64] {
        self.members.get(shard as usize).map_or(&[], Vec::as_slice)
    }

    /// All shards, by their numbers.
    pub fn shards(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// Whether something moves in a shard now: nothing else can.
    #[must_use]
    pub fn is_busy(&self, shard: u32) -> bool {
        self.busy.contains(&shard)
    }

    /// Whether a node holds anything.
    #[must_use]
    pub fn holds_any(&self, node: u64) -> bool {
        self.members.iter().any(|members| members.contains(&node))
    }

    /// How many replicas each node holds.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for node in self.members.iter().flatten() {
            *counts.entry(*node).or_default() += 1;
        }
        counts
    }
}

/// Whether a node holds a replica, or gets one.
#[must_use]
pub(super) fn is_used(map: &PlacementMap, node: u64) -> bool {
    let shards = 0..u32::try_from(map.shards.len()).unwrap_or(u32::MAX);
    let held = map.shards.iter().any(|placed| placed.members.contains(&node));
    held || shards
        .into_iter()
        .any(|shard| active(map, shard).is_some_and(|it| it.to == node))
}
