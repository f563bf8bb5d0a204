//! The log-in limit: a rate that grows in a straight line after a start, or when an operator says so.
//!
//! After an outage everybody comes back at once, to a node whose caches are cold. The ramp lets few in at first; and who is
//! turned away is given an appointment, one after the other at the pace of the limit, so that the crowd doesn't come back as
//! the crowd it was.

use std::time::Duration;

/// The furthest appointment: a client that waits for longer may have gone for good.
const APPOINTMENT_MAX: Duration = Duration::from_secs(10);

/// The least rate that appointments are made for: a ramp may begin at none.
const RATE_MIN: f64 = 0.1;

/// Log-ins a second, and how many are left.
#[derive(Clone, Debug)]
pub(crate) struct LoginLimit {
    /// At the end of the ramp; 0 is no limit.
    to: f64,
    /// At its beginning.
    from: f64,
    began: Duration,
    over: Duration,
    /// Log-ins that may come at once, at the end of the ramp.
    burst: f64,
    tokens: f64,
    filled_at: Duration,
    /// The last appointment given.
    appointment: Duration,
}

impl LoginLimit {
    /// `per_second` of 0 is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            to: f64::from(per_second),
            from: f64::from(per_second),
            began: Duration::ZERO,
            over: Duration::ZERO,
            burst: f64::from(burst.max(1)),
            tokens: f64::from(burst.max(1)),
            filled_at: Duration::ZERO,
            appointment: Duration::ZERO,
        }
    }

    /// Begins a ramp, from `from` a second to `to` a second. What was saved up for a burst is gone.
    pub(crate) fn ramp(&mut self, (from, to): (u32, u32), over: Duration, now: Duration) {
        (self.from, self.to) = (f64::from(from), f64::from(to));
        (self.began, self.over) = (now, over);
        self.filled_at = now;
        self.tokens = self.burst_at(now);
    }

    /// What the limit is now, a second; 0 is none.
    pub(crate) fn rate(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.began);
        if self.to == 0.0 || passed >= self.over {
            return self.to;
        }
        let share = passed.as_secs_f64() / self.over.as_secs_f64();
        (self.to - self.from).mul_add(share, self.from)
    }

    /// Takes one, or says when to come back.
    pub(crate) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if self.to == 0.0 {
            return Ok(());
        }
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let gap = |at: Duration, log_ins: f64| Duration::from_secs_f64(log_ins / self.rate(at).max(RATE_MIN));
        let free = now + gap(now, 1.0 - self.tokens);
        let after = self.appointment + gap(self.appointment.max(now), 1.0);
        self.appointment = free.max(after).min(now + APPOINTMENT_MAX);
        Err(self.appointment - now)
    }

    fn fill(&mut self, now: Duration) {
        if now <= self.filled_at {
            return;
        }
        let earned = self.earned(self.filled_at, now);
        self.filled_at = now;
        self.tokens = (self.tokens + earned).min(self.burst_at(now));
    }

    /// The area under the rate between two times: straight lines, so their mean is exact on either side of the ramp's end.
    fn earned(&self, since: Duration, now: Duration) -> f64 {
        let end = (self.began + self.over).clamp(since, now);
        let area = |from: Duration, to: Duration, rate: f64| (to - from).as_secs_f64() * rate;
        let on_ramp = if end > since {
            let top = if end == self.began + self.over {
                self.to
            } else {
                self.rate(end)
            };
            f64::midpoint(self.rate(since), top)
        } else {
            0.0
        };
        area(since, end, on_ramp) + area(end, now, self.to)
    }

    fn burst_at(&self, now: Duration) -> f64 {
        if self.to == 0.0 {
            return self.burst;
        }
        (self.burst * (self.rate(now) / self.to).min(1.0)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Log-ins that got in between two times, if one is tried each millisecond.
    fn let_in(limit: &mut LoginLimit, from: u64, to: u64) -> usize {
        (from..to).filter(|ms| limit.take(at(*ms)).is_ok()).count()
    }

    #[test]
    fn a_limit_gives_its_burst_and_then_its_rate() {
        let mut limit = LoginLimit::new(100, 30);
        assert_eq!(let_in(&mut limit, 1, 2), 1);
        let first = (0..100).filter(|_| limit.take(at(2)).is_ok()).count();
        assert_eq!(first, 29);
        assert!(let_in(&mut limit, 3, 1003).abs_diff(100) <= 1);
    }

    #[test]
    fn a_ramp_lets_in_what_lies_under_it() {
        let mut limit = LoginLimit::new(200, 20);
        limit.ramp((20, 200), at(10_000), at(1000));
        assert!((limit.rate(at(6000)) - 110.0).abs() < 1e-9);
        // The mean of 20 and 110 for five seconds, of 110 and 200 for five, and then 200.
        assert!(let_in(&mut limit, 1001, 6001).abs_diff(325) <= 4);
        assert!(let_in(&mut limit, 6001, 11_001).abs_diff(775) <= 4);
        assert!(let_in(&mut limit, 11_001, 13_001).abs_diff(400) <= 4);
    }

    #[test]
    fn a_ramp_by_an_operator_begins_anew_and_takes_the_burst_back() {
        let mut limit = LoginLimit::new(100, 50);
        limit.ramp((1, 100), at(10_000), at(60_000));
        assert!(
            let_in(&mut limit, 60_000, 61_000) <= 8,
            "about one a second, growing by ten"
        );
    }

    #[test]
    fn the_crowd_is_told_to_come_back_one_by_one() {
        let mut limit = LoginLimit::new(10, 1);
        assert!(limit.take(at(0)).is_ok());
        let appointments: Vec<Duration> = (0..5).map(|_| limit.take(at(0)).unwrap_err()).collect();
        assert_eq!(appointments, [100, 200, 300, 400, 500].map(at));
        for _ in 0..1000 {
            assert!(limit.take(at(0)).unwrap_err() <= APPOINTMENT_MAX);
        }
    }

    #[test]
    fn no_limit_has_no_ramp_either() {
        let mut limit = LoginLimit::new(0, 1);
        limit.ramp((5, 0), at(1000), at(0));
        assert_eq!(let_in(&mut limit, 0, 1000), 1000);
    }

    proptest! {
        /// Over any times and any ramp, no more get in than lies under the rate, and the burst.
        #[test]
        fn never_more_than_the_area_under_the_rate(
            tries in proptest::collection::vec(0..50u64, 1..300),
            from in 0..50u32, to in 1..300u32, over in 0..5000u64, burst in 1..20u32,
        ) {
            let mut limit = LoginLimit::new(to, burst);
            limit.ramp((from, to), at(over), at(0));
            let (mut now, mut taken, mut area) = (0, 0.0, 0.0);
            for later in tries {
                // Summed in small pieces, apart from the limit's own sum.
                for ms in now..now + later {
                    area += limit.rate(at(ms)).max(limit.rate(at(ms + 1))) / 1e3;
                }
                now += later;
                taken += f64::from(u8::from(limit.take(at(now)).is_ok()));
                prop_assert!(taken <= area + f64::from(burst) + 1e-6);
            }
        }
    }
}
