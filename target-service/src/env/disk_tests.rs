//! The same bodies on the real disk, the simulated one and a cache, and what only the simulated one can do.

use std::io;

use proptest::prelude::*;

use super::{Disk, RealDisk, SimDisk, Streams, VolatileDisk, disk::read_all};

fn on_all(body: impl Fn(&dyn Disk)) {
    let dir = tempfile::tempdir().unwrap();
    body(&RealDisk::open(dir.path()).unwrap());
    body(&SimDisk::new());
    body(&VolatileDisk::open(std::sync::Arc::new(SimDisk::new())).unwrap());
}

#[test]
fn what_was_written_is_read() {
    on_all(|disk| {
        disk.create_dir("a/b").unwrap();
        let file = disk.create("a/b/x").unwrap();
        file.append(b"hello").unwrap();
        file.append(b" world").unwrap();
        file.write_at(0, b"J").unwrap();
        file.write_at(13, b"!").unwrap();
        file.sync().unwrap();
        assert_eq!(read_all(&*file).unwrap(), b"Jello world\0\0!");
        file.truncate(5).unwrap();
        assert_eq!(read_all(&*disk.open("a/b/x").unwrap()).unwrap(), b"Jello");
        file.truncate(6).unwrap();
        assert_eq!(read_all(&*file).unwrap(), b"Jello\0");
        let error = file.read_at(4, &mut [0; 9]).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("a/b/x"), "{error}");
    });
}

#[test]
fn names_are_listed_renamed_and_removed() {
    on_all(|disk| {
        disk.create_dir("d").unwrap();
        for name in ["d/2", "d/1", "top"] {
            disk.create(name).unwrap().append(name.as_bytes()).unwrap();
        }
        assert_eq!(disk.list("d").unwrap(), ["1", "2"]);
        disk.rename("d/1", "d/2").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["2"]);
        assert_eq!(read_all(&*disk.open("d/2").unwrap()).unwrap(), b"d/1");
        disk.remove("d/2").unwrap();
        disk.sync_dir("d").unwrap();
        assert!(!disk.exists("d/2").unwrap() && disk.exists("top").unwrap());
        for error in [
            disk.open("d/2").unwrap_err(),
            disk.remove("d/2").unwrap_err(),
            disk.rename("d/2", "x").unwrap_err(),
            disk.create("none/x").unwrap_err(),
            disk.list("none").unwrap_err(),
        ] {
            assert_eq!(error.source.kind(), io::ErrorKind::NotFound, "{error}");
        }
        disk.create("top").unwrap();
        assert!(disk.open("top").unwrap().is_empty().unwrap(), "create empties");
    });
}

#[test]
fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let held = RealDisk::open(dir.path()).unwrap();
    let error = RealDisk::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("folder of its own"), "{error}");
    drop(held);
    RealDisk::open(dir.path()).unwrap();
}

#[test]
fn a_name_that_was_not_synced_can_be_forgotten() {
    let mut rng = Streams::new(1).stream("power");
    let mut seen = [false, false];
    for _ in 0..32 {
        let disk = SimDisk::new();
        let file = disk.create("x").unwrap();
        file.append(b"kept").unwrap();
        file.sync().unwrap();
        disk.power_loss(&mut rng);
        seen[usize::from(disk.exists("x").unwrap())] = true;

        let disk = SimDisk::new();
        disk.create("y").unwrap();
        disk.sync_dir("").unwrap();
        disk.rename("y", "z").unwrap();
        disk.sync_dir("").unwrap();
        disk.power_loss(&mut rng);
        assert_eq!(disk.list("").unwrap(), ["z"]);
    }
    assert_eq!(seen, [true, true], "both outcomes occur");
}

#[test]
fn handles_die_with_the_machine_and_the_cache_survives_a_crash() {
    let disk = SimDisk::new();
    let attached = disk.attach();
    let file = attached.create("x").unwrap();
    file.append(b"cached").unwrap();
    disk.crash();
    assert_eq!(
        file.append(b"late").unwrap_err().source.kind(),
        io::ErrorKind::BrokenPipe
    );
    assert!(attached.open("x").is_err());
    assert_eq!(read_all(&*disk.attach().open("x").unwrap()).unwrap(), b"cached");
}

#[test]
fn a_failed_sync_loses_what_it_should_have_kept() {
    let disk = SimDisk::new();
    let file = disk.create("x").unwrap();
    disk.sync_dir("").unwrap();
    file.append(b"a").unwrap();
    disk.fail_next_sync("x");
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(read_all(&*file).unwrap(), b"a");
    disk.power_loss(&mut Streams::new(2).stream("power"));
    assert!(
        disk.open("x").unwrap().is_empty().unwrap(),
        "the later sync succeeded and lied"
    );
    assert_eq!(disk.syncs(), 1);
}

#[test]
fn a_lying_disk_loses_what_it_synced() {
    let disk = SimDisk::new();
    let file = disk.create("x").unwrap();
    disk.sync_dir("").unwrap();
    disk.set_lying(Some(""));
    let mut rng = Streams::new(4).stream("power");
    let mut lost = 0;
    for _ in 0..16 {
        file.append(b"a").unwrap();
        file.sync().unwrap();
    }
    disk.power_loss(&mut rng);
    lost += 16 - disk.open("x").unwrap().len().unwrap();
    assert!(lost > 0);
    disk.set_lying(None);
    disk.fail_next_sync("x");
    disk.disarm();
    disk.open("x").unwrap().sync().unwrap();
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let disk = SimDisk::new();
    let file = disk.create("x").unwrap();
    file.append(b"1234").unwrap();
    disk.set_capacity(Some(5));
    file.write_at(0, b"4321").unwrap();
    let error = file.append(b"56").unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    file.append(b"56").unwrap();
    assert_eq!(read_all(&*file).unwrap(), b"432156");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What was synced is there after a power loss, and every later byte is one that was written there.
    #[test]
    fn power_loss_keeps_what_was_synced(synced in 0usize..3000, unsynced in 0usize..3000, seed: u64) {
        let disk = SimDisk::new();
        let file = disk.create("x").unwrap();
        disk.sync_dir("").unwrap();
        file.append(&vec![1; synced]).unwrap();
        file.sync().unwrap();
        for chunk in vec![2; unsynced].chunks(700) {
            file.append(chunk).unwrap();
        }
        disk.power_loss(&mut Streams::new(seed).stream("power"));
        let left = read_all(&*disk.open("x").unwrap()).unwrap();
        prop_assert!(left.len() >= synced && left.len() <= synced + unsynced);
        prop_assert!(left[..synced].iter().all(|b| *b == 1));
        prop_assert!(left[synced..].iter().all(|b| *b == 2 || *b == 0));
    }
}

#[test]
fn power_that_is_cut_goes_at_the_call_that_was_named_and_takes_what_was_not_synced() {
    let disk = SimDisk::new();
    let machine = disk.attach();
    let file = machine.create("log").unwrap();
    machine.sync_dir("").unwrap();
    file.append(b"synced").unwrap();
    file.sync().unwrap();
    disk.cut_power_after(1, Streams::new(1).stream("cut"));
    file.append(b" and not").unwrap();
    let error = file.sync().unwrap_err();
    assert!(error.to_string().contains("the machine went down"), "{error}");
    assert!(machine.open("log").is_err(), "it stays down");
    let left = read_all(&*disk.attach().open("log").unwrap()).unwrap();
    assert!(left.starts_with(b"synced") && left.len() <= 14, "{left:?}");
    disk.cut_power_after(0, Streams::new(1).stream("cut"));
    disk.disarm();
    assert!(disk.attach().open("log").is_ok());
}
