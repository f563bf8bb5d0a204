//! Lost work: the area between the goodput before and the goodput during, in user-seconds.
//!
//! While a share of the operations fails, that share of all clients' time is lost. The share is taken from the operations of
//! the outage itself, so its error is that of a ratio of so many (Wilson, "Probable inference", JASA 22, 1927).

use std::time::Duration;

use crate::base::Nanos;

use super::figure::Figure;

/// The standard deviations beyond which an estimate is off once in ten thousand times.
const Z: f64 = 3.89;
/// No such figure claims to be finer than this.
const USER_SECONDS_MIN: f64 = 0.01;

/// One outage, as far as it counts for a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// How long it was.
    pub(super) length: Duration,
    /// The bounds of its edges together.
    pub(super) bound: u64,
    /// Operations that were meant for it.
    pub(super) operations: usize,
    /// Those of them that were bad.
    pub(super) bad: usize,
    /// Those of the bad that were only sent late.
    pub(super) late: usize,
}

/// What these outages cost so many users.
pub(super) fn lost(stretches: &[Stretch], users: usize) -> Figure {
    let (mut lost, mut bound) = (0.0, 0.0);
    for stretch in stretches.iter().filter(|stretch| stretch.operations > 0) {
        let share = count(stretch.bad) / count(stretch.operations);
        let (least, most) = within(share, stretch.operations);
        // Those that were only late may have been lost or not.
        let least = least - count(stretch.late) / count(stretch.operations);
        let off = (share - least).max(most - share);
        let edges = Nanos(stretch.bound).as_millis_f64() / 1e3;
        lost += stretch.length.as_secs_f64() * share;
        bound += (stretch.length.as_secs_f64() + edges) * off + edges * most;
    }
    Figure::measured(lost * count(users), bound * count(users), USER_SECONDS_MIN)
}

/// Between which shares the true one lies, given the share of so many.
fn within(share: f64, operations: usize) -> (f64, f64) {
    let (n, z2) = (count(operations), Z * Z);
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let off = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    ((middle - off).max(0.0), (middle + off).min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
const fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;
    use crate::base::Streams;

    fn stretch(ms: u64, operations: usize, bad: usize) -> Stretch {
        Stretch {
            length: Duration::from_millis(ms),
            bound: 10_000_000,
            operations,
            bad,
            late: 0,
        }
    }

    fn told(figure: Figure) -> (f64, f64) {
        let Figure::Value { value, bound } = figure else {
            panic!("{figure:?}")
        };
        (value, bound)
    }

    #[test]
    fn a_dead_service_costs_each_user_as_long_as_it_is_dead() {
        let (value, bound) = told(lost(&[stretch(2000, 1000, 1000)], 8));
        assert!((value - 16.0).abs() <= bound, "{value} within {bound}");
        assert!(bound < 0.5, "{bound}");
    }

    #[test]
    fn outages_add_up_and_so_do_their_bounds() {
        let (one, one_bound) = told(lost(&[stretch(1000, 400, 200)], 4));
        let (two, two_bound) = told(lost(&[stretch(1000, 400, 200); 2], 4));
        assert!(
            (two - 2.0 * one).abs() < 0.5 && two_bound > 1.9 * one_bound,
            "{two} {two_bound}"
        );
    }

    #[test]
    fn few_operations_tell_a_share_badly_and_many_tell_it_well() {
        let few = told(lost(&[stretch(1000, 10, 5)], 1)).1;
        let many = told(lost(&[stretch(1000, 10_000, 5000)], 1)).1;
        assert!(few > 0.3 && many < 0.05, "{few} {many}");
    }

    #[test]
    fn what_was_only_late_widens_the_bound_downwards() {
        let late = Stretch {
            late: 100,
            ..stretch(1000, 400, 400)
        };
        let (value, bound) = told(lost(&[late], 1));
        assert!(value - bound <= 0.75, "{value} within {bound}");
    }

    #[test]
    fn without_outages_nothing_is_lost() {
        assert_eq!(told(lost(&[], 8)).0, 0.0);
        assert_eq!(told(lost(&[stretch(5, 0, 0)], 8)).0, 0.0);
    }

    #[test]
    fn the_true_share_is_within_in_all_but_one_of_ten_thousand() {
        let mut rng = Streams::new(3).stream("shares");
        let mut missed = 0;
        for round in 0..20_000_usize {
            let (operations, share) = (20 + round % 300, [0.1, 0.5, 0.9][round % 3]);
            let draw = |rng: &mut rand_chacha::ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            let bad = (0..operations).filter(|_| draw(&mut rng) < share).count();
            let (least, most) = within(count(bad) / count(operations), operations);
            missed += usize::from(share < least || share > most);
        }
        // Two are expected; Wilson's interval is a little short at some counts.
        assert!(missed <= 12, "{missed} of 20000");
    }
}
