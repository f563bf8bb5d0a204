//! Deadlines: what nobody waits for any more is not done.

use std::time::Duration;

/// Which calls are still worth doing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    on: bool,
}

impl Deadlines {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    /// Whether a call with this deadline is too late now.
    pub(crate) fn passed(self, deadline: Option<Duration>, now: Duration) -> bool {
        self.on && deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether it will be too late after `wait` more.
    pub(crate) fn will_pass(self, deadline: Option<Duration>, now: Duration, wait: Duration) -> bool {
        self.passed(deadline, now.saturating_add(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_while_deadlines_are_kept() {
        let ms = Duration::from_millis;
        let (on, off) = (Deadlines::new(true), Deadlines::new(false));
        assert!(on.passed(Some(ms(10)), ms(10)) && !on.passed(Some(ms(11)), ms(10)));
        assert!(on.will_pass(Some(ms(20)), ms(10), ms(10)) && !on.will_pass(Some(ms(21)), ms(10), ms(10)));
        assert!(!on.passed(None, Duration::MAX) && !off.passed(Some(ms(1)), ms(10)));
    }
}
