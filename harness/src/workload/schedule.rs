//! When operations are meant to be sent: fixed before the run by the spec and the seed, whatever the system does.
//!
//! A constant schedule has exactly equal gaps: its n-th instant is computed from n, so that rounding never adds up.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::spec::ScheduleSpec;
use crate::base::{Nanos, Streams};

/// The highest rate of one schedule, in operations per second: a gap of a microsecond.
const PER_S_MAX: f64 = 1e6;
const SECOND: f64 = 1e9;

/// One schedule: instants without end, never going back.
#[derive(Clone, Debug)]
pub struct Schedule {
    spec: ScheduleSpec,
    rng: ChaCha8Rng,
    /// Where the schedule starts, in nanoseconds after the origin.
    start: f64,
    /// Instants given.
    given: u64,
    /// Expected number of operations up to the last instant given (for rates that change).
    area: f64,
    /// The last instant, in nanoseconds after the start (for gaps that are drawn).
    drawn: f64,
}

/// A schedule that can't be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl Schedule {
    /// The schedule of `spec` from `start` on. `name` is its stream of randomness.
    ///
    /// # Errors
    /// When a rate isn't between 0 (excluded) and 1 000 000 per second, or there are no steps.
    pub fn new(spec: &ScheduleSpec, start: Nanos, streams: &Streams, name: &str) -> Result<Self, ScheduleError> {
        for rate in rates(spec) {
            if !(rate > 0.0 && rate <= PER_S_MAX) {
                return Err(ScheduleError(format!(
                    "a rate of {rate} per second can't be kept: give one above 0 and up to {PER_S_MAX}"
                )));
            }
        }
        if matches!(spec, ScheduleSpec::Steps { steps } if steps.is_empty()) {
            return Err(ScheduleError("a schedule in steps needs at least one step".to_owned()));
        }
        Ok(Self {
            spec: spec.clone(),
            rng: streams.stream(name),
            start: float(start),
            given: 0,
            area: 0.0,
            drawn: 0.0,
        })
    }

    /// The next instant.
    pub fn next_instant(&mut self) -> Nanos {
        let index = self.given;
        self.given += 1;
        let after = match &self.spec {
            ScheduleSpec::Constant { per_s } => count(index) / per_s * SECOND,
            ScheduleSpec::Poisson { per_s } => {
                // From (0, 1], so that the logarithm is finite.
                let uniform = (count(self.rng.next_u64() >> 11) + 1.0) / count(1 << 53);
                self.drawn += -uniform.ln() / per_s * SECOND;
                self.drawn
            }
            ScheduleSpec::Ramp { .. } | ScheduleSpec::Steps { .. } => {
                let at = instant_of_area(&self.spec, self.area) * SECOND;
                self.area = count(self.given);
                at
            }
        };
        nanos(self.start + after)
    }
}

fn rates(spec: &ScheduleSpec) -> Vec<f64> {
    match spec {
        ScheduleSpec::Constant { per_s } | ScheduleSpec::Poisson { per_s } => vec![*per_s],
        ScheduleSpec::Ramp {
            from_per_s, to_per_s, ..
        } => vec![*from_per_s, *to_per_s],
        ScheduleSpec::Steps { steps } => steps.iter().map(|step| step.per_s).collect(),
    }
}

/// The second at which `area` operations are due.
fn instant_of_area(spec: &ScheduleSpec, area: f64) -> f64 {
    match spec {
        ScheduleSpec::Ramp {
            from_per_s,
            to_per_s,
            over_ms,
        } => {
            let over = Duration::from_millis(*over_ms).as_secs_f64();
            let whole = (from_per_s + to_per_s) / 2.0 * over;
            if area >= whole {
                return over + (area - whole) / to_per_s;
            }
            // area = from·t + slope·t²/2, solved for t in the form that stays exact when the slope is near zero.
            let slope = (to_per_s - from_per_s) / over;
            let root = 2.0f64.mul_add(slope * area, from_per_s * from_per_s).max(0.0).sqrt();
            2.0 * area / (from_per_s + root)
        }
        ScheduleSpec::Steps { steps } => {
            let (mut passed, mut left) = (0.0, area);
            for (index, step) in steps.iter().enumerate() {
                let length = Duration::from_millis(step.for_ms).as_secs_f64();
                let here = step.per_s * length;
                if left < here || index + 1 == steps.len() {
                    return passed + left / step.per_s;
                }
                left -= here;
                passed += length;
            }
            passed
        }
        ScheduleSpec::Constant { per_s } | ScheduleSpec::Poisson { per_s } => area / per_s,
    }
}

/// How fast time runs for schedules that follow a pace.
#[derive(Clone, Copy, Debug)]
struct Pace {
    factor: f64,
    /// Since when.
    since: Nanos,
    /// The schedules' own time then.
    own: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            factor: 1.0,
            since: Nanos(0),
            own: 0.0,
        }
    }
}

impl Pace {
    /// When what the schedules have at `own` is due.
    fn due(self, own: Nanos) -> Nanos {
        nanos(float(self.since) + (float(own) - self.own) / self.factor)
    }

    /// Another factor from `now` on.
    fn shift(&mut self, factor: f64, now: Nanos) {
        self.own += (float(now) - float(self.since)) * self.factor;
        (self.factor, self.since) = (factor, now);
    }
}

/// Several schedules, merged: what is due next, and from which of them.
#[derive(Debug, Default)]
pub struct Agenda {
    schedules: Vec<Schedule>,
    due: BinaryHeap<Reverse<(Nanos, usize)>>,
    /// Those that follow the pace, in their own time.
    paced: BinaryHeap<Reverse<(Nanos, usize)>>,
    pace: Pace,
}

impl Agenda {
    /// Adds a schedule and returns its number.
    pub fn add(&mut self, mut schedule: Schedule) -> usize {
        let number = self.schedules.len();
        self.due.push(Reverse((schedule.next_instant(), number)));
        self.schedules.push(schedule);
        number
    }

    /// Adds a schedule that follows the pace, and returns its number.
    pub fn add_paced(&mut self, mut schedule: Schedule) -> usize {
        let number = self.schedules.len();
        self.paced.push(Reverse((schedule.next_instant(), number)));
        self.schedules.push(schedule);
        number
    }

    /// From `now` on, has the time of those that follow the pace run `factor` times as fast as the clock. To be called when
    /// nothing is due.
    pub fn pace(&mut self, factor: f64, now: Nanos) {
        self.pace.shift(factor, now);
    }

    /// When something is due next; none when there are no schedules.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanos> {
        let at = [self.next_fixed(), self.next_paced()];
        at.into_iter().flatten().min().map(|(at, _)| at)
    }

    fn next_fixed(&self) -> Option<(Nanos, usize)> {
        self.due.peek().map(|Reverse(next)| *next)
    }

    fn next_paced(&self) -> Option<(Nanos, usize)> {
        let next = self.paced.peek();
        next.map(|Reverse((own, number))| (self.pace.due(*own), *number))
    }

    /// Takes what is due next, with the number of its schedule.
    pub fn take(&mut self) -> Option<(Nanos, usize)> {
        let (fixed, paced) = (self.next_fixed(), self.next_paced());
        let follows = paced.is_some_and(|paced| fixed.is_none_or(|fixed| paced < fixed));
        let (heap, (at, number)) = if follows {
            (&mut self.paced, paced?)
        } else {
            (&mut self.due, fixed?)
        };
        heap.pop();
        heap.push(Reverse((self.schedules[number].next_instant(), number)));
        Some((at, number))
    }

    /// Whether a schedule follows the pace.
    #[must_use]
    pub fn is_paced(&self, number: usize) -> bool {
        self.paced.iter().any(|Reverse((_, paced))| *paced == number)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a run has fewer than 2^53 operations and nanoseconds"
)]
fn count(n: u64) -> f64 {
    n as f64
}

fn float(at: Nanos) -> f64 {
    count(at.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative; the cast saturates"
)]
fn nanos(at: f64) -> Nanos {
    Nanos(at.round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::StepSpec;

    fn schedule(spec: &ScheduleSpec, seed: u64) -> Schedule {
        Schedule::new(spec, Nanos::from_millis(500), &Streams::new(seed), "load").expect("valid")
    }

    fn within(spec: &ScheduleSpec, seed: u64, from_ms: u64, to_ms: u64) -> usize {
        let mut schedule = schedule(spec, seed);
        let instants = std::iter::from_fn(|| Some(schedule.next_instant()));
        instants
            .take_while(|at| *at < Nanos::from_millis(500 + to_ms))
            .filter(|at| *at >= Nanos::from_millis(500 + from_ms))
            .count()
    }

    #[test]
    fn constant_gaps_never_drift() {
        let mut schedule = schedule(&ScheduleSpec::Constant { per_s: 300.0 }, 1);
        let instants: Vec<Nanos> = (0..300 * 3600 + 1).map(|_| schedule.next_instant()).collect();
        assert_eq!(instants[0], Nanos::from_millis(500));
        assert_eq!(instants[300 * 3600], Nanos::from_millis(500 + 3_600_000));
    }

    #[test]
    fn a_ramp_sends_what_lies_under_it() {
        let spec = ScheduleSpec::Ramp {
            from_per_s: 100.0,
            to_per_s: 300.0,
            over_ms: 10_000,
        };
        assert_eq!(within(&spec, 1, 0, 10_000), 2000);
        assert_eq!(within(&spec, 1, 0, 5_000), 750);
        assert_eq!(within(&spec, 1, 10_000, 11_000), 300);
    }

    #[test]
    fn steps_follow_one_another_and_the_last_goes_on() {
        let steps = vec![
            StepSpec {
                per_s: 10.0,
                for_ms: 2000,
            },
            StepSpec {
                per_s: 100.0,
                for_ms: 1000,
            },
        ];
        let spec = ScheduleSpec::Steps { steps };
        assert_eq!(within(&spec, 1, 0, 2000), 20);
        assert_eq!(within(&spec, 1, 2000, 3000), 100);
        assert_eq!(within(&spec, 1, 3000, 9000), 600);
    }

    #[test]
    fn poisson_keeps_its_rate_and_differs_by_seed() {
        let spec = ScheduleSpec::Poisson { per_s: 1000.0 };
        let sent = within(&spec, 1, 0, 20_000);
        // Four standard deviations of a Poisson count of 20 000.
        assert!((19_434..=20_566).contains(&sent), "{sent}");
        let mut one = schedule(&spec, 1);
        let mut other = schedule(&spec, 2);
        assert!((0..10).any(|_| one.next_instant() != other.next_instant()));
    }

    #[test]
    fn rates_that_can_not_be_kept_are_refused() {
        for per_s in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e6] {
            let spec = ScheduleSpec::Constant { per_s };
            assert!(
                Schedule::new(&spec, Nanos(0), &Streams::new(1), "x").is_err(),
                "{per_s}"
            );
        }
        assert!(Schedule::new(&ScheduleSpec::Steps { steps: vec![] }, Nanos(0), &Streams::new(1), "x").is_err());
    }

    fn any_spec() -> impl Strategy<Value = ScheduleSpec> {
        let rate = || 0.5..5000.0f64;
        prop_oneof![
            rate().prop_map(|per_s| ScheduleSpec::Constant { per_s }),
            rate().prop_map(|per_s| ScheduleSpec::Poisson { per_s }),
            (rate(), rate(), 0..5000u64).prop_map(|(from_per_s, to_per_s, over_ms)| ScheduleSpec::Ramp {
                from_per_s,
                to_per_s,
                over_ms
            }),
            proptest::collection::vec((rate(), 0..2000u64), 1..4).prop_map(|steps| ScheduleSpec::Steps {
                steps: steps
                    .into_iter()
                    .map(|(per_s, for_ms)| StepSpec { per_s, for_ms })
                    .collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn schedules_go_forward_and_repeat_by_seed(spec in any_spec(), seed in any::<u64>()) {
            let (mut one, mut again) = (schedule(&spec, seed), schedule(&spec, seed));
            let mut last = Nanos(0);
            for _ in 0..500 {
                let at = one.next_instant();
                prop_assert!(at >= last && at >= Nanos::from_millis(500));
                prop_assert_eq!(at, again.next_instant());
                last = at;
            }
        }

        /// Whatever the pace does, instants never go back, and none is before the change that made it.
        #[test]
        fn a_pace_never_sends_anything_back_in_time(
            spec in any_spec(), factors in proptest::collection::vec(0.1..10.0f64, 1..8),
        ) {
            let mut agenda = Agenda::default();
            agenda.add_paced(schedule(&spec, 7));
            let mut last = Nanos(0);
            for factor in factors {
                for _ in 0..50 {
                    let (at, _) = agenda.take().expect("it goes on");
                    prop_assert!(at >= last);
                    last = at;
                }
                let next = agenda.next_due().expect("it goes on");
                let now = Nanos(last.0 + (next.0 - last.0) / 2);
                agenda.pace(factor, now);
                prop_assert!(agenda.next_due().expect("it goes on") >= now);
                last = now;
            }
        }

        #[test]
        fn an_agenda_merges_in_order_and_drops_nothing(specs in proptest::collection::vec(any_spec(), 1..5)) {
            let mut agenda = Agenda::default();
            for spec in &specs {
                agenda.add(schedule(spec, 7));
            }
            let mut expected: Vec<Nanos> = specs.iter().flat_map(|spec| {
                let mut schedule = schedule(spec, 7);
                (0..200).map(move |_| schedule.next_instant()).collect::<Vec<_>>()
            }).collect();
            expected.sort_unstable();
            for at in expected.into_iter().take(200) {
                prop_assert_eq!(agenda.next_due(), Some(at));
                prop_assert_eq!(agenda.take().map(|(at, _)| at), Some(at));
            }
        }
    }
}
