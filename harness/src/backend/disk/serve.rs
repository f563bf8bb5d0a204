//! The kernel's requests, answered by a disk.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag},
    sys::statvfs::statvfs,
    time::{ClockId, clock_gettime},
};

use super::{
    durable::Os as _,
    names::Ino,
    node::{Kind, since_epoch},
    power::Disk,
    volatile::{Maker, Set, Volatile},
};

/// How long the kernel may remember what it was told: nobody else changes anything.
const TTL: Duration = Duration::from_secs(3600);
/// The largest write in one request.
const WRITE_MAX: u32 = 1 << 20;
/// Bytes of a block, as files are counted.
const BLOCK: u32 = 512;
/// The type of a file within its mode, and a regular one.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Serves one disk.
pub(super) struct Server {
    disk: Arc<Disk>,
    /// Folders that are being read, as they were when that began.
    listings: Mutex<BTreeMap<u64, Vec<Entry>>>,
    handles: AtomicU64,
    /// Told when nobody asks any more.
    end: SyncSender<()>,
}

type Entry = (Ino, FileType, OsString);
type Done<T> = Result<T, Errno>;

/// The time for files, which is wall time as on any disk. No figure of a run is made of it.
pub(super) fn wall_clock() -> SystemTime {
    clock_gettime(ClockId::CLOCK_REALTIME)
        .map_or(SystemTime::UNIX_EPOCH, |now| since_epoch(now.tv_sec(), now.tv_nsec()))
}

impl Server {
    pub(super) const fn new(disk: Arc<Disk>, end: SyncSender<()>) -> Self {
        Self {
            disk,
            listings: Mutex::new(BTreeMap::new()),
            handles: AtomicU64::new(1),
            end,
        }
    }

    fn listings(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Entry>>> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs what is below outside the disk's lock, since that is what takes time.
    fn sync(&self, act: impl FnOnce(&mut Volatile) -> Done<Option<Arc<File>>>, data_only: bool) -> Done<()> {
        let Some(below) = self.disk.with(act)? else {
            return Ok(());
        };
        if data_only {
            below.sync_data().os()?;
        } else {
            below.sync_all().os()?;
        }
        Ok(())
    }

    /// Does something that ends with a file the kernel is told of.
    fn entry(&self, reply: ReplyEntry, act: impl FnOnce(&mut Volatile) -> Done<Ino>) {
        let found = self.disk.with(|disk| {
            let ino = act(disk)?;
            disk.node_mut(ino)?.known += 1;
            attr(disk, ino)
        });
        match found {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn list(&self, folder: Ino) -> Done<Vec<Entry>> {
        self.disk.with(|disk| {
            let names = disk.list(folder)?;
            names
                .into_iter()
                .map(|(ino, name)| Ok((ino, kind(&disk.node(ino)?.kind), name)))
                .collect()
        })
    }
}

fn code(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

fn done(reply: ReplyEmpty, result: Done<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}

const fn kind(kind: &Kind) -> FileType {
    match kind {
        Kind::Folder { .. } => FileType::Directory,
        Kind::File(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
    }
}

fn attr(disk: &Volatile, ino: Ino) -> Done<FileAttr> {
    let node = disk.node(ino)?;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: node.len(),
        blocks: node.len().div_ceil(u64::from(BLOCK)),
        atime: node.attr.atime,
        mtime: node.attr.mtime,
        ctime: node.attr.ctime,
        crtime: node.attr.ctime,
        kind: kind(&node.kind),
        perm: u16::try_from(node.attr.mode & 0o7777).unwrap_or(0),
        nlink: node.links,
        uid: node.attr.uid,
        gid: node.attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn maker(request: &Request, mode: u32, umask: u32) -> Maker {
    Maker {
        mode: mode & !umask,
        uid: request.uid(),
        gid: request.gid(),
    }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => wall_clock(),
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // An older kernel has a lower bound of its own.
        let _ = config.set_max_write(WRITE_MAX);
        Ok(())
    }

    fn destroy(&mut self) {
        // Nobody may wait for it.
        let _ = self.end.try_send(());
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.find(parent.0, name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        // A disk without power has forgotten everything.
        let _ = self.disk.with(|disk| {
            disk.forget(ino.0, times);
            Ok(())
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk.with(|disk| attr(disk, ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = Set {
            mode,
            uid,
            gid,
            len: size,
            atime: atime.map(time),
            mtime: mtime.map(time),
        };
        let result = self.disk.with(|disk| {
            disk.set(ino.0, set)?;
            attr(disk, ino.0)
        });
        match result {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.disk.with(|disk| disk.target(ino.0).map(OsStr::to_owned)) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        if mode & TYPE != REGULAR {
            // Pipes, sockets and devices are no matter of durability: put them elsewhere.
            reply.error(code(Errno::EPERM));
            return;
        }
        let maker = maker(request, mode, umask);
        self.entry(reply, |disk| disk.make_file(parent.0, name, maker));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let maker = maker(request, mode, umask);
        self.entry(reply, |disk| disk.make_folder(parent.0, name, maker));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.disk.with(|disk| disk.unlink(parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.disk.with(|disk| disk.rmdir(parent.0, name)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let maker = maker(request, 0o777, 0);
        self.entry(reply, |disk| {
            disk.make_symlink(parent.0, name, target.as_os_str(), maker)
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags == RenameFlags::RENAME_NOREPLACE;
        if !keep && !flags.is_empty() {
            reply.error(code(Errno::EINVAL));
            return;
        }
        let (from, to) = ((parent.0, name), (to_parent.0, to_name));
        done(reply, self.disk.with(|disk| disk.rename(from, to, keep)));
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.link(ino.0, parent.0, name).map(|()| ino.0));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.disk.with(|disk| {
            disk.node_mut(ino.0)?.open += 1;
            Ok(())
        });
        match opened {
            // Pages stay good from one opening to the next, and mappings work.
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let maker = maker(request, mode, umask);
        let made = self.disk.with(|disk| {
            let ino = disk.make_file(parent.0, name, maker)?;
            let node = disk.node_mut(ino)?;
            node.known += 1;
            node.open += 1;
            attr(disk, ino)
        });
        match made {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        match self.disk.with(|disk| disk.read(ino.0, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // Part of O_SYNC as well.
        let at_once = flags.0 & OFlag::O_DSYNC.bits() != 0;
        let write = |disk: &mut Volatile| {
            disk.write(ino.0, offset, data)?;
            if at_once { disk.sync(ino.0) } else { Ok(None) }
        };
        match self.sync(write, true) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let closed = self.disk.with(|disk| {
            disk.close(ino.0);
            Ok(())
        });
        done(reply, closed);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        done(reply, self.sync(|disk| disk.sync(ino.0), data_only));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        done(reply, self.sync(|disk| disk.sync(ino.0), data_only));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.list(ino.0) {
            Ok(entries) => {
                let handle = self.handles.fetch_add(1, Ordering::Relaxed);
                self.listings().insert(handle, entries);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        // Rewound: whoever reads wants to know what has changed.
        if offset == 0 {
            match self.list(ino.0) {
                Ok(entries) => drop(self.listings().insert(handle.0, entries)),
                Err(errno) => return reply.error(code(errno)),
            }
        }
        let listings = self.listings();
        let entries = listings.get(&handle.0).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (ino, kind, name)) in (1..).zip(entries).skip(from) {
            if reply.add(INodeNo(*ino), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let below = self.disk.with(|disk| statvfs(&disk.root));
        match below {
            Ok(stat) => reply.statfs(
                stat.blocks(),
                stat.blocks_free(),
                stat.blocks_available(),
                stat.files(),
                stat.files_free(),
                u32::try_from(stat.block_size()).unwrap_or(4096),
                u32::try_from(stat.name_max()).unwrap_or(255),
                u32::try_from(stat.fragment_size()).unwrap_or(4096),
            ),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let flags = FallocateFlags::from_bits_retain(mode);
        let zeros = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_ZERO_RANGE;
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if !(zeros | keep).contains(flags) {
            reply.error(code(Errno::EOPNOTSUPP));
            return;
        }
        let Some(end) = offset.checked_add(length) else {
            reply.error(code(Errno::EFBIG));
            return;
        };
        let result = self.disk.with(|disk| {
            if flags.intersects(zeros) {
                disk.zero(ino.0, offset, end)?;
            }
            if flags.contains(keep) {
                return Ok(());
            }
            disk.extend(ino.0, end)
        });
        done(reply, result);
    }
}
