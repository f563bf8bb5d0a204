//! The undo journal: what a run has done to the host and not yet undone, on disk before it is done.
//!
//! Each run keeps `undo.journal` in its folder and a pointer to it in a directory of the user's, so that whoever starts
//! next finds what an earlier run left behind, even one that was killed.

pub use super::journal_file::{Journal, JournalError, Replay, read, unique_run};
pub use super::journal_pointer::{Pointer, StateDir};
pub use super::journal_record::{Act, Record, Undo};
