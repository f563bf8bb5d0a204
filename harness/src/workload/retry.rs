//! When an attempt that was not ok is tried again: full jitter over a growing window, within a budget.
//!
//! The budget is what keeps a retry from becoming a storm: each operation earns a fraction of a retry, time earns a few
//! more, and what is earned is capped.

use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::spec::RetrySpec;
use crate::base::Nanos;

/// Retries that can be saved up, in seconds of the budget's rate (at least one retry): a burst stays a burst.
const SAVED_S: f64 = 10.0;

/// How long to wait before `attempt` (from 2), drawn from a window that doubles up to the cap. At least what the
/// system asked for, with the jitter on top, so that those refused together do not come back together.
#[must_use]
pub fn back_off(spec: &RetrySpec, attempt: u32, asked_for: Option<Duration>, rng: &mut ChaCha8Rng) -> Duration {
    if !spec.back_off {
        return Duration::ZERO;
    }
    let doublings = attempt.saturating_sub(2).min(20);
    let window_ms = spec.base_ms.saturating_mul(1 << doublings).min(spec.cap_ms).max(1);
    let drawn = Duration::from_micros(rng.next_u64() % (window_ms * 1000 + 1));
    asked_for.unwrap_or_default() + drawn
}

/// Retries earned and spent by one load.
#[derive(Clone, Debug)]
pub struct Budget {
    spec: RetrySpec,
    saved: f64,
    saved_at: Nanos,
}

impl Budget {
    /// A budget with one second's worth saved.
    #[must_use]
    pub fn new(spec: RetrySpec, now: Nanos) -> Self {
        Self {
            spec,
            saved: f64::from(spec.budget_per_s),
            saved_at: now,
        }
    }

    /// An operation was begun: it earns its share of a retry.
    pub fn earn(&mut self) {
        self.saved = (self.saved + f64::from(self.spec.budget_percent) / 100.0).min(self.most());
    }

    /// Takes one retry, if there is one.
    pub fn spend(&mut self, now: Nanos) -> bool {
        if !self.spec.budget {
            return true;
        }
        let passed = now.since(self.saved_at).as_secs_f64();
        self.saved_at = now.max(self.saved_at);
        self.saved = passed
            .mul_add(f64::from(self.spec.budget_per_s), self.saved)
            .min(self.most());
        if self.saved < 1.0 {
            return false;
        }
        self.saved -= 1.0;
        true
    }

    fn most(&self) -> f64 {
        (f64::from(self.spec.budget_per_s) * SAVED_S).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Streams;

    #[test]
    fn the_window_doubles_up_to_its_cap_and_is_used_whole() {
        let spec = RetrySpec {
            base_ms: 20,
            cap_ms: 100,
            ..RetrySpec::default()
        };
        let mut rng = Streams::new(1).stream("retry");
        for (attempt, window) in [(2, 20), (3, 40), (4, 80), (5, 100), (60, 100)] {
            let drawn: Vec<u128> = (0..2000)
                .map(|_| back_off(&spec, attempt, None, &mut rng).as_micros())
                .collect();
            let window = window * 1000;
            assert!(drawn.iter().all(|d| *d <= window), "attempt {attempt}");
            assert!(drawn.iter().any(|d| *d < window / 20) && drawn.iter().any(|d| *d > window - window / 20));
        }
    }

    #[test]
    fn what_the_system_asked_for_is_waited() {
        let mut rng = Streams::new(1).stream("retry");
        let asked = Duration::from_secs(3);
        assert!(back_off(&RetrySpec::default(), 2, Some(asked), &mut rng) >= asked);
    }

    #[test]
    fn a_storm_knows_neither_waiting_nor_a_budget() {
        let spec = RetrySpec {
            back_off: false,
            budget: false,
            ..RetrySpec::default()
        };
        let mut rng = Streams::new(1).stream("retry");
        assert_eq!(
            back_off(&spec, 9, Some(Duration::from_secs(3)), &mut rng),
            Duration::ZERO
        );
        let mut budget = Budget::new(spec, Nanos(0));
        assert!((0..10_000).all(|_| budget.spend(Nanos(0))));
    }

    proptest! {
        /// Over any run of operations and failures, retries stay within what was earned.
        #[test]
        fn retries_never_exceed_the_budget(wishes in proptest::collection::vec((any::<bool>(), 0..50u64), 1..400)) {
            let spec = RetrySpec { budget_percent: 20, budget_per_s: 10, ..RetrySpec::default() };
            let mut budget = Budget::new(spec, Nanos(0));
            let (mut now, mut begun, mut retried) = (Nanos(0), 0u32, 0u32);
            for (begins, later_ms) in wishes {
                now = now.plus(Duration::from_millis(later_ms));
                if begins {
                    budget.earn();
                    begun += 1;
                } else if budget.spend(now) {
                    retried += 1;
                }
                let earned = 10.0 + f64::from(begun) * 0.2 + now.as_millis_f64() / 1e3 * 10.0;
                prop_assert!(f64::from(retried) <= earned + 1e-6);
            }
        }
    }
}
