//! Time. Monotonic time is tokio's, wall time is behind a trait because each node has its own, right or wrong.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// Wall-clock time as one node sees it.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May be skewed, and may jump.
    fn now_ms(&self) -> u64;
}

/// A node's clock.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    wall: Arc<dyn WallClock>,
}

impl Clock {
    /// A clock that starts now. Must be called on the node's runtime, so that a paused clock is the one used.
    pub fn new(wall: Arc<dyn WallClock>) -> Self {
        Self {
            started: Instant::now(),
            wall,
        }
    }

    /// A clock over the host's wall clock.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemWallClock))
    }

    /// Monotonic time since the node started.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Wall-clock milliseconds since the Unix epoch. Only ever used as data (log time), never to measure.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// Sleeps until `at`, as of [`Clock::now`].
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.started + at).await;
    }

    /// Sleeps for `duration`.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

struct SystemWallClock;

impl WallClock for SystemWallClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
