//! How a load goes right now: totals, the last second, and the generator's own lag.
//!
//! For whoever watches a run and for the steady state. Judging reads the history instead.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::ClassProgress;
use crate::{
    base::Nanos,
    history::{Class, Outcome},
};

/// How far back the recent figures reach.
pub(crate) const RECENT: Duration = Duration::from_secs(1);
/// Operations of one class remembered for them: beyond, the oldest go first.
const RECENT_MAX: usize = 100_000;
/// The longest lag that is told apart, in microseconds.
const LAG_US_MAX: u64 = 600_000_000;

/// Counts what one workload does.
#[derive(Debug)]
pub(crate) struct Meter {
    classes: BTreeMap<Class, ClassMeter>,
    lag_us: Histogram<u64>,
}

#[derive(Debug, Default)]
struct ClassMeter {
    totals: ClassProgress,
    recent: VecDeque<Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    at: Nanos,
    /// Response time; none when it was not ok.
    ok: Option<Duration>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            classes: BTreeMap::new(),
            lag_us: Histogram::new_with_bounds(1, LAG_US_MAX, 3).expect("constant bounds are valid"),
        }
    }
}

impl Meter {
    /// An operation ended for good.
    pub(crate) fn ended(&mut self, class: Class, outcome: Outcome, intended: Nanos, at: Nanos) {
        let meter = self.classes.entry(class).or_default();
        match outcome {
            Outcome::Ok => meter.totals.ok += 1,
            Outcome::Failed => meter.totals.failed += 1,
            Outcome::Unknown => meter.totals.unknown += 1,
            Outcome::Shed => meter.totals.shed += 1,
        }
        if meter.recent.len() >= RECENT_MAX {
            meter.recent.pop_front();
        }
        let ok = (outcome == Outcome::Ok).then(|| at.since(intended));
        meter.recent.push_back(Ended { at, ok });
    }

    /// A first attempt was sent this much later than meant.
    pub(crate) fn lagged(&mut self, lag: Duration) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(LAG_US_MAX).min(LAG_US_MAX);
        self.lag_us.saturating_record(us);
    }

    /// 99th percentile of the lag, in milliseconds; 0 before the first operation.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 6e8")]
    pub(crate) fn lag_p99_ms(&self) -> f64 {
        self.lag_us.value_at_quantile(0.99) as f64 / 1e3
    }

    /// The classes as of `now`.
    pub(crate) fn progress(&mut self, now: Nanos) -> BTreeMap<Class, ClassProgress> {
        let from = now.minus(RECENT);
        let classes = self.classes.iter_mut().map(|(class, meter)| {
            // Ends come in nearly in order of time; one that is out of order by a moment leaves a moment later.
            while meter.recent.front().is_some_and(|ended| ended.at < from) {
                meter.recent.pop_front();
            }
            (*class, meter.progress())
        });
        classes.collect()
    }
}

impl ClassMeter {
    #[expect(clippy::cast_precision_loss, reason = "at most RECENT_MAX")]
    fn progress(&self) -> ClassProgress {
        let mut ok: Vec<Duration> = self.recent.iter().filter_map(|ended| ended.ok).collect();
        ok.sort_unstable();
        let all = self.recent.len();
        ClassProgress {
            recent: all as u64,
            success: (all > 0).then(|| ok.len() as f64 / all as f64),
            p50_ms: quantile(&ok, 50).map(crate::base::millis),
            p99_ms: quantile(&ok, 99).map(crate::base::millis),
            ..self.totals
        }
    }
}

/// The smallest value that `percent` of them do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_is_told_from_the_totals() {
        let mut meter = Meter::default();
        for ms in 0..200u64 {
            let at = Nanos::from_millis(ms * 10);
            let outcome = if ms < 100 { Outcome::Unknown } else { Outcome::Ok };
            meter.ended(Class::Send, outcome, at.minus(Duration::from_millis(ms)), at);
        }
        let send = meter.progress(Nanos::from_millis(2000))[&Class::Send];
        assert_eq!((send.ok, send.unknown, send.recent), (100, 100, 100));
        assert_eq!(send.success, Some(1.0));
        assert_eq!(send.p50_ms, Some(149.0));
        assert_eq!(send.p99_ms, Some(198.0));
        let later = meter.progress(Nanos::from_millis(5000))[&Class::Send];
        assert_eq!(
            (later.ok, later.recent, later.success, later.p99_ms),
            (100, 0, None, None)
        );
    }

    #[test]
    fn a_ratio_counts_what_was_not_ok() {
        let mut meter = Meter::default();
        for (outcome, count) in [
            (Outcome::Ok, 6),
            (Outcome::Failed, 1),
            (Outcome::Unknown, 1),
            (Outcome::Shed, 2),
        ] {
            for _ in 0..count {
                meter.ended(Class::Put, outcome, Nanos(0), Nanos(5));
            }
        }
        assert_eq!(meter.progress(Nanos(6))[&Class::Put].success, Some(0.6));
    }

    #[test]
    fn lag_is_a_percentile_and_never_overflows() {
        let mut meter = Meter::default();
        assert!(meter.lag_p99_ms().abs() < f64::EPSILON);
        for ms in 1..=100 {
            meter.lagged(Duration::from_millis(ms));
        }
        assert!((meter.lag_p99_ms() - 99.0).abs() < 0.2, "{}", meter.lag_p99_ms());
        meter.lagged(Duration::MAX);
    }
}
