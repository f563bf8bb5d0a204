//! The outage as the probe and as each client saw it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::base::{Nanos, millis};

use super::{
    episode::{Episode, RUN},
    figure::Figure,
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
pub fn client_gaps(episode: &Episode, samples: &[Sample]) -> Option<ClientGaps> {
    let mut longest: BTreeMap<u64, Duration> = BTreeMap::new();
    for sample in samples.iter().filter(|s| !s.probe && watched(episode, s)) {
        if sample.done >= episode.watched_from && sample.intended < episode.horizon {
            let known = longest.entry(sample.session).or_default();
            *known = (*known).max(sample.waited());
        }
    }
    let mut all_ms: Vec<f64> = longest
        .into_values()
        .map(|d| (millis(d) * 10.0).round() / 10.0)
        .collect();
    all_ms.sort_by(f64::total_cmp);
    let rank = |percent: usize| all_ms[(all_ms.len() * percent).div_ceil(100).max(1) - 1];
    if all_ms.is_empty() {
        return None;
    }
    Some(ClientGaps {
        clients: all_ms.len(),
        p50_ms: rank(50),
        p90_ms: rank(90),
        p99_ms: rank(99),
        max_ms: rank(100),
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

/// The longest gap of one part, and its bound: an operation's spacing at each end, and what the second success waited.
fn longest_gap(episode: &Episode, samples: &[&Sample]) -> Option<(Duration, Duration)> {
    let mut done: Vec<(Nanos, Duration)> = samples.iter().filter(|s| s.ok).map(|s| (s.done, s.waited())).collect();
    done.sort_unstable();
    let spacing = median_spacing(samples)?;
    let first = done
        .partition_point(|(at, _)| *at < episode.watched_from)
        .saturating_sub(1);
    let mut edges: Vec<(Nanos, Duration)> = Vec::new();
    if done.first().is_none_or(|(at, _)| *at >= episode.watched_from) {
        edges.push((episode.watched_from, Duration::ZERO));
    }
    edges.extend(
        done[first.min(done.len())..]
            .iter()
            .take_while(|(at, _)| *at < episode.horizon),
    );
    // A gap that lasts into the next fault counts up to its beginning: the rest is the next one's.
    edges.push((episode.horizon, Duration::ZERO));
    edges
        .windows(2)
        .map(|pair| (pair[1].0.since(pair[0].0), pair[1].1.min(spacing)))
        .max()
        .map(|(gap, waited)| (gap, 2 * spacing + waited))
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
    fn each_client_counts_once_with_its_longest_wait() {
        let samples = [
            sample(1000, 10, true, 1, false, "s"),
            sample(1100, 900, true, 1, false, "s"),
            sample(1100, 20, true, 2, false, "s"),
            sample(100, 20, true, 3, false, "s"),
        ];
        let gaps = client_gaps(&episode(&[]), &samples).unwrap();
        assert_eq!((gaps.clients, gaps.p50_ms, gaps.max_ms), (2, 20.0, 900.0));
        assert!(client_gaps(&episode(&[]), &[]).is_none());
    }
}
