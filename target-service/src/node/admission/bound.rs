//! Admission: the queue's bound, in time.
//!
//! The bound is on how long a newcomer would have to wait, which is known when it comes: the work that waits before it,
//! and the pace at which the node works. So whoever can't be served in time is refused at once, not after a wait, and what
//! is taken on is done well before its caller gives up. Serving the newest first, or dropping from the head as CoDel does,
//! are answers to a queue that is already full of work that nobody wants any more. This one never is; and it keeps the
//! order in which a device's messages came.

use std::time::Duration;

/// The least time after which coming back may help.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// How long the queue may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// In time; none where admission is switched off.
    wait_max: Option<Duration>,
    /// In calls: what memory allows.
    calls_max: usize,
}

impl Bound {
    pub(crate) const fn new(wait_max: Option<Duration>, calls_max: usize) -> Self {
        Self { wait_max, calls_max }
    }

    /// Whether `calls` that take `work` to do are too many. A single one never is.
    pub(crate) fn exceeded(&self, calls: usize, work: Duration) -> bool {
        calls > self.calls_max || (calls > 1 && self.wait_max.is_some_and(|most| work > most))
    }

    /// Whether calls are turned away because of how long they would wait.
    pub(crate) const fn is_in_time(&self) -> bool {
        self.wait_max.is_some()
    }

    /// When to come back to a queue that takes `work` to empty.
    pub(crate) fn retry_after(&self, work: Duration) -> Duration {
        work.max(RETRY_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_bounds_the_queue_and_memory_bounds_it_always() {
        let ms = Duration::from_millis;
        let bound = Bound::new(Some(ms(100)), 10);
        assert!(!bound.exceeded(5, ms(100)) && bound.exceeded(5, ms(101)) && bound.exceeded(11, ms(1)));
        assert!(
            !bound.exceeded(1, ms(5000)),
            "what takes longer than the bound is done when nothing else waits"
        );
        let off = Bound::new(None, 10);
        assert!(!off.exceeded(10, Duration::from_secs(3600)) && off.exceeded(11, ms(1)));
    }
}
