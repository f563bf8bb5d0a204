//! On which replicas something is lost that the final read does not hold: on all alike, or on the one that answered.
//!
//! The final read is what the leader holds. Each replica tells the digest of its state, a function of the index that it has
//! applied. So where all tell the same at one index after the load, what the read lacks all of them lack; where the leader
//! stands alone against others that agree, it is lost on the leader only.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::Nanos,
    history::{GroupStatus, History, Observed, SystemView},
};

/// How one group's replicas stood to each other after the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Replicas {
    /// All told the same.
    Alike,
    /// This one told something else than all others, which told the same.
    Alone {
        /// Its name.
        node: String,
        /// Whether it led: what was read was read from it.
        leads: bool,
    },
    /// More than one told something of its own.
    Divided,
    /// Not all of them told their state at one index.
    Untold,
}

impl Replicas {
    /// The replicas of `group`, by the highest index at which all of them told their state after the load.
    pub(super) fn of(history: &History, system: &SystemView, group: &str) -> Self {
        let (from, until) = (history.load_end(), history.tear_down());
        let mut holders: BTreeSet<&str> = BTreeSet::new();
        let mut told: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
        let mut leader: Option<(u64, Nanos, &str)> = None;
        for (observed, status) in words(system, group).filter(|(o, _)| o.at < until) {
            holders.insert(&observed.node);
            if status.leader {
                leader = leader.max(Some((status.term, observed.at, &observed.node)));
            }
            if status.digest != 0 && observed.at >= from {
                let at_index = told.entry(status.applied).or_default();
                at_index.insert(&observed.node, status.digest);
            }
        }
        let all = told.values().rev().find(|digests| digests.len() == holders.len());
        let Some(digests) = all else { return Self::Untold };
        let mut by_digest: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (node, digest) in digests {
            by_digest.entry(*digest).or_default().push(node);
        }
        if by_digest.len() == 1 {
            return Self::Alike;
        }
        let alone: Vec<&str> = by_digest
            .values()
            .filter(|nodes| nodes.len() == 1)
            .map(|nodes| nodes[0])
            .collect();
        match alone[..] {
            // Of two that differ neither is the one that stands alone.
            [node] if by_digest.len() == 2 => Self::Alone {
                node: node.to_owned(),
                leads: leader.is_some_and(|(_, _, leader)| leader == node),
            },
            _ => Self::Divided,
        }
    }

    /// In words that fit after where in its log something is lost.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Alike => ", on all replicas alike".to_owned(),
            Self::Alone { node, leads: true } => {
                format!(", on one replica only: {node}, which answered, differs from the others, which agree")
            }
            Self::Alone { node, leads: false } => {
                format!(
                    ", on more than one replica: {node} differs from the others, which agree with the one that answered"
                )
            }
            Self::Divided => ", and no replica agrees with another as to the rest".to_owned(),
            Self::Untold => String::new(),
        }
    }
}

fn words<'a>(system: &'a SystemView, group: &'a str) -> impl Iterator<Item = (&'a Observed, &'a GroupStatus)> {
    let of_group = move |observed: &'a Observed| {
        let status = observed.status.iter().flat_map(|status| &status.groups);
        status.filter(move |it| it.group == group).map(move |it| (observed, it))
    };
    system.observed.iter().flat_map(of_group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, synth::Script};

    /// The group's replicas after a run in which `change` may alter what each node says after the load.
    fn replicas(mut change: impl FnMut(&str, &mut GroupStatus)) -> Replicas {
        let script = Script::default();
        let mut events = script.events();
        for event in &mut events {
            let Event::Observed(observed) = event else { continue };
            if observed.at <= script.load_end {
                continue;
            }
            for status in observed.status.iter_mut().flat_map(|status| &mut status.groups) {
                change(&observed.node, status);
            }
        }
        let history = History::new(script.header(), events);
        Replicas::of(&history, &history.systems["main"], "shard:0")
    }

    #[test]
    fn replicas_that_tell_the_same_are_alike() {
        assert_eq!(replicas(|_, _| {}), Replicas::Alike);
    }

    #[test]
    fn one_against_two_stands_alone_whether_it_leads_or_not() {
        for (odd, leads) in [("n1", true), ("n3", false)] {
            let found = replicas(|node, status| status.digest += u64::from(node == odd));
            let node = odd.to_owned();
            assert_eq!(found, Replicas::Alone { node, leads });
        }
    }

    #[test]
    fn three_that_differ_are_divided() {
        let found = replicas(|node, status| status.digest += u64::from(node.as_bytes()[1]));
        assert_eq!(found, Replicas::Divided);
    }

    #[test]
    fn of_two_that_differ_neither_stands_alone() {
        let script = Script::default();
        let mut events = script.events();
        events.retain(|event| !matches!(event, Event::Observed(observed) if observed.node == "n3"));
        for event in &mut events {
            let Event::Observed(observed) = event else { continue };
            for status in observed.status.iter_mut().flat_map(|status| &mut status.groups) {
                status.digest += u64::from(observed.node == "n2" && status.digest != 0);
            }
        }
        let history = History::new(script.header(), events);
        let found = Replicas::of(&history, &history.systems["main"], "shard:0");
        assert_eq!(found, Replicas::Divided);
    }

    #[test]
    fn without_a_common_index_nothing_is_told() {
        // One of them never told its state, or always at an index of its own.
        let silent = replicas(|node, status| status.digest *= u64::from(node != "n2"));
        let elsewhere = replicas(|node, status| status.applied += u64::from(node == "n2"));
        assert_eq!((silent, elsewhere), (Replicas::Untold, Replicas::Untold));
    }

    #[test]
    fn a_group_that_nobody_spoke_of_tells_nothing() {
        let script = Script::default();
        let history = script.history();
        let found = Replicas::of(&history, &history.systems["main"], "shard:9");
        assert_eq!(found, Replicas::Untold);
        assert_eq!(found.words(), "");
    }
}
