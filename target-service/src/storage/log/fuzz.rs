//! The log as a target of fuzzing: any bytes for a segment.

use std::sync::Arc;

use firedrill_proto::chat::v1::HardState;

use super::{Log, LogOptions, WriteBatch, frame, segment};
use crate::env::{Disk, SimDisk};

/// Opens a log whose only segment is `bytes`, then writes to it and opens it again. For fuzzing: it must not panic,
/// and what opens once must open again with what was added.
pub fn fuzz_open(bytes: &[u8]) {
    let disk = SimDisk::new();
    let planted = disk
        .create_dir("log")
        .and_then(|()| disk.create(&segment::path("log", 1)))
        .and_then(|file| file.append(bytes));
    assert!(planted.is_ok(), "the simulated disk takes any bytes");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let Ok(mut log) = Log::open(Arc::clone(&disk), "log", LogOptions::default()) else {
        return;
    };
    let state = HardState {
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

/// The same with every checksum put right: else nearly every change of a segment would end at the first of them, and
/// what lies behind would never be read.
pub fn fuzz_open_sealed(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    let mut at = 0;
    if let Some(header) = sealed.get_mut(..segment::HEADER) {
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        at = segment::HEADER;
    }
    while let Some(rest) = sealed.get_mut(at..).filter(|rest| rest.len() >= frame::HEADER) {
        let payload = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let Some(whole) = rest.get_mut(..frame::HEADER.saturating_add(payload)) else {
            break;
        };
        let crc = crc32c::crc32c(&whole[4..]);
        whole[..4].copy_from_slice(&crc.to_le_bytes());
        at += whole.len();
    }
    fuzz_open(&sealed);
}
