//! What an operation cost and how fast it was: its phases, and what clients and replicas saw while it went on.
//!
//! Everything is drawn from the history. A phase's beginning is known within its bound: the distance of two looks.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    base::{Nanos, millis},
    history::{Amounts, Class, History, Migration, NodeStatus, Operation, Outcome, Phase, SystemView},
};

/// Phases in which something is copied, and users only feel that there is more to do.
const COPYING: &[&str] = &["add_learner", "catch_up", "move_replicas"];
/// Phases in which somebody else comes to answer.
const CUTTING_OVER: &[&str] = &[
    "enter_joint",
    "leave_joint",
    "hand_over",
    "move_leaders",
    "stop",
    "start",
    "lead",
];
/// What follows a cut-over for so long belongs to it: whoever was on the way to the old one has to find the new one.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Entries that a replica may be behind and still count: nodes are asked at different instants of a load that goes on.
const LAG_MAX: u64 = 512;

/// The figures of one operation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OperationFigures {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) system: String,
    /// The number that the system gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<u64>,
    /// `completed`, `aborted`, `stopped` or `unknown`.
    pub(super) outcome: &'static str,
    pub(super) reason: String,
    pub(super) began_ms: f64,
    pub(super) ended_ms: Option<f64>,
    pub(super) lasted_ms: f64,
    /// How often another controller went on with it.
    pub(super) taken_over: u32,
    #[serde(flatten)]
    pub(super) amounts: Rates,
    pub(super) phases: Vec<PhaseFigures>,
    /// The longest that clients waited for a success in a phase in which somebody else came to answer, over all that needed
    /// what moved; null when nobody asked then.
    pub(super) cut_over_gap_ms: Option<f64>,
    /// The same as each operation felt it: the 99th percentile of the response times of those meant then.
    pub(super) cut_over_p99_ms: Option<f64>,
    /// How much longer the median, and the 99th percentile, of a response were while it copied than in the steady state.
    pub(super) copy_extra_p50_ms: Option<f64>,
    pub(super) copy_extra_p99_ms: Option<f64>,
    /// How long the new one took to catch up, all of them together.
    pub(super) catch_up_ms: Option<f64>,
    /// How long some part had fewer replicas up to date than when it began; until the load's end at most.
    pub(super) reduced_redundancy_ms: f64,
    /// Operations meant while it went on that did not succeed.
    pub(super) failed: u64,
    /// The largest error bound of all these times.
    pub(super) bound_ms: f64,
}

/// What was done, and how fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Rates {
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) items_per_s: f64,
    pub(super) bytes_per_s: f64,
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PhaseFigures {
    pub(super) name: String,
    pub(super) from_ms: f64,
    pub(super) to_ms: f64,
    pub(super) bound_ms: f64,
    #[serde(flatten)]
    pub(super) amounts: Rates,
}

/// The figures of all operations of a run, in the order of their beginning.
pub(super) fn operations(history: &History) -> Vec<OperationFigures> {
    let all = history.migrations.iter();
    all.filter_map(|it| figures(history, history.systems.get(&it.system)?, it))
        .collect()
}

fn figures(history: &History, system: &SystemView, it: &Migration) -> Option<OperationFigures> {
    let began = it.began()?;
    // One that was not seen to end lasted as long as the load did.
    let ended = it
        .ended
        .as_ref()
        .map_or_else(|| history.load_end().max(began), |(_, at, _)| *at);
    let needs = needs_of(history, it);
    let asked: Vec<&Operation> = system
        .attempts
        .iter()
        .filter(|op| op.last && felt(op, &needs))
        .collect();
    let cuts = stretches(it, CUTTING_OVER, ended, AFTERWARDS);
    let copies = stretches(it, COPYING, ended, Duration::ZERO);
    let calm = responses(
        &asked,
        &history
            .phases
            .window(Phase::Steady, history.ended)
            .into_iter()
            .collect::<Vec<_>>(),
    );
    let copying = responses(&asked, &copies);
    let extra = |q: f64| Some(quantile(&copying, q)? - quantile(&calm, q)?);
    let catch_up = stretches(it, &["catch_up"], ended, Duration::ZERO);
    let bound = it.phases.iter().map(|phase| phase.bound_ns).max().unwrap_or(0);
    Some(OperationFigures {
        id: it.id.clone(),
        kind: it.kind.clone(),
        system: it.system.clone(),
        operation: it.operation,
        outcome: it.ended.as_ref().map_or("unknown", |(how, ..)| how.as_str()),
        reason: it.ended.as_ref().map(|(.., reason)| reason.clone()).unwrap_or_default(),
        began_ms: round(began.as_millis_f64()),
        ended_ms: it.ended.as_ref().map(|(_, at, _)| round(at.as_millis_f64())),
        lasted_ms: round(millis(ended.since(began))),
        taken_over: it.taken_over,
        amounts: rates(it.done(), ended.since(began)),
        phases: it
            .phases
            .iter()
            .map(|phase| PhaseFigures {
                name: phase.name.clone(),
                from_ms: round(phase.from.as_millis_f64()),
                to_ms: round(phase.to.unwrap_or(ended).as_millis_f64()),
                bound_ms: round(millis(Duration::from_nanos(phase.bound_ns))),
                amounts: rates(phase.done, phase.lasted(ended)),
            })
            .collect(),
        cut_over_gap_ms: cuts
            .iter()
            .filter_map(|cut| gap(&asked, *cut))
            .reduce(f64::max)
            .map(round),
        cut_over_p99_ms: quantile(&responses(&asked, &cuts), 0.99).map(round),
        copy_extra_p50_ms: extra(0.5).map(round),
        copy_extra_p99_ms: extra(0.99).map(round),
        catch_up_ms: (!catch_up.is_empty())
            .then(|| round(catch_up.iter().map(|(from, to)| millis(to.since(*from))).sum())),
        reduced_redundancy_ms: round(millis(reduced(system, (began, ended), history.load_end()))),
        failed: asked
            .iter()
            .filter(|op| op.intended >= began && op.intended <= ended && op.outcome != Outcome::Ok)
            .count() as u64,
        bound_ms: round(millis(Duration::from_nanos(bound))),
    })
}

/// What the operation concerns, in the words of an operation's `needs`; empty for everything.
fn needs_of(history: &History, it: &Migration) -> Vec<String> {
    let own = history
        .faults
        .iter()
        .find(|fault| fault.id == it.id && fault.system == it.system);
    own.map(|fault| fault.needs.clone()).unwrap_or_default()
}

/// Whether an operation is one that users wait for, and that needed what moves.
fn felt(op: &Operation, needs: &[String]) -> bool {
    let waited_for = matches!(op.class, Class::Send | Class::Put | Class::Request);
    waited_for && op.outcome != Outcome::Shed && (needs.is_empty() || needs.contains(&op.needs))
}

/// The stretches of an operation in phases of these names, each with some time behind it. A phase is called by its first word, or,
/// while it is taken back, by its last.
fn stretches(it: &Migration, names: &[&str], ended: Nanos, more: Duration) -> Vec<(Nanos, Nanos)> {
    let named = |name: &str| {
        let first = name.split(' ').next().unwrap_or(name);
        let last = name.rsplit(' ').next().unwrap_or(name);
        names.contains(&first) || names.contains(&last)
    };
    let found = it.phases.iter().filter(|phase| named(&phase.name));
    found
        .map(|phase| (phase.from, phase.to.unwrap_or(ended).plus(more)))
        .collect()
}

/// The response times of what was meant in these stretches and succeeded, in order, ms.
fn responses(asked: &[&Operation], stretches: &[(Nanos, Nanos)]) -> Vec<f64> {
    let within = |op: &&&Operation| {
        stretches
            .iter()
            .any(|(from, to)| op.intended >= *from && op.intended < *to)
    };
    let ok = asked.iter().filter(within).filter(|op| op.outcome == Outcome::Ok);
    let mut times: Vec<f64> = ok.map(|op| millis(op.done.since(op.intended))).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// A quantile of sorted times; none when there are too few to tell.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count"
    )]
    let place = (sorted.len() as f64 * q).ceil() as usize;
    (sorted.len() >= 5).then(|| sorted[place.clamp(1, sorted.len()) - 1])
}

/// The longest stretch between two successes that reaches into `cut`, of those that anybody asked in; none without any.
fn gap(asked: &[&Operation], (from, to): (Nanos, Nanos)) -> Option<f64> {
    let mut done: Vec<Nanos> = asked
        .iter()
        .filter(|op| op.outcome == Outcome::Ok)
        .map(|op| op.done)
        .collect();
    done.sort_unstable();
    let gaps = done.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    gaps.map(|pair| millis(pair[1].since(pair[0]))).reduce(f64::max)
}

/// How long, from its beginning on, some group had fewer replicas up to date than it had then.
fn reduced(system: &SystemView, (began, ended): (Nanos, Nanos), until: Nanos) -> Duration {
    let mut now: BTreeMap<&str, Option<&NodeStatus>> = BTreeMap::new();
    let mut wanted: Option<BTreeMap<String, usize>> = None;
    let mut total = Duration::ZERO;
    let mut fewer_since: Option<Nanos> = None;
    for seen in &system.observed {
        if wanted.is_none() && seen.at > began {
            wanted = Some(replicas(&now));
        }
        now.insert(&seen.node, seen.status.as_ref());
        let Some(wanted) = &wanted else { continue };
        if seen.at > until {
            break;
        }
        let have = replicas(&now);
        let fewer = wanted
            .iter()
            .any(|(group, count)| have.get(group).copied().unwrap_or(0) < *count);
        match (fewer, fewer_since) {
            (true, None) if seen.at <= ended => fewer_since = Some(seen.at),
            (false, Some(since)) => {
                total += seen.at.since(since);
                fewer_since = None;
            }
            _ => {}
        }
        if fewer_since.is_none() && seen.at > ended {
            break;
        }
    }
    total + fewer_since.map_or(Duration::ZERO, |since| until.since(since))
}

/// For each group, on how many nodes a replica is up to date.
fn replicas(now: &BTreeMap<&str, Option<&NodeStatus>>) -> BTreeMap<String, usize> {
    let words = || now.values().flatten().flat_map(|status| &status.groups);
    let mut commits: BTreeMap<&str, u64> = BTreeMap::new();
    for group in words() {
        let commit = commits.entry(&group.group).or_default();
        *commit = group.commit.max(*commit);
    }
    let mut counts = BTreeMap::new();
    for group in words() {
        let up_to_date = group.applied.saturating_add(LAG_MAX) >= commits[group.group.as_str()];
        *counts.entry(group.group.clone()).or_default() += usize::from(up_to_date);
    }
    counts
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
fn rates(done: Amounts, lasted: Duration) -> Rates {
    let per_s = |count: u64| match lasted.as_secs_f64() {
        seconds if seconds > 0.0 => round(count as f64 / seconds),
        _ => 0.0,
    };
    Rates {
        items: done.items,
        bytes: done.bytes,
        items_per_s: per_s(done.items),
        bytes_per_s: per_s(done.bytes),
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{
        Event, MigrationChange, MigrationEnd, MigrationEvent,
        synth::{Effect, Script, Scripted},
    };

    fn moved(at: u64, change: MigrationChange) -> Event {
        Event::Migration(MigrationEvent {
            at: Nanos::from_millis(at),
            since: Nanos::from_millis(at - 5),
            id: "1-move_replica".to_owned(),
            kind: "move_replica".to_owned(),
            system: "main".to_owned(),
            operation: Some(3),
            change,
        })
    }

    fn entered(at: u64, phase: &str, items: u64) -> Event {
        let done = Amounts {
            items,
            items_total: 100,
            bytes: items * 1000,
        };
        moved(
            at,
            MigrationChange::Entered {
                phase: phase.to_owned(),
                done,
            },
        )
    }

    /// It copies from 5 s to 7 s, and cuts over from 7 s to 7.5 s; what happens to clients meanwhile is `outages`.
    fn figures_of(outages: Vec<Scripted>, change: impl Fn(&mut Event)) -> OperationFigures {
        let script = Script {
            retries: 1,
            outages,
            ..Script::default()
        };
        let mut events = script.events();
        events.iter_mut().for_each(change);
        events.push(entered(5000, "catch_up", 0));
        events.push(entered(7000, "enter_joint", 100));
        let done = Amounts {
            items: 100,
            items_total: 100,
            bytes: 100_000,
        };
        events.push(moved(
            7500,
            MigrationChange::Ended {
                how: MigrationEnd::Completed,
                done,
                reason: "n1 says so".to_owned(),
            },
        ));
        let history = History::new(script.header(), events);
        let mut found = operations(&history);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn a_quiet_move_costs_nobody_anything() {
        let one = figures_of(Vec::new(), |_| {});
        assert_eq!((one.outcome, one.operation, one.failed), ("completed", Some(3), 0));
        assert!((one.lasted_ms - 2500.0).abs() < 0.1 && (one.catch_up_ms.unwrap() - 2000.0).abs() < 0.1);
        assert!(one.cut_over_gap_ms.unwrap() <= 60.0, "{one:?}");
        assert!(one.copy_extra_p99_ms.unwrap().abs() < 1.0, "{one:?}");
        assert!(one.reduced_redundancy_ms < f64::EPSILON, "{one:?}");
        assert!((one.phases[0].amounts.items_per_s - 50.0).abs() < 0.1);
        assert!((one.phases[0].amounts.bytes_per_s - 50_000.0).abs() < 0.1);
        assert!(
            (one.phases[1].bound_ms - 10.0).abs() < 0.1,
            "both its ends are known within 5 ms"
        );
    }

    #[test]
    fn a_hole_at_cut_over_is_as_long_as_it_was() {
        let one = figures_of(vec![Scripted::ms(7100, 7400, Effect::Refuse)], |_| {});
        let gap = one.cut_over_gap_ms.unwrap();
        assert!((300.0..=320.0).contains(&gap), "{gap}");
        assert!(one.failed > 0);
        let before = figures_of(vec![Scripted::ms(2000, 2900, Effect::Refuse)], |_| {});
        assert!(
            before.cut_over_gap_ms.unwrap() <= 60.0,
            "one that was over before is not its doing"
        );
    }

    #[test]
    fn slower_answers_while_it_copies_are_extra() {
        let one = figures_of(vec![Scripted::ms(5000, 7000, Effect::Slow(10.0))], |_| {});
        // 2 ms became 20 ms.
        assert!((one.copy_extra_p50_ms.unwrap() - 18.0).abs() < 2.0, "{one:?}");
    }

    #[test]
    fn a_node_that_says_nothing_is_a_replica_less_for_as_long() {
        let one = figures_of(Vec::new(), |event| {
            if let Event::Observed(seen) = event
                && seen.node == "n2"
                && (6000..8000).contains(&(seen.at.0 / 1_000_000))
            {
                seen.status = None;
            }
        });
        // The nodes are asked every 200 ms.
        assert!((one.reduced_redundancy_ms - 2000.0).abs() <= 400.0, "{one:?}");
    }
}
