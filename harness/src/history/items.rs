//! Operations and messages with their attempts put together.

use super::{Class, Operation, Outcome, Subject, is_decision};
use crate::base::Nanos;

/// One operation with its attempts put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Logical {
    /// Its number.
    pub id: u64,
    /// Its class.
    pub class: Class,
    /// The session that did it.
    pub session: u64,
    /// What it needed.
    pub needs: String,
    /// True for the probe's.
    pub probe: bool,
    /// When the schedule meant it.
    pub intended: Nanos,
    /// When its first attempt was sent.
    pub sent: Nanos,
    /// When the attempt that decided it was sent: the first that was acknowledged, else the last.
    pub decided_sent: Nanos,
    /// When it was decided.
    pub done: Nanos,
    /// Acknowledged by any attempt; else unknown by any; else failed; shed when it never left.
    pub outcome: Outcome,
    /// How many attempts.
    pub attempts: u32,
    /// Why it is not ok.
    pub error: Option<String>,
    /// When the first of its attempts was over that was not ok, even if a later one was.
    pub first_error: Option<Nanos>,
}

/// What may be demanded of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged, or somebody saw it: it must be there.
    Must,
    /// It may have happened.
    May,
    /// It surely did not happen.
    Not,
}

/// One item put into a log, over all its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its identity.
    pub item: u64,
    /// The operation.
    pub operation: u64,
    /// The log.
    pub log: String,
    /// Who put it.
    pub author: u64,
    /// Who is owed it; of a group those who belonged to it at the item's position, as far as that is known.
    pub owed: Vec<u64>,
    /// True when it went to a group.
    pub group: bool,
    /// Hash of its body.
    pub hash: u64,
    /// The session that sent it.
    pub session: u64,
    /// The number its device gave it.
    pub client_id: u64,
    /// When its first attempt was sent.
    pub sent: Nanos,
    /// When its last attempt was over.
    pub over: Nanos,
    /// When it was first acknowledged.
    pub acked: Option<Nanos>,
    /// The node that acknowledged it first.
    pub acked_by: Option<String>,
    /// Every position an answer named, with when.
    pub positions: Vec<(u64, Nanos)>,
    /// When anybody first saw it: shown on a device, or found by a read.
    pub seen: Option<Nanos>,
    /// Its position in its log: as the last complete read has it, else as an answer or a showing named it.
    pub position: Option<u64>,
    /// What may be demanded.
    pub fate: Fate,
    /// How many attempts.
    pub attempts: u32,
    /// True when an attempt other than the last was unknown.
    pub retried_after_unknown: bool,
}

fn served(outcome: Outcome, error: Option<&str>) -> bool {
    outcome == Outcome::Ok || (outcome == Outcome::Failed && is_decision(error))
}

impl Logical {
    pub(super) fn new(attempt: &Operation) -> Self {
        Self {
            id: attempt.id,
            class: attempt.class,
            session: attempt.session,
            needs: attempt.needs.clone(),
            probe: attempt.probe,
            intended: attempt.intended,
            sent: attempt.sent,
            decided_sent: attempt.sent,
            done: attempt.done,
            outcome: attempt.outcome,
            attempts: 1,
            error: attempt.error.clone(),
            first_error: (!served(attempt.outcome, attempt.error.as_deref())).then_some(attempt.done),
        }
    }

    /// Attempts come in the order of `done`.
    pub(super) fn take(&mut self, attempt: &Operation) {
        self.attempts += 1;
        self.sent = self.sent.min(attempt.sent);
        self.intended = self.intended.min(attempt.intended);
        if !served(attempt.outcome, attempt.error.as_deref()) {
            self.first_error.get_or_insert(attempt.done);
        }
        if self.outcome == Outcome::Ok {
            return;
        }
        self.done = attempt.done;
        self.decided_sent = attempt.sent;
        self.error.clone_from(&attempt.error);
        self.outcome = match (self.outcome, attempt.outcome) {
            (_, Outcome::Ok) => Outcome::Ok,
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
            (Outcome::Shed, Outcome::Shed) => Outcome::Shed,
            _ => Outcome::Failed,
        };
    }

    /// Whether its user had an answer: it was acknowledged, or the service decided that it may not be.
    #[must_use]
    pub fn served(&self) -> bool {
        served(self.outcome, self.error.as_deref())
    }

    /// From the intent to the decision: what its user waited.
    #[must_use]
    pub const fn waited(&self) -> std::time::Duration {
        self.done.since(self.intended)
    }
}

impl Item {
    /// When it was first certain that it must be there: its acknowledgement, else its first sighting, else the end of
    /// its last attempt.
    #[must_use]
    pub fn certain(&self) -> Nanos {
        self.acked.or(self.seen).unwrap_or(self.over)
    }

    pub(super) fn new(attempt: &Operation) -> Option<Self> {
        let Subject::Item {
            item,
            log,
            author,
            owed,
            group,
            client_id,
            hash,
            ..
        } = &attempt.subject
        else {
            return None;
        };
        let mut new = Self {
            item: *item,
            operation: attempt.id,
            log: log.clone(),
            author: *author,
            owed: owed.clone(),
            group: *group,
            hash: *hash,
            session: attempt.session,
            client_id: *client_id,
            sent: attempt.sent,
            over: attempt.done,
            acked: None,
            acked_by: None,
            positions: Vec::new(),
            seen: None,
            position: None,
            fate: Fate::Not,
            attempts: 0,
            retried_after_unknown: false,
        };
        new.take(attempt);
        Some(new)
    }

    pub(super) fn take(&mut self, attempt: &Operation) {
        if self.attempts > 0 && self.fate == Fate::May {
            self.retried_after_unknown = true;
        }
        self.attempts += 1;
        self.sent = self.sent.min(attempt.sent);
        self.over = self.over.max(attempt.done);
        match attempt.outcome {
            Outcome::Ok => {
                self.fate = Fate::Must;
                if self.acked.is_none() {
                    self.acked = Some(attempt.done);
                    self.acked_by.clone_from(&attempt.answered_by);
                }
            }
            Outcome::Unknown if self.fate == Fate::Not => self.fate = Fate::May,
            Outcome::Unknown | Outcome::Failed | Outcome::Shed => {}
        }
        if let Subject::Item {
            position: Some(position),
            ..
        } = attempt.subject
        {
            self.positions.push((position, attempt.done));
        }
    }
}
