//! One node: a loop that owns its replicas, and the handle through which clients, operators and peers reach it.
//!
//! [`channel`] makes the two ends of its queues: the [`NodeHandle`] (which is the [`ClientApi`]) goes to the fronts and to
//! the transport, the [`Inbox`] to the loop, [`run`]. A turn of the loop takes in what came (`run.rs`, `peers.rs`, `calls.rs`,
//! `people.rs`, `operators.rs`; clients through the gate of `admission`, behind `reception.rs`), has
//! every replica say what follows, makes all of that durable with one sync, sends, applies and answers (`flush.rs`).
//! A shard (`shard.rs`) is a replica, a state machine, and those who wait: for outcomes (`waiting.rs`), for confirmed
//! reads, and for deliveries (`streams.rs`). Its leader carries its outboxes to other shards (`outbox.rs`), and its state to
//! followers that its log no longer reaches (`snapshots/`). How much of the log is kept is decided in `retain.rs`; a replica
//! whose state is damaged is set aside (`quarantine.rs`). Versions of the protocol live side by side (`versions.rs`).
//! Which shards a node holds is what the placement group says (`council.rs`, on the nodes that hold it); each node keeps the
//! newest map, starts and forgets replicas by it, and changes the members of those that it leads (`moves.rs`).

mod admission;
mod api;
mod calls;
mod catch_up;
mod config;
mod council;
mod failover;
mod flush;
mod handle;
mod handover;
mod identity;
mod inbox;
mod meters;
mod metrics;
mod moves;
mod net;
mod operators;
mod outbox;
mod peers;
mod people;
#[cfg(feature = "plants")]
mod plants;
mod quarantine;
mod reception;
mod recover;
mod requests;
mod retain;
mod routes;
mod run;
mod shard;
mod snapshots;
mod streams;
#[cfg(test)]
mod tests;
mod verification;
mod versions;
mod waiting;

pub use crate::plant::Plant;
pub use admission::{Capacity, Costs, LoginRamp, Protections};
pub use api::{Answer, Call, ClientApi, Reason, Refusal, Subscription};
pub use config::{Bounds, CATCH_UP_BYTES_MAX, ConfigError, NodeConfig, Retention, Timing, Verification};
pub use handle::{NodeHandle, channel};
pub use identity::{Identity, IdentityError};
pub use inbox::Inbox;
pub use metrics::{Kind as MetricKind, METRICS, Metric, reference as metrics_reference};
pub use routes::{PLACEMENT, Routes};
pub use run::{NodeError, Observer, Parts, run};
pub use versions::{Build, PROTOCOL_HEADER, Protocols, Versions};
