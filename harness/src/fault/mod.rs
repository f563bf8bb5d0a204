//! Faults: verbs over what a backend can do, each in its own file, all in one list.
//!
//! A verb is asked, when its moment has come, whom it hits and what is to be done to them ([`Scene`], [`Action`]); the
//! [`Engine`] does it. A fault is idempotent, proves from outside its own path that it bit and that it ended, carries a
//! lease, and is written to the undo journal, synced, before it is applied. Faults that overlap do not undo each other.

mod aim;
mod amount;
mod counted;
mod delay;
mod discovery;
mod doze;
mod engine;
mod errand;
mod evidence;
mod flap;
mod freeze;
mod frozen;
mod handover;
mod isolate;
mod kill;
mod load;
mod move_replica;
mod network;
mod nodes;
mod partition;
mod power_loss;
mod relaunch;
mod restart;
mod scene;
mod spec;
mod stop;
mod transfer_leader;
mod verbs;
mod verification;

pub use amount::Amount;
pub use delay::Delay;
pub use discovery::{Discovery, Untrue};
pub use doze::Doze;
pub use engine::{Armed, Engine, EngineParts, FaultError, Injection, LEASE};
pub use evidence::Evidence;
pub use flap::{Flap, TIMES_MAX};
pub use freeze::Freeze;
pub use isolate::Isolate;
pub use kill::Kill;
pub use load::Load;
pub use move_replica::MoveReplica;
pub use partition::{Form, Partition};
pub use power_loss::PowerLoss;
pub use relaunch::Relaunch;
pub use restart::Restart;
pub use scene::{Action, Resolved, Rules, Scene};
pub use spec::{Group, SpecError, Verb, VerbInfo};
pub use stop::Stop;
pub use transfer_leader::TransferLeader;
pub use verbs::{ALL, FaultSpec, find};
pub use verification::Verification;

#[cfg(test)]
mod tests;
