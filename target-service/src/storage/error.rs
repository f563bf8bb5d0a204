//! What storage can fail with.

use crate::env::DiskError;

/// A failure of the log or of a state database. All but [`Misuse`](Self::Misuse) end the node.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk failed while opening.
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    /// What is on the disk is not what was written there. It is never served, repaired or skipped.
    #[error(
        "{file} is corrupt at byte {offset}: {what}; keep the folder for a post-mortem and rebuild this node under a new id"
    )]
    Corrupt {
        /// The file, below the node's data folder.
        file: String,
        /// Where the damage was noticed, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A shard's state is not what was written there. It is never served, repaired or skipped; other shards are not
    /// concerned.
    #[error("{file} is damaged: {what}; keep it for a post-mortem, and place the replica on another node")]
    Damaged {
        /// The file, below the node's data folder.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// A write or a sync failed, now or earlier: nothing can be known to be durable any more.
    #[error("storage ended: {cause}; end the process and start it again")]
    Fatal {
        /// The first failure.
        cause: String,
    },
    /// The caller broke the contract; nothing was written.
    #[error("refused a write for shard {shard}: {what}")]
    Misuse {
        /// The shard.
        shard: u32,
        /// What is wrong with it.
        what: String,
    },
    /// The database of a shard failed.
    #[error("database {file} failed: {cause}")]
    Database {
        /// The file, below the node's data folder.
        file: String,
        /// The database's own words.
        cause: String,
    },
}

/// Why entries could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogReadError {
    /// They were compacted away: a follower that needs them needs a snapshot.
    #[error("compacted")]
    Compacted,
    /// They are beyond the end of the log.
    #[error("beyond the end of the log")]
    Unavailable,
}
