//! Which parts of a service go away with some of its nodes.

use crate::target::{NodeName, Observations, Roster, leader_of};

/// The groups that one of `nodes` leads, and those of which no majority is left without them.
#[must_use]
pub fn needs_of(roster: &Roster, nodes: &[NodeName], seen: &Observations) -> Vec<String> {
    let gone = |group: &str| {
        let holders = &roster.groups[group];
        let left = holders.iter().filter(|holder| !nodes.contains(holder)).count();
        left * 2 <= holders.len() || leader_of(group, seen).is_some_and(|leader| nodes.contains(&leader))
    };
    roster.groups.keys().filter(|group| gone(group)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        history::{GroupStatus, NodeStatus},
        target::RosterNode,
    };

    #[test]
    fn a_group_goes_away_with_its_leader_or_its_majority() {
        let names = ["n1", "n2", "n3"].map(str::to_owned);
        let holders: BTreeSet<NodeName> = names.clone().into();
        let roster = Roster {
            nodes: names
                .map(|name| RosterNode {
                    name,
                    zone: String::new(),
                })
                .into(),
            groups: BTreeMap::from([("shard:0".to_owned(), holders.clone()), ("shard:1".to_owned(), holders)]),
            ..Roster::default()
        };
        let leads = GroupStatus {
            group: "shard:1".to_owned(),
            leader: true,
            ..GroupStatus::default()
        };
        let status = NodeStatus {
            groups: vec![leads],
            ..NodeStatus::default()
        };
        let seen = Observations::from([("n2".to_owned(), status)]);
        let needs = |nodes: &[&str]| {
            let nodes: Vec<NodeName> = nodes.iter().map(|node| (*node).to_owned()).collect();
            needs_of(&roster, &nodes, &seen)
        };
        assert_eq!(needs(&["n2"]), ["shard:1"]);
        assert!(needs(&["n1"]).is_empty());
        assert_eq!(needs(&["n1", "n3"]), ["shard:0", "shard:1"]);
        assert!(needs(&[]).is_empty());
    }
}
