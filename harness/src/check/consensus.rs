//! Consensus: at most one leader in a term, a committed index never goes back, and replicas with the same applied index
//! hold the same state. (Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm, 2014: election
//! safety, leader completeness, state machine safety.) Drawn from what the nodes say of themselves. A replica that after
//! the load told its state at no index at which the others told theirs was compared with nothing: that is not agreement.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, ownership, words};
use crate::{
    base::Nanos,
    history::{GroupStatus, History, Observed, Phase, ProcessChange, SystemView},
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
        all_were_compared(history, system, tally);
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

/// In which life of its process a node said which index is committed, and where.
type Word<'a> = (usize, u64, &'a Observed);

/// Within one life of a process. A restarted one may know less until it has caught up.
fn commit_stays(system: &SystemView, tally: &mut Tally) {
    let mut births: BTreeMap<&str, Vec<Nanos>> = BTreeMap::new();
    for process in &system.processes {
        match process.change {
            ProcessChange::Started | ProcessChange::Ended { .. } => {
                births.entry(&process.node).or_default().push(process.at);
            }
            ProcessChange::Stopped { .. } | ProcessChange::Continued => {}
        }
    }
    let mut told: BTreeMap<(&str, &str), Vec<Word<'_>>> = BTreeMap::new();
    for (observed, group) in words_of_groups(system) {
        let edges = births.get(observed.node.as_str()).map_or(&[][..], Vec::as_slice);
        let life = edges.partition_point(|at| *at <= observed.at);
        let known = told.entry((&observed.node, &group.group)).or_default();
        tally.oblige(1);
        // Two may ask at once, and the older word may be the later to be written down.
        let before = known.iter().rev().find(|(_, _, earlier)| observed.is_after(earlier));
        if let Some((_, before, earlier)) = before.filter(|(l, commit, _)| *l == life && group.commit < *commit) {
            tally.broken(observed.at, || {
                format!(
                    "{} had committed {} of {} at {} and {} at {}",
                    observed.node,
                    before,
                    group.group,
                    words::at(earlier.at),
                    group.commit,
                    words::at(observed.at)
                )
            });
        }
        known.push((life, group.commit, observed));
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

/// Digests told after the load: for each index, the nodes that told one.
type Told<'a> = BTreeMap<u64, BTreeSet<&'a str>>;

/// Of each group, every node that ever said that it holds it told its digest at one common index after the load.
fn all_were_compared(history: &History, system: &SystemView, tally: &mut Tally) {
    let Some(load_end) = history.phases.start(Phase::Drain) else {
        return;
    };
    let tear_down = history.tear_down();
    let mut holders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for (observed, group) in words_of_groups(system).filter(|(o, _)| o.at < tear_down) {
        holders.entry(&group.group).or_default().insert(&observed.node);
        if group.digest != 0 && observed.at >= load_end {
            let at_index = told.entry(&group.group).or_default().entry(group.applied).or_default();
            at_index.insert(&observed.node);
        }
    }
    // A system that has no digests to tell is judged by the rest alone.
    if told.is_empty() && system.kind != "messaging" {
        return;
    }
    let spoke: BTreeSet<&str> = holders.values().flatten().copied().collect();
    let known = system.observed.iter().map(|o| o.node.as_str());
    if let Some(mute) = known.into_iter().find(|node| !spoke.contains(node)) {
        tally.unsure(|| format!("{mute} never said which groups it holds: its replicas were compared with none"));
    }
    let left = ownership::left(system);
    for (group, mut holders) in holders {
        holders.retain(|node| !left.contains(&(group, *node)));
        let told = told.remove(group).unwrap_or_default();
        if told.values().any(|nodes| nodes.is_superset(&holders)) {
            tally.oblige(1);
        } else {
            tally.unsure(|| {
                let nodes: Vec<String> = holders.iter().map(|node| place(history, system, node, &told)).collect();
                format!(
                    "the replicas of {group} told no digest at one common index after the load: {}",
                    nodes.join(", ")
                )
            });
        }
    }
}

/// Where a replica was, or why it told nothing.
fn place(history: &History, system: &SystemView, node: &str, told: &Told) -> String {
    let last = told.iter().rev().find(|(_, nodes)| nodes.contains(node));
    if let Some((index, _)) = last {
        return format!("{node} was at {index}");
    }
    let tear_down = history.tear_down();
    let mut lives = system.processes.iter().rev();
    let life = lives.find(|process| {
        let frozen = matches!(process.change, ProcessChange::Stopped { .. } | ProcessChange::Continued);
        process.node == node && process.at < tear_down && !frozen
    });
    if let Some(ProcessChange::Ended { how, asked_for: true }) = life.map(|process| &process.change) {
        return format!("{node} was ended on purpose ({how}) and not started again");
    }
    let hit = history
        .faults_of(&system.name)
        .find(|fault| fault.effective.is_some() && fault.ended().is_none() && fault.targets.iter().any(|t| t == node));
    match hit {
        Some(fault) => format!("{node} told none under fault {}, which had not ended", fault.id),
        None => format!("{node} told none"),
    }
}
