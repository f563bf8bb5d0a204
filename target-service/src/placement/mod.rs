//! Which nodes hold which shard, and how a replica moves from one to another: without clock, network or disk.
//!
//! The placement group is one more Raft group, of up to five nodes. Its state machine ([`Machine`]) holds the map of
//! shards with its epoch, and the operations, each in a named phase. A phase ends when the shard's leader reports that
//! what it asks for is so; how the leader gets there is [`next_step`], a function of the map and the members of the
//! shard's group. Nothing is remembered elsewhere: whoever leads either group after a crash goes on from there.

mod machine;
mod step;
#[cfg(test)]
mod tests;

pub use machine::{Machine, OPERATIONS_MAX, Reply, SnapshotError, founded};
pub use step::{Step, active, holds, is_active, next_step, reached};
