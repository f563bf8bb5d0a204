//! What can go wrong in the state machine itself. Each of these ends the replica: a refusal of a command is none.

/// A failure of the state machine.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The database failed.
    #[error("state database: {0}")]
    Database(Box<redb::Error>),
    /// The database or the snapshot is of another shard, another number of shards, or another format.
    #[error("{what} is {found} in the stored state, {wanted} wanted: use the data folder that belongs to this shard")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// What was stored.
        found: u64,
        /// What was wanted.
        wanted: u64,
    },
    /// An entry does not follow the last applied one.
    #[error("entry {index} (term {term}) does not follow the applied entry {applied} (term {applied_term})")]
    NotNext {
        /// The entry's index.
        index: u64,
        /// The entry's term.
        term: u64,
        /// The last applied index.
        applied: u64,
        /// Its term.
        applied_term: u64,
    },
    /// A normal entry is no command.
    #[error("entry {index} is not a command of this version: {source}")]
    Undecodable {
        /// The entry's index.
        index: u64,
        /// Why.
        source: prost::DecodeError,
    },
    /// A stored record can not be read.
    #[error("record {key} of the stored state is damaged: {reason}")]
    Damaged {
        /// The record's key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot can not be installed; nothing was changed.
    #[error("snapshot refused at byte {at}: {reason}")]
    Snapshot {
        /// Where.
        at: usize,
        /// Why.
        reason: String,
    },
}

impl ChatError {
    /// Whether the stored state was found to be other than it was written: the replica must not be served, and others are
    /// not concerned.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => crate::storage::is_damage(error),
            Self::Damaged { .. } => true,
            _ => false,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for ChatError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}
