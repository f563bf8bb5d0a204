//! The chat: the deterministic state of one shard.
//!
//! A shard's replicas apply the same committed commands in the same order and so hold the same bytes. There is no
//! clock, no randomness and no async in here: time is what the log says, ids are counted, and everything is kept in one
//! redb database per shard.
//!
//! A message is committed on its conversation's home shard (`apply/send.rs`): a position, an entry in the dedup table,
//! an item in the outbox to the recipient's shard. That shard accepts outboxes in order (`apply/delivery.rs`) and
//! appends to each device's stream under the device's own sequence. Accounts, devices and sessions live with the
//! account (`apply/account.rs`). Home and recipient may be the same shard: the way is the same.

pub mod ids;
pub mod validate;

mod apply;
mod error;
mod fuzz;
mod keys;
mod lists;
mod machine;
#[cfg(any(test, feature = "plants"))]
mod plants;
mod query;
mod records;
mod refused;
mod reply;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "plants"))]
pub use crate::plant::Plant;
pub use error::ChatError;
#[doc(hidden)]
pub use fuzz::fuzz_calls;
pub use machine::{Machine, Settings};
pub use query::{Counts, DeviceState, OutboxState};
pub use refused::Refused;
pub use reply::{Applied, Committed, Outcome, Reply};
pub use snapshot::SnapshotBuild;
