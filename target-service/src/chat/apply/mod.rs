//! What each command does, one file for each part of the state. Every step depends only on the state, the command and
//! the settings.

mod account;
mod code;
mod contact;
mod delivery;
mod group;
mod log;
mod outbox;
mod receipt;
mod send;
mod thread;

use firedrill_proto::chat::v1::{Command, command};
use redb::Table;

use super::{
    error::ChatError,
    keys::Key,
    machine::Settings,
    records::{Meta, Present},
    refused::Refused,
    reply::{Applied, Committed, Outcome, Reply},
    store, validate,
};

/// How far one command moves log time at most: a single one from a node whose clock is days ahead must not make a shard
/// forget all client ids at once. A shard that was idle for longer catches up with its next commands.
const TIME_STEP_MS_MAX: u64 = 10 * 60 * 1000;

/// One batch being applied: the open table, the counters as they will be, and what happened so far.
pub(super) struct Applier<'txn> {
    pub(super) table: Table<'txn, &'static [u8], &'static [u8]>,
    pub(super) meta: Meta,
    pub(super) settings: Settings,
    pub(super) applied: Applied,
    #[cfg(any(test, feature = "plants"))]
    pub(super) plant: Option<super::Plant>,
}

/// A step of a command: done, refused (nothing was changed), or the state machine itself failed.
pub(super) type Step<T> = Result<Result<T, Refused>, ChatError>;

/// Gives the value of a [`Step`], or returns its refusal.
macro_rules! granted {
    ($step:expr) => {
        match $step {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}
pub(super) use granted;

impl Applier<'_> {
    /// Applies the entry that follows the last applied one.
    pub(super) fn entry(&mut self, entry: &Committed) -> Result<(), ChatError> {
        if entry.index != self.meta.applied_index + 1 || entry.term < self.meta.applied_term {
            return Err(ChatError::NotNext {
                index: entry.index,
                term: entry.term,
                applied: self.meta.applied_index,
                applied_term: self.meta.applied_term,
            });
        }
        if let Some(command) = &entry.command {
            let reply = self.command(command)?;
            self.applied.outcomes.push(Outcome {
                index: entry.index,
                proposer: command.proposer,
                ticket: command.ticket,
                reply,
            });
        }
        self.meta.applied_index = entry.index;
        self.meta.applied_term = entry.term;
        Ok(())
    }

    /// Applies one command.
    fn command(&mut self, command: &Command) -> Result<Reply, ChatError> {
        self.advance_time(command.time_ms);
        #[cfg(any(test, feature = "plants"))]
        self.release_overdue()?;
        let reply = match &command.command {
            Some(command::Command::SignUp(it)) => self.sign_up(it)?,
            Some(command::Command::IssueCode(it)) => self.issue_code(it)?,
            Some(command::Command::ChangeGroup(it)) => self.change_group(it)?,
            Some(command::Command::Receipt(it)) => self.receipt(it)?,
            Some(command::Command::ImportContacts(it)) => self.import_contacts(it)?,
            Some(command::Command::OpenSession(it)) => self.open_session(it)?,
            Some(command::Command::Send(it)) => self.send(it)?,
            Some(command::Command::Acknowledge(it)) => self.acknowledge(it)?,
            Some(command::Command::AcceptOutbox(it)) => self.accept_outbox(it)?,
            Some(command::Command::TrimOutbox(it)) => self.trim_outbox(it.to_shard, it.through)?,
            Some(command::Command::TrimOutboxes(it)) => self.trim_outboxes(&it.outboxes)?,
            Some(command::Command::SetVersion(it)) => {
                self.meta.version = self.meta.version.max(it.version);
                Ok(Reply::Versioned(self.meta.version))
            }
            Some(command::Command::Fence(it)) => self.fence(&it.sessions)?,
            None => Err(Refused::Malformed {
                what: "it carries no command that this version knows",
            }),
        };
        Ok(reply.unwrap_or_else(Reply::Refused))
    }

    /// Moves log time forward; the first command of a shard sets it.
    fn advance_time(&mut self, time_ms: u64) {
        let latest = match self.meta.time_ms {
            0 => u64::MAX,
            now => now.saturating_add(TIME_STEP_MS_MAX),
        };
        self.meta.time_ms = self.meta.time_ms.max(time_ms.min(latest));
    }

    /// Ends sessions on this shard for good.
    fn fence(&mut self, sessions: &[u64]) -> Step<Reply> {
        granted!(validate::fence(sessions.len()));
        let mut ended = 0;
        for &session in sessions {
            if !store::has(&self.table, &Key::fenced(session))? {
                store::put(&mut self.table, &Key::fenced(session), &Present {})?;
                self.applied.ended_sessions.insert(session);
                ended += 1;
            }
        }
        Ok(Ok(Reply::Fenced { sessions: ended }))
    }

    fn is_fenced(&self, session: u64) -> Result<bool, ChatError> {
        store::has(&self.table, &Key::fenced(session))
    }
}
