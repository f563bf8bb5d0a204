//! The disk as programs see it: everything that was done to it, whether it would survive or not.
//!
//! Nothing here is durable; `durable` has what makes it so. Errors are those of the system calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::SystemTime,
};

use nix::errno::Errno;

use super::{
    content::Content,
    durable::Os as _,
    names::{Change, Ino, ROOT},
    node::{Attr, Kind, Node},
};

/// Unsynced bytes that are kept; beyond them the largest file is written back, as a kernel does that is short of memory.
pub(super) const HELD_MAX: u64 = 1 << 30;
/// Changes of names that are kept.
pub(super) const PENDING_MAX: usize = 100_000;
/// The longest file.
const LEN_MAX: u64 = i64::MAX as u64;

/// Who makes a file, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What to set of a file's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Set {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) len: Option<u64>,
    pub(super) atime: Option<SystemTime>,
    pub(super) mtime: Option<SystemTime>,
}

/// What a power loss would take now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// Bytes written and not synced.
    pub bytes: u64,
    /// Files that they belong to, and those whose length differs below.
    pub files: u64,
    /// Files made, renamed and removed, where that is not durable.
    pub names: u64,
}

/// A disk whose writes are durable once they are synced, over a folder that holds what is durable.
#[derive(Debug)]
pub(super) struct Volatile {
    /// The folder below.
    pub(super) root: PathBuf,
    /// Whether an fsync makes anything durable.
    pub(super) honest: bool,
    pub(super) nodes: BTreeMap<Ino, Node>,
    /// Nodes that nothing leads to any more, but pending changes.
    pub(super) dead: BTreeSet<Ino>,
    pub(super) pending: Vec<Change>,
    /// Unsynced bytes in memory.
    pub(super) held: u64,
    /// Bytes that were written back for want of memory.
    pub(super) written_back: u64,
    next: Ino,
    now: fn() -> SystemTime,
}

type Done<T> = Result<T, Errno>;

impl Volatile {
    /// An empty one; `scan` fills it with what is below.
    pub(super) fn empty(root: PathBuf, honest: bool, now: fn() -> SystemTime) -> Self {
        Self {
            root,
            honest,
            nodes: BTreeMap::new(),
            dead: BTreeSet::new(),
            pending: Vec::new(),
            held: 0,
            written_back: 0,
            next: ROOT + 1,
            now,
        }
    }

    pub(super) fn number(&mut self) -> Ino {
        let ino = self.next;
        self.next += 1;
        ino
    }

    pub(super) fn node(&self, ino: Ino) -> Done<&Node> {
        self.nodes.get(&ino).ok_or(Errno::ESTALE)
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Done<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    pub(super) fn entries(&self, folder: Ino) -> Done<&BTreeMap<OsString, Ino>> {
        match &self.node(folder)?.kind {
            Kind::Folder { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, folder: Ino) -> Done<&mut BTreeMap<OsString, Ino>> {
        let now = (self.now)();
        let node = self.node_mut(folder)?;
        (node.attr.mtime, node.attr.ctime) = (now, now);
        match &mut node.kind {
            Kind::Folder { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn find(&self, folder: Ino, name: &OsStr) -> Done<Ino> {
        self.entries(folder)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn is_folder(&self, ino: Ino) -> Done<bool> {
        Ok(matches!(self.node(ino)?.kind, Kind::Folder { .. }))
    }

    /// A name that is free, in a folder that is there.
    fn free(&self, folder: Ino, name: &OsStr) -> Done<()> {
        match self.find(folder, name) {
            Ok(_) => Err(Errno::EEXIST),
            // What was removed takes nothing in.
            Err(Errno::ENOENT) if self.node(folder)?.links > 0 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn make(&mut self, folder: Ino, name: &OsStr, maker: Maker, kind: Kind) -> Done<Ino> {
        self.free(folder, name)?;
        let now = (self.now)();
        let attr = Attr {
            mode: maker.mode & 0o7777,
            uid: maker.uid,
            gid: maker.gid,
            atime: now,
            mtime: now,
            ctime: now,
        };
        let ino = self.number();
        self.nodes.insert(ino, Node::new(kind, attr));
        self.entries_mut(folder)?.insert(name.to_owned(), ino);
        Ok(ino)
    }

    /// Makes an empty file.
    pub(super) fn make_file(&mut self, folder: Ino, name: &OsStr, maker: Maker) -> Done<Ino> {
        let ino = self.make(folder, name, maker, Kind::File(Content::default()))?;
        self.changed(Change::File {
            at: (folder, name.to_owned()),
            ino,
            mode: maker.mode,
        })?;
        Ok(ino)
    }

    /// Makes an empty folder.
    pub(super) fn make_folder(&mut self, folder: Ino, name: &OsStr, maker: Maker) -> Done<Ino> {
        let kind = Kind::Folder {
            entries: BTreeMap::new(),
            parent: folder,
        };
        let ino = self.make(folder, name, maker, kind)?;
        self.node_mut(folder)?.links += 1;
        self.changed(Change::Folder {
            at: (folder, name.to_owned()),
            ino,
            mode: maker.mode,
        })?;
        Ok(ino)
    }

    /// Makes a symbolic link.
    pub(super) fn make_symlink(&mut self, folder: Ino, name: &OsStr, target: &OsStr, maker: Maker) -> Done<Ino> {
        let ino = self.make(folder, name, maker, Kind::Symlink(target.to_owned()))?;
        self.changed(Change::Symlink {
            at: (folder, name.to_owned()),
            ino,
            target: target.to_owned(),
        })?;
        Ok(ino)
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, ino: Ino, folder: Ino, name: &OsStr) -> Done<()> {
        if self.is_folder(ino)? {
            return Err(Errno::EPERM);
        }
        self.free(folder, name)?;
        self.entries_mut(folder)?.insert(name.to_owned(), ino);
        self.node_mut(ino)?.links += 1;
        self.changed(Change::Link {
            at: (folder, name.to_owned()),
            ino,
        })
    }

    /// Removes a file's name.
    pub(super) fn unlink(&mut self, folder: Ino, name: &OsStr) -> Done<()> {
        let ino = self.find(folder, name)?;
        if self.is_folder(ino)? {
            return Err(Errno::EISDIR);
        }
        self.entries_mut(folder)?.remove(name);
        self.node_mut(ino)?.links -= 1;
        self.changed(Change::Unlink {
            at: (folder, name.to_owned()),
            ino,
        })?;
        self.bury(ino);
        Ok(())
    }

    /// Removes an empty folder.
    pub(super) fn rmdir(&mut self, folder: Ino, name: &OsStr) -> Done<()> {
        let ino = self.find(folder, name)?;
        if !self.entries(ino)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.entries_mut(folder)?.remove(name);
        self.node_mut(folder)?.links -= 1;
        self.node_mut(ino)?.links = 0;
        self.changed(Change::Rmdir {
            at: (folder, name.to_owned()),
            ino,
        })?;
        self.bury(ino);
        Ok(())
    }

    /// Makes a name another, in place of whatever has that one unless `keep`.
    pub(super) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), keep: bool) -> Done<()> {
        let ino = self.find(from.0, from.1)?;
        let over = match self.find(to.0, to.1) {
            Ok(_) if keep => return Err(Errno::EEXIST),
            Ok(over) => Some(over),
            Err(Errno::ENOENT) if self.node(to.0)?.links > 0 => None,
            Err(error) => return Err(error),
        };
        if over == Some(ino) {
            return Ok(());
        }
        let moves_folder = self.is_folder(ino)?;
        if moves_folder && self.is_within(to.0, ino)? {
            return Err(Errno::EINVAL);
        }
        if let Some(over) = over {
            match (moves_folder, self.is_folder(over)?) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !self.entries(over)?.is_empty() => return Err(Errno::ENOTEMPTY),
                (true, true) => {
                    self.node_mut(to.0)?.links -= 1;
                    self.node_mut(over)?.links = 0;
                }
                (false, false) => self.node_mut(over)?.links -= 1,
            }
        }
        self.entries_mut(from.0)?.remove(from.1);
        self.entries_mut(to.0)?.insert(to.1.to_owned(), ino);
        if moves_folder {
            self.node_mut(from.0)?.links -= 1;
            self.node_mut(to.0)?.links += 1;
            if let Kind::Folder { parent, .. } = &mut self.node_mut(ino)?.kind {
                *parent = to.0;
            }
        }
        self.changed(Change::Rename {
            from: (from.0, from.1.to_owned()),
            to: (to.0, to.1.to_owned()),
            ino,
            over,
        })?;
        if let Some(over) = over {
            self.bury(over);
        }
        Ok(())
    }

    /// Whether `folder` is `top` or lies in it.
    fn is_within(&self, folder: Ino, top: Ino) -> Done<bool> {
        let mut at = folder;
        while at != top {
            match &self.node(at)?.kind {
                Kind::Folder { parent, .. } if at != ROOT => at = *parent,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The target of a symbolic link.
    pub(super) fn target(&self, ino: Ino) -> Done<&OsStr> {
        match &self.node(ino)?.kind {
            Kind::Symlink(target) => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The names in a folder, itself and its parent among them.
    pub(super) fn list(&self, folder: Ino) -> Done<Vec<(Ino, OsString)>> {
        let Kind::Folder { entries, parent } = &self.node(folder)?.kind else {
            return Err(Errno::ENOTDIR);
        };
        let own = [(folder, OsString::from(".")), (*parent, OsString::from(".."))];
        Ok(own
            .into_iter()
            .chain(entries.iter().map(|(name, ino)| (*ino, name.clone())))
            .collect())
    }

    /// Sets attributes, the length among them.
    pub(super) fn set(&mut self, ino: Ino, set: Set) -> Done<()> {
        if let Some(len) = set.len {
            if len > LEN_MAX {
                return Err(Errno::EFBIG);
            }
            self.change_content(ino, |content| content.truncate(len))?;
        }
        let now = (self.now)();
        let node = self.node_mut(ino)?;
        let attr = &mut node.attr;
        attr.atime = set.atime.unwrap_or(attr.atime);
        attr.mtime = set.mtime.unwrap_or(attr.mtime);
        attr.mode = set.mode.map_or(attr.mode, |mode| mode & 0o7777);
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        attr.ctime = now;
        node.attr_changed |= set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        Ok(())
    }

    /// Up to `size` bytes of a file from `at` on.
    pub(super) fn read(&mut self, ino: Ino, at: u64, size: usize) -> Done<Vec<u8>> {
        let below = self.below(ino)?;
        match &self.node(ino)?.kind {
            Kind::File(content) => content.read(at, size, below.as_deref()).os(),
            _ => Err(Errno::EISDIR),
        }
    }

    /// Writes into a file.
    pub(super) fn write(&mut self, ino: Ino, at: u64, data: &[u8]) -> Done<()> {
        let end = at.checked_add(data.len() as u64).ok_or(Errno::EFBIG)?;
        if end > LEN_MAX {
            return Err(Errno::EFBIG);
        }
        self.make_room(data.len() as u64)?;
        self.change_content(ino, |content| content.write(at, data))
    }

    /// Makes a file at least `len` long.
    pub(super) fn extend(&mut self, ino: Ino, len: u64) -> Done<()> {
        if len > LEN_MAX {
            return Err(Errno::EFBIG);
        }
        self.change_content(ino, |content| content.extend(len))
    }

    /// Makes zeros of `from..to`, as far as the file goes.
    pub(super) fn zero(&mut self, ino: Ino, from: u64, to: u64) -> Done<()> {
        self.change_content(ino, |content| content.zero(from, to))
    }

    fn change_content(&mut self, ino: Ino, change: impl FnOnce(&mut Content)) -> Done<()> {
        let now = (self.now)();
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        let Kind::File(content) = &mut node.kind else {
            return Err(Errno::EISDIR);
        };
        let before = content.held();
        change(content);
        self.held = self.held + content.held() - before;
        (node.attr.mtime, node.attr.ctime) = (now, now);
        Ok(())
    }

    /// Notes a change of names.
    fn changed(&mut self, change: Change) -> Done<()> {
        self.pending.push(change);
        if self.honest && self.pending.len() > PENDING_MAX {
            self.commit(None)?;
        }
        Ok(())
    }

    /// The kernel forgets what it was told `times` times.
    pub(super) fn forget(&mut self, ino: Ino, times: u64) {
        if let Ok(node) = self.node_mut(ino) {
            node.known = node.known.saturating_sub(times);
        }
        self.bury(ino);
    }

    /// A file is closed once.
    pub(super) fn close(&mut self, ino: Ino) {
        if let Ok(node) = self.node_mut(ino) {
            node.open = node.open.saturating_sub(1);
            if node.open == 0 && !node.places.is_empty() {
                node.below = None;
            }
        }
        self.bury(ino);
    }

    /// Lets go of what nothing leads to any more: of its bytes now, of itself when no pending change concerns it.
    fn bury(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get_mut(&ino).filter(|node| node.is_dead()) else {
            return;
        };
        if let Kind::File(content) = &mut node.kind {
            self.held -= content.held();
            *content = Content::default();
        }
        self.dead.insert(ino);
        if self.pending.is_empty() {
            self.clear_dead();
        }
    }

    /// What a power loss would take now.
    pub(super) fn unsynced(&self) -> Unsynced {
        let mut unsynced = Unsynced {
            names: self.pending.len() as u64,
            ..Unsynced::default()
        };
        for node in self.nodes.values().filter(|node| node.links > 0) {
            match &node.kind {
                Kind::File(content) if content.is_unsynced() => {
                    unsynced.files += 1;
                    unsynced.bytes += content.held();
                }
                _ => {}
            }
        }
        unsynced
    }
}
