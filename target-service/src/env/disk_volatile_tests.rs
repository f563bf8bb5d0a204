//! The cache reads like a disk while the process lives, and forgets exactly what was not synced when it dies.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{Disk, SimDisk, VolatileDisk, disk::read_all};

/// What is on a disk: every file in the root, with its bytes.
fn all(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list("").unwrap().into_iter();
    names
        .map(|name| {
            let bytes = read_all(&*disk.open(&name).unwrap()).unwrap();
            (name, bytes)
        })
        .collect()
}

/// The process dies: the cache is gone, the disk below is opened by the next.
fn after_death(below: &SimDisk) -> VolatileDisk {
    VolatileDisk::open(Arc::new(below.clone())).unwrap()
}

#[test]
fn bytes_that_were_not_synced_are_gone() {
    let below = SimDisk::new();
    let disk = after_death(&below);
    let file = disk.create("x").unwrap();
    disk.sync_dir("").unwrap();
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    file.append(b" lost").unwrap();
    file.write_at(0, b"L").unwrap();
    assert_eq!(read_all(&*file).unwrap(), b"Lept lost");
    assert_eq!(all(&after_death(&below))["x"], b"kept");
}

#[test]
fn a_synced_file_without_a_synced_name_is_gone_and_leaves_nothing() {
    let below = SimDisk::new();
    let disk = after_death(&below);
    let file = disk.create("x").unwrap();
    file.append(b"bytes").unwrap();
    file.sync().unwrap();
    assert_eq!(all(&disk).len(), 1);
    let next = after_death(&below);
    assert!(all(&next).is_empty());
    assert!(next.list(".nameless").unwrap().is_empty());
}

#[test]
fn a_rename_and_a_removal_last_only_once_their_directory_is_synced() {
    let below = SimDisk::new();
    let disk = after_death(&below);
    for name in ["old", "gone"] {
        let file = disk.create(name).unwrap();
        file.append(name.as_bytes()).unwrap();
        file.sync().unwrap();
    }
    disk.sync_dir("").unwrap();
    disk.rename("old", "new").unwrap();
    disk.remove("gone").unwrap();
    assert_eq!(disk.list("").unwrap(), ["new"]);
    assert_eq!(
        all(&after_death(&below)).into_keys().collect::<Vec<_>>(),
        ["gone", "old"]
    );
    disk.sync_dir("").unwrap();
    assert_eq!(
        all(&after_death(&below)),
        BTreeMap::from([("new".to_owned(), b"old".to_vec())])
    );
}

#[test]
fn a_cut_off_end_does_not_come_back() {
    let below = SimDisk::new();
    let disk = after_death(&below);
    let file = disk.create("x").unwrap();
    disk.sync_dir("").unwrap();
    file.append(&[7; 10_000]).unwrap();
    file.sync().unwrap();
    file.truncate(5000).unwrap();
    file.truncate(9000).unwrap();
    let mut expected = vec![7; 5000];
    expected.resize(9000, 0);
    assert_eq!(read_all(&*file).unwrap(), expected);
    assert_eq!(all(&after_death(&below))["x"].len(), 10_000, "not synced");
    file.sync().unwrap();
    assert_eq!(all(&after_death(&below))["x"], expected);
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Append(u8, Vec<u8>),
    WriteAt(u8, u16, Vec<u8>),
    Truncate(u8, u16),
    Rename(u8, u8),
    Remove(u8),
    Sync(u8),
    SyncDir,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..300);
    let name = || 0..4u8;
    proptest::collection::vec(
        prop_oneof![
            name().prop_map(Step::Create),
            (name(), bytes()).prop_map(|(n, b)| Step::Append(n, b)),
            (name(), 0..10_000u16, bytes()).prop_map(|(n, at, b)| Step::WriteAt(n, at, b)),
            (name(), 0..12_000u16).prop_map(|(n, len)| Step::Truncate(n, len)),
            (name(), name()).prop_map(|(a, b)| Step::Rename(a, b)),
            name().prop_map(Step::Remove),
            name().prop_map(Step::Sync),
            Just(Step::SyncDir),
        ],
        1..60,
    )
}

/// The plainest model: a file is a number, names point at files, and each has a live and a durable version.
#[derive(Default)]
struct Model {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Create(n) => match self.live.get(&name(*n)) {
                Some(file) => self.files[*file].0.clear(),
                None => {
                    self.live.insert(name(*n), self.files.len());
                    self.files.push((Vec::new(), Vec::new()));
                }
            },
            Step::Append(n, bytes) => self.change(*n, |live| live.extend(bytes)),
            Step::WriteAt(n, at, bytes) => self.change(*n, |live| {
                let end = usize::from(*at) + bytes.len();
                live.resize(live.len().max(end), 0);
                live[usize::from(*at)..end].copy_from_slice(bytes);
            }),
            Step::Truncate(n, len) => self.change(*n, |live| live.resize(usize::from(*len), 0)),
            Step::Rename(a, b) => {
                if let Some(file) = self.live.remove(&name(*a)) {
                    self.live.insert(name(*b), file);
                }
            }
            Step::Remove(n) => {
                self.live.remove(&name(*n));
            }
            Step::Sync(n) => {
                if let Some(file) = self.live.get(&name(*n)) {
                    let (live, durable) = &mut self.files[*file];
                    durable.clone_from(live);
                }
            }
            Step::SyncDir => self.durable.clone_from(&self.live),
        }
    }

    fn change(&mut self, n: u8, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = self.live.get(&name(n)) {
            change(&mut self.files[*file].0);
        }
    }

    fn living(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.live.iter();
        names
            .map(|(name, file)| (name.clone(), self.files[*file].0.clone()))
            .collect()
    }

    fn lasting(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.durable.iter();
        names
            .map(|(name, file)| (name.clone(), self.files[*file].1.clone()))
            .collect()
    }
}

fn name(n: u8) -> String {
    format!("f{n}")
}

fn step(disk: &dyn Disk, step: &Step) {
    let open = |n: u8| disk.open(&name(n)).ok();
    match step {
        Step::Create(n) => drop(disk.create(&name(*n)).unwrap()),
        Step::Append(n, bytes) => drop(open(*n).map(|file| file.append(bytes).unwrap())),
        Step::WriteAt(n, at, bytes) => drop(open(*n).map(|file| file.write_at((*at).into(), bytes).unwrap())),
        Step::Truncate(n, len) => drop(open(*n).map(|file| file.truncate((*len).into()).unwrap())),
        Step::Rename(a, b) => assert_eq!(
            disk.exists(&name(*a)).unwrap(),
            disk.rename(&name(*a), &name(*b)).is_ok()
        ),
        Step::Remove(n) => assert_eq!(disk.exists(&name(*n)).unwrap(), disk.remove(&name(*n)).is_ok()),
        Step::Sync(n) => drop(open(*n).map(|file| file.sync().unwrap())),
        Step::SyncDir => disk.sync_dir("").unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_reads_as_written_and_keeps_what_was_synced(steps in steps()) {
        let below = SimDisk::new();
        let disk = after_death(&below);
        let mut model = Model::default();
        for taken in &steps {
            step(&disk, taken);
            model.step(taken);
        }
        prop_assert_eq!(all(&disk), model.living());
        prop_assert_eq!(all(&after_death(&below)), model.lasting());
    }
}
