//! The fast way to a new leader, when the old one is surely gone: a closed connection and a refused one, or its goodbye.
//!
//! Survivors campaign at once, ignoring the lease, in the order of their ids and a stagger apart, so that votes don't
//! split. One that refuses its vote, because its own log is longer, doesn't wait for its turn. Timers are the fallback,
//! and a campaign in vain is repeated by nobody but them.

use std::time::Duration;

use firedrill_proto::chat::v1::Role;

use super::config::Timing;
use crate::consensus::Replica;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    dead: u64,
    term: u64,
    at: Duration,
}

/// One shard's plan to replace its leader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failover {
    armed: Option<Armed>,
    last: Option<Duration>,
}

/// What a plan looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) role: Role,
    pub(super) term: u64,
    pub(super) leader: u64,
    pub(super) vote: u64,
}

impl View {
    pub(super) fn of(replica: &Replica) -> Self {
        Self {
            role: replica.role(),
            term: replica.term(),
            leader: replica.leader(),
            vote: replica.vote(),
        }
    }
}

impl Failover {
    /// `dead` is gone. If it led, and `me` may replace it, a campaign is planned; `first` goes first, if it is a voter.
    pub(super) fn arm(
        &mut self,
        (me, dead, first): (u64, u64, u64),
        voters: &[u64],
        view: View,
        timing: &Timing,
        now: Duration,
    ) {
        if view.role != Role::Follower || view.leader != dead || self.armed.is_some() {
            return;
        }
        let every = Duration::from_millis(timing.fast_campaign_every_ms);
        if self.last.is_some_and(|last| now < last + every) {
            return;
        }
        let mut order: Vec<u64> = voters.iter().copied().filter(|id| *id != dead).collect();
        order.sort_by_key(|id| (*id != first, *id));
        if let Some(rank) = order.iter().position(|id| *id == me) {
            let wait = timing.fast_campaign_stagger_ms.saturating_mul(rank as u64);
            self.armed = Some(Armed {
                dead,
                term: view.term,
                at: now + Duration::from_millis(wait),
            });
        }
    }

    /// When to look again.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.armed.map(|armed| armed.at)
    }

    /// Whether to campaign now. Gives the plan up when somebody else is ahead.
    pub(super) fn due(&mut self, view: View, now: Duration) -> bool {
        let Some(armed) = self.armed else {
            return false;
        };
        let replaced = view.leader != 0 && view.leader != armed.dead;
        let voted = view.term > armed.term && view.vote != 0;
        if view.role != Role::Follower || replaced || voted {
            self.armed = None;
            return false;
        }
        // A newer term without a vote: a candidate with a shorter log was refused, and can't win.
        if now < armed.at && view.term == armed.term {
            return false;
        }
        self.armed = None;
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [u64; 3] = [1, 2, 3];

    fn follower(term: u64, leader: u64, vote: u64) -> View {
        View {
            role: Role::Follower,
            term,
            leader,
            vote,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn armed(me: u64, dead: u64, first: u64) -> Failover {
        let mut plan = Failover::default();
        plan.arm(
            (me, dead, first),
            &VOTERS,
            follower(5, 3, 3),
            &Timing::default(),
            ms(1000),
        );
        plan
    }

    #[test]
    fn survivors_go_in_order_and_a_successor_first() {
        let at = |me, first| armed(me, 3, first).due_at().unwrap();
        assert_eq!((at(1, 0), at(2, 0)), (ms(1000), ms(1020)));
        assert_eq!((at(1, 2), at(2, 2)), (ms(1020), ms(1000)));
        assert_eq!(armed(1, 2, 0).due_at(), None, "who died didn't lead");
        assert_eq!(armed(4, 3, 0).due_at(), None, "no voter");
    }

    #[test]
    fn whoever_voted_or_found_a_leader_stays_quiet() {
        for view in [follower(6, 1, 1), follower(6, 0, 1), follower(5, 1, 1)] {
            let mut plan = armed(2, 3, 0);
            assert!(!plan.due(view, ms(2000)));
            assert_eq!(plan.due_at(), None);
        }
        let mut plan = armed(2, 3, 0);
        let leads = View {
            role: Role::Leader,
            ..follower(6, 2, 2)
        };
        assert!(!plan.due(leads, ms(2000)));
    }

    #[test]
    fn whoever_refused_its_vote_does_not_wait() {
        let mut plan = armed(2, 3, 0);
        assert!(!plan.due(follower(5, 3, 3), ms(1001)));
        assert!(plan.due(follower(6, 0, 0), ms(1002)));
    }

    #[test]
    fn campaigns_are_rate_limited() {
        let mut plan = armed(1, 3, 0);
        assert!(plan.due(follower(5, 3, 3), ms(1000)));
        plan.arm((1, 3, 0), &VOTERS, follower(6, 3, 0), &Timing::default(), ms(1199));
        assert_eq!(plan.due_at(), None);
        plan.arm((1, 3, 0), &VOTERS, follower(6, 3, 0), &Timing::default(), ms(1200));
        assert_eq!(plan.due_at(), Some(ms(1200)));
    }
}
