//! How late the harness itself was, and when: what its own delay adds to the error of a figure.
//!
//! The generator shares its threads with whatever notes answers, showings and sessions. An operation that was sent late says
//! that nobody was there to send it, and whoever was not there to send could not note anything either. So what was noted
//! right after such a delay may have been so for as long. That is the only trace of a standstill too short to be told of
//! on its own (`STALL_MIN` of the workload).

use std::time::Duration;

use crate::{
    base::Nanos,
    history::{Class, Logical, SystemView},
};

/// Sent later than this, an operation was kept waiting by more than the timers' own grain.
const LATE: Duration = Duration::from_millis(2);
/// After a standstill this much time may pass until everything that waited has been dealt with.
pub(super) const CATCH_UP: Duration = Duration::from_millis(20);

/// How late the generator sent the operation's first attempt. None where that can't be told: what waits for something else
/// before it is sent, as a device does that comes back, is not kept waiting by the generator.
pub(super) fn lag(operation: &Logical) -> Option<Duration> {
    match operation.class {
        Class::SignUp | Class::LogIn | Class::Sync => None,
        _ => Some(operation.sent.since(operation.intended)),
    }
}

/// When one system's load was on time and when it was not.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// When operations were sent, in order: signs of life.
    sent: Vec<Nanos>,
    /// From the last sign of life before each standstill until all that it had kept waiting was sent. They don't overlap.
    still: Vec<(Nanos, Nanos)>,
}

impl Late {
    pub(super) fn of(system: &SystemView) -> Self {
        let sent = system.operations.iter();
        Self::new(sent.filter_map(|o| Some((o.intended, o.intended.plus(lag(o)?)))))
    }

    /// From when each operation was meant and sent, in the order of the former.
    fn new(operations: impl Iterator<Item = (Nanos, Nanos)>) -> Self {
        let mut late = Self::default();
        let mut alive = Nanos(0);
        for (intended, sent) in operations {
            if sent.since(intended) >= LATE {
                match late.still.last_mut() {
                    Some((_, until)) if intended <= *until => *until = sent.max(*until),
                    _ => late.still.push((alive.min(intended), sent)),
                }
            }
            alive = alive.max(sent);
            late.sent.push(sent);
        }
        late.sent.sort_unstable();
        late
    }

    /// For how long what was noted at `at` may have been so, as far as an operation tells that was kept waiting.
    pub(super) fn known(&self, at: Nanos) -> Duration {
        let next = self.still.partition_point(|(from, _)| *from < at);
        let last = next.checked_sub(1).map(|index| self.still[index]);
        last.filter(|(_, until)| until.plus(CATCH_UP) >= at)
            .map_or(Duration::ZERO, |(from, _)| at.since(from))
    }

    /// The same in nanoseconds, counting also what no operation can tell, since none was due: what was noted at `at` may
    /// have been so since the last sign of life.
    pub(super) fn at(&self, at: Nanos) -> u64 {
        let next = self.sent.partition_point(|sent| *sent < at);
        let alive = next.checked_sub(1).map(|index| self.sent[index]);
        let silent = alive.map_or(Duration::ZERO, |alive| at.since(alive));
        Nanos::from_duration(silent.max(self.known(at))).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// Operations every 10 ms, all those of a standstill from 1000 to 1200 ms sent at its end.
    fn stood_still() -> Late {
        Late::new((0..300).map(|n| {
            let intended = at(n * 10 + 5);
            let still = intended >= at(1000) && intended < at(1200);
            (intended, if still { at(1200) } else { intended })
        }))
    }

    #[test]
    fn what_was_noted_at_the_end_of_a_standstill_may_be_as_old_as_the_last_sign_of_life() {
        let late = stood_still();
        for noted in [1200, 1205, 1220] {
            assert_eq!(late.known(at(noted)), Duration::from_millis(noted - 995), "at {noted}");
            assert_eq!(late.at(at(noted)), at(noted - 995).0, "at {noted}");
        }
    }

    #[test]
    fn before_it_and_well_after_it_nothing_was_late_but_for_the_spacing() {
        let late = stood_still();
        for noted in [7, 990, 1221, 1300, 2500] {
            assert_eq!(late.known(at(noted)), Duration::ZERO, "at {noted}");
            assert!(late.at(at(noted)) <= at(10).0, "at {noted}");
        }
    }

    #[test]
    fn lateness_within_the_grain_of_timers_is_none() {
        let late = Late::new((0..300).map(|n| (at(n * 10), at(n * 10 + 1))));
        assert!((0..3000).all(|noted| late.known(at(noted)).is_zero()));
    }

    #[test]
    fn standstills_that_touch_are_one() {
        // What was kept waiting by the first is sent while the second has begun.
        let late = Late::new(
            [(0, 0), (100, 300), (250, 500), (480, 500), (600, 600)]
                .map(|(i, s)| (at(i), at(s)))
                .into_iter(),
        );
        assert_eq!(late.still, [(at(0), at(500))]);
        assert_eq!(late.known(at(500)), Duration::from_millis(500));
    }

    #[test]
    fn without_operations_nothing_is_known_to_be_late() {
        let late = Late::default();
        assert_eq!((late.at(at(7)), late.known(at(7))), (0, Duration::ZERO));
    }
}
