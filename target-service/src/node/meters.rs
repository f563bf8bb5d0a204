//! Small counters of the loop: how long syncs take, and how many log-ins may come.

use std::time::Duration;

/// Upper bounds of a histogram's buckets grow by this, in eighths of a power of two.
const BUCKETS: usize = 160;

/// Durations in buckets that grow by about 9 %: from a microsecond to about a second, and all beyond in the last.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: [u32; BUCKETS],
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            count: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, took: Duration) {
        let us = took.as_micros().max(1) as f64;
        let bucket = ((us.log2() * 8.0) as usize).min(BUCKETS - 1);
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
    }

    /// The upper end of the bucket that holds the quantile `q`, in microseconds; 0 when nothing was recorded.
    pub(crate) fn quantile_us(&self, q: f64) -> u64 {
        let rank = (self.count as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (at, in_bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(*in_bucket);
            if seen >= rank && *in_bucket > 0 {
                return 2_f64.powf((at + 1) as f64 / 8.0).ceil() as u64;
            }
        }
        0
    }
}

/// Lets a rate through, and a burst.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Duration,
}

impl TokenBucket {
    /// `per_second` of 0 is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(burst.max(1)),
            tokens: f64::from(burst.max(1)),
            filled_at: Duration::ZERO,
        }
    }

    /// Takes one, or says when there will be one.
    pub(crate) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.filled_at = self.filled_at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0);
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        let (p50, p99) = (histogram.quantile_us(0.5), histogram.quantile_us(0.99));
        assert!((500..=560).contains(&p50), "{p50}");
        assert!((990..=1100).contains(&p99), "{p99}");
        histogram.record(Duration::from_secs(100));
        assert!(histogram.quantile_us(1.0) >= 1_000_000);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let at = Duration::from_millis;
        let taken = (0..5).filter(|_| bucket.take(at(0)).is_ok()).count();
        assert_eq!(taken, 3);
        let wait = bucket.take(at(0)).unwrap_err();
        assert_eq!(wait, at(100));
        assert!(bucket.take(at(100)).is_ok());
        assert!(bucket.take(at(150)).is_err());
        let later = (0..100).filter(|_| bucket.take(at(60_000)).is_ok()).count();
        assert_eq!(later, 3, "rest does not add up beyond the burst");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = TokenBucket::new(0, 1);
        assert!((0..1000).all(|_| bucket.take(Duration::ZERO).is_ok()));
    }
}
