//! The write-ahead log: one per node, shared by all its shards, in segments.
//!
//! ```text
//! segment  = header prelude frame*
//! header   = magic version sequence previous_len prelude_len crc32c
//! prelude  = frames with every shard's hard state, membership and base as of the rotation
//! frame    = crc32c len durable shard kind payload
//! ```
//! All integers are little-endian. A new segment is written with its prelude under a temporary name, synced and then
//! renamed, so that a segment by its proper name is whole up to the end of its prelude. It is only made once all
//! before it is durable: only the last segment can have a torn tail, and the earlier ones can be removed as soon as
//! their entries are released, since the prelude repeats whatever else they hold.
//!
//! `durable` is how much of its segment had been synced when the frame was written. Damage in the last segment with a
//! valid frame behind it that says so was durable once: that is corruption, and refused. Damage without such a witness
//! is what a power loss leaves of writes that nobody was told of, and is cut off.

mod frame;
mod fuzz;
mod record;
mod replay;
mod segment;
mod shard;
#[cfg(test)]
mod tests;
mod wal;

#[doc(hidden)]
pub use fuzz::{fuzz_open, fuzz_open_sealed};
pub use record::WriteBatch;
pub use shard::ShardLog;
pub use wal::{Log, LogOptions, LogStats};
