//! What is known of a fault that lasts, or is about to.

use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

use crate::base::Nanos;
use crate::fault::scene::Resolved;

/// A fault that lasts, or is about to.
pub(super) struct Lasting {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) resolved: Resolved,
    pub(super) needs: Vec<String>,
    /// From when the oldest word is that it was resolved by, and that says what it takes away.
    pub(super) aimed: AtomicU64,
    pub(super) seq: u64,
    pub(super) expires: Nanos,
    /// Becomes true when the flap's remaining bursts are not to come.
    pub(super) cancel: watch::Sender<bool>,
    /// Held while it is applied and while it is undone.
    pub(super) stage: tokio::sync::Mutex<Stage>,
    /// Becomes true when it has ended, by itself or by a heal.
    pub(super) over: watch::Sender<bool>,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Armed,
    Applied,
    Undone,
}
