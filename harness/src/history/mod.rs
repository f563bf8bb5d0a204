//! The history: everything that happened in a run, append-only, on one clock.
//!
//! Recovery figures and promises are pure functions of it, so a folder can be judged again without anything else.
//! During a run everything is written through a [`Recorder`]; afterwards [`read`] gives back the same events.
//! [`History`] is a whole one with its indexes; [`RunFacts`] is what judging needs to know of the plan.

mod announced;
mod event;
mod facts;
mod home;
mod index;
mod items;
mod membership;
mod placement;
mod reader;
mod recorder;
mod social;
mod spans;
mod stream;
#[cfg(test)]
pub(crate) mod synth;
#[cfg(test)]
mod tests;
mod view;
mod windows;
mod writer;

pub use announced::{Announced, Statement, Word};
pub use event::*;
pub use facts::{HOLD, LAG_P99_MS_MAX, LoadFacts, PHASE_OPERATIONS_MIN, RunFacts, SHED_RATIO_MAX};
pub use home::{Marks, Online, Thread, UNREAD_MAX};
pub use items::{Fate, Item, Logical};
pub use membership::{Membership, Stay};
pub use placement::{Move, MovePhase, Placement};
pub use reader::{HistoryError, ReadLimits, Recorded, fuzz_read, read, read_from, read_header};
pub use recorder::{Recorder, RecorderLimits, Subscription};
pub use social::{Answer, ChangeKind, Contact, GroupChange, Notice, Noticed, Told};
pub use spans::{EVENTS_MAX, SpanEvent, SpanRecord, SpanTracker, Trace, TraceIds, phase_name};
pub use stream::Entry;
pub use view::{Delivery, Device, DeviceEvent, History, SystemView};
pub use windows::{FaultOutcome, FaultWindow, Phases, fault_windows};

/// The file's name inside a run's folder.
pub const FILE_NAME: &str = "history.jsonl.zst";
