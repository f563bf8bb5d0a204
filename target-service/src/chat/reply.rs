//! What goes into the state machine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::Command;
use prost::Message as _;

use super::{error::ChatError, refused::Refused};

/// One committed entry of the shard's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Its index; entries are applied without gaps.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// `None` for entries that say nothing to the chat: a new leader's empty entry, a change of membership.
    pub command: Option<Command>,
}

impl Committed {
    /// An entry that only moves the applied index.
    #[must_use]
    pub const fn empty(index: u64, term: u64) -> Self {
        Self {
            index,
            term,
            command: None,
        }
    }

    /// A normal entry with `data` as it stands in the log; no data is an empty entry.
    ///
    /// # Errors
    /// When `data` is not a command: the log holds something that this version never wrote.
    pub fn decode(index: u64, term: u64, data: &[u8]) -> Result<Self, ChatError> {
        if data.is_empty() {
            return Ok(Self::empty(index, term));
        }
        let command = Command::decode(data).map_err(|source| ChatError::Undecodable { index, source })?;
        Ok(Self {
            index,
            term,
            command: Some(command),
        })
    }
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The entry's index.
    pub index: u64,
    /// Who proposed it, as the command says.
    pub proposer: u64,
    /// Which of the proposer's proposals it was.
    pub ticket: u64,
    /// The answer.
    pub reply: Reply,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a sign-up.
    SignedUp {
        /// The account.
        user: u64,
        /// False when it had existed before.
        created: bool,
    },
    /// To the issuing of a code.
    CodeIssued {
        /// The code that can be shown now.
        code: String,
        /// For how long, in milliseconds of log time.
        valid_ms: u64,
    },
    /// To the opening of a session.
    Opened {
        /// The session.
        session: u64,
        /// The last sequence that the device acknowledged.
        acknowledged: u64,
        /// The last sequence assigned to the device.
        last_sequence: u64,
        /// The incarnation of these sequences.
        incarnation: u64,
    },
    /// To a send.
    Sent {
        /// The conversation.
        conversation: u64,
        /// The message's position in it, from 1.
        position: u64,
        /// True when the message had been committed before, and this is the first answer again.
        repeated: bool,
    },
    /// To a change of a group.
    GroupChanged {
        /// The group.
        conversation: u64,
        /// Where the change stands; the last position when there was nothing left to change.
        position: u64,
        /// How many members there are now.
        members: u64,
        /// True when this is the first answer again.
        repeated: bool,
    },
    /// To a receipt.
    Receipted {
        /// What counts as delivered now.
        delivered: u64,
        /// What counts as read now.
        read: u64,
        /// What is left unread.
        unread: u64,
    },
    /// To an import of contacts.
    Imported {
        /// Numbers that were new.
        added: u64,
        /// Numbers in the address book now.
        total: u64,
    },
    /// To an acknowledgement.
    Acknowledged {
        /// Where the device's cursor is now.
        acknowledged: u64,
    },
    /// To a batch of another shard's outbox.
    Accepted {
        /// The shard whose outbox it is.
        from_shard: u32,
        /// Everything up to here is accepted; less than was sent when there was a gap, or no room.
        through: u64,
    },
    /// To the trimming of an outbox.
    Trimmed {
        /// The shard whose items they were.
        to_shard: u32,
        /// Everything up to here is gone.
        through: u64,
    },
    /// To the trimming of several: everything up to here is gone, by shard.
    TrimmedAll(BTreeMap<u32, u64>),
    /// To a change of the version: which one holds now.
    Versioned(u32),
    /// To a fence.
    Fenced {
        /// How many sessions it ended that were not ended before.
        sessions: u64,
    },
    /// It surely did not happen.
    Refused(Refused),
}

/// What a batch did: the answers, and whom to wake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each command, in the order of the log.
    pub outcomes: Vec<Outcome>,
    /// Users whose log grew.
    pub delivered: BTreeSet<u64>,
    /// Shards whose outbox grew.
    pub outboxes: BTreeSet<u32>,
    /// Sessions that ended: replaced by a newer one, or fenced.
    pub ended_sessions: BTreeSet<u64>,
    /// Deliveries were let go, so that there may be room for what was refused before.
    pub made_room: bool,
}
