//! The clients of a system under test: an open-loop load, devices that listen, probes that are never late.
//!
//! Nothing in here acts without recording. The schedule is fixed before the run; an operation is sent when it was
//! meant to be, whatever became of those before it, and is measured from when it was meant.

pub mod chat;
pub mod client;
pub mod contacts;
pub mod device;
mod doze;
mod engine;
pub mod home;
pub mod items;
mod ledger;
mod lever;
mod meter;
pub mod payload;
pub mod people;
mod release;
mod retry;
mod schedule;
mod spec;
mod stall;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use doze::Doze;
pub use lever::Lever;
pub(crate) use meter::RECENT;
pub use retry::{Budget, back_off};
pub use schedule::{Agenda, Schedule, ScheduleError};
pub use spec::{
    ContactsSpec, GroupSpec, LifeSpec, LoadSpec, ProbeSpec, RequestSpec, RetrySpec, ScheduleSpec, SignUpSpec, StepSpec,
};
pub use stall::{STALL_MIN, StallWatch};

use crate::history::Class;

/// Why a workload could not go on: what failed, with the values, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WorkloadError(pub String);

/// The clients of one system, all its loads together. The controller calls these in the order in which they stand.
///
/// Everything is recorded as it happens; what is returned is only what the controller needs to go on.
#[async_trait::async_trait]
pub trait Workload: Send + Sync {
    /// Makes what the load needs: accounts, sessions, open streams. Recorded like everything else.
    ///
    /// # Errors
    /// When the system did not let it within a bound.
    async fn prepare(&mut self) -> Result<(), WorkloadError>;

    /// Begins to send.
    ///
    /// # Errors
    /// When there is nothing to send with.
    async fn start(&mut self) -> Result<(), WorkloadError>;

    /// How it goes right now. Cheap.
    fn progress(&self) -> Progress;

    /// What can be done to its clients while they go on.
    fn lever(&self) -> Arc<Lever>;

    /// Ends the sending. Returns when every operation under way has its outcome.
    async fn stop_sending(&mut self);

    /// What the system owes: (message, device) pairs acknowledged and not yet shown, by our own model.
    fn owed(&self) -> u64;

    /// Waits until nothing is owed and all devices are current; false when `within` passed first.
    async fn drain(&mut self, within: Duration) -> bool;

    /// Ends the sessions on the system's side, so that no earlier attempt can still take effect.
    ///
    /// # Errors
    /// When it could not be confirmed: reads after it can't tell absent from late.
    async fn fence(&mut self) -> Result<(), WorkloadError>;

    /// Reads everything back from every part. What could not be read to its end is recorded as incomplete.
    async fn read_back(&mut self) -> ReadBackSummary;

    /// Closes connections and ends every task.
    async fn shut_down(&mut self);
}

/// How a read-back went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadBackSummary {
    /// Logs read to their end.
    pub complete: u64,
    /// Logs that were not.
    pub incomplete: u64,
    /// Items found.
    pub items: u64,
}

/// How a workload goes right now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// By class, those that have had traffic.
    pub classes: BTreeMap<Class, ClassProgress>,
    /// As [`Workload::owed`].
    pub owed: u64,
    /// Devices with an open stream.
    pub sessions_connected: u64,
    /// Devices.
    pub sessions_total: u64,
    /// 99th percentile of `sent - intended` of all first attempts so far, in milliseconds.
    pub lag_p99_ms: f64,
}

/// How one class goes. Totals count operations by their last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassProgress {
    /// Acknowledged.
    pub ok: u64,
    /// Surely did not happen.
    pub failed: u64,
    /// May have happened.
    pub unknown: u64,
    /// Never sent.
    pub shed: u64,
    /// Operations that ended in the last second.
    pub recent: u64,
    /// Share of those that were ok, 0 to 1; none when there were none.
    pub success: Option<f64>,
    /// 99th percentile of their response time (from intended), in milliseconds; none when none was ok.
    pub p99_ms: Option<f64>,
    /// Median, likewise.
    pub p50_ms: Option<f64>,
}
