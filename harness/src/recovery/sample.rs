//! Operations as points in time: what figures are drawn from.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    base::Nanos,
    history::{Class, Fate, History, SystemView},
};

use super::late::{Late, lag};

/// The group of all clients together.
pub const ALL_CLIENTS: &str = "all";

/// One operation of one class, as its user saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When the schedule meant it.
    pub intended: Nanos,
    /// When the attempt that decided it was sent.
    pub sent: Nanos,
    /// When it was decided; the history's end for what never was.
    pub done: Nanos,
    /// Whether it succeeded.
    pub ok: bool,
    /// Its session.
    pub session: u64,
    /// What it needed.
    pub needs: String,
    /// True for the probe's.
    pub probe: bool,
    /// When its client first saw an error, even if a retry succeeded.
    pub first_error: Option<Nanos>,
    /// How late the harness was with it: with sending its first attempt, or with noting how it ended.
    pub lag: Duration,
}

impl Sample {
    /// What its user waited.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.done.since(self.intended)
    }
}

/// The classes that have operations while the load runs, in a fixed order. Reads are there for a promise, and far too few
/// for a band.
#[must_use]
pub fn classes(history: &History, system: &SystemView) -> Vec<Class> {
    let load_end = history.load_end();
    let from = load_start(history);
    let mut classes: BTreeSet<Class> = system
        .operations
        .iter()
        .filter(|o| o.intended >= from && o.intended < load_end && o.class != Class::Read)
        .map(|o| o.class)
        .collect();
    if system
        .deliveries
        .iter()
        .any(|d| d.intended >= from && d.intended < load_end)
    {
        classes.insert(Class::Deliver);
    }
    classes.into_iter().collect()
}

/// All clients, and each group that clients are labelled with.
#[must_use]
pub fn groups(system: &SystemView) -> Vec<String> {
    let labels: BTreeSet<&String> = system.session_groups.values().flatten().collect();
    std::iter::once(ALL_CLIENTS.to_owned())
        .chain(labels.into_iter().cloned())
        .collect()
}

/// From when operations are looked at: the steady phase, else the faults, else the beginning.
#[must_use]
pub(super) fn load_start(history: &History) -> Nanos {
    use crate::history::Phase;
    history
        .phases
        .start(Phase::Steady)
        .or_else(|| history.phases.start(Phase::Disturb))
        .unwrap_or_default()
}

/// The operations of `class` by the clients of `group` while the load ran, in the order of `intended`.
#[must_use]
pub fn samples(history: &History, system: &SystemView, class: Class, group: &str) -> Vec<Sample> {
    let (from, to) = (load_start(history), history.load_end());
    let late = Late::of(system);
    let inside = |at: Nanos| at >= from && at < to;
    let member = |session: u64| {
        group == ALL_CLIENTS
            || system
                .session_groups
                .get(&session)
                .is_some_and(|labels| labels.contains(group))
    };
    if class == Class::Deliver {
        return deliveries(history, system, &late, &inside, &member);
    }
    system
        .operations
        .iter()
        .filter(|o| o.class == class && inside(o.intended) && member(o.session))
        .map(|o| Sample {
            intended: o.intended,
            sent: o.decided_sent,
            done: o.done,
            ok: o.served(),
            session: o.session,
            needs: o.needs.clone(),
            probe: o.probe,
            first_error: o.first_error,
            lag: lag(o).unwrap_or_default().max(late.known(o.done).min(o.waited())),
        })
        .collect()
}

/// A delivery ends when the device shows it. What was not acknowledged and is not shown fails when its sending did;
/// what was acknowledged and is not shown fails at the history's end.
fn deliveries(
    history: &History,
    system: &SystemView,
    late: &Late,
    inside: &dyn Fn(Nanos) -> bool,
    member: &dyn Fn(u64) -> bool,
) -> Vec<Sample> {
    system
        .deliveries
        .iter()
        .filter(|d| inside(d.intended) && member(d.session))
        .map(|d| {
            let done = match (d.shown, d.fate) {
                (Some(shown), _) => shown,
                (None, Fate::Must) => history.ended,
                (None, Fate::May | Fate::Not) => d.over,
            };
            let noted = late.known(done).min(done.since(d.intended));
            Sample {
                intended: d.intended,
                sent: d.intended,
                done,
                ok: d.shown.is_some(),
                session: d.session,
                needs: d.needs.clone(),
                probe: d.probe,
                first_error: None,
                lag: noted.max(d.sent.since(d.intended)),
            }
        })
        .collect()
}
