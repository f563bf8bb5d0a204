//! The log against a model, against power loss, and against rot.

use std::{collections::BTreeMap, sync::Arc};

use firedrill_proto::chat::v1::{ConfState, HardState, LogEntry};
use proptest::prelude::*;

use super::{Log, LogOptions, WriteBatch, fuzz_open, segment};
use crate::{
    env::{Disk, RealDisk, SimDisk, Streams, read_all},
    storage::{LogReadError, StorageError},
};

const SMALL: LogOptions = LogOptions { segment_bytes: 4 << 10 };

fn open(disk: &SimDisk) -> Result<Log, StorageError> {
    Log::open(Arc::new(disk.attach()), "log", SMALL)
}

fn entry(index: u64, term: u64, size: usize) -> LogEntry {
    LogEntry {
        kind: 1,
        term,
        index,
        data: vec![u8::try_from(index % 251).unwrap(); size].into(),
        ..LogEntry::default()
    }
}

fn entries(range: std::ops::Range<u64>, term: u64, size: usize) -> Vec<LogEntry> {
    range.map(|index| entry(index, term, size)).collect()
}

fn append(log: &mut Log, shard: u32, range: std::ops::Range<u64>, term: u64) {
    let mut batch = WriteBatch::default();
    batch.entries(shard, entries(range, term, 100));
    log.append(batch).unwrap();
}

fn state(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 2, commit }
}

#[test]
fn what_was_appended_is_read_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disks: [Arc<dyn Disk>; 2] = [Arc::new(RealDisk::open(dir.path()).unwrap()), Arc::new(SimDisk::new())];
    for disk in disks {
        let mut log = Log::open(Arc::clone(&disk), "log", SMALL).unwrap();
        let members = ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        };
        let mut batch = WriteBatch::default();
        batch.entries(0, entries(1..6, 1, 10));
        batch.hard_state(0, state(1, 4));
        batch.conf_state(0, members.clone());
        batch.entries(9, entries(1..3, 4, 10));
        batch.hard_state(9, state(4, 9));
        log.append(batch).unwrap();
        append(&mut log, 0, 4..5, 2);
        for restarted in [false, true] {
            if restarted {
                log.sync().unwrap();
                assert_eq!(log.stats().syncs, 1, "one sync for all shards");
                drop(log);
                log = Log::open(Arc::clone(&disk), "log", SMALL).unwrap();
            }
            let shard = log.shard(0);
            assert_eq!(shard.initial_state(), (state(1, 4), members.clone()));
            assert_eq!(
                (shard.first_index(), shard.last_index()),
                (1, 4),
                "a rewritten entry cuts the tail"
            );
            assert_eq!((shard.term(3), shard.term(4)), (Ok(1), Ok(2)));
            assert_eq!((shard.term(0), shard.term(5)), (Ok(0), Err(LogReadError::Unavailable)));
            assert_eq!(shard.entries(2, 4, None).unwrap(), entries(2..4, 1, 10));
            assert_eq!(shard.entries(1, 4, Some(1)).unwrap().len(), 1, "at least one");
            assert_eq!(shard.entries(1, 4, Some(40)).unwrap().len(), 2);
            assert_eq!(shard.entries(3, 6, None), Err(LogReadError::Unavailable));
            assert_eq!(log.shard(9).last_index(), 2);
        }
        assert_eq!(
            log.shard(9).initial_state().0.commit,
            2,
            "a commit index beyond the log is clamped on opening"
        );
    }
}

#[test]
fn what_does_not_follow_is_refused_whole() {
    let mut log = open(&SimDisk::new()).unwrap();
    append(&mut log, 1, 1..4, 1);
    for bad in [
        entries(5..6, 1, 1),
        entries(0..1, 1, 1),
        vec![entry(4, 1, 1), entry(6, 1, 1)],
        vec![entry(4, 1, 65 << 20)],
    ] {
        let mut batch = WriteBatch::default();
        batch.hard_state(0, state(9, 0));
        batch.entries(1, bad);
        assert!(matches!(log.append(batch), Err(StorageError::Misuse { shard: 1, .. })));
        assert_eq!(log.shard(0).initial_state().0.term, 0, "nothing of the batch was taken");
    }
    assert!(matches!(log.release(1, 4), Err(StorageError::Misuse { .. })));
    append(&mut log, 1, 4..5, 1);
}

#[test]
fn released_segments_go_and_nothing_else_does() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    let mut batch = WriteBatch::default();
    batch.entries(7, entries(1..3, 1, 10));
    batch.hard_state(7, state(1, 2));
    log.append(batch).unwrap();
    for i in 0..20 {
        append(&mut log, 0, 1 + i * 20..1 + (i + 1) * 20, 1);
        log.sync().unwrap();
    }
    let before = log.stats();
    assert!(before.segments > 5, "{before:?}");
    log.release(0, 390).unwrap();
    log.sync().unwrap();
    assert_eq!(log.stats().segments, before.segments, "shard 7 still needs the first");
    assert_eq!(log.holding_back(3), [7]);
    log.release(7, 2).unwrap();
    log.sync().unwrap();
    assert_eq!(log.stats().segments, 2);
    assert!(log.holding_back(3).is_empty());
    assert_eq!(disk.list("log").unwrap().len(), 2);

    disk.power_loss(&mut Streams::new(3).stream("power"));
    let mut log = open(&disk).unwrap();
    let (zero, seven) = (log.shard(0), log.shard(7));
    assert_eq!((zero.base(), zero.last_index()), ((390, 1), 400));
    assert_eq!(zero.entries(391, 401, None).unwrap(), entries(391..401, 1, 100));
    assert_eq!(zero.entries(390, 401, None), Err(LogReadError::Compacted));
    assert_eq!((seven.base(), seven.last_index()), ((2, 1), 2));
    assert_eq!(seven.initial_state().0, state(1, 2));
}

#[test]
fn entries_that_can_not_be_released_do_not_keep_the_log_of_others() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 1, 1..4, 1);
    for round in 0..20 {
        append(&mut log, 0, round * 40 + 1..round * 40 + 41, 1);
        log.release(0, round * 40 + 40).unwrap();
        log.sync().unwrap();
    }
    assert!(log.stats().segments > 15, "shard 1 holds them: {:?}", log.stats());
    assert!(log.carry_forward(1).unwrap());
    log.sync().unwrap();
    assert!(log.stats().segments <= 2, "{:?}", log.stats());
    disk.power_loss(&mut Streams::new(1).stream("power"));
    assert_eq!(
        open(&disk).unwrap().shard(1).entries(1, 4, None).unwrap(),
        entries(1..4, 1, 100)
    );
}

#[test]
fn a_snapshot_replaces_the_log() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 0, 1..10, 1);
    let members = ConfState {
        voters: vec![5],
        ..ConfState::default()
    };
    let mut batch = WriteBatch::default();
    batch.snapshot(0, 100, 3, members.clone());
    batch.entries(0, entries(101..103, 3, 5));
    log.append(batch).unwrap();
    log.sync().unwrap();
    drop(log);
    let mut log = open(&disk).unwrap();
    let shard = log.shard(0);
    assert_eq!((shard.base(), shard.last_index()), ((100, 3), 102));
    assert_eq!(
        shard.initial_state(),
        (
            HardState {
                commit: 100,
                ..HardState::default()
            },
            members
        )
    );
    let mut older = WriteBatch::default();
    older.snapshot(0, 50, 3, ConfState::default());
    assert!(log.append(older).is_err());
}

#[test]
fn a_failed_write_or_sync_is_final() {
    for sync_fails in [true, false] {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 0, 1..3, 1);
        if sync_fails {
            disk.fail_next_sync("log/");
        } else {
            disk.set_capacity(Some(50));
        }
        assert!(matches!(log.sync(), Err(StorageError::Fatal { .. })));
        disk.set_capacity(None);
        for again in [
            log.sync(),
            log.flush(),
            log.release(0, 1),
            log.append(WriteBatch::default()),
        ] {
            let error = again.unwrap_err().to_string();
            assert!(error.contains("log/"), "names the file: {error}");
        }
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_made_durable_or_forgotten() {
    for seed in 0..16 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 0, 1..3, 1);
        log.sync().unwrap();
        append(&mut log, 0, 3..5, 1);
        disk.fail_next_sync("log/");
        log.sync().unwrap_err();
        // The process ends and starts again; the machine stays up, and its cache still has what was never written.
        disk.crash();
        let mut log = open(&disk).unwrap();
        let found = log.shard(0).last_index();
        append(&mut log, 0, found + 1..found + 3, 2);
        log.sync().unwrap();
        disk.power_loss(&mut Streams::new(seed).stream("power"));
        assert_eq!(open(&disk).unwrap().shard(0).last_index(), found + 2);
    }
}

#[test]
fn a_lost_or_shortened_segment_is_refused() {
    let build = || {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        for i in 0..6 {
            append(&mut log, 0, 1 + i * 20..1 + (i + 1) * 20, 1);
            log.sync().unwrap();
        }
        disk
    };
    let disk = build();
    disk.remove(&segment::path("log", 2)).unwrap();
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.contains("segment 2 is missing"), "{error}");
    let disk = build();
    disk.remove(&segment::path("log", 1)).unwrap();
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.contains("lacks the entries from 1 to"), "{error}");
    let disk = build();
    disk.open(&segment::path("log", 1)).unwrap().truncate(32).unwrap();
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.contains("000001.wal had"), "{error}");
}

/// Three segments; the last has frames that were durable before later ones were written.
fn three_segments() -> SimDisk {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    let mut next = 1;
    while log.stats().segments < 3 || log.stats().bytes % 4096 < 1500 {
        let mut batch = WriteBatch::default();
        batch.entries(0, entries(next..next + 3, 1, 90));
        batch.hard_state(0, state(1, next));
        log.append(batch).unwrap();
        log.sync().unwrap();
        next += 3;
    }
    disk
}

#[test]
fn rot_in_any_byte_of_a_middle_segment_is_refused_with_file_and_offset() {
    let disk = three_segments();
    let file = segment::path("log", 2);
    let len = disk.open(&file).unwrap().len().unwrap();
    assert!(len > 4096);
    for at in 0..len {
        disk.flip(&file, at, 1 << (at % 8)).unwrap();
        match open(&disk) {
            Err(StorageError::Corrupt {
                file: named, offset, ..
            }) => {
                assert_eq!(named, file);
                assert!(
                    offset <= at && at < offset + 500,
                    "damage at {at} was reported at {offset}"
                );
            }
            other => panic!("damage at byte {at} went unnoticed: {other:?}"),
        }
        disk.flip(&file, at, 1 << (at % 8)).unwrap();
    }
    open(&disk).unwrap();
}

#[test]
fn rot_in_the_last_segment_is_not_taken_for_a_torn_tail() {
    let disk = three_segments();
    let file = segment::path("log", 3);
    let bytes = read_all(&*disk.open(&file).unwrap()).unwrap();
    let whole = open(&disk).unwrap().shard(0).last_index();
    let mut refused = 0;
    for at in 0..bytes.len() as u64 {
        disk.flip(&file, at, 0x10).unwrap();
        match open(&disk) {
            Err(StorageError::Corrupt { file: named, .. }) => {
                assert_eq!(named, file);
                refused += 1;
                disk.flip(&file, at, 0x10).unwrap();
            }
            Err(other) => panic!("{other}"),
            // Without a frame behind it the last write can't be told from one that was never finished.
            Ok(mut log) => {
                assert_eq!(log.shard(0).last_index(), whole - 3, "only the last write is cut off");
                let file = disk.create(&file).unwrap();
                file.append(&bytes).unwrap();
                file.sync().unwrap();
            }
        }
    }
    assert!(refused > bytes.len() / 2, "{refused} of {}", bytes.len());
}

#[test]
fn noise_does_not_panic() {
    let disk = three_segments();
    let bytes = read_all(&*disk.open(&segment::path("log", 1)).unwrap()).unwrap();
    fuzz_open(&[]);
    fuzz_open(&bytes);
    for at in (0..bytes.len()).step_by(3) {
        fuzz_open(&bytes[..at]);
        let mut noisy = bytes.clone();
        noisy[at] ^= 0xff;
        fuzz_open(&noisy);
    }
}

/// What a node does to its log.
#[derive(Clone, Debug)]
enum Op {
    Append {
        shard: u32,
        back: u64,
        count: u64,
        size: usize,
    },
    HardState {
        shard: u32,
        term: u64,
    },
    Release {
        shard: u32,
        keep: u64,
    },
    Snapshot {
        shard: u32,
        ahead: u64,
    },
    Carry {
        shard: u32,
    },
    Flush,
    Sync,
    FailSync,
    Crash,
    PowerLoss,
}

fn op() -> impl Strategy<Value = Op> {
    let shard = 0u32..3;
    prop_oneof![
        8 => (shard.clone(), 0u64..3, 1u64..8, 0usize..900)
            .prop_map(|(shard, back, count, size)| Op::Append { shard, back, count, size }),
        3 => (shard.clone(), 1u64..1000).prop_map(|(shard, term)| Op::HardState { shard, term }),
        2 => (shard.clone(), 0u64..6).prop_map(|(shard, keep)| Op::Release { shard, keep }),
        1 => (shard.clone(), 1u64..20).prop_map(|(shard, ahead)| Op::Snapshot { shard, ahead }),
        2 => shard.prop_map(|shard| Op::Carry { shard }),
        1 => Just(Op::Flush),
        6 => Just(Op::Sync),
        1 => Just(Op::FailSync),
        1 => Just(Op::Crash),
        2 => Just(Op::PowerLoss),
    ]
}

/// What one shard's log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    term: u64,
    base: (u64, u64),
    entries: BTreeMap<u64, LogEntry>,
}

impl Model {
    fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.base.0)
    }

    fn read(log: &mut Log, shard: u32) -> Self {
        let log = log.shard(shard);
        let all = log.entries(log.first_index(), log.last_index() + 1, None).unwrap();
        Self {
            term: log.initial_state().0.term,
            base: log.base(),
            entries: all.into_iter().map(|e| (e.index, e)).collect(),
        }
    }
}

/// Applies one operation to the log and returns the state after each record that it wrote.
fn step(log: &mut Log, models: &mut [Model; 3], op: &Op, serial: u64) -> Vec<[Model; 3]> {
    let mut batch = WriteBatch::default();
    match *op {
        Op::Append {
            shard,
            back,
            count,
            size,
        } => {
            let model = &mut models[shard as usize];
            let first = (model.last() + 1).saturating_sub(back).max(model.base.0 + 1);
            let new = entries(first..first + count, serial, size);
            model.entries.split_off(&first);
            model.entries.extend(new.iter().map(|e| (e.index, e.clone())));
            batch.entries(shard, new);
        }
        Op::HardState { shard, term } => {
            models[shard as usize].term = term;
            batch.hard_state(shard, state(term, 0));
        }
        Op::Snapshot { shard, ahead } => {
            let model = &mut models[shard as usize];
            model.base = (model.last() + ahead, serial);
            model.entries.clear();
            batch.snapshot(shard, model.base.0, serial, ConfState::default());
        }
        Op::Release { shard, keep } => {
            let model = &mut models[shard as usize];
            let index = model.last().saturating_sub(keep);
            log.release(shard, index).unwrap();
            if index > model.base.0 {
                model.base = (index, model.entries[&index].term);
                model.entries = model.entries.split_off(&(index + 1));
            }
        }
        Op::Carry { shard } => assert!(log.carry_forward(shard).unwrap()),
        Op::Flush | Op::Sync | Op::FailSync | Op::Crash | Op::PowerLoss => return Vec::new(),
    }
    log.append(batch).unwrap();
    vec![models.clone()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Everything synced survives, nothing is invented, order is kept: after a crash the log is one of the states that
    /// it went through since its last sync.
    #[test]
    fn recovery_is_a_state_since_the_last_sync(ops in proptest::collection::vec(op(), 1..80), seed: u64) {
        let disk = SimDisk::new();
        let mut rng = Streams::new(seed).stream("power");
        let mut log = open(&disk).unwrap();
        let mut models: [Model; 3] = Default::default();
        let mut possible = vec![models.clone()];
        for (serial, op) in (1..).zip(&ops) {
            match op {
                Op::Flush => log.flush().unwrap(),
                Op::Sync => {
                    log.sync().unwrap();
                    possible = vec![models.clone()];
                }
                Op::Crash | Op::PowerLoss | Op::FailSync => {
                    if matches!(op, Op::FailSync) {
                        disk.fail_next_sync("log/");
                        if log.sync().is_ok() {
                            possible = vec![models.clone()];
                        }
                        disk.disarm();
                    }
                    if !matches!(op, Op::PowerLoss) {
                        disk.crash();
                    } else {
                        disk.power_loss(&mut rng);
                    }
                    log = open(&disk).unwrap();
                    let mut shards = (0..3).map(|shard| Model::read(&mut log, shard));
                    let found: [Model; 3] = std::array::from_fn(|_| shards.next().unwrap());
                    prop_assert!(possible.contains(&found), "{found:?} is none of {possible:?}");
                    models.clone_from(&found);
                    possible = vec![found];
                }
                _ => possible.extend(step(&mut log, &mut models, op, serial)),
            }
            for shard in 0..3 {
                prop_assert_eq!(&Model::read(&mut log, shard), &models[shard as usize]);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_open(&bytes);
        // Behind a sound header, so that frames are reached.
        let header = segment::Header { sequence: 1, previous_len: 0, prelude_len: 0 };
        fuzz_open(&[&header.to_bytes()[..], &bytes].concat());
        let mut framed = header.to_bytes().to_vec();
        super::frame::write(&mut framed, 0, 0, bytes.first().map_or(3, |b| b % 7 + 1), &bytes);
        fuzz_open(&framed);
    }
}

#[test]
fn a_forgotten_shard_keeps_its_vote_and_no_segment() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    for index in (1..200).step_by(10) {
        append(&mut log, 0, index..index + 10, 3);
        log.sync().unwrap();
    }
    let mut batch = WriteBatch::default();
    batch.hard_state(0, state(3, 150));
    log.append(batch).unwrap();
    log.sync().unwrap();
    assert!(log.stats().segments > 2, "its entries fill segments");
    log.forget(0).unwrap();
    log.sync().unwrap();
    let check = |log: &mut Log| {
        let shard = log.shard(0);
        assert_eq!((shard.base(), shard.last_index(), shard.bytes()), ((0, 0), 0, 0));
        let (hard, members) = shard.initial_state();
        assert_eq!((hard, members), (state(3, 0), ConfState::default()));
        assert!(log.holding_back(0).is_empty(), "nothing of it keeps a segment");
    };
    check(&mut log);
    drop(log);
    let mut log = open(&disk).unwrap();
    check(&mut log);
    // It may come back, and begins with its first entry.
    append(&mut log, 0, 1..5, 7);
    log.sync().unwrap();
    drop(log);
    assert_eq!(open(&disk).unwrap().shard(0).last_index(), 4);
}
