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
mod record;
mod replay;
mod segment;
mod shard;
#[cfg(test)]
mod tests;
mod wal;

pub use record::WriteBatch;
pub use shard::ShardLog;
pub use wal::{Log, LogOptions, LogStats};

/// Opens a log whose only segment is `bytes`, then writes to it and opens it again. For fuzzing: it must not panic,
/// and what opens once must open again with what was added.
#[doc(hidden)]
pub fn fuzz_open(bytes: &[u8]) {
    use crate::env::{Disk as _, SimDisk};
    use std::sync::Arc;

    let disk = SimDisk::new();
    let planted = disk
        .create_dir("log")
        .and_then(|()| disk.create(&segment::path("log", 1)))
        .and_then(|file| file.append(bytes));
    assert!(planted.is_ok(), "the simulated disk takes any bytes");
    let disk: Arc<dyn crate::env::Disk> = Arc::new(disk);
    let Ok(mut log) = Log::open(Arc::clone(&disk), "log", LogOptions::default()) else {
        return;
    };
    let state = firedrill_proto::chat::v1::HardState {
        term: 7,
        vote: 1,
        commit: 0,
    };
    let mut batch = WriteBatch::default();
    batch.hard_state(u32::MAX, state);
    let written = log.append(batch).and_then(|()| log.sync());
    assert!(written.is_ok(), "{written:?}");
    drop(log);
    let mut again = Log::open(disk, "log", LogOptions::default()).expect("a log that was opened opens again");
    assert_eq!(again.shard(u32::MAX).initial_state().0.term, 7);
}
