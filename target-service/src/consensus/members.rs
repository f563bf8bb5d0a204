//! Who belongs to a replica's group: changed by entries of its log, one change at a time, and remembered with the entry from
//! which it follows.
//!
//! What the state machine has applied and what the log says of the members become durable at different times. So the
//! members name the entry that made them, and entries up to there don't change them again when they are applied anew.

use firedrill_proto::chat::v1::{
    ConfState, ConfigChange, ConfigChangeStep, EntryKind, LogEntry, RaftMessage, Snapshot as WireSnapshot,
};
use prost::Message as _;

use super::{Replica, ReplicaError, convert};

/// The members as applied, and what is needed to tell others of them.
#[derive(Debug)]
pub(super) struct Members {
    applied: ConfState,
    /// Index of a snapshot that a peer sent, and the version of its members: `raft` doesn't carry that.
    announced: Option<(u64, u64)>,
    /// The version of the members of the snapshot on offer.
    offered: u64,
    /// Whose traffic is counted, and its bytes.
    watched: Option<(u64, u64)>,
}

impl Members {
    pub(super) const fn new(applied: ConfState) -> Self {
        Self {
            applied,
            announced: None,
            offered: 0,
            watched: None,
        }
    }

    /// The members as applied.
    pub(super) const fn applied(&self) -> &ConfState {
        &self.applied
    }

    /// A peer sent a snapshot of (index, version).
    pub(super) fn announced(&mut self, version: Option<(u64, u64)>) {
        self.announced = version.or(self.announced);
    }

    /// A snapshot is taken over: these are its members.
    pub(super) fn installed(&mut self, snapshot: &WireSnapshot) -> ConfState {
        let version = self.announced.filter(|(index, _)| *index == snapshot.index);
        self.applied = ConfState {
            index: snapshot.index,
            version: version.map_or(0, |(_, version)| version),
            ..snapshot.conf_state.clone().unwrap_or_default()
        };
        self.applied.clone()
    }

    /// The members as they are go with the snapshot that is offered from now on.
    pub(super) const fn offered(&mut self) {
        self.offered = self.applied.version;
    }

    /// A message goes out.
    pub(super) fn sending(&mut self, message: &mut RaftMessage) {
        let mut bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
        if let Some(snapshot) = &mut message.snapshot {
            bytes += snapshot.data.len();
            if let Some(members) = &mut snapshot.conf_state {
                members.version = self.offered;
            }
        }
        if let Some((to, sent)) = &mut self.watched
            && *to == message.to
        {
            *sent += bytes as u64;
        }
    }
}

/// One change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This node becomes a learner.
    AddLearner(u64),
    /// This node is no member any more: only for learners.
    RemoveLearner(u64),
    /// Enters the joint membership in which the first node votes as well, and the second won't vote behind it.
    EnterJoint(u64, u64),
    /// Leaves it.
    LeaveJoint,
}

impl Change {
    /// As the log has it, with the version of the map that asks for it.
    fn to_wire(self, version: u64) -> ConfigChange {
        const ADD: u32 = 0;
        const REMOVE: u32 = 1;
        const ADD_LEARNER: u32 = 2;
        const EXPLICIT: u32 = 2;
        let step = |kind, node| ConfigChangeStep { kind, node };
        let (transition, steps) = match self {
            Self::AddLearner(node) => (0, vec![step(ADD_LEARNER, node)]),
            Self::RemoveLearner(node) => (0, vec![step(REMOVE, node)]),
            Self::EnterJoint(to, from) => (EXPLICIT, vec![step(ADD, to), step(REMOVE, from)]),
            Self::LeaveJoint => (0, Vec::new()),
        };
        ConfigChange {
            transition,
            steps,
            context: version.to_be_bytes().to_vec().into(),
        }
    }
}

/// Whether an entry changes the members.
#[must_use]
pub fn changes_members(entry: &LogEntry) -> bool {
    matches!(entry.kind(), EntryKind::ConfigChange | EntryKind::ConfigChangeV2)
}

/// The version that a change names.
fn version_of(entry: &LogEntry) -> u64 {
    let change = ConfigChange::decode(&*entry.data).unwrap_or_default();
    change.context[..].try_into().map_or(0, u64::from_be_bytes)
}

impl Replica {
    /// The members as applied.
    #[must_use]
    pub const fn members(&self) -> &ConfState {
        &self.members.applied
    }

    /// Whether a change of the members can be proposed: this replica leads, has applied everything that was committed
    /// before its term, and no other change is on its way. What it knows of the members is the newest then.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.can_read() && !self.raw.raft.has_pending_conf() && !self.is_handing_over()
    }

    /// Proposes a change of the members that `version` of the placement map asks for. `false` unless
    /// [`Replica::can_change`].
    pub fn propose_change(&mut self, change: Change, version: u64) -> bool {
        let entry = LogEntry {
            kind: EntryKind::ConfigChangeV2.into(),
            data: change.to_wire(version).encode_to_vec().into(),
            ..LogEntry::default()
        };
        let Ok(Some(change)) = convert::membership(&entry) else {
            return false;
        };
        self.can_change() && self.raw.propose_conf_change(Vec::new(), change).is_ok()
    }

    /// Applies the membership change in a committed entry; returns the membership to be written, or `None` for an entry
    /// that changes none, or that was applied before.
    ///
    /// # Errors
    /// When the change can't be.
    pub fn apply_membership(&mut self, entry: &LogEntry) -> Result<Option<ConfState>, ReplicaError> {
        let Some(change) = convert::membership(entry)? else {
            return Ok(None);
        };
        if entry.index <= self.members.applied.index {
            return Ok(None);
        }
        let members = self
            .raw
            .apply_conf_change(&change)
            .map_err(|cause| ReplicaError::Raft {
                what: "a membership change",
                cause,
            })?;
        self.members.applied = ConfState {
            index: entry.index,
            version: version_of(entry),
            ..convert::conf_state_to_wire(&members)
        };
        if self.is_leader() && !self.voters().contains(&self.raw.raft.id) {
            // It was elected by members that don't count any more, and would lead without a vote of its own.
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
        self.settle();
        Ok(Some(self.members.applied.clone()))
    }

    /// How far a member has come: the index up to which it is known to have the log. `None` unless this replica leads and
    /// the node is a member.
    #[must_use]
    pub fn matched(&self, node: u64) -> Option<u64> {
        let progress = self.raw.raft.prs().get(node);
        progress.filter(|_| self.is_leader()).map(|progress| progress.matched)
    }

    /// Counts what is sent to `node` from now on, unless it is counted already.
    pub fn watch(&mut self, node: u64) {
        if self.members.watched.is_none_or(|(watched, _)| watched != node) {
            self.members.watched = Some((node, 0));
        }
    }

    /// Bytes of entries and snapshots that were sent to the node that is watched.
    #[must_use]
    pub fn watched_bytes(&self) -> u64 {
        self.members.watched.map_or(0, |(_, bytes)| bytes)
    }
}
