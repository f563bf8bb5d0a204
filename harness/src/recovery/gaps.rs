//! The outage as the probe and as each client saw it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::base::{Nanos, millis};

use super::{
    episode::{Episode, RUN},
    figure::Figure,
    late::{CATCH_UP, Late},
    sample::Sample,
};

/// The distribution of each client's longest wait for an operation, from intended to done, attempts included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientGaps {
    /// Clients that did anything.
    pub clients: usize,
    /// The median client's longest wait, ms.
    pub p50_ms: f64,
    /// 90 % of the clients waited at most this, ms.
    pub p90_ms: f64,
    /// 99 % of the clients waited at most this, ms.
    pub p99_ms: f64,
    /// The longest of all, ms.
    pub max_ms: f64,
    /// The error bound of each of these, ms: how late the harness was with the operations that waited longest.
    pub bound_ms: f64,
    /// Every client's longest wait in ms, sorted; for the report's picture.
    #[serde(skip)]
    pub all_ms: Vec<f64>,
}

/// Whether the operation needed what the episode took away.
pub(super) fn needed(episode: &Episode, sample: &Sample) -> bool {
    episode.needs.is_empty() || sample.needs.is_empty() || episode.needs.contains(&sample.needs)
}

/// Whether a gap of the operation's part is put down to the episode; any part's is to the run as a whole.
fn watched(episode: &Episode, sample: &Sample) -> bool {
    episode.fault == RUN || needed(episode, sample)
}

/// Each client's longest wait during the episode. None when no client did anything.
#[must_use]
pub(super) fn client_gaps(episode: &Episode, samples: &[Sample], late: &Late) -> Option<ClientGaps> {
    // The wait, and how late the operation was sent.
    let mut longest: BTreeMap<u64, (Duration, Duration)> = BTreeMap::new();
    for sample in samples.iter().filter(|s| !s.probe && watched(episode, s)) {
        if sample.done >= episode.watched_from && sample.intended < episode.horizon {
            let known = longest.entry(sample.session).or_default();
            let noted = Duration::from_nanos(late.at(sample.done)).min(sample.waited());
            *known = (*known).max((sample.waited(), sample.lag.max(noted)));
        }
    }
    let bound = millis(longest.values().map(|(_, lag)| *lag).max()?);
    let mut all_ms: Vec<f64> = longest
        .into_values()
        .filter_map(|(wait, _)| Figure::millis(millis(wait), bound).value())
        .collect();
    all_ms.sort_by(f64::total_cmp);
    let rank = |percent: usize| all_ms[(all_ms.len() * percent).div_ceil(100).max(1) - 1];
    Some(ClientGaps {
        clients: all_ms.len(),
        p50_ms: rank(50),
        p90_ms: rank(90),
        p99_ms: rank(99),
        max_ms: rank(100),
        bound_ms: Figure::millis(0.0, bound).bound().unwrap_or(bound),
        all_ms,
    })
}

/// The longest stretch between two successes of the probe that needed the failed part; where there is no probe, of all
/// operations that needed one part.
pub(super) fn worst_gap(episode: &Episode, samples: &[Sample]) -> Figure {
    let probed = samples.iter().any(|s| s.probe);
    let mut by_part: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.probe == probed && watched(episode, s)) {
        by_part.entry(&sample.needs).or_default().push(sample);
    }
    by_part
        .values()
        .filter_map(|samples| longest_gap(episode, samples))
        .max_by_key(|(gap, _)| *gap)
        .map_or(Figure::Unresolved, |(gap, bound)| {
            Figure::millis(millis(gap), millis(bound))
        })
}

/// One end of a gap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    at: Nanos,
    /// What the success waited.
    waited: Duration,
    /// Which operation succeeded; none at the ends of what is looked at.
    operation: Option<usize>,
}

/// The longest gap of one part, and its bound: an operation's spacing at each end, what the second success waited, and how
/// late the first operation of the gap and the one that ended it were sent.
fn longest_gap(episode: &Episode, samples: &[&Sample]) -> Option<(Duration, Duration)> {
    let end = |at, operation| End {
        at,
        waited: Duration::ZERO,
        operation,
    };
    let served = samples.iter().enumerate().filter(|(_, s)| s.ok);
    let mut done: Vec<End> = served
        .map(|(index, s)| End {
            at: s.done,
            waited: s.waited(),
            operation: Some(index),
        })
        .collect();
    done.sort_unstable();
    let spacing = median_spacing(samples)?;
    let first = done
        .partition_point(|end| end.at < episode.watched_from)
        .saturating_sub(1);
    let mut ends: Vec<End> = Vec::new();
    if done.first().is_none_or(|first| first.at >= episode.watched_from) {
        ends.push(end(episode.watched_from, None));
    }
    ends.extend(
        done[first.min(done.len())..]
            .iter()
            .take_while(|end| end.at < episode.horizon),
    );
    // A gap that lasts into the next fault counts up to its beginning: the rest is the next one's.
    ends.push(end(episode.horizon, None));
    let longest = ends.windows(2).max_by_key(|pair| pair[1].at.since(pair[0].at))?;
    let (begin, end) = (longest[0], longest[1]);
    let first = begin.operation.and_then(|it| samples.get(it + 1));
    let late = first.map_or(Duration::ZERO, |s| s.lag) + late_at(samples, end.at);
    Some((end.at.since(begin.at), 2 * spacing + end.waited.min(spacing) + late))
}

/// How late those were that ended with what ended at `at`: after a standstill all that it kept waiting ends together, and
/// the one that is first may have waited least.
fn late_at(samples: &[&Sample], at: Nanos) -> Duration {
    let until = at.plus(CATCH_UP);
    let together = samples
        .iter()
        .filter(|s| s.intended <= at && s.done >= at && s.done <= until);
    together.map(|s| s.lag).max().unwrap_or_default()
}

fn median_spacing(samples: &[&Sample]) -> Option<Duration> {
    // One message is owed to several devices: those are one instant.
    let mut gaps: Vec<Duration> = samples
        .windows(2)
        .map(|pair| pair[1].intended.since(pair[0].intended))
        .filter(|gap| !gap.is_zero())
        .collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, waited: u64, ok: bool, session: u64, probe: bool, needs: &str) -> Sample {
        Sample {
            intended: Nanos::from_millis(at),
            sent: Nanos::from_millis(at),
            done: Nanos::from_millis(at + waited),
            ok,
            session,
            needs: needs.to_owned(),
            probe,
            first_error: None,
            lag: Duration::ZERO,
        }
    }

    fn episode(needs: &[&str]) -> Episode {
        Episode {
            fault: "1".to_owned(),
            effective: Nanos::from_millis(1000),
            watched_from: Nanos::from_millis(1000),
            healed: None,
            heals: true,
            horizon: Nanos::from_millis(5000),
            needs: needs.iter().map(|n| (*n).to_owned()).collect(),
            others: Vec::new(),
        }
    }

    #[test]
    fn the_gap_is_the_probes_on_the_part_that_failed() {
        let mut samples = Vec::new();
        for at in (0..5000).step_by(100) {
            let dead = (1000..2500).contains(&at);
            samples.push(sample(at, 1, !dead, 0, true, "shard:1"));
            samples.push(sample(at, 1, true, 0, true, "shard:2"));
        }
        let gap = worst_gap(&episode(&["shard:1"]), &samples);
        assert!((gap.value().unwrap() - 1500.0).abs() <= gap.bound().unwrap(), "{gap:?}");
        let other = worst_gap(&episode(&["shard:2"]), &samples);
        assert!(other.value().unwrap() <= 200.0, "{other:?}");
    }

    #[test]
    fn a_gap_without_an_end_reaches_the_horizon() {
        let samples: Vec<_> = (0..5000)
            .step_by(100)
            .map(|at| sample(at, 1, at < 1000, 0, true, "s"))
            .collect();
        let gap = worst_gap(&episode(&[]), &samples);
        assert!((gap.value().unwrap() - 4000.0).abs() <= gap.bound().unwrap(), "{gap:?}");
        assert_eq!(worst_gap(&episode(&[]), &[]), Figure::Unresolved);
    }

    #[test]
    fn the_bound_of_a_gap_holds_how_late_its_ends_were_sent() {
        let standing_still = |still: std::ops::Range<u64>| -> Vec<Sample> {
            let samples = (0..5000).step_by(100).map(|at| {
                let on = if still.contains(&at) { still.end } else { at };
                let mut sample = sample(at, on - at + 1, !(1000..2500).contains(&on), 0, true, "s");
                sample.sent = Nanos::from_millis(on);
                sample.lag = Duration::from_millis(on - at);
                sample
            });
            samples.collect()
        };
        for still in [800..1300, 2400..2950, 2501..2950, 4000..4001] {
            let gap = worst_gap(&episode(&[]), &standing_still(still.clone()));
            let (value, bound) = (gap.value().unwrap(), gap.bound().unwrap());
            assert!((value - 1500.0).abs() <= bound, "{still:?}: {gap:?}");
            // The standstill, a spacing at each end and the wait, and what rounding to that adds.
            let most = 1.5 * (320.0 + (still.end - still.start) as f64);
            assert!(bound <= most, "{still:?}: {gap:?}");
        }
    }

    #[test]
    fn a_clients_wait_is_no_finer_than_the_generator_was_late() {
        let mut late = sample(1100, 900, true, 1, false, "s");
        late.lag = Duration::from_millis(33);
        let gaps = client_gaps(
            &episode(&[]),
            &[late, sample(1100, 17, true, 2, false, "s")],
            &Late::default(),
        )
        .unwrap();
        assert_eq!((gaps.p50_ms, gaps.max_ms), (20.0, 900.0));
        assert!(gaps.bound_ms >= 33.0 && gaps.bound_ms < 45.0, "{gaps:?}");
    }

    #[test]
    fn each_client_counts_once_with_its_longest_wait() {
        let samples = [
            sample(1000, 10, true, 1, false, "s"),
            sample(1100, 900, true, 1, false, "s"),
            sample(1100, 20, true, 2, false, "s"),
            sample(100, 20, true, 3, false, "s"),
        ];
        let gaps = client_gaps(&episode(&[]), &samples, &Late::default()).unwrap();
        assert_eq!((gaps.clients, gaps.p50_ms, gaps.max_ms), (2, 20.0, 900.0));
        assert!(client_gaps(&episode(&[]), &[], &Late::default()).is_none());
    }
}
