//! What a replica says of itself. Beliefs, all of them: who leads is judged by what gets committed.

use firedrill_proto::chat::v1::{LogEntry, Role};
use raft::{GetEntriesContext, StateRole, Storage as _};

use super::{Replica, ReplicaError, replica::entries_to_wire};

impl Replica {
    /// Whether this replica believes that it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// What this replica believes to be.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate => Role::Candidate,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Follower if self.raw.raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whom it voted for in this term; 0 is nobody.
    #[must_use]
    pub fn vote(&self) -> u64 {
        self.raw.raft.vote
    }

    /// The leader that it knows of; 0 is none.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The last index, not yet synced ones included.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The first index that the log still has.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.raw.store().log().first_index()
    }

    /// Bytes of the entries that the log still has.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.raw.store().log().bytes()
    }

    /// The term of the entry at `index`, when the log still knows it.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.raw.raft.raft_log.term(index).ok()
    }

    /// The voters, in the order of their ids.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        let mut voters: Vec<u64> = self.raw.raft.prs().conf().voters().ids().iter().collect();
        voters.sort_unstable();
        voters
    }

    /// All members, in the order of their ids: voters of either side of a change, and learners.
    #[must_use]
    pub fn everybody(&self) -> Vec<u64> {
        self.raw
            .raft
            .prs()
            .iter()
            .map(|(id, _)| *id)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Whether a handover is under way.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.handing_over_to().is_some()
    }

    /// To whom a handover is under way.
    #[must_use]
    pub fn handing_over_to(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// The command entries from `low` to before `high` that the log still has. For tests and tools.
    ///
    /// # Errors
    /// When some of them are gone or not there yet.
    pub fn read_log(&self, low: u64, high: u64) -> Result<Vec<LogEntry>, ReplicaError> {
        let entries = self
            .raw
            .store()
            .entries(low, high, None, GetEntriesContext::empty(false));
        let entries = entries.map_err(|cause| ReplicaError::Raft {
            what: "a read of the log",
            cause,
        })?;
        Ok(entries_to_wire(&entries)?)
    }
}
