//! How long it took to come back: pure functions of a history.
//!
//! Operations count at the time they were *intended*: an operation meant for the middle of an outage is part of it,
//! however late its retries succeed. [`Band`] says what is normal, [`outages`] when the system was outside it,
//! [`episodes`] which clocks a fault starts, and [`rows`] puts the figures together: one row for each fault (the bursts
//! of a flap also as one whole) and for the run, per class, group of clients and system.
//!
//! Every figure carries its error bound and is never printed finer than that.

mod backlog;
mod band;
mod episode;
mod figure;
mod gaps;
mod goodput;
mod late;
mod lost;
mod outage;
mod reading;
mod recover;
mod row;
mod sample;
mod status;
#[cfg(test)]
mod tests;

pub use backlog::{owed_series, service_backlog};
pub use band::Band;
pub use episode::{Episode, RUN, episodes};
pub use figure::Figure;
pub use gaps::ClientGaps;
pub use outage::{OPERATIONS_MIN, Outage, outages};
pub use recover::{SystemRecovery, THRESHOLDS, recover, rows};
pub use row::Row;
pub use sample::{ALL_CLIENTS, Sample, classes, groups, samples};
pub use status::{back_at, sessions_series};
