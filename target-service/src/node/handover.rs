//! What becomes of a shard's callers while it hands leadership over in good order.
//!
//! A leader that hands over takes no proposal any more, and for a moment nobody else does. Whoever asks meanwhile waits
//! here and is then sent to the new leader, instead of being refused without knowing where to go. What was proposed
//! before goes to the new leader with the log: it is answered when this replica, a follower by then, sees it committed.
//! So nobody has to ask whether a call took place only because a leader changed on purpose.

use std::{collections::VecDeque, time::Duration};

use firedrill_proto::chat::v1::Command;
use prost::Message as _;

use super::{api::Reason, shard::Shard, waiting::Waiting};

/// Callers that wait at once, and the bytes of what they ask. Beyond, they are refused at once.
const HELD_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 1 << 20;

/// How long a caller waits at most for the new leader's name, after the old one is none any more.
const NAME_WITHIN: Duration = Duration::from_millis(100);

/// When to come back where nobody knows who leads.
const RETRY_NAMELESS: Duration = Duration::from_millis(20);

/// A shard's hand-over.
#[derive(Debug)]
pub(super) struct HandOver {
    held: VecDeque<(Command, Waiting)>,
    held_bytes: usize,
    /// Leadership was on its way to another node when it was last looked at.
    under_way: bool,
    /// Until when whoever waits for what was proposed before is kept, once leadership is gone.
    kept_until: Option<Duration>,
    patience: Duration,
}

impl HandOver {
    /// One whose new leader is given `patience` to commit what the old one had proposed.
    pub(super) const fn new(patience: Duration) -> Self {
        Self {
            held: VecDeque::new(),
            held_bytes: 0,
            under_way: false,
            kept_until: None,
            patience,
        }
    }

    /// Whether somebody still waits for what follows from a hand-over.
    pub(super) fn is_owed(&self) -> bool {
        !self.held.is_empty() || self.kept_until.is_some()
    }
}

impl Shard {
    /// Lets a caller wait for the end of a hand-over; gives it back where that can't be.
    pub(super) fn hold(&mut self, command: Command, waiting: Waiting) -> Result<(), Waiting> {
        let bytes = command.encoded_len();
        let hand_over = &mut self.hand_over;
        if !self.replica.is_handing_over()
            || !waiting.has_caller()
            || hand_over.held.len() >= HELD_MAX
            || hand_over.held_bytes + bytes > HELD_BYTES_MAX
        {
            return Err(waiting);
        }
        hand_over.under_way = true;
        hand_over.held_bytes += bytes;
        hand_over.held.push_back((command, waiting));
        Ok(())
    }

    /// Notes whether leadership is on its way, while it is still here.
    pub(super) fn watch_hand_over(&mut self) {
        self.hand_over.under_way = self.replica.is_handing_over();
    }

    /// Leadership is lost, or was and is here again in another term. Only those whose proposals went over in good order
    /// can hope to hear of them here.
    pub(super) fn part_with_proposals(&mut self, now: Duration) {
        let handed_over = std::mem::take(&mut self.hand_over.under_way) && !self.replica.is_leader();
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (kept, lost) = pending.partition(|(_, it)| handed_over && it.waiting.has_caller());
        self.pending = lost;
        self.refuse_proposals();
        self.pending = kept;
        let until = now + self.hand_over.patience;
        self.hand_over.kept_until = (!self.pending.is_empty()).then_some(until);
    }

    /// Tells everybody whose proposal is on its way that nobody knows what becomes of it.
    pub(super) fn refuse_proposals(&mut self) {
        self.hand_over.kept_until = None;
        for (_, pending) in std::mem::take(&mut self.pending) {
            let maybe = self.refusal(Reason::Maybe, "leadership was lost before the outcome was known");
            pending.waiting.refuse(maybe);
        }
    }

    /// Sends those on who wait for a hand-over that is over, and does not wait for ever for what was proposed before it.
    pub(super) fn after_hand_over(&mut self, now: Duration) {
        if let Some(until) = self.hand_over.kept_until {
            if self.pending.is_empty() {
                self.hand_over.kept_until = None;
            } else if until <= now || self.replica.is_leader() {
                self.refuse_proposals();
            }
        }
        if self.hand_over.held.is_empty() || self.replica.is_handing_over() {
            return;
        }
        let nameless = self.replica.leader() == 0;
        if nameless && self.leaderless_since.is_none_or(|since| now < since + NAME_WITHIN) {
            return;
        }
        self.hand_over.held_bytes = 0;
        for (command, waiting) in std::mem::take(&mut self.hand_over.held) {
            if self.replica.is_leader() {
                // The other did not want it.
                if !waiting.is_gone() {
                    self.propose(command, waiting);
                }
                continue;
            }
            let moved = self.refusal(Reason::NotLeader, "leadership was handed over");
            waiting.refuse(if nameless { moved.after(RETRY_NAMELESS) } else { moved });
        }
    }

    /// The shard is held here no more: whoever waits goes elsewhere.
    pub(super) fn end_hand_over(&mut self) {
        self.hand_over.held_bytes = 0;
        for (_, waiting) in std::mem::take(&mut self.hand_over.held) {
            waiting.refuse(self.refusal(Reason::NotLeader, "the shard is held here no more"));
        }
    }
}
