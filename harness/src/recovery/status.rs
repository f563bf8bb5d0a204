//! What the system itself said: terms, leaders, replicas, and the sessions that were open.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    base::Nanos,
    history::{GroupStatus, History, Observed, SessionChange, SystemView},
};

use super::{episode::Episode, figure::Figure, late::Late};

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

/// What one system said, with what tells how exactly that can be dated.
pub(super) struct Said<'a> {
    pub(super) history: &'a History,
    pub(super) system: &'a SystemView,
    pub(super) late: &'a Late,
}

impl Said<'_> {
    /// The bound of an answer that is written down as soon as it is given: a change of term or leader. The node was asked
    /// before that, as long before as is planned and as much longer as the harness was late with either answer; it was so
    /// somewhere between the two. What is written down of the node is a limit too.
    fn at_once(&self, at: &Observed) -> u64 {
        let written = self.since_written(at);
        let planned = self.history.facts.observe_every.map(|every| {
            let asked = at.asked.unwrap_or(at.at);
            let (before, answering) = (asked.minus(every), at.at.since(asked));
            let late = self.late.at(at.at).saturating_add(self.late.at(before));
            Nanos::from_duration(every + 2 * answering).0.saturating_add(late)
        });
        planned.map_or(written.min(Nanos::from_duration(OBSERVED_EVERY).0), |planned| {
            planned.min(written)
        })
    }

    /// The time since the node's last written word.
    fn since_written(&self, at: &Observed) -> u64 {
        let before = self.system.observed[..self.system.observed.partition_point(|o| o.at < at.at)]
            .iter()
            .rev()
            .find(|o| o.node == at.node);
        before.map_or(u64::MAX, |before| {
            Nanos::from_duration(at.at.since(before.asked.unwrap_or(before.at))).0
        })
    }
}

fn in_scope(episode: &Episode, group: &str) -> bool {
    episode.needs.is_empty() || episode.needs.iter().any(|n| n == group)
}

/// From the effect to the first reaction: a newer term, or a leader that was none.
pub(super) fn detect(said: &Said<'_>, episode: &Episode) -> Figure {
    let system = said.system;
    let groups = before(system, episode.effective);
    words(system)
        .filter(|(o, g)| o.at >= episode.effective && o.at < episode.horizon && in_scope(episode, &g.group))
        .find(|(o, g)| {
            groups.get(g.group.as_str()).is_some_and(|known| {
                g.term > known.term || (g.leader && g.term == known.term && !known.leaders.contains(&o.node))
            })
        })
        .map_or(Figure::None, |(o, _)| {
            Figure::between(episode.effective, o.at, said.at_once(o))
        })
}

/// From the effect until every group that lost its leader has a new one by its own word. None when no group changed its
/// term; never when one did, or nobody leads it any more, and no new leader stood up. Unresolved when a group was not heard
/// of any more.
pub(super) fn failover(said: &Said<'_>, episode: &Episode) -> Figure {
    let system = said.system;
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
                let bound = said.at_once(observed);
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

/// What a group had committed when a heal came, as far as words tell.
#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    /// At least this: somebody had said so.
    least: u64,
    /// At most this: it is the most that anybody's first word from after the heal says.
    most: u64,
}

/// One replica from the heal on.
#[derive(Clone, Copy, Debug, Default)]
struct CatchingUp {
    /// Its last word that proves it behind.
    behind: Option<Nanos>,
    /// Its first word that proves that it had caught up.
    caught_up: Option<Nanos>,
}

/// From the heal until every replica has applied what its group had committed at the heal. How far a replica is, is written
/// down only now and then, so that it had caught up at some time between two of its words, or since the heal.
pub(super) fn redundant(said: &Said<'_>, episode: &Episode, clock: Option<Nanos>) -> Figure {
    let system = said.system;
    if words(system).next().is_none() || !episode.heals {
        return Figure::None;
    }
    let Some(healed) = clock else { return Figure::Never };
    let committed = committed_at(system, healed);
    let mut replicas: BTreeMap<(&str, &str), CatchingUp> = BTreeMap::new();
    for (observed, group) in words(system) {
        let replica = replicas.entry((&group.group, &observed.node)).or_default();
        let wanted = committed.get(group.group.as_str()).copied().unwrap_or_default();
        if observed.at < healed || replica.caught_up.is_some() {
            continue;
        }
        if group.applied >= wanted.most {
            replica.caught_up = Some(observed.at);
        } else if group.applied < wanted.least {
            replica.behind = Some(observed.asked.unwrap_or(observed.at).max(healed));
        }
    }
    let (mut last, mut least) = (healed, healed);
    for replica in replicas.values() {
        let Some(caught_up) = replica.caught_up else {
            return Figure::Never;
        };
        last = last.max(caught_up);
        least = least.max(replica.behind.unwrap_or(healed));
    }
    // All had caught up at the end of this, and one had not at its beginning.
    Figure::between(healed, last, last.0.saturating_sub(least.0))
}

/// What each group had committed at `healed`.
fn committed_at(system: &SystemView, healed: Nanos) -> BTreeMap<&str, Committed> {
    let mut committed: BTreeMap<&str, Committed> = BTreeMap::new();
    let mut spoken: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (observed, group) in words(system) {
        let known = committed.entry(&group.group).or_default();
        if observed.at <= healed {
            known.least = known.least.max(group.commit);
        } else if observed.asked.unwrap_or(observed.at) >= healed && spoken.insert((&group.group, &observed.node)) {
            known.most = known.most.max(group.commit);
        }
    }
    for known in committed.values_mut() {
        known.most = known.most.max(known.least);
    }
    committed
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
                SessionChange::Current { .. } | SessionChange::Dozed | SessionChange::Woke => false,
            };
            (event.at, open.len())
        })
        .collect()
}

/// How many of `before` sessions must be open for them to count as back: 99 %.
#[must_use]
pub const fn back_at(before: usize) -> usize {
    before.saturating_mul(99).div_ceil(100)
}

/// From the heal until 99 % of the sessions that were open before the fault are open again. None when never fewer were.
pub(super) fn sessions_back(
    said: &Said<'_>,
    episode: &Episode,
    clock: Option<Nanos>,
    member: &dyn Fn(u64) -> bool,
) -> Figure {
    let system = said.system;
    if !episode.heals {
        return Figure::None;
    }
    let mut open: BTreeSet<u64> = BTreeSet::new();
    let mut events = system.sessions.iter().filter(|e| member(e.session)).peekable();
    while let Some(event) = events.next_if(|e| e.at < episode.effective) {
        match event.change {
            SessionChange::Connected { .. } => open.insert(event.session),
            SessionChange::Lost { .. } | SessionChange::Fenced => open.remove(&event.session),
            SessionChange::Current { .. } | SessionChange::Dozed | SessionChange::Woke => false,
        };
    }
    let (before, wanted) = (open.clone(), back_at(open.len()));
    let (mut low, mut back) = (false, clock);
    // Devices come back while the load drains, too; the fence is what ends them on purpose.
    let end = said.history.fenced_from();
    for event in events
        .take_while(|e| e.at < end)
        .filter(|e| before.contains(&e.session))
    {
        match event.change {
            SessionChange::Connected { .. } => open.insert(event.session),
            SessionChange::Lost { .. } => open.remove(&event.session),
            SessionChange::Fenced | SessionChange::Current { .. } | SessionChange::Dozed | SessionChange::Woke => {
                continue;
            }
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
        (true, Some(healed), Some(back)) => {
            let back = back.max(healed);
            Figure::between(healed, back, said.late.at(back))
        }
        (true, _, _) => Figure::Never,
    }
}
