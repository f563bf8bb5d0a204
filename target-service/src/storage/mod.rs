//! What a node keeps: one log for all its shards, and one database per shard.
//!
//! A driver turn gathers what every shard wants to persist into one [`WriteBatch`](log::WriteBatch), appends it and
//! syncs once; only then are votes and acknowledgements sent. The state machines apply into their databases without
//! durability and make a durable checkpoint now and then; the log is released only below a checkpoint, so that a
//! restart finds every entry that the database has forgotten. Any failure to write or sync ends the node: what is on
//! the disk is unknown from then on, and a later sync that succeeds would lie.

mod error;
pub mod log;
mod state_db;

pub use error::{LogReadError, StorageError};
pub use state_db::StateDb;
pub(crate) use state_db::is_damage;
