//! Who there is in a system: nodes, groups, gateways, and their names.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeName, TargetError, group_of};

/// Who there is: known before the system starts, and fixed for the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The nodes, in order of their names' numbers.
    pub nodes: Vec<RosterNode>,
    /// For each replicated group, such as `shard:0`, the nodes that may hold it.
    pub groups: BTreeMap<String, BTreeSet<NodeName>>,
    /// The gateways before them, where there are some.
    pub gateways: Vec<RosterNode>,
}

/// One node of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterNode {
    /// Its name.
    pub name: NodeName,
    /// Its zone; empty where the system has none.
    pub zone: String,
}

impl Roster {
    pub(super) fn names(&self) -> Vec<NodeName> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    pub(super) fn known(&self) -> String {
        self.names().join(", ")
    }

    pub(super) fn node(&self, name: &str) -> Result<NodeName, TargetError> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .map(|node| node.name.clone())
            .ok_or_else(|| TargetError::UnknownNode {
                name: name.to_owned(),
                known: self.known(),
            })
    }

    pub(super) fn gateway(&self, name: &str) -> Result<NodeName, TargetError> {
        let found = self.gateways.iter().find(|it| it.name == name);
        found.map(|it| it.name.clone()).ok_or_else(|| {
            let known: Vec<&str> = self.gateways.iter().map(|it| it.name.as_str()).collect();
            TargetError::UnknownGateway {
                name: name.to_owned(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            }
        })
    }

    pub(super) fn holders(&self, shard: u32) -> Result<&BTreeSet<NodeName>, TargetError> {
        self.groups
            .get(&group_of(shard))
            .ok_or_else(|| TargetError::UnknownShard {
                shard,
                known: self.groups.keys().cloned().collect::<Vec<_>>().join(", "),
            })
    }
}

/// The names of gateways, so many for each zone, and their zones; in order.
#[must_use]
pub fn gateway_names(zones: &[String], per_zone: u32) -> Vec<(NodeName, String)> {
    let each = |prefix: String, zone: &str| {
        let zone = zone.to_owned();
        (1..=per_zone).map(move |number| (format!("{prefix}{number}"), zone.clone()))
    };
    if zones.is_empty() {
        return each("gw-".to_owned(), "").collect();
    }
    let zones = zones.iter();
    zones.flat_map(|zone| each(format!("gw-{zone}-"), zone)).collect()
}
