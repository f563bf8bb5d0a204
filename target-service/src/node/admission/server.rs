//! A node's capacity: a server that does one piece of work after another, in virtual time.

use std::time::Duration;

/// Idle time that is made up for: a loop that comes late by this much still does all that it can do.
const CATCH_UP: Duration = Duration::from_millis(10);

/// When the node is done with what it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// How long one send takes; nothing takes any time where there is no limit.
    send: Duration,
    free_at: Duration,
}

impl Server {
    /// A server that does so many sends a second; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let nanos = 1_000_000_000_u64.checked_div(u64::from(per_second)).unwrap_or(0);
        Self {
            send: Duration::from_nanos(nanos),
            free_at: Duration::ZERO,
        }
    }

    /// How long work takes that costs `percent` of a send.
    pub(crate) fn time_for(&self, percent: u32) -> Duration {
        self.send * percent / 100
    }

    /// How long it is still busy.
    pub(crate) fn busy(&self, now: Duration) -> Duration {
        self.free_at.saturating_sub(now)
    }

    /// When it is free.
    pub(crate) const fn free_at(&self) -> Duration {
        self.free_at
    }

    /// Gives it work that takes `time`. To be called when it is free.
    pub(crate) fn give(&mut self, time: Duration, now: Duration) {
        self.free_at = self.free_at.max(now.saturating_sub(CATCH_UP)) + time;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_limit_takes_no_time() {
        let mut server = Server::new(0);
        server.give(server.time_for(400), Duration::from_secs(1));
        assert_eq!(server.busy(Duration::from_secs(1)), Duration::ZERO);
    }

    proptest! {
        /// However late the loop comes, within what is made up for, the server does what its capacity says: no less while
        /// there is work, and never more.
        #[test]
        fn it_does_what_its_capacity_says(
            late_us in proptest::collection::vec(0..9_000_u64, 400), per_second in 100..20_000_u32,
        ) {
            let mut server = Server::new(per_second);
            let time = server.time_for(100);
            let (mut now, mut done) = (Duration::from_secs(1), 0_u64);
            let began = now;
            for late in late_us {
                now = now.max(server.free_at()) + Duration::from_micros(late);
                while server.busy(now).is_zero() {
                    server.give(time, now);
                    done += 1;
                }
            }
            let could = (now - began).as_secs_f64() * f64::from(per_second);
            let most = could + CATCH_UP.as_secs_f64() * f64::from(per_second) + 2.0;
            prop_assert!((done as f64) <= most && (done as f64) >= could - 1.0, "{done} of {could}");
        }
    }
}
