//! Which nodes hold which shard, and how a replica moves from one to another: without clock, network or disk.
//!
//! The placement group is one more Raft group, of up to five nodes. Its state machine ([`Machine`]) holds the map of
//! shards with its epoch, and the operations, each in a named phase. A phase ends when the shard's leader reports that
//! what it asks for is so; how the leader gets there is [`next_step`], a function of the map and the members of the
//! shard's group. Nothing is remembered elsewhere: whoever leads either group after a crash goes on from there.

//!
//! A migration is many moves with one goal: a drain, a move of a shard, leaderships that are spread. It stands in the same
//! map, and what it does next ([`next_relocation`], [`next_leader`]) is a function of map and goal too.

mod choice;
mod machine;
mod migrations;
mod nodes;
mod step;
#[cfg(test)]
mod tests;

pub use choice::{Next, Obstacle, Relocation, next_leader, next_relocation, rehearse};
pub use machine::{Machine, OPERATIONS_MAX, Reply, SnapshotError, founded};
pub use migrations::{FAILURES_MAX, bytes_per_second, children, goal, goal_name, goes_on, moves_max, stages, wished};
pub use nodes::{Layout, leaves, state, zone};
pub use step::{Step, active, holds, is_active, next_step, reached};
