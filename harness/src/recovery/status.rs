//! What the system itself said: terms, leaders, replicas, and the sessions that were open.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    base::Nanos,
    history::{GroupStatus, History, Observed, SessionChange, SystemView},
};

use super::{episode::Episode, figure::Figure};

/// A node says something at least this often.
const OBSERVED_EVERY: Duration = Duration::from_secs(1);

/// What was known of a group before a fault.
#[derive(Clone, Debug, Default)]
struct Before {
    term: u64,
    leaders: BTreeSet<String>,
}

fn words(system: &SystemView) -> impl Iterator<Item = (&Observed, &GroupStatus)> {
    system
        .observed
        .iter()
        .flat_map(|o| o.status.iter().flat_map(move |s| s.groups.iter().map(move |g| (o, g))))
}

/// The groups as they stood when the fault took effect.
fn before(system: &SystemView, at: Nanos) -> BTreeMap<&str, Before> {
    let mut groups: BTreeMap<&str, Before> = BTreeMap::new();
    for (observed, group) in words(system).filter(|(o, _)| o.at < at) {
        let known = groups.entry(&group.group).or_default();
        if group.term > known.term {
            *known = Before {
                term: group.term,
                leaders: BTreeSet::new(),
            };
        }
        if group.term == known.term && group.leader {
            known.leaders.insert(observed.node.clone());
        }
    }
    groups
}

/// How far apart observations may be: as planned, else the time since the node's last words.
fn observation_bound(history: &History, system: &SystemView, at: &Observed) -> u64 {
    let bound = history.facts.observe_every.unwrap_or_else(|| {
        let earlier = system.observed.iter().rev().find(|o| o.node == at.node && o.at < at.at);
        earlier.map_or(OBSERVED_EVERY, |o| at.at.since(o.at).min(OBSERVED_EVERY))
    });
    Nanos::from_duration(bound).0
}

fn in_scope(episode: &Episode, group: &str) -> bool {
    episode.needs.is_empty() || episode.needs.iter().any(|n| n == group)
}

/// From the effect to the first reaction: a newer term, or a leader that was none.
pub(super) fn detect(history: &History, system: &SystemView, episode: &Episode) -> Figure {
    let groups = before(system, episode.effective);
    words(system)
        .filter(|(o, g)| o.at >= episode.effective && o.at < episode.horizon && in_scope(episode, &g.group))
        .find(|(o, g)| {
            groups.get(g.group.as_str()).is_some_and(|known| {
                g.term > known.term || (g.leader && g.term == known.term && !known.leaders.contains(&o.node))
            })
        })
        .map_or(Figure::None, |(o, _)| {
            Figure::between(episode.effective, o.at, observation_bound(history, system, o))
        })
}

/// From the effect until every group that lost its leader has a new one by its own word. None when no group changed its
/// term; never when one did, or nobody leads it any more, and no new leader stood up. Unresolved when a group was not heard
/// of any more.
pub(super) fn failover(history: &History, system: &SystemView, episode: &Episode) -> Figure {
    let mut last: Option<(Nanos, u64)> = None;
    let mut mute = false;
    for (name, known) in before(system, episode.effective) {
        if !in_scope(episode, name) {
            continue;
        }
        let after: Vec<_> = words(system)
            .filter(|(o, g)| g.group == name && o.at >= episode.effective && o.at < episode.horizon)
            .collect();
        let changed = after.iter().any(|(_, g)| g.term > known.term);
        let led_on = after.iter().any(|(_, g)| g.leader && g.term == known.term);
        let new = after.iter().find(|(_, g)| g.leader && g.term > known.term);
        match new {
            None if after.is_empty() => mute = true,
            Some((observed, _)) => {
                let bound = observation_bound(history, system, observed);
                last = last.max(Some((observed.at, bound)));
            }
            None if changed => return Figure::Never,
            None if !led_on && !known.leaders.is_empty() && !episode.needs.is_empty() => {
                return Figure::Never;
            }
            None => {}
        }
    }
    match last {
        // What one group lost for good is said above, whoever else is silent.
        _ if mute => Figure::Unresolved,
        Some((at, bound)) => Figure::between(episode.effective, at, bound),
        None => Figure::None,
    }
}

/// From the heal until every replica has applied what its group had committed at the heal.
pub(super) fn redundant(history: &History, system: &SystemView, episode: &Episode, clock: Option<Nanos>) -> Figure {
    let mut replicas: BTreeMap<(&str, &str), Option<Nanos>> = BTreeMap::new();
    let mut committed: BTreeMap<&str, u64> = BTreeMap::new();
    for (observed, group) in words(system) {
        replicas.insert((&group.group, &observed.node), None);
        if clock.is_some_and(|healed| observed.at <= healed) {
            let known = committed.entry(&group.group).or_default();
            *known = (*known).max(group.commit);
        }
    }
    if replicas.is_empty() || !episode.heals {
        return Figure::None;
    }
    let Some(healed) = clock else { return Figure::Never };
    let mut bound = 0;
    for (observed, group) in words(system).filter(|(o, _)| o.at >= healed) {
        let wanted = committed.get(group.group.as_str()).copied().unwrap_or(0);
        let Some(caught_up) = replicas.get_mut(&(group.group.as_str(), observed.node.as_str())) else {
            continue;
        };
        if caught_up.is_none() && group.applied >= wanted {
            *caught_up = Some(observed.at);
            bound = bound.max(observation_bound(history, system, observed));
        }
    }
    let all: Option<Vec<Nanos>> = replicas.into_values().collect();
    all.and_then(|times| times.into_iter().max())
        .map_or(Figure::Never, |at| Figure::between(healed, at, bound))
}

/// The open sessions after each change. `member` chooses whose.
#[must_use]
pub fn sessions_series(system: &SystemView, member: &dyn Fn(u64) -> bool) -> Vec<(Nanos, usize)> {
    let mut open = BTreeSet::new();
    system
        .sessions
        .iter()
        .filter(|e| member(e.session))
        .map(|event| {
            match event.change {
                SessionChange::Connected { .. } => open.insert(event.session),
                SessionChange::Lost { .. } | SessionChange::Fenced => open.remove(&event.session),
                SessionChange::Current { .. } => false,
            };
            (event.at, open.len())
        })
        .collect()
}

/// From the heal until 99 % of the sessions that were open before the fault are open again. None when never fewer were.
pub(super) fn sessions_back(
    history: &History,
    system: &SystemView,
    episode: &Episode,
    clock: Option<Nanos>,
    member: &dyn Fn(u64) -> bool,
) -> Figure {
    if !episode.heals {
        return Figure::None;
    }
    let mut open: BTreeSet<u64> = BTreeSet::new();
    let mut events = system.sessions.iter().filter(|e| member(e.session)).peekable();
    while let Some(event) = events.next_if(|e| e.at < episode.effective) {
        match event.change {
            SessionChange::Connected { .. } => open.insert(event.session),
            SessionChange::Lost { .. } | SessionChange::Fenced => open.remove(&event.session),
            SessionChange::Current { .. } => false,
        };
    }
    let (before, wanted) = (open.clone(), (open.len() * 99).div_ceil(100));
    let (mut low, mut back) = (false, clock);
    let end = history.load_end();
    for event in events
        .take_while(|e| e.at < end)
        .filter(|e| before.contains(&e.session))
    {
        match event.change {
            SessionChange::Connected { .. } => open.insert(event.session),
            SessionChange::Lost { .. } => open.remove(&event.session),
            SessionChange::Fenced | SessionChange::Current { .. } => continue,
        };
        let enough = open.len() >= wanted;
        if !enough {
            if event.at < episode.horizon || clock.is_some_and(|h| event.at < h) {
                low = true;
            }
            back = None;
        } else if back.is_none() {
            back = Some(clock.map_or(event.at, |healed| event.at.max(healed)));
        }
        // Once back after the heal, a later loss belongs to whatever came later.
        if enough && low && clock.is_some_and(|healed| event.at >= healed) {
            break;
        }
    }
    match (low, clock, back) {
        (false, _, _) => Figure::None,
        (true, Some(healed), Some(back)) => Figure::between(healed, back.max(healed), 0),
        (true, _, _) => Figure::Never,
    }
}
