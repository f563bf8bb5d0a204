//! Whether and when to try again: full jitter, and a budget that keeps retries from becoming the load.
//!
//! Both are plain values without a clock or a runtime: the caller passes the time and does the waiting, so that it can
//! record each attempt. The budget is the one of section 11 of the design: 20 % of first attempts, plus ten a second.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::error::CallError;

/// How long to wait before another attempt.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Upper bound of the first wait; each further one doubles it.
    pub base: Duration,
    /// Upper bound of every wait that the client chooses itself.
    pub max: Duration,
    /// Attempts at one request, the first included.
    pub attempts_max: u32,
    rng: ChaCha8Rng,
}

impl RetryPolicy {
    /// Waits of up to 10 ms, doubling up to 1 s, at most `attempts_max` attempts.
    #[must_use]
    pub const fn new(attempts_max: u32, rng: ChaCha8Rng) -> Self {
        Self {
            base: Duration::from_millis(10),
            max: Duration::from_secs(1),
            attempts_max,
            rng,
        }
    }

    /// The wait after `attempts` attempts, the last of which ended with `error`; `None` when there should be no other.
    /// Full jitter (uniform between nothing and the bound); behind what the service asked for, where it asked.
    pub fn wait(&mut self, attempts: u32, error: &CallError) -> Option<Duration> {
        if attempts >= self.attempts_max || !error.may_retry() {
            return None;
        }
        let doublings = attempts.saturating_sub(1).min(20);
        let bound = self.base.saturating_mul(1 << doublings).min(self.max);
        let jitter = bound.mul_f64(self.rng.random_range(0.0..=1.0));
        Some(error.retry_after().unwrap_or_default() + jitter)
    }
}

/// The retries that a client may still make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    tokens: f64,
    tokens_max: f64,
    per_attempt: f64,
    per_second: f64,
    at: Duration,
}

impl RetryBudget {
    /// A budget of `share` retries for each first attempt plus `per_second`, of which at most `tokens_max` are saved.
    /// Starts full.
    #[must_use]
    pub const fn new(share: f64, per_second: f64, tokens_max: f64) -> Self {
        Self {
            tokens: tokens_max,
            tokens_max,
            per_attempt: share,
            per_second,
            at: Duration::ZERO,
        }
    }

    /// Notes a first attempt.
    pub fn attempted(&mut self) {
        self.tokens = (self.tokens + self.per_attempt).min(self.tokens_max);
    }

    /// Takes one retry, at the monotonic time `now`. False when there is none left.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = passed.mul_add(self.per_second, self.tokens).min(self.tokens_max);
        let some = self.tokens >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(0.2, 10.0, 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        env::Streams,
        node::{Reason, Refusal},
    };

    fn policy(seed: u64) -> RetryPolicy {
        RetryPolicy::new(5, Streams::new(seed).stream("retry"))
    }

    fn lost() -> CallError {
        CallError::from_status(&tonic::Status::unavailable("x"))
    }

    #[test]
    fn waits_are_jittered_bounded_and_the_same_for_a_seed() {
        let mut seen = Vec::new();
        for seed in 0..200 {
            let (mut one, mut same) = (policy(seed), policy(seed));
            for attempts in 1..5 {
                let wait = one.wait(attempts, &lost()).unwrap();
                assert_eq!(same.wait(attempts, &lost()), Some(wait));
                assert!(wait <= Duration::from_millis(10 << (attempts - 1)));
                seen.push(wait);
            }
            assert_eq!(one.wait(5, &lost()), None);
        }
        seen.dedup();
        assert!(seen.len() > 700, "hardly any jitter: {} different waits", seen.len());
        let mut patient = policy(1);
        patient.attempts_max = u32::MAX;
        assert!(patient.wait(4_000_000_000, &lost()).unwrap() <= patient.max);
    }

    #[test]
    fn what_the_service_asks_for_is_waited_for() {
        let asked = Duration::from_secs(3);
        let full = CallError::Refused(Refusal::new(Reason::Overloaded, "x").after(asked));
        let wait = policy(1).wait(1, &full).unwrap();
        assert!(wait >= asked && wait <= asked + Duration::from_millis(10));
        assert_eq!(
            policy(1).wait(1, &CallError::Refused(Refusal::new(Reason::NoSuchUser, "x"))),
            None
        );
    }

    #[test]
    fn a_storm_of_retries_ends_at_a_fifth_of_the_load_and_ten_a_second() {
        let mut budget = RetryBudget::default();
        let (mut firsts, mut retries) = (0_u32, 0_u32);
        // 1000 first attempts a second for ten seconds, each of which would like to be retried three times.
        for ms in 0..10_000 {
            firsts += 1;
            budget.attempted();
            for _ in 0..3 {
                retries += u32::from(budget.take(Duration::from_millis(ms)));
            }
        }
        let allowed = firsts / 5 + 10 * 10 + 100;
        assert!(retries <= allowed && retries > allowed - 20, "{retries} of {allowed}");
        // Time that goes back gives nothing.
        while budget.take(Duration::from_secs(10)) {}
        assert!(!budget.take(Duration::ZERO));
        assert!(budget.take(Duration::from_secs(11)));
    }
}
