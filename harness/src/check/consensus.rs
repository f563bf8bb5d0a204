//! Consensus: at most one leader in a term, a committed index never goes back, and replicas with the same applied index
//! hold the same state. (Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm, 2014: election
//! safety, leader completeness, state machine safety.) Drawn from what the nodes say of themselves.

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{GroupStatus, History, Observed, ProcessChange, SystemView},
};

pub(super) struct Consensus;

impl Promise for Consensus {
    fn name(&self) -> &'static str {
        "consensus"
    }

    fn about(&self) -> &'static str {
        "one leader in a term, nothing committed goes back, and replicas agree"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no node told its term");
        one_leader(system, tally);
        commit_stays(system, tally);
        nothing_gone_at_the_end(history, system, tally);
        replicas_agree(system, tally);
    }
}

fn words_of_groups(system: &SystemView) -> impl Iterator<Item = (&Observed, &GroupStatus)> {
    system
        .observed
        .iter()
        .flat_map(|o| o.status.iter().flat_map(move |s| s.groups.iter().map(move |g| (o, g))))
}

fn one_leader(system: &SystemView, tally: &mut Tally) {
    let mut leaders: BTreeMap<(&str, u64), (&str, Nanos)> = BTreeMap::new();
    for (observed, group) in words_of_groups(system).filter(|(_, g)| g.leader) {
        tally.oblige(1);
        let (first, since) = *leaders
            .entry((&group.group, group.term))
            .or_insert((&observed.node, observed.at));
        if first != observed.node {
            tally.broken(observed.at, || {
                format!(
                    "{} and {} both led {} in term {} ({} and {})",
                    first,
                    observed.node,
                    group.group,
                    group.term,
                    words::at(since),
                    words::at(observed.at)
                )
            });
        }
    }
}

/// Within one life of a process. A restarted one may know less until it has caught up.
fn commit_stays(system: &SystemView, tally: &mut Tally) {
    let mut births: BTreeMap<&str, Vec<Nanos>> = BTreeMap::new();
    for process in &system.processes {
        let edge = match process.change {
            ProcessChange::Started | ProcessChange::Ended { .. } => process.at,
        };
        births.entry(&process.node).or_default().push(edge);
    }
    let mut last: BTreeMap<(&str, &str), (usize, u64, Nanos)> = BTreeMap::new();
    for (observed, group) in words_of_groups(system) {
        let edges = births.get(observed.node.as_str()).map_or(&[][..], Vec::as_slice);
        let life = edges.partition_point(|at| *at <= observed.at);
        let known = last
            .entry((&observed.node, &group.group))
            .or_insert((life, group.commit, observed.at));
        tally.oblige(1);
        if known.0 == life && group.commit < known.1 {
            let (before, since) = (known.1, known.2);
            tally.broken(observed.at, || {
                format!(
                    "{} had committed {} of {} at {} and {} at {}",
                    observed.node,
                    before,
                    group.group,
                    words::at(since),
                    group.commit,
                    words::at(observed.at)
                )
            });
        }
        *known = (life, group.commit, observed.at);
    }
}

/// What any node ever called committed is committed in the end, by the furthest node's last word.
fn nothing_gone_at_the_end(history: &History, system: &SystemView, tally: &mut Tally) {
    let tear_down = history.tear_down();
    let mut highest: BTreeMap<&str, (u64, Nanos, &str)> = BTreeMap::new();
    let mut last: BTreeMap<(&str, &str), (u64, Nanos)> = BTreeMap::new();
    for (observed, group) in words_of_groups(system).filter(|(o, _)| o.at < tear_down) {
        let known = highest
            .entry(&group.group)
            .or_insert((group.commit, observed.at, &observed.node));
        if group.commit > known.0 {
            *known = (group.commit, observed.at, &observed.node);
        }
        last.insert((&group.group, &observed.node), (group.commit, observed.at));
    }
    let load_end = history.load_end();
    for (name, (commit, at, node)) in highest {
        let finals: Vec<_> = last
            .iter()
            .filter(|((group, _), _)| *group == name)
            .map(|(_, word)| *word)
            .collect();
        // Only words from after the load count as last ones; a node that is down has none. A minority may lag, and a
        // majority holds whatever is committed.
        let late: Vec<u64> = finals
            .iter()
            .filter(|(_, at)| *at > load_end)
            .map(|(commit, _)| *commit)
            .collect();
        let Some(end) = late.iter().max().copied().filter(|_| late.len() * 2 > finals.len()) else {
            continue;
        };
        tally.oblige(1);
        if end < commit {
            tally.broken(at, || {
                format!(
                    "{node} had committed {commit} of {name} at {}, and no node has more than {end} in the end",
                    words::at(at)
                )
            });
        }
    }
}

/// The digest is a function of the applied index, so equal indexes have equal digests, at any time.
fn replicas_agree(system: &SystemView, tally: &mut Tally) {
    let mut digests: BTreeMap<(&str, u64), (u64, &str)> = BTreeMap::new();
    for (observed, group) in words_of_groups(system).filter(|(_, g)| g.digest != 0) {
        tally.oblige(1);
        let (digest, node) = *digests
            .entry((&group.group, group.applied))
            .or_insert((group.digest, &observed.node));
        if digest != group.digest {
            tally.broken(observed.at, || {
                format!(
                    "{node} and {} differ in {} at index {}: digest {digest:016x} and {:016x}",
                    observed.node, group.group, group.applied, group.digest
                )
            });
        }
    }
}
