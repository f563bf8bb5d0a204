//! When a class of operations was outside its band.
//!
//! The state is left at a bad operation from which a stretch of `hold` is outside the band, and entered again at a good
//! operation from which a whole stretch of `hold` is inside it. A stretch that tolerates a few bad operations would by
//! itself blur both edges by up to its length, so each edge is then put where the share of bad operations changes: at
//! the extreme of the sum of (bad - half the share during the outage), which is the likeliest change point.
//!
//! An operation that the generator sent late met the service later than it was meant to, and may be slow for that alone. So
//! the bound of an edge holds how late the operations about it were, and reaches to the nearest one that the service
//! itself made bad.

use std::{ops::Range, time::Duration};

use crate::base::Nanos;

use super::{band::Band, sample::Sample};

/// Fewer operations than this in a stretch tell nothing.
pub const OPERATIONS_MIN: usize = 10;

/// How often an edge may be further off than its bound.
const MISS: f64 = 1e-4;

/// One stretch outside the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The intended time of its first bad operation.
    pub from: Nanos,
    /// The intended time of the first operation of the stretch that ended it; none when the load ended first.
    pub to: Option<Nanos>,
    /// The error bound of `from`, ns.
    pub from_bound: u64,
    /// The error bound of `to`, ns.
    pub to_bound: u64,
}

impl Outage {
    /// Its end, or `otherwise` while it lasts.
    #[must_use]
    pub fn end(&self, otherwise: Nanos) -> Nanos {
        self.to.unwrap_or(otherwise).max(self.from)
    }
}

/// Samples with running counts, so that a stretch is judged at once.
struct Counted<'a> {
    samples: &'a [Sample],
    bad: Vec<bool>,
    /// Bad by the service's own doing.
    hurt: Vec<bool>,
    failed_before: Vec<usize>,
    slow_before: Vec<usize>,
    band: Band,
    hold: Duration,
    load_end: Nanos,
}

impl<'a> Counted<'a> {
    fn new(samples: &'a [Sample], band: &Band, hold: Duration, load_end: Nanos) -> Self {
        let (mut failed_before, mut slow_before) = (vec![0], vec![0]);
        let (mut failed, mut slow) = (0, 0);
        for sample in samples {
            failed += usize::from(!sample.ok);
            slow += usize::from(sample.ok && band.bad(sample));
            failed_before.push(failed);
            slow_before.push(slow);
        }
        Self {
            samples,
            bad: samples.iter().map(|s| band.bad(s)).collect(),
            hurt: samples.iter().map(|s| band.bad(s) && !band.only_late(s)).collect(),
            failed_before,
            slow_before,
            band: *band,
            hold,
            load_end,
        }
    }

    /// The first operation after the stretch of `hold` that begins with operation `at`.
    fn stretch_end(&self, at: usize) -> usize {
        let end = self.samples[at].intended.plus(self.hold);
        at + self.samples[at..].partition_point(|s| s.intended < end)
    }

    /// Whether the stretch from `at` is inside the band; none with too few operations.
    fn inside(&self, at: usize) -> Option<bool> {
        let end = self.stretch_end(at);
        let operations = end - at;
        if operations < OPERATIONS_MIN {
            return None;
        }
        let failed = self.failed_before[end] - self.failed_before[at];
        let slow = self.slow_before[end] - self.slow_before[at];
        Some(failed <= tolerated(operations, self.band.success_min) && slow <= operations / 100)
    }

    fn whole(&self, at: usize) -> bool {
        self.samples[at].intended.plus(self.hold) <= self.load_end
    }

    /// The share of bad operations from `from` until `to`.
    fn share(&self, from: usize, to: usize) -> f64 {
        ratio(self.bad[from..to].iter().filter(|b| **b).count(), to - from)
    }

    /// Where the outage that shows in the stretch from `at` really begins: see the module's text.
    fn begin(&self, at: usize) -> usize {
        let end = self.stretch_end(at);
        let last = (at..end).rev().find(|i| self.bad[*i]).unwrap_or(at);
        let threshold = self.share(at, last + 1) / 2.0;
        let (mut sum, mut lowest, mut begin) = (0.0, 0.0, at);
        for index in at..=last {
            if self.bad[index] && sum < lowest {
                (lowest, begin) = (sum, index);
            }
            sum += f64::from(u8::from(self.bad[index])) - threshold;
        }
        begin
    }

    /// Where the outage whose share of bad operations was `share` really ends, in the stretch from `at`.
    fn finish(&self, at: usize, share: f64) -> usize {
        let (end, threshold) = (self.stretch_end(at), share / 2.0);
        let (mut sum, mut highest, mut finish) = (0.0, 0.0, at);
        for index in at..end {
            sum += f64::from(u8::from(self.bad[index])) - threshold;
            if self.bad[index] && sum > highest {
                highest = sum;
                finish = (index + 1..end).find(|i| !self.bad[*i]).unwrap_or(at);
            }
        }
        finish
    }

    /// The bound of an edge of the outage `within`: the operations that may pass before the outage shows, times their
    /// spacing here, plus what the good operation beside it waited and how late the operations about it were sent.
    fn bound(&self, edge: usize, share: f64, operations: usize, within: &Range<usize>) -> u64 {
        let first = edge.saturating_sub(blind(share, operations));
        let last = (edge + 1).min(self.samples.len() - 1);
        let (first, last) = self.to_what_is_hurt(edge, (first, last), within);
        let before = self.samples[edge].intended.since(self.samples[first].intended);
        let after = self.samples[last].intended.since(self.samples[edge].intended);
        let waited = if self.samples[edge].ok {
            self.samples[edge].waited().min(self.band.p99_max)
        } else {
            Duration::ZERO
        };
        let late = self.samples[first..=last].iter().map(|s| s.lag).max();
        Nanos::from_duration(before.max(after) + waited + late.unwrap_or_default()).0
    }

    /// From an edge to the nearest operation of the outage that the service itself made bad, where the one at the edge was
    /// only late: what lies between tells nothing.
    fn to_what_is_hurt(&self, edge: usize, (first, last): (usize, usize), within: &Range<usize>) -> (usize, usize) {
        if self.bad[edge] {
            let hurt = (edge..within.end).find(|i| self.hurt[*i]);
            return (first, last.max(hurt.unwrap_or(within.end - 1)));
        }
        let hurt = (within.start..edge).rev().find(|i| self.hurt[*i]);
        (first.min(hurt.unwrap_or(within.start)), last)
    }
}

/// How many operations may pass before an outage with this share of bad ones shows: it was taken from `operations`.
fn blind(share: f64, operations: usize) -> usize {
    let low = (share - 2.0 * (share * (1.0 - share) / count(operations.max(1))).sqrt()).max(0.02);
    if low >= 1.0 {
        return 1;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a few hundred"
    )]
    let passed = (MISS.ln() / (1.0 - low).ln()).ceil() as usize;
    passed.clamp(1, 1000)
}

/// How many of `operations` may fail.
fn tolerated(operations: usize, success_min: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is a count"
    )]
    let tolerated = (count(operations) * (1.0 - success_min) + 1e-9).floor() as usize;
    tolerated
}

#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
const fn count(operations: usize) -> f64 {
    operations as f64
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { count(part) / count(whole) }
}

/// All stretches outside the band, in order. `samples` are in the order of `intended`.
#[must_use]
pub fn outages(samples: &[Sample], band: &Band, hold: Duration, load_end: Nanos) -> Vec<Outage> {
    let counted = Counted::new(samples, band, hold, load_end);
    let mut found = Vec::new();
    let mut at = 0;
    while at < samples.len() {
        if !counted.bad[at] || counted.inside(at) != Some(false) {
            at += 1;
            continue;
        }
        let begin = counted.begin(at);
        let back = (begin + 1..samples.len())
            .find(|i| !counted.bad[*i] && counted.whole(*i) && counted.inside(*i) == Some(true));
        let stop = back.unwrap_or(samples.len());
        // What the outage was like at each of its ends, over at most one stretch.
        let head = counted.stretch_end(begin).min(stop).max(begin + 1);
        let tail_from = samples[stop - 1].intended.minus(hold);
        let tail = begin + samples[begin..stop].partition_point(|s| s.intended < tail_from);
        let (head_share, tail_share) = (counted.share(begin, head), counted.share(tail, stop));
        let to = back.map(|index| counted.finish(index, tail_share));
        found.push(Outage {
            from: samples[begin].intended,
            to: to.map(|index| samples[index].intended),
            from_bound: counted.bound(begin, head_share, head - begin, &(begin..stop)),
            to_bound: to.map_or(0, |index| {
                counted.bound(index, tail_share, stop - tail, &(begin..index))
            }),
        });
        at = to.map_or(samples.len(), |index| index.max(at) + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOLD: Duration = Duration::from_secs(2);

    fn band() -> Band {
        Band {
            success_min: 0.999,
            p99_max: Duration::from_millis(50),
            success: 1.0,
            p99: Duration::from_millis(5),
            operations: 1000,
        }
    }

    /// Operations every `gap_ms` for `total_ms`, each with what `bad` says of its time.
    fn every(gap_ms: u64, total_ms: u64, bad: impl Fn(u64) -> bool) -> Vec<Sample> {
        (0..total_ms / gap_ms)
            .map(|n| {
                let at = n * gap_ms;
                Sample {
                    intended: Nanos::from_millis(at),
                    sent: Nanos::from_millis(at),
                    done: Nanos::from_millis(at + 2),
                    ok: !bad(at),
                    session: n % 7,
                    needs: String::new(),
                    probe: false,
                    first_error: None,
                    lag: Duration::ZERO,
                }
            })
            .collect()
    }

    fn found(samples: &[Sample], total_ms: u64) -> Vec<(f64, Option<f64>)> {
        outages(samples, &band(), HOLD, Nanos::from_millis(total_ms))
            .iter()
            .map(|o| (o.from.as_millis_f64(), o.to.map(Nanos::as_millis_f64)))
            .collect()
    }

    #[test]
    fn nothing_bad_is_no_outage() {
        assert!(found(&every(4, 20_000, |_| false), 20_000).is_empty());
    }

    #[test]
    fn a_dead_stretch_is_found_to_the_operation() {
        let samples = every(4, 20_000, |at| (8000..9000).contains(&at));
        assert_eq!(found(&samples, 20_000), [(8000.0, Some(9000.0))]);
    }

    #[test]
    fn an_isolated_slow_operation_before_does_not_pull_the_beginning_forward() {
        let mut samples = every(4, 20_000, |at| (8000..9000).contains(&at));
        samples[1800].done = samples[1800].intended.plus(Duration::from_millis(80));
        assert_eq!(found(&samples, 20_000), [(8000.0, Some(9000.0))]);
    }

    #[test]
    fn pauses_shorter_than_hold_are_not_recovery_and_longer_ones_are() {
        let flaps = |on: u64, off: u64| {
            move |at: u64| (5000..5000 + 3 * (on + off)).contains(&at) && (at - 5000) % (on + off) < on
        };
        let short = every(4, 30_000, flaps(1000, 1000));
        assert_eq!(found(&short, 30_000), [(5000.0, Some(10_000.0))]);
        let long = every(4, 40_000, flaps(1000, 3000));
        assert_eq!(
            found(&long, 40_000),
            [
                (5000.0, Some(6000.0)),
                (9000.0, Some(10_000.0)),
                (13_000.0, Some(14_000.0))
            ]
        );
    }

    #[test]
    fn an_outage_that_outlives_the_load_never_ends() {
        let samples = every(4, 20_000, |at| at >= 8000);
        assert_eq!(found(&samples, 20_000), [(8000.0, None)]);
        // A last good stretch shorter than `hold` proves nothing.
        let samples = every(4, 20_000, |at| (8000..19_000).contains(&at));
        assert_eq!(found(&samples, 20_000), [(8000.0, None)]);
    }

    #[test]
    fn slow_operations_are_an_outage_too() {
        let mut samples = every(4, 20_000, |_| false);
        for sample in &mut samples[2000..2250] {
            sample.done = sample.intended.plus(Duration::from_millis(200));
        }
        assert_eq!(found(&samples, 20_000), [(8000.0, Some(9000.0))]);
    }

    #[test]
    fn a_tolerance_does_not_let_an_outage_end_early() {
        // Every other operation is slow, and a stretch tolerates one of a hundred: without care the last ones would fit.
        let mut samples = every(4, 20_000, |_| false);
        for sample in samples[2000..2250].iter_mut().step_by(2) {
            sample.done = sample.intended.plus(Duration::from_millis(200));
        }
        assert_eq!(found(&samples, 20_000), [(8000.0, Some(8996.0))]);
    }

    /// As `every`, by a generator that stood still from `still` to `on` and sent at its end what it had missed.
    fn standing_still(still: u64, on: u64, dead: Range<u64>) -> Vec<Sample> {
        let mut samples = every(4, 20_000, |_| false);
        for sample in &mut samples {
            let meant = sample.intended;
            if meant >= Nanos::from_millis(still) && meant < Nanos::from_millis(on) {
                sample.sent = Nanos::from_millis(on);
                sample.lag = sample.sent.since(meant);
            }
            sample.done = sample.sent.plus(Duration::from_millis(2));
            sample.ok = !dead.contains(&(sample.sent.0 / 1_000_000));
        }
        samples
    }

    #[test]
    fn the_bound_of_an_edge_holds_how_late_the_generator_was_there() {
        let dead = 8000..9000;
        // It stands still over the beginning, over the end, right before the one and right after the other.
        for (still, on) in [
            (7900, 8100),
            (8000, 8150),
            (7800, 7999),
            (8950, 9200),
            (9000, 9180),
            (8700, 9001),
        ] {
            let samples = standing_still(still, on, dead.clone());
            let found = outages(&samples, &band(), HOLD, Nanos::from_millis(20_000));
            let outage = found
                .iter()
                .find(|o| o.from < Nanos::from_millis(9000) && o.to.is_none_or(|to| to > Nanos::from_millis(8500)))
                .unwrap_or_else(|| panic!("{still}..{on}: {found:?}"));
            let (from, to) = (outage.from.0, outage.to.expect("it ended").0);
            let error = (from.abs_diff(8_000_000_000), to.abs_diff(9_000_000_000));
            assert!(error.0 <= outage.from_bound, "{still}..{on}: {outage:?}");
            assert!(error.1 <= outage.to_bound, "{still}..{on}: {outage:?}");
            // No more than what it stood still for, thrice: meant, late, and the spacing.
            assert!(
                outage.from_bound.max(outage.to_bound) <= (on - still) * 3_000_000,
                "{still}..{on}: {outage:?}"
            );
        }
    }

    #[test]
    fn a_generator_on_time_adds_nothing_to_a_bound() {
        let samples = every(4, 20_000, |at| (8000..9000).contains(&at));
        let found = outages(&samples, &band(), HOLD, Nanos::from_millis(20_000));
        // The spacing, and at the end what the good operation waited.
        assert_eq!((found[0].from_bound, found[0].to_bound), (4_000_000, 6_000_000));
    }

    #[test]
    fn too_few_operations_tell_nothing() {
        let samples = every(400, 20_000, |at| (8000..9000).contains(&at));
        assert!(found(&samples, 20_000).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn each_edge_of_a_dead_stretch_is_within_its_bound(
            gap in 2u64..20, start in 3000u64..6000, length in 30u64..9000,
        ) {
            let end = start + length;
            let samples = every(gap, 20_000, |at| (start..end).contains(&at));
            let found = outages(&samples, &band(), HOLD, Nanos::from_millis(20_000));
            prop_assert_eq!(found.len(), 1);
            let (from, to) = (found[0].from, found[0].to.unwrap());
            prop_assert!(from.0.abs_diff(Nanos::from_millis(start).0) <= found[0].from_bound);
            prop_assert!(to.0.abs_diff(Nanos::from_millis(end).0) <= found[0].to_bound);
            prop_assert!(found[0].to_bound <= 3 * gap * 1_000_000 + 2_000_000, "the bound is not a blanket");
        }

        #[test]
        fn outages_never_overlap_and_never_run_backwards(bad in proptest::collection::vec(any::<bool>(), 0..1500)) {
            let samples = every(5, bad.len() as u64 * 5, |at| bad[(at / 5) as usize]);
            let found = outages(&samples, &band(), Duration::from_millis(300), Nanos::from_millis(bad.len() as u64 * 5));
            for pair in found.windows(2) {
                prop_assert!(pair[0].to.is_some_and(|to| to <= pair[1].from));
            }
            for outage in &found {
                prop_assert!(outage.to.is_none_or(|to| to > outage.from));
            }
        }
    }
}
