//! The disk compared with a simple one, through random operations and a power loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    path::Path,
    time::SystemTime,
};

use nix::errno::Errno;
use proptest::prelude::*;

use super::{
    names::{Ino, ROOT},
    node::Kind,
    power::{Disk, PowerLoss},
    volatile::{Maker, Unsynced, Volatile},
};

const MAKER: Maker = Maker {
    mode: 0o644,
    uid: 0,
    gid: 0,
};

/// The disk over `below`, as after its power came back.
fn disk(below: &Path, honest: bool) -> Volatile {
    let mut disk = Volatile::empty(below.to_owned(), honest, || SystemTime::UNIX_EPOCH);
    disk.scan().unwrap();
    disk
}

fn all_of(disk: &mut Volatile, ino: Ino) -> Vec<u8> {
    disk.read(ino, 0, 1 << 20).unwrap()
}

fn name(number: u8) -> OsString {
    format!("f{number}").into()
}

#[derive(Clone, Debug)]
enum Op {
    Make(u8),
    Write(u8, u64, usize, u8),
    Truncate(u8, u64),
    Extend(u8, u64),
    Zero(u8, u64, u64),
    Rename(u8, u8),
    Link(u8, u8),
    Unlink(u8),
    Sync(u8),
    SyncFolder,
}

fn op() -> impl Strategy<Value = Op> {
    let file = || 0u8..5;
    let at = || 0u64..300;
    prop_oneof![
        4 => file().prop_map(Op::Make),
        8 => (file(), at(), 1usize..120, any::<u8>()).prop_map(|(f, at, len, byte)| Op::Write(f, at, len, byte)),
        2 => (file(), at()).prop_map(|(f, len)| Op::Truncate(f, len)),
        1 => (file(), at()).prop_map(|(f, len)| Op::Extend(f, len)),
        2 => (file(), at(), at()).prop_map(|(f, a, b)| Op::Zero(f, a.min(b), a.max(b))),
        2 => (file(), file()).prop_map(|(a, b)| Op::Rename(a, b)),
        1 => (file(), file()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => file().prop_map(Op::Unlink),
        4 => file().prop_map(Op::Sync),
        1 => Just(Op::SyncFolder),
    ]
}

/// A disk with one folder, so plain that it can be seen to be right: it keeps everything that ever was.
#[derive(Default)]
struct Plain {
    names: BTreeMap<u8, usize>,
    /// What each file holds now, and at its last fsync.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// The names after each change of them, and the files that it was about.
    changes: Vec<(BTreeMap<u8, usize>, BTreeSet<usize>)>,
    /// How many of the changes are durable.
    durable: usize,
}

impl Plain {
    fn changed(&mut self, files: impl IntoIterator<Item = usize>) {
        self.changes.push((self.names.clone(), files.into_iter().collect()));
    }

    fn apply(&mut self, op: &Op) -> Result<(), Errno> {
        let file = |names: &BTreeMap<u8, usize>, name: &u8| names.get(name).copied().ok_or(Errno::ENOENT);
        match op {
            Op::Make(name) => {
                if self.names.contains_key(name) {
                    return Err(Errno::EEXIST);
                }
                self.files.push(Default::default());
                let file = self.files.len() - 1;
                self.names.insert(*name, file);
                self.changed([file]);
            }
            Op::Write(name, at, len, byte) => {
                let bytes = &mut self.files[file(&self.names, name)?].0;
                let at = usize::try_from(*at).unwrap();
                bytes.resize(bytes.len().max(at + len), 0);
                bytes[at..at + len].fill(*byte);
            }
            Op::Truncate(name, len) => {
                let len = usize::try_from(*len).unwrap();
                self.files[file(&self.names, name)?].0.resize(len, 0);
            }
            Op::Extend(name, len) => {
                let bytes = &mut self.files[file(&self.names, name)?].0;
                let len = usize::try_from(*len).unwrap().max(bytes.len());
                bytes.resize(len, 0);
            }
            Op::Zero(name, from, to) => {
                let bytes = &mut self.files[file(&self.names, name)?].0;
                let to = usize::try_from(*to).unwrap().min(bytes.len());
                let from = usize::try_from(*from).unwrap().min(to);
                bytes[from..to].fill(0);
            }
            Op::Rename(from, to) => {
                let moved = file(&self.names, from)?;
                let over = self.names.get(to).copied();
                if over != Some(moved) {
                    self.names.remove(from);
                    self.names.insert(*to, moved);
                    self.changed([moved].into_iter().chain(over));
                }
            }
            Op::Link(from, to) => {
                let linked = file(&self.names, from)?;
                if self.names.contains_key(to) {
                    return Err(Errno::EEXIST);
                }
                self.names.insert(*to, linked);
                self.changed([linked]);
            }
            Op::Unlink(name) => {
                let gone = file(&self.names, name)?;
                self.names.remove(name);
                self.changed([gone]);
            }
            Op::Sync(name) => {
                let synced = file(&self.names, name)?;
                let last = self.changes.iter().rposition(|(_, files)| files.contains(&synced));
                self.durable = self.durable.max(last.map_or(0, |last| last + 1));
                let (now, durable) = &mut self.files[synced];
                durable.clone_from(now);
            }
            Op::SyncFolder => self.durable = self.changes.len(),
        }
        Ok(())
    }

    /// What is there after a power loss.
    fn left(&self) -> BTreeMap<OsString, Vec<u8>> {
        let Some(last) = self.durable.checked_sub(1) else {
            return BTreeMap::new();
        };
        let names = &self.changes[last].0;
        names
            .iter()
            .map(|(number, file)| (name(*number), self.files[*file].1.clone()))
            .collect()
    }

    fn now(&self) -> BTreeMap<OsString, Vec<u8>> {
        self.names
            .iter()
            .map(|(number, file)| (name(*number), self.files[*file].0.clone()))
            .collect()
    }
}

fn apply(disk: &mut Volatile, op: &Op) -> Result<(), Errno> {
    let find = |disk: &Volatile, number: &u8| disk.find(ROOT, &name(*number));
    match op {
        Op::Make(file) => disk.make_file(ROOT, &name(*file), MAKER).map(|_| ()),
        Op::Write(file, at, len, byte) => {
            let ino = find(disk, file)?;
            disk.write(ino, *at, &vec![*byte; *len])
        }
        Op::Truncate(file, len) => {
            let ino = find(disk, file)?;
            let len = Some(*len);
            disk.set(
                ino,
                super::volatile::Set {
                    len,
                    ..Default::default()
                },
            )
        }
        Op::Extend(file, len) => {
            let ino = find(disk, file)?;
            disk.extend(ino, *len)
        }
        Op::Zero(file, from, to) => {
            let ino = find(disk, file)?;
            disk.zero(ino, *from, *to)
        }
        Op::Rename(from, to) => disk.rename((ROOT, &name(*from)), (ROOT, &name(*to)), false),
        Op::Link(from, to) => {
            let ino = find(disk, from)?;
            disk.link(ino, ROOT, &name(*to))
        }
        Op::Unlink(file) => disk.unlink(ROOT, &name(*file)),
        Op::Sync(file) => {
            let ino = find(disk, file)?;
            disk.sync(ino).map(|_| ())
        }
        Op::SyncFolder => disk.sync(ROOT).map(|_| ()),
    }
}

fn now(disk: &mut Volatile) -> BTreeMap<OsString, Vec<u8>> {
    let entries = disk.entries(ROOT).unwrap().clone();
    entries
        .into_iter()
        .map(|(name, ino)| (name, all_of(disk, ino)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_power_loss_takes_what_was_not_synced_and_nothing_else(ops in prop::collection::vec(op(), 1..60)) {
        let below = tempfile::tempdir().unwrap();
        let mut own = disk(below.path(), true);
        let mut plain = Plain::default();
        for op in &ops {
            prop_assert_eq!(apply(&mut own, op), plain.apply(op), "{:?}", op);
            prop_assert_eq!(now(&mut own), plain.now(), "unsynced writes are seen: {:?}", op);
        }
        let unsynced = own.unsynced();
        if plain.now() != plain.left() {
            prop_assert_ne!(unsynced, Unsynced::default());
        }
        drop(own);
        let mut after = disk(below.path(), true);
        prop_assert_eq!(now(&mut after), plain.left());
        prop_assert_eq!(after.unsynced(), Unsynced::default());
    }

    #[test]
    fn a_disk_that_lies_loses_everything(ops in prop::collection::vec(op(), 1..40)) {
        let below = tempfile::tempdir().unwrap();
        fs::write(below.path().join("f9"), "before").unwrap();
        let mut own = disk(below.path(), false);
        let mut plain = Plain::default();
        for op in &ops {
            prop_assert_eq!(apply(&mut own, op), plain.apply(op), "{:?}", op);
        }
        drop(own);
        let left = now(&mut disk(below.path(), false));
        prop_assert_eq!(left, BTreeMap::from([(name(9), b"before".to_vec())]));
    }
}

fn put(disk: &mut Volatile, folder: Ino, name: &str, bytes: &[u8]) -> Ino {
    let ino = disk.make_file(folder, OsStr::new(name), MAKER).unwrap();
    disk.write(ino, 0, bytes).unwrap();
    ino
}

#[test]
fn an_fsync_of_a_new_file_takes_its_folders_along_and_not_what_lies_beside_them() {
    let below = tempfile::tempdir().unwrap();
    let mut own = disk(below.path(), true);
    let a = own.make_folder(ROOT, OsStr::new("a"), MAKER).unwrap();
    let b = own.make_folder(a, OsStr::new("b"), MAKER).unwrap();
    let file = put(&mut own, b, "file", b"kept");
    own.make_folder(ROOT, OsStr::new("later"), MAKER).unwrap();
    put(&mut own, b, "later", b"lost");
    own.sync(file).unwrap();
    drop(own);
    assert_eq!(fs::read(below.path().join("a/b/file")).unwrap(), b"kept");
    assert!(!below.path().join("later").exists());
    assert!(!below.path().join("a/b/later").exists());
}

#[test]
fn a_file_that_was_renamed_over_another_before_it_was_synced_comes_back_short() {
    let below = tempfile::tempdir().unwrap();
    let mut own = disk(below.path(), true);
    let old = put(&mut own, ROOT, "state", b"old");
    own.sync(old).unwrap();
    put(&mut own, ROOT, "state.new", b"new");
    own.rename((ROOT, OsStr::new("state.new")), (ROOT, OsStr::new("state")), false)
        .unwrap();
    // Not durable yet: a loss now leaves the old one whole.
    assert_eq!(fs::read(below.path().join("state")).unwrap(), b"old");
    own.sync(ROOT).unwrap();
    drop(own);
    assert_eq!(fs::read(below.path().join("state")).unwrap(), b"");
}

#[test]
fn what_was_removed_is_read_while_it_is_open_and_forgotten_after() {
    let below = tempfile::tempdir().unwrap();
    let mut own = disk(below.path(), true);
    let file = put(&mut own, ROOT, "file", b"durable");
    own.sync(file).unwrap();
    let node = own.node_mut(file).unwrap();
    (node.known, node.open) = (1, 1);
    own.unlink(ROOT, OsStr::new("file")).unwrap();
    own.sync(ROOT).unwrap();
    assert!(!below.path().join("file").exists());
    assert_eq!(all_of(&mut own, file), b"durable");
    own.close(file);
    own.forget(file, 1);
    assert!(own.node(file).is_err() && own.dead.is_empty());
}

#[test]
fn folders_move_with_what_is_in_them_and_never_into_themselves() {
    let below = tempfile::tempdir().unwrap();
    let mut own = disk(below.path(), true);
    let a = own.make_folder(ROOT, OsStr::new("a"), MAKER).unwrap();
    let b = own.make_folder(a, OsStr::new("b"), MAKER).unwrap();
    let file = put(&mut own, b, "file", b"1");
    own.sync(file).unwrap();
    let into_itself = own.rename((ROOT, OsStr::new("a")), (b, OsStr::new("c")), false);
    assert_eq!(into_itself, Err(Errno::EINVAL));
    assert_eq!(own.rmdir(ROOT, OsStr::new("a")), Err(Errno::ENOTEMPTY));
    own.rename((a, OsStr::new("b")), (ROOT, OsStr::new("moved")), true)
        .unwrap();
    own.write(file, 0, b"2").unwrap();
    own.sync(file).unwrap();
    // The file's own folder has not been synced since it moved, and is where it was.
    assert_eq!(fs::read(below.path().join("a/b/file")).unwrap(), b"2");
    own.sync(ROOT).unwrap();
    assert_eq!(fs::read(below.path().join("moved/file")).unwrap(), b"2");
    own.rmdir(ROOT, OsStr::new("a")).unwrap();
    own.sync(ROOT).unwrap();
    assert!(!below.path().join("a").exists());
}

#[test]
fn symbolic_links_and_attributes_are_durable_too() {
    let below = tempfile::tempdir().unwrap();
    let mut own = disk(below.path(), true);
    let file = put(&mut own, ROOT, "file", b"");
    own.make_symlink(ROOT, OsStr::new("link"), OsStr::new("file"), MAKER)
        .unwrap();
    let mode = Some(0o750);
    own.set(
        file,
        super::volatile::Set {
            mode,
            ..Default::default()
        },
    )
    .unwrap();
    own.sync(file).unwrap();
    own.sync(ROOT).unwrap();
    drop(own);
    let again = disk(below.path(), true);
    let file = again.node(again.find(ROOT, OsStr::new("file")).unwrap()).unwrap();
    assert_eq!(file.attr.mode, 0o750);
    let link = again.node(again.find(ROOT, OsStr::new("link")).unwrap()).unwrap();
    assert!(matches!(&link.kind, Kind::Symlink(target) if target == "file"));
}

#[test]
fn power_goes_from_all_at_once_and_nobody_is_answered_in_between() {
    let below = tempfile::tempdir().unwrap();
    let disks: Vec<_> = ["a", "b"]
        .map(|name| {
            let folder = below.path().join(name);
            fs::create_dir(&folder).unwrap();
            Disk::new(disk(&folder, true))
        })
        .into();
    let write = |disk: &Disk| disk.with(|disk| Ok(put(disk, ROOT, "file", b"12345")));
    write(&disks[0]).unwrap();
    let loss = PowerLoss::of(disks.clone());
    let lost = Unsynced {
        bytes: 5,
        files: 1,
        names: 1,
    };
    assert_eq!(loss.lost, [lost, Unsynced::default()]);
    let (told, answer) = std::sync::mpsc::channel();
    let asks = std::sync::Arc::clone(&disks[1]);
    let asking = std::thread::spawn(move || told.send(write(&asks)).unwrap());
    // Whatever the other thread does by now, it is not answered.
    assert!(answer.try_recv().is_err());
    drop(loss);
    asking.join().unwrap();
    assert_eq!(answer.recv().unwrap(), Err(Errno::EIO));
    assert_eq!(write(&disks[0]), Err(Errno::EIO));
    for name in ["a", "b"] {
        assert_eq!(fs::read_dir(below.path().join(name)).unwrap().count(), 0);
    }
}
