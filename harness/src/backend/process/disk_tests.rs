//! A node on a disk of its own, through the kernel: what a power loss takes from a real program, and what it leaves.
//!
//! The programs are processes of their own: one that waits for a file system of its own process can deadlock.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate};
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, mmap_anonymous, msync};

use super::testing::{ROLE, backend, disk_of, disks_here, node, say, soon, wait_forever};
use crate::backend::journal;
use crate::backend::{Backend as _, NodeSignal, NodeSpec, disk};

const PAGE: usize = 4096;

/// Writes in every way there is, some of it synced; then waits for its end.
pub(super) fn keeps(disk: &Path) {
    let make = |name: &str| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(disk.join(name))
            .unwrap()
    };
    // By fsync, and overwritten after.
    let file = make("fsync");
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(b"LOST", 0).unwrap();
    assert_eq!(
        fs::read(disk.join("fsync")).unwrap(),
        b"LOSTed",
        "others see what is not synced"
    );
    // By fdatasync, in a folder that nobody synced.
    fs::create_dir(disk.join("folder")).unwrap();
    let file = make("folder/fdatasync");
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    // By the way it was opened.
    for (name, flag) in [("o_sync", OFlag::O_SYNC), ("o_dsync", OFlag::O_DSYNC)] {
        let mut options = OpenOptions::new();
        options.write(true).create(true).custom_flags(flag.bits());
        options.open(disk.join(name)).unwrap().write_all(b"synced").unwrap();
    }
    // Not at all, though it goes round the page cache.
    let direct = make("o_direct");
    drop(direct);
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlag::O_DIRECT.bits());
    let direct = options.open(disk.join("o_direct")).unwrap();
    let pages = Pages::anonymous();
    direct.write_all_at(pages.bytes(), 0).unwrap();
    // Through a mapping: the first page by msync, the second not.
    let mapped = make("mmap");
    mapped.set_len(2 * PAGE as u64).unwrap();
    mapped.sync_all().unwrap();
    let mut pages = Pages::of(&mapped);
    pages.bytes_mut()[..6].copy_from_slice(b"synced");
    pages.sync();
    pages.bytes_mut()[PAGE..PAGE + 4].copy_from_slice(b"lost");
    // As etcd keeps its log and its database: preallocated and locked; mapped and written.
    let log = make("log");
    fallocate(&log, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    let log = Flock::lock(log, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .unwrap();
    log.write_all_at(b"entry", 0).unwrap();
    log.sync_data().unwrap();
    let other = File::open(disk.join("log")).unwrap();
    assert!(
        Flock::lock(other, FlockArg::LockExclusiveNonblock).is_err(),
        "the lock holds"
    );
    let read_only = Pages::of(&log);
    log.write_all_at(b"again", 8).unwrap();
    assert_eq!(
        &read_only.bytes()[..13],
        b"entry\0\0\0again",
        "a mapping sees what is written"
    );
    // A name by its folder alone.
    fs::create_dir(disk.join("synced")).unwrap();
    fs::write(disk.join("synced/name"), "lost").unwrap();
    File::open(disk.join("synced")).unwrap().sync_all().unwrap();
    // In place of another: durable only once the folder is synced, which it is not.
    let old = make("replaced");
    old.write_all_at(b"old", 0).unwrap();
    old.sync_all().unwrap();
    let new = make("replacement");
    new.write_all_at(b"new", 0).unwrap();
    new.sync_all().unwrap();
    fs::rename(disk.join("replacement"), disk.join("replaced")).unwrap();
    assert_eq!(fs::read(disk.join("replaced")).unwrap(), b"new");
    fs::write(disk.join("lost"), "lost").unwrap();
    fs::remove_file(disk.join("fsync")).unwrap();
    say("ready");
    wait_forever()
}

/// Looks whether what was not synced is there, as after a kill.
pub(super) fn finds_all(disk: &Path) {
    assert_eq!(fs::read(disk.join("lost")).unwrap(), b"lost");
    assert_eq!(fs::read(disk.join("synced/name")).unwrap(), b"lost");
    assert_eq!(fs::read(disk.join("replaced")).unwrap(), b"new");
    assert_eq!(fs::read(disk.join("mmap")).unwrap()[PAGE..PAGE + 4], *b"lost");
    assert!(!disk.join("fsync").exists());
    say("ready");
    wait_forever()
}

/// Looks whether what was synced, and nothing else, is there.
pub(super) fn finds(disk: &Path) {
    let mut names: Vec<String> = fs::read_dir(disk)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let all = [
        "folder",
        "fsync",
        "log",
        "mmap",
        "o_direct",
        "o_dsync",
        "o_sync",
        "replaced",
        "replacement",
        "synced",
    ];
    assert_eq!(names, all);
    for name in ["fsync", "folder/fdatasync", "o_sync", "o_dsync"] {
        assert_eq!(fs::read(disk.join(name)).unwrap(), b"synced", "{name}");
    }
    assert_eq!(fs::read(disk.join("o_direct")).unwrap(), b"");
    let mapped = fs::read(disk.join("mmap")).unwrap();
    assert_eq!(mapped.len(), 2 * PAGE);
    assert_eq!(&mapped[..6], b"synced");
    assert!(
        mapped[6..].iter().all(|byte| *byte == 0),
        "the second page was not synced"
    );
    let mut log = vec![0; 16];
    File::open(disk.join("log")).unwrap().read_exact(&mut log).unwrap();
    assert_eq!(log, b"entry\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(fs::metadata(disk.join("log")).unwrap().len(), 1 << 20);
    assert_eq!(fs::read(disk.join("replaced")).unwrap(), b"old");
    assert_eq!(fs::read(disk.join("replacement")).unwrap(), b"new");
    assert_eq!(fs::read(disk.join("synced/name")).unwrap(), b"");
    say("ready");
    wait_forever()
}

/// Two pages of memory.
struct Pages(std::ptr::NonNull<std::ffi::c_void>);

const TWO: NonZero<usize> = NonZero::new(2 * PAGE).unwrap();

impl Pages {
    fn of(file: &File) -> Self {
        // SAFETY: the kernel chooses the place, and nobody else cuts the file short.
        let at = unsafe {
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            mmap(None, TWO, access, MapFlags::MAP_SHARED, file, 0)
        };
        Self(at.unwrap())
    }

    fn anonymous() -> Self {
        // SAFETY: the kernel chooses the place.
        let at = unsafe {
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            mmap_anonymous(None, TWO, access, MapFlags::MAP_PRIVATE)
        };
        Self(at.unwrap())
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: both pages are mapped as long as this lives, which is as long as the process.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), TWO.get()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and it is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().cast(), TWO.get()) }
    }

    fn sync(&self) {
        // SAFETY: the first page is mapped.
        unsafe { msync(self.0, PAGE, MsFlags::MS_SYNC) }.unwrap();
    }
}

fn on_disk(name: &str, role: &str, folder: &Path) -> NodeSpec {
    let mut spec = node(name, role, 0, folder);
    let disk = disk_of(folder);
    spec.env
        .insert(ROLE.to_owned(), format!("{role} 0 {}", disk.mount.display()));
    spec.disk = Some(disk);
    spec
}

#[tokio::test]
async fn a_power_loss_takes_what_was_not_synced_and_a_kill_takes_nothing() {
    if !disks_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "disk").await;
    let mounted = || disk::mounted_by(backend.run()).unwrap();
    let n1 = ["n1".to_owned()];
    soon(backend.start(&on_disk("n1", "keeps", dir.path()))).await.unwrap();
    assert_eq!(mounted(), [dir.path().join("disk")]);

    let killed = backend.signal(&n1, NodeSignal::Kill).await.unwrap().remove(0);
    assert!(!killed.text.contains("lost"), "{killed:?}");
    assert_eq!(mounted().len(), 1, "the disk outlives its node");
    soon(backend.start(&on_disk("n1", "finds_all", dir.path())))
        .await
        .unwrap();

    let dark = backend.signal(&n1, NodeSignal::PowerLoss).await.unwrap().remove(0);
    // Both pages of o_direct, one of the mapping, and some words.
    assert!(
        dark.text.contains("its disk lost 1") && dark.text.contains("unsynced bytes"),
        "{dark:?}"
    );
    assert_eq!(mounted().len(), 0, "nobody finds what is not synced");
    soon(backend.start(&on_disk("n1", "finds", dir.path()))).await.unwrap();
    assert_eq!(mounted().len(), 1);

    let report = backend.tear_down().await.unwrap();
    assert!(report.left.is_empty(), "{report:?}");
    assert_eq!(mounted().len(), 0);
    assert_eq!(journal::read(&dir.path().join("undo.journal")).unwrap().undone, []);
}

#[tokio::test]
async fn a_disk_that_can_not_be_mounted_is_named_and_leaves_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "no-disk").await;
    fs::write(dir.path().join("durable"), "in the way").unwrap();
    let error = backend.start(&on_disk("n1", "keeps", dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("mount the disk of node `n1`"), "{error}");
    assert!(backend.running().is_empty());
    assert_eq!(disk::mounted_by(backend.run()).unwrap().len(), 0);
    assert_eq!(journal::read(&dir.path().join("undo.journal")).unwrap().undone, []);
}
