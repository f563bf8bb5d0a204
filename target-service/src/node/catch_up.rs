//! Whether a new replica has caught up: in rounds, of which each has to bring what was there when it began (Ongaro,
//! "Consensus: Bridging Theory and Practice", section 4.2.1). A round that is shorter than an election timeout is the last:
//! if the new replica votes from there, nobody waits for it longer than for a new leader.

use std::time::Duration;

/// Rounds after which the new replica is too slow.
const ROUNDS_MAX: u32 = 10;

/// How long one round may take: a snapshot has its time in it.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// A replica that catches up, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatchUp {
    /// For which operation.
    pub(super) operation: u64,
    pub(super) round: u32,
    /// What the round has to bring.
    target: u64,
    began: Duration,
    /// The last round was short enough.
    pub(super) done: bool,
    /// Why it won't be.
    pub(super) failed: Option<String>,
}

impl CatchUp {
    pub(super) const fn new(operation: u64, last: u64, now: Duration) -> Self {
        Self {
            operation,
            round: 1,
            target: last,
            began: now,
            done: false,
            failed: None,
        }
    }

    /// Looks at how far the replica has come, with `last` the end of the log.
    pub(super) fn look(&mut self, matched: u64, last: u64, short: Duration, now: Duration) {
        if self.done || self.failed.is_some() {
            return;
        }
        let took = now.saturating_sub(self.began);
        if matched < self.target {
            if took > ROUND_MAX {
                let lacks = self.target - matched;
                let round = self.round;
                self.failed = Some(format!(
                    "round {round} lacks {lacks} entries after {took:?}: is the node up?"
                ));
            }
        } else if took < short {
            self.done = true;
        } else if self.round == ROUNDS_MAX {
            self.failed = Some(format!(
                "after {ROUNDS_MAX} rounds the last took {took:?}, not under {short:?}: it is too slow for the load"
            ));
        } else {
            self.round += 1;
            self.target = last;
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn rounds_get_shorter_until_one_is_short_enough() {
        let mut it = CatchUp::new(1, 1000, ms(0));
        it.look(999, 1500, SHORT, ms(900));
        assert_eq!((it.round, it.done), (1, false));
        it.look(1000, 2000, SHORT, ms(1000));
        assert_eq!((it.round, it.done), (2, false), "the first took a second");
        it.look(1999, 2100, SHORT, ms(1200));
        assert!(!it.done);
        it.look(2000, 2200, SHORT, ms(1299));
        assert!(it.done && it.failed.is_none());
    }

    #[test]
    fn one_that_is_always_late_and_one_that_does_not_answer_are_given_up() {
        let mut slow = CatchUp::new(1, 10, ms(0));
        for round in 1..=10 {
            slow.look(10 * round, 10 * (round + 1), SHORT, ms(1000 * round));
            assert_eq!(slow.failed.is_some(), round == 10, "{round}");
        }
        assert!(slow.failed.unwrap().contains("too slow"));
        let mut away = CatchUp::new(1, 10, ms(0));
        away.look(0, 99, SHORT, ROUND_MAX);
        assert!(away.failed.is_none());
        away.look(0, 99, SHORT, ROUND_MAX + ms(1));
        assert!(away.failed.unwrap().contains("lacks 10 entries"));
    }
}
