//! Crashes between checkpoints, snapshots, and bytes that are not what they should be.

use firedrill_proto::chat::v1::Command;

use super::{
    model::{Driver, Step},
    support::{ForgetfulDisk, Shard, memory, open, send},
};
use crate::chat::{ChatError, Committed, Machine};

/// A log of a few hundred commands of every kind.
fn long_log() -> Vec<Committed> {
    let mut driver = Driver::new();
    for n in 0..400u32 {
        driver.step(&Step::numbered(n));
    }
    driver.shard.log
}

fn applied_in_one(log: &[Committed]) -> Machine {
    let mut machine = Machine::open(memory(), 0, 1).unwrap();
    machine.apply(log).unwrap();
    machine
}

#[test]
fn a_power_loss_falls_back_to_the_last_checkpoint_and_the_log_brings_the_rest() {
    let log = long_log();
    let want = applied_in_one(&log).digest().unwrap();
    for (checkpoint, lost_at) in [(0, 10), (1, log.len()), (57, 200), (200, 201), (300, 300)] {
        let disk = ForgetfulDisk::default();
        let mut machine = Machine::open(disk.database(), 0, 1).unwrap();
        for entry in &log[..checkpoint] {
            machine.apply(std::slice::from_ref(entry)).unwrap();
        }
        assert_eq!(machine.checkpoint().unwrap(), checkpoint as u64);
        for batch in log[checkpoint..lost_at].chunks(7) {
            machine.apply(batch).unwrap();
        }
        let left = disk.after_power_loss();
        drop(machine);
        let mut machine = Machine::open(left.database(), 0, 1).unwrap();
        assert_eq!(machine.applied().0, checkpoint as u64, "nothing unsynced survives");
        machine.apply(&log[checkpoint..]).unwrap();
        assert_eq!(machine.digest().unwrap(), want);
    }
}

#[test]
fn a_snapshot_carries_everything_and_survives_a_power_loss_once_installed() {
    let log = long_log();
    let (past, future) = log.split_at(250);
    let mut machine = applied_in_one(past);
    let snapshot = machine.snapshot().unwrap();

    let disk = ForgetfulDisk::default();
    let mut other = Machine::open(disk.database(), 0, 1).unwrap();
    other.apply(&past[..100]).unwrap();
    other.install(250, 1, &snapshot).unwrap();
    assert_eq!(other.digest().unwrap(), machine.digest().unwrap());
    assert_eq!(other.snapshot().unwrap(), snapshot);
    assert_eq!(other.counts(), machine.counts());

    let left = disk.after_power_loss();
    drop(other);
    let mut other = Machine::open(left.database(), 0, 1).unwrap();
    assert_eq!(other.applied(), (250, 1));
    assert_eq!(other.apply(future).unwrap(), machine.apply(future).unwrap());
    assert_eq!(other.digest().unwrap(), machine.digest().unwrap());
}

#[test]
fn a_snapshot_that_is_written_in_parts_is_of_the_moment_in_which_it_began() {
    let log = long_log();
    let (past, future) = log.split_at(250);
    let mut machine = applied_in_one(past);
    let want = machine.snapshot().unwrap();
    let mut building = machine.begin_snapshot().unwrap();
    let mut future = future.iter();
    let mut steps = 0;
    let whole = loop {
        // Each step writes a little, and the state goes on in between.
        if let Some(whole) = building.step(300).unwrap() {
            break whole;
        }
        if let Some(entry) = future.next() {
            machine.apply(std::slice::from_ref(entry)).unwrap();
        }
        steps += 1;
    };
    assert!(steps > 20, "{steps} steps");
    assert_eq!(building.as_of(), (250, 1));
    assert!(whole == want && machine.snapshot().unwrap() != want);
}

#[test]
fn a_damaged_or_foreign_snapshot_changes_nothing() {
    let log = long_log();
    let snapshot = applied_in_one(&log[..60]).snapshot().unwrap();
    let mut machine = applied_in_one(&log[..10]);
    let before = machine.digest().unwrap();
    for at in 0..snapshot.len() {
        let mut damaged = snapshot.to_vec();
        damaged[at] ^= 1;
        assert!(machine.install(60, 1, &damaged).is_err(), "byte {at}");
    }
    for len in 0..snapshot.len() {
        assert!(machine.install(60, 1, &snapshot[..len]).is_err(), "cut at {len}");
    }
    assert!(machine.install(61, 1, &snapshot).is_err(), "another index");
    assert!(machine.install(60, 2, &snapshot).is_err(), "another term");
    let elsewhere = Machine::open(memory(), 0, 2).unwrap().snapshot().unwrap();
    assert!(matches!(
        machine.install(0, 0, &elsewhere),
        Err(ChatError::Foreign { .. })
    ));
    let older = applied_in_one(&log[..5]).snapshot().unwrap();
    assert!(matches!(machine.install(5, 1, &older), Err(ChatError::Snapshot { .. })));
    assert_eq!(machine.digest().unwrap(), before);
    machine.install(60, 1, &snapshot).unwrap();
    assert_ne!(machine.digest().unwrap(), before);
}

#[test]
fn a_database_of_another_shard_is_refused() {
    let disk = ForgetfulDisk::default();
    drop(Machine::open(disk.database(), 1, 4).unwrap());
    for (shard, shards) in [(0, 4), (1, 5)] {
        let error = Machine::open(disk.database(), shard, shards).unwrap_err();
        assert!(matches!(error, ChatError::Foreign { .. }), "{error}");
    }
    assert_eq!(Machine::open(disk.database(), 1, 4).unwrap().shard(), 1);
}

#[test]
fn the_digest_sees_a_difference_of_one_byte() {
    let digest = |body: &str| {
        let mut shard = Shard::alone();
        let ann = shard.user("1111111");
        let bob = shard.user("2222222");
        let session = shard.session(ann, 1, 1);
        shard.run(send((ann, 1, session), bob, 1, body));
        shard.machine.digest().unwrap()
    };
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
    let mut one = Shard::alone();
    let before = one.machine.digest().unwrap();
    let command = Some(Command::default());
    let entry = Committed {
        index: 1,
        term: 1,
        command,
    };
    one.machine.apply(&[entry]).unwrap();
    assert_ne!(one.machine.digest().unwrap(), before, "the applied index counts");
    one.run(open(1, 1, 1));
}
