//! What a handful of numbers can tell, by their order alone: quantiles, an interval for the median, and an interval for
//! how far one sample lies above another.
//!
//! Nothing here supposes a distribution: recovery times are skewed, censored and few. An interval is two of the sample's
//! own numbers, and where a sample is too small for one of the wanted confidence, there is none rather than a guess.
//! Infinity is a number like others: it stands for what did not come within the run.

/// Beyond this many pairs the null distribution is taken from its normal limit, which then is within a hundredth of them.
const EXACT_PAIRS_MAX: usize = 2500;

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The smallest number of the sample that at least the share `q` of it does not exceed (the nearest rank): always one of
/// its numbers. None for an empty sample.
///
/// `sorted` goes up.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks of samples far below 2^52"
)]
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    // A hair less, so that 0.95 of 20 is 19 and not what binary fractions make of it.
    let rank = (q * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

/// The middle number, or the mean of the two in the middle.
#[must_use]
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if !sorted.len().is_multiple_of(2) {
        return Some(upper);
    }
    let lower = sorted[sorted.len() / 2 - 1];
    Some(midpoint(lower, upper))
}

fn midpoint(low: f64, high: f64) -> f64 {
    // Equal ends first: the mean of two infinities is the same infinity, and their difference would be no number.
    if low == high { low } else { f64::midpoint(low, high) }
}

/// An interval that holds the median of whatever `sorted` was drawn from with at least `confidence`, by the sign test
/// (W. J. Conover, *Practical Nonparametric Statistics*, 3rd ed., section 3.2): from the k-th number from below to the
/// k-th from above, where k is the largest for which that holds. None when even the extremes don't: for 95 %, fewer than
/// six numbers.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sizes of samples")]
pub fn median_interval(sorted: &[f64], confidence: f64) -> Option<Interval> {
    let n = sorted.len();
    let tail = (1.0 - confidence) / 2.0;
    // P(fewer than k of n lie below the median), k counted up while it is within the tail.
    let mut probability = 0.5_f64.powf(n as f64);
    let (mut below, mut k) = (0.0, 0);
    while below + probability <= tail {
        below += probability;
        k += 1;
        probability *= (n - k + 1) as f64 / k as f64;
        if 2 * k >= n {
            break;
        }
    }
    let low = *sorted.get(k.checked_sub(1)?)?;
    Some(Interval {
        low,
        high: *sorted.get(n - k)?,
    })
}

/// How far `b` lies above `a`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The median of all differences between one of `b` and one of `a` (Hodges and Lehmann's estimate).
    pub estimate: f64,
    /// Where the shift lies with the confidence asked for; none when the samples are too small for it.
    pub interval: Option<Interval>,
}

/// The shift from `a` to `b`, with the interval that inverts the rank-sum test (M. Hollander, D. A. Wolfe, E. Chicken,
/// *Nonparametric Statistical Methods*, 3rd ed., sections 4.2 and 4.3): two of the sorted differences, as many from
/// either end as that test's critical value says. Exact for small samples; ties make it wider, never narrower. None when
/// either sample is empty.
#[must_use]
pub fn shift(a: &[f64], b: &[f64], confidence: f64) -> Option<Shift> {
    let difference = |b: f64, a: f64| if a == b { 0.0 } else { b - a };
    let mut differences: Vec<f64> = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| difference(*b, *a)))
        .collect();
    differences.sort_by(f64::total_cmp);
    let estimate = median(&differences)?;
    let from_an_end = critical(a.len(), b.len(), (1.0 - confidence) / 2.0);
    let interval = from_an_end.checked_sub(1).map(|index| Interval {
        low: differences[index],
        high: differences[differences.len() - 1 - index],
    });
    Some(Shift { estimate, interval })
}

/// The largest c for which the rank-sum statistic of samples of `n` and `m` is below c with a probability of at most
/// `tail`, when both were drawn from the same; 0 when there is none.
fn critical(n: usize, m: usize, tail: f64) -> usize {
    let pairs = n * m;
    if pairs > EXACT_PAIRS_MAX {
        return critical_normal(n, m, tail);
    }
    let mut below = 0.0;
    for (c, probability) in null_distribution(n, m).into_iter().enumerate() {
        below += probability;
        if below > tail {
            return c;
        }
    }
    pairs
}

/// How many numbers on each side are enough for [`shift`] to have an interval of this confidence; none beyond fifty.
#[must_use]
pub fn runs_needed(confidence: f64) -> Option<usize> {
    (1..=50).find(|n| critical(*n, *n, (1.0 - confidence) / 2.0) > 0)
}

/// P(U = u) for u from 0 to n m, by the recurrence on who has the largest number (Mann and Whitney, 1947).
#[expect(clippy::cast_precision_loss, reason = "sizes of samples")]
fn null_distribution(n: usize, m: usize) -> Vec<f64> {
    // row[j] is the distribution for i and j; i grows.
    let mut row: Vec<Vec<f64>> = vec![vec![1.0]; m + 1];
    for i in 1..=n {
        let mut next: Vec<Vec<f64>> = vec![vec![1.0]];
        for j in 1..=m {
            let share = i as f64 / (i + j) as f64;
            let mut mixed = vec![0.0; i * j + 1];
            for (u, probability) in row[j].iter().enumerate() {
                mixed[u + j] += share * probability;
            }
            for (u, probability) in next[j - 1].iter().enumerate() {
                mixed[u] += (1.0 - share) * probability;
            }
            next.push(mixed);
        }
        row = next;
    }
    row.pop().unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of samples, and the cast saturates"
)]
fn critical_normal(n: usize, m: usize, tail: f64) -> usize {
    let (n, m) = (n as f64, m as f64);
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    (n * m / 2.0 - normal_upper(tail) * deviation).floor().max(0.0) as usize
}

/// The number that a normal deviate exceeds with probability `tail` (below one half), by bisection of its distribution.
fn normal_upper(tail: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 40.0_f64);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if normal_tail(middle) > tail {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

/// P(Z > z) for z of at least 0: the series of the distribution near 0, the continued fraction of Mills' ratio beyond.
fn normal_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for odd in (3..200).step_by(2) {
            term *= z * z / f64::from(odd);
            sum += term;
        }
        return density.mul_add(-sum, 0.5);
    }
    let fraction = (1..=100).rev().fold(z, |below, k| z + f64::from(k) / below);
    density / fraction
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;
    use crate::base::Streams;

    const NEVER: f64 = f64::INFINITY;

    fn up_to(n: u32) -> Vec<f64> {
        (1..=n).map(f64::from).collect()
    }

    fn ends(interval: Option<Interval>) -> Option<(f64, f64)> {
        interval.map(|it| (it.low, it.high))
    }

    #[test]
    fn quantiles_are_numbers_of_the_sample() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[7.0], 0.95), Some(7.0));
        assert_eq!(quantile(&up_to(20), 0.95), Some(19.0));
        assert_eq!(quantile(&up_to(21), 0.95), Some(20.0));
        assert_eq!(quantile(&up_to(100), 0.95), Some(95.0));
        assert_eq!(
            quantile(&up_to(19), 0.95),
            Some(19.0),
            "too few for a tail: the largest"
        );
        assert_eq!(
            (quantile(&up_to(9), 0.0), quantile(&up_to(9), 1.0)),
            (Some(1.0), Some(9.0))
        );
    }

    #[test]
    fn medians_are_in_the_middle_also_of_what_never_came() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&up_to(5)), Some(3.0));
        assert_eq!(median(&up_to(6)), Some(3.5));
        assert_eq!(median(&[1.0, 2.0, NEVER]), Some(2.0));
        assert_eq!(median(&[1.0, NEVER]), Some(NEVER));
        assert_eq!(median(&[NEVER, NEVER]), Some(NEVER));
    }

    #[test]
    fn the_interval_of_the_median_is_that_of_the_tables() {
        // Ranks for 95 %, as printed in tables of the sign test's interval.
        for (n, low, high) in [
            (6, 1, 6),
            (7, 1, 7),
            (8, 1, 8),
            (9, 2, 8),
            (10, 2, 9),
            (15, 4, 12),
            (20, 6, 15),
            (25, 8, 18),
            (30, 10, 21),
            (50, 18, 33),
            (100, 40, 61),
        ] {
            let found = ends(median_interval(&up_to(n), 0.95));
            assert_eq!(found, Some((f64::from(low), f64::from(high))), "{n}");
        }
        for n in 0..6 {
            assert_eq!(median_interval(&up_to(n), 0.95), None, "{n} numbers can't tell");
        }
        assert_eq!(ends(median_interval(&up_to(5), 0.9)), Some((1.0, 5.0)));
        let censored = [1.0, 2.0, 3.0, 4.0, NEVER, NEVER];
        assert_eq!(ends(median_interval(&censored, 0.95)), Some((1.0, NEVER)));
        assert!(
            median_interval(&up_to(1000), 0.95).is_some(),
            "large samples don't underflow"
        );
    }

    #[test]
    fn critical_values_are_those_of_the_tables() {
        // The printed table holds the largest U that is still significant at 5 % on two sides: one less.
        for (n, m, printed) in [
            (4, 4, 0),
            (5, 5, 2),
            (6, 6, 5),
            (8, 8, 13),
            (10, 10, 23),
            (5, 10, 8),
            (15, 15, 64),
            (20, 20, 127),
        ] {
            assert_eq!(critical(n, m, 0.025), printed + 1, "{n} and {m}");
        }
        for (n, m) in [(3, 3), (2, 7), (1, 30), (0, 5)] {
            assert_eq!(critical(n, m, 0.025), 0, "{n} and {m} can't tell");
        }
        assert_eq!(
            (runs_needed(0.95), runs_needed(0.99), runs_needed(0.998)),
            (Some(4), Some(5), Some(7))
        );
        assert_eq!(runs_needed(1.0), None);
    }

    #[test]
    fn the_limit_is_close_to_the_exact_values() {
        for (n, m) in [(20, 20), (15, 40), (50, 50)] {
            for tail in [0.025, 0.001] {
                let (exact, limit) = (critical(n, m, tail), critical_normal(n, m, tail));
                let apart = exact.abs_diff(limit);
                assert!(apart * 100 <= n * m, "{n} and {m}: {exact} and {limit}");
            }
        }
        for (tail, z) in [(0.5, 0.0), (0.025, 1.959_964), (0.001, 3.090_232), (1e-6, 4.753_424)] {
            assert!((normal_upper(tail) - z).abs() < 1e-5, "{tail}: {}", normal_upper(tail));
        }
        assert!((null_distribution(7, 9).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_shift_is_found_where_it_is_put() {
        let a = up_to(10);
        let b: Vec<f64> = a.iter().map(|x| x + 100.0).collect();
        let found = shift(&a, &b, 0.95).unwrap();
        assert!((found.estimate - 100.0).abs() < 1e-9);
        let interval = found.interval.unwrap();
        assert!(interval.low > 90.0 && interval.high < 110.0, "{interval:?}");
        let back = shift(&b, &a, 0.95).unwrap();
        assert!(
            (back.estimate + 100.0).abs() < 1e-9,
            "the other way round, it is the other way round"
        );
        assert_eq!(shift(&[], &a, 0.95), None);
        assert_eq!(
            shift(&[1.0; 3], &[2.0; 3], 0.95).unwrap().interval,
            None,
            "three and three can't tell"
        );
        assert!(shift(&[1.0; 4], &[2.0; 4], 0.95).unwrap().interval.is_some());
    }

    #[test]
    fn what_never_came_is_later_than_all_that_did() {
        let a = up_to(8);
        let worse = shift(&a, &[NEVER; 8], 0.95).unwrap();
        assert_eq!(ends(worse.interval), Some((NEVER, NEVER)));
        let same = shift(&[NEVER; 8], &[NEVER; 8], 0.95).unwrap();
        assert_eq!((same.estimate, ends(same.interval)), (0.0, Some((0.0, 0.0))));
    }

    #[test]
    fn of_the_same_system_few_comparisons_see_a_difference_and_intervals_hold_the_truth() {
        let mut rng = Streams::new(11).stream("statistics");
        // Skewed, as recovery times are.
        let mut draw = |n: u32| -> Vec<f64> {
            let uniform = |bits: u64| f64::from(u32::try_from(bits >> 40).unwrap()) / f64::from(1_u32 << 24);
            let mut drawn: Vec<f64> = (0..n).map(|_| -(1.0 - uniform(rng.next_u64())).ln()).collect();
            drawn.sort_by(f64::total_cmp);
            drawn
        };
        let (mut missed, mut seen, trials) = (0, 0, 4000);
        for _ in 0..trials {
            let (a, b) = (draw(9), draw(9));
            let median = median_interval(&a, 0.95).unwrap();
            missed += u32::from(!(median.low..=median.high).contains(&std::f64::consts::LN_2));
            let shift = shift(&a, &b, 0.95).unwrap().interval.unwrap();
            seen += u32::from(!(shift.low..=shift.high).contains(&0.0));
        }
        // 5 % at most, and four deviations of such a count; and not so wide that they never miss.
        for (what, count) in [("median", missed), ("shift", seen)] {
            let share = f64::from(count) / f64::from(trials);
            assert!((0.005..=0.05 + 0.014).contains(&share), "{what}: {share}");
        }
    }
}
