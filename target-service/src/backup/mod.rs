//! Copies of a cluster in a folder, taken while it serves, and the way back from them.
//!
//! A copy of a shard is its state as of one moment (`snapshot`) and the entries that were applied behind it (`tail`, in
//! `tail.rs`), written by `writer.rs` a part at a time and within a rate; the manifest (`manifest.rs`) comes last, whole or not
//! at all, so a folder without one is no backup.
//!
//! States of different shards are copied at different moments of their histories, and items go from one shard to another
//! through outboxes. A state that has accepted an item which its sender's copy never posted would later take the sender's next
//! item, under the same number, for that one; a state that has forgotten an item which its recipient's copy never got would
//! have lost it. So the tails say how far each outbox was posted, accepted and trimmed, and the way back goes along the tails
//! to the latest points that fit together (`cut.rs`). Such points exist once each tail has come to where its shard was when the
//! last copy began: nothing that had happened by then can depend on what is missing.
//!
//! The way back is `node/restore.rs`: it makes an empty folder that of a founder who has just applied all this.

pub mod cut;
mod manifest;
pub(crate) mod tail;
mod writer;

pub use manifest::{Manifest, ManifestError, Part};
pub use tail::{Batch, Marks};
pub use writer::{Phase, Writer, WriterError};
