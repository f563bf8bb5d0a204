//! The one clock of a run.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on a run's clock, counted from the run's origin. Events before the origin do not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The instant `duration` after the origin.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// This many whole milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Milliseconds with their fraction.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a run is hours long at most; f64 holds that to the microsecond"
    )]
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` and `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_duration(duration).0))
    }

    /// `self` and `duration` earlier, at least the origin.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(Self::from_duration(duration).0))
    }
}

/// A duration as milliseconds with their fraction.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A run's clock: CLOCK_MONOTONIC less the origin.
///
/// All processes of one host share CLOCK_MONOTONIC, so a time taken in a child on the same host is on this clock too,
/// without an error between the two. A virtual clock is tokio's own instead, which jumps when it is paused: it
/// calibrates the measuring in seconds rather than hours.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Monotonic { origin_ns: u64 },
    Virtual { origin: tokio::time::Instant },
}

impl RunClock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn start() -> Self {
        Self::with_origin(monotonic_ns())
    }

    /// A clock with a stated origin, for a second process that takes part in a run.
    #[must_use]
    pub const fn with_origin(origin_monotonic_ns: u64) -> Self {
        let source = Source::Monotonic {
            origin_ns: origin_monotonic_ns,
        };
        Self { source }
    }

    /// A clock over the time of the tokio runtime that it is called on, and good on that runtime only.
    #[must_use]
    pub fn start_virtual() -> Self {
        let source = Source::Virtual {
            origin: tokio::time::Instant::now(),
        };
        Self { source }
    }

    /// True for [`RunClock::start_virtual`].
    #[must_use]
    pub const fn is_virtual(&self) -> bool {
        matches!(self.source, Source::Virtual { .. })
    }

    /// The origin on CLOCK_MONOTONIC; 0 for a virtual clock.
    #[must_use]
    pub const fn origin_monotonic_ns(&self) -> u64 {
        match self.source {
            Source::Monotonic { origin_ns } => origin_ns,
            Source::Virtual { .. } => 0,
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Nanos {
        match self.source {
            Source::Monotonic { origin_ns } => Nanos(monotonic_ns().saturating_sub(origin_ns)),
            Source::Virtual { origin } => Nanos::from_duration(origin.elapsed()),
        }
    }

    /// Sleeps until `at`; returns at once when it has passed. tokio's timer is good to a millisecond.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub async fn sleep_until(&self, at: Nanos) {
        match self.source {
            Source::Monotonic { .. } => {
                let wait = at.since(self.now());
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
            }
            Source::Virtual { origin } => tokio::time::sleep_until(origin + Duration::from_nanos(at.0)).await,
        }
    }

    /// Sleeps for `duration`.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Has everything on a virtual clock stand still for `duration`: whatever was due meanwhile comes late. On the real clock
    /// that is not ours to do, and nothing happens.
    pub async fn stand_still(&self, duration: Duration) {
        if self.is_virtual() {
            tokio::time::advance(duration).await;
        }
    }

    /// Blocks the calling thread until `at`, to some tens of microseconds where the host allows. For threads of their
    /// own whose instants matter; a virtual clock doesn't block.
    pub fn block_until(&self, at: Nanos) {
        if let Source::Monotonic { origin_ns } = self.source {
            block_until_monotonic(origin_ns.saturating_add(at.0));
        }
    }
}

/// Linux: sleeps on the clock itself, to an absolute instant, so that a signal or a late start adds nothing.
#[cfg(target_os = "linux")]
fn block_until_monotonic(at_ns: u64) {
    use nix::{
        sys::time::TimeSpec,
        time::{ClockNanosleepFlags, clock_nanosleep},
    };
    let seconds = i64::try_from(at_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i64::try_from(at_ns % 1_000_000_000).unwrap_or(0);
    let at = TimeSpec::new(seconds, nanos);
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &at)
        == Err(nix::errno::Errno::EINTR)
    {}
}

/// Elsewhere: a relative sleep.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn block_until_monotonic(at_ns: u64) {
    std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(monotonic_ns())));
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every supported system");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_never_below_the_origin() {
        let clock = RunClock::start();
        let a = clock.now();
        let b = clock.now();
        assert!(b >= a);
        assert_eq!(a.since(b.plus(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(Nanos(5).minus(Duration::from_secs(1)), Nanos(0));
    }

    #[test]
    fn two_clocks_with_one_origin_agree() {
        let here = RunClock::start();
        let there = RunClock::with_origin(here.origin_monotonic_ns());
        let (a, b, c) = (here.now(), there.now(), here.now());
        assert!(a <= b && b <= c);
    }

    #[test]
    fn blocking_never_ends_early() {
        let clock = RunClock::start();
        let at = clock.now().plus(Duration::from_millis(3));
        clock.block_until(at);
        assert!(clock.now() >= at);
        clock.block_until(Nanos(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_jumps() {
        let clock = RunClock::start_virtual();
        clock.sleep_until(Nanos::from_millis(3_600_000)).await;
        assert_eq!(clock.now(), Nanos::from_millis(3_600_000));
    }
}
