//! Goodput: what of the service's work was of use to somebody, while it was disturbed.
//!
//! Counted by when operations succeeded, not by when they were meant: what waited through the disturbance and succeeded
//! after it was of no use during it.

use crate::{
    base::Nanos,
    history::{History, Phase},
};

use super::{episode::Episode, figure::Figure, sample::Sample};

/// Successes that a stretch needs to have before its rate says anything; and so many there must have been to compare with.
const SUCCESSES_MIN: usize = 20;
/// The shortest stretch that has a rate, in seconds.
const STRETCH_MIN_S: f64 = 1.0;

/// Successes a second from the effect to the heal, as a share of those in the steady phase.
#[must_use]
pub(super) fn goodput(history: &History, episode: &Episode, samples: &[Sample]) -> Figure {
    let Some(steady) = history.phases.window(Phase::Steady, history.ended) else {
        return Figure::Unresolved;
    };
    let during = (
        episode.effective,
        episode.healed.unwrap_or(episode.horizon).min(episode.horizon),
    );
    share(samples, steady, during)
}

fn share(samples: &[Sample], steady: (Nanos, Nanos), during: (Nanos, Nanos)) -> Figure {
    let seconds = |(from, to): (Nanos, Nanos)| to.since(from).as_secs_f64();
    if seconds(steady) < STRETCH_MIN_S || seconds(during) < STRETCH_MIN_S {
        return Figure::Unresolved;
    }
    let good = |(from, to): (Nanos, Nanos)| samples.iter().filter(|s| s.ok && s.done >= from && s.done < to).count();
    let (before, during_it) = (good(steady), good(during));
    if before < SUCCESSES_MIN {
        return Figure::Unresolved;
    }
    let of = |successes: f64| (successes / seconds(during)) / (count(before) / seconds(steady));
    let value = of(count(during_it));
    // One success on either edge of either stretch, and those that only came over an edge since they were sent late.
    let moved = |(from, to)| 1 + late_over(samples, from) + late_over(samples, to);
    let bound = of(count(moved(during))) + value * count(moved(steady)) / count(before);
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    Figure::Value {
        value: rounded(value),
        bound: rounded(bound),
    }
}

/// The successes that would have come before `edge` had they been sent when they were meant.
fn late_over(samples: &[Sample], edge: Nanos) -> usize {
    let over = |s: &&Sample| s.ok && s.done >= edge && s.done.minus(s.lag) < edge;
    samples.iter().filter(over).count()
}

#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn at(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// One operation each 10 ms, of which every `of`th succeeds, `late` ms after it was meant.
    fn samples(from: u64, to: u64, of: u64, late: u64) -> Vec<Sample> {
        let sample = |ms: u64| Sample {
            intended: at(ms),
            sent: at(ms),
            done: at(ms + late),
            ok: (ms / 10).is_multiple_of(of),
            session: 1,
            needs: String::new(),
            probe: false,
            first_error: None,
            lag: Duration::ZERO,
        };
        (from / 10..to / 10).map(|n| sample(n * 10)).collect()
    }

    fn near(figure: Figure, expected: f64) {
        let Figure::Value { value, bound } = figure else {
            panic!("{figure:?}")
        };
        assert!(
            (value - expected).abs() <= bound + 1e-9 && bound < 0.05,
            "{value} with a bound of {bound}, {expected}"
        );
    }

    #[test]
    fn a_service_that_does_half_of_it_has_half_the_goodput() {
        let mut all = samples(0, 5000, 1, 1);
        all.extend(samples(5000, 15_000, 2, 1));
        near(share(&all, (at(0), at(5000)), (at(5000), at(15_000))), 0.5);
    }

    #[test]
    fn what_succeeds_when_it_is_over_was_of_no_use_before() {
        let mut all = samples(0, 5000, 1, 1);
        all.extend(samples(5000, 10_000, 1, 6000));
        near(share(&all, (at(0), at(5000)), (at(5000), at(10_000))), 0.0);
    }

    #[test]
    fn what_was_sent_late_over_an_edge_widens_the_bound() {
        let mut all = samples(0, 15_000, 1, 1);
        let on_time = share(&all, (at(0), at(5000)), (at(5000), at(10_000)));
        for sample in all
            .iter_mut()
            .filter(|s| s.intended >= at(9900) && s.intended < at(10_100))
        {
            sample.lag = at(10_100).since(sample.intended);
            sample.done = at(10_101);
        }
        let late = share(&all, (at(0), at(5000)), (at(5000), at(10_000)));
        // Ten successes of five hundred went over the edge.
        assert!((late.value().unwrap() - 0.98).abs() < 1e-9, "{late:?}");
        assert!((late.value().unwrap() - 1.0).abs() <= late.bound().unwrap(), "{late:?}");
        assert!(on_time.bound().unwrap() < 0.005, "{on_time:?}");
    }

    #[test]
    fn too_little_says_nothing() {
        let all = samples(0, 5000, 1, 1);
        assert_eq!(share(&all, (at(0), at(5000)), (at(5000), at(5900))), Figure::Unresolved);
        assert_eq!(
            share(&all[..10], (at(0), at(5000)), (at(5000), at(9000))),
            Figure::Unresolved
        );
    }
}
