//! Raft, one replica at a time, without clock, network, disk or async.
//!
//! A [`Replica`] is told of ticks, messages and proposals, and says what has to be made durable, what has to be sent and
//! what is committed. Nothing of `raft`'s own types leaves this folder: [`convert`] is the only border, and what comes
//! from a peer is checked there and in [`Replica::step`], because `raft` panics on impossible input.

pub mod convert;

#[doc(hidden)]
pub mod rig;

mod logger;
mod members;
mod replica;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;
mod view;

pub use convert::Malformed;
pub use members::{Change, changes_members};
pub use replica::{Effects, LateEffects, NoTransfer, Read, Replica, ReplicaError, Start, Tuning};
