//! What makes the disk's state durable: the folder below takes it over.
//!
//! An fsync of a file makes its bytes, length and attributes durable, and the names under which it is known, with
//! whatever they stand on; of a folder, the changes of names in it. POSIX and fsync(2) promise less, namely no name without
//! an fsync of its folder. What is kept here is the strictly ordered metadata consistency that XFS gives and that ext4 and
//! btrfs give at least for new files: J. Mohan, *Documenting the crash-recovery guarantees of Linux file systems*, after
//! D. Chinner, linux-fsdevel, March 2019 (spinics.net/lists/linux-fsdevel/msg140896.html). To ask for less would find
//! losses that no file system in use has.
//!
//! A name that becomes durable by its folder's fsync alone stands for what the file's own last fsync left: a file that was
//! renamed over another before its bytes were synced comes back short, as on a file system that doesn't write it out for
//! the rename.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink},
    path::PathBuf,
    sync::Arc,
};

use nix::{errno::Errno, fcntl, unistd};

use super::{
    content::Content,
    names::{self, Change, Ino, Place, ROOT},
    node::{Attr, Kind, Node},
    volatile::{HELD_MAX, Volatile},
};

/// Files and folders that a disk may hold when it is mounted.
const NODES_MAX: usize = 1_000_000;

type Done<T> = Result<T, Errno>;

/// An error of the disk below as one of a system call.
pub(super) trait Os<T> {
    fn os(self) -> Done<T>;
}

impl<T> Os<T> for io::Result<T> {
    fn os(self) -> Done<T> {
        self.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl Volatile {
    /// Fills an empty disk with what is in the folder below.
    pub(super) fn scan(&mut self) -> io::Result<()> {
        let meta = fs::metadata(&self.root)?;
        let entries = BTreeMap::new();
        let root = Kind::Folder { entries, parent: ROOT };
        self.nodes.insert(ROOT, Node::new(root, Attr::of(&meta)));
        // Files with several names are one.
        let mut linked: BTreeMap<(u64, u64), Ino> = BTreeMap::new();
        let mut folders = vec![(ROOT, self.root.clone())];
        while let Some((folder, path)) = folders.pop() {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                let meta = fs::symlink_metadata(entry.path())?;
                let place: Place = (folder, entry.file_name());
                if let Some(ino) = linked.get(&(meta.dev(), meta.ino())).copied() {
                    self.settle(ino, place, true);
                    continue;
                }
                let kind = if meta.is_dir() {
                    Kind::Folder {
                        entries: BTreeMap::new(),
                        parent: folder,
                    }
                } else if meta.is_symlink() {
                    Kind::Symlink(fs::read_link(entry.path())?.into_os_string())
                } else if meta.is_file() {
                    Kind::File(Content::of_len(meta.len()))
                } else {
                    let what = format!("{} is neither file, folder nor link", entry.path().display());
                    return Err(io::Error::other(what));
                };
                if self.nodes.len() >= NODES_MAX {
                    let what = format!("more than {NODES_MAX} files in {}", self.root.display());
                    return Err(io::Error::other(what));
                }
                let ino = self.number();
                if meta.is_dir() {
                    folders.push((ino, entry.path()));
                    if let Ok(parent) = self.node_mut(folder) {
                        parent.links += 1;
                    }
                } else {
                    linked.insert((meta.dev(), meta.ino()), ino);
                }
                self.nodes.insert(ino, Node::new(kind, Attr::of(&meta)));
                self.settle(ino, place, false);
            }
        }
        Ok(())
    }

    /// A name that was found below.
    fn settle(&mut self, ino: Ino, place: Place, again: bool) {
        if let Some(Node {
            kind: Kind::Folder { entries, .. },
            ..
        }) = self.nodes.get_mut(&place.0)
        {
            entries.insert(place.1.clone(), ino);
        }
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.links += u32::from(again);
            node.places.insert(place);
        }
    }

    /// An fsync of a file or folder. What is returned is to be synced below, so that it costs what it costs there; a disk
    /// that lies returns nothing at once.
    pub(super) fn sync(&mut self, ino: Ino) -> Done<Option<Arc<File>>> {
        if !self.honest {
            return Ok(None);
        }
        self.commit(Some(ino))?;
        self.flush(ino)
    }

    /// Brings a file's bytes and attributes down.
    fn flush(&mut self, ino: Ino) -> Done<Option<Arc<File>>> {
        let below = match self.node(ino)?.kind {
            Kind::File(_) => self.below(ino)?,
            Kind::Folder { .. } if self.node(ino)?.links > 0 => Some(Arc::new(File::open(self.path_of(ino)?).os()?)),
            _ => None,
        };
        // It was removed before it was ever durable: there is nothing that could survive.
        let Some(below) = below else { return Ok(None) };
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        if let Kind::File(content) = &mut node.kind {
            let before = content.held();
            let flushed = content.flush(&below);
            self.held = self.held + content.held() - before;
            flushed.os()?;
        }
        if node.attr_changed {
            let search = if matches!(node.kind, Kind::Folder { .. }) {
                0o100
            } else {
                0
            };
            below
                .set_permissions(Permissions::from_mode(own(node.attr.mode) | search))
                .os()?;
            give(&below, &node.attr);
            node.attr_changed = false;
        }
        Ok(Some(below))
    }

    /// Writes the largest file back until another `more` bytes may be held. A disk that lies has no room then.
    pub(super) fn make_room(&mut self, more: u64) -> Done<()> {
        while self.held + more > HELD_MAX {
            if !self.honest {
                return Err(Errno::ENOSPC);
            }
            let largest = self
                .nodes
                .iter()
                .filter_map(|(ino, node)| match &node.kind {
                    Kind::File(content) if content.held() > 0 => Some((content.held(), *ino)),
                    _ => None,
                })
                .max();
            let Some((bytes, ino)) = largest else { return Ok(()) };
            self.sync(ino)?;
            if self.node(ino)?.links == 0 {
                // Nobody will find it after a power loss; it lives in memory while it is open.
                return Err(Errno::ENOSPC);
            }
            self.written_back += bytes;
        }
        Ok(())
    }

    /// Makes the changes of names durable that `of` takes along, or all.
    pub(super) fn commit(&mut self, of: Option<Ino>) -> Done<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let taken = of.map_or_else(|| vec![true; self.pending.len()], |ino| names::with(ino, &self.pending));
        let mut failed = None;
        for (change, taken) in std::mem::take(&mut self.pending).into_iter().zip(taken) {
            if taken && failed.is_none() {
                failed = self.apply(&change).err();
                if failed.is_none() {
                    continue;
                }
            }
            self.pending.push(change);
        }
        self.clear_dead();
        failed.map_or(Ok(()), Err)
    }

    /// Forgets the dead that no pending change concerns.
    pub(super) fn clear_dead(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let concerned = names::concerned(&self.pending);
        for ino in std::mem::take(&mut self.dead) {
            if concerned.contains(&ino) {
                self.dead.insert(ino);
            } else {
                self.nodes.remove(&ino);
            }
        }
    }

    /// Does to the folder below what was done above.
    fn apply(&mut self, change: &Change) -> Done<()> {
        match change {
            Change::File { at, ino, mode } => {
                let mut options = OpenOptions::new();
                let file = options
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(own(*mode))
                    .open(self.path(at)?)
                    .os()?;
                let node = self.node_mut(*ino)?;
                give(&file, &node.attr);
                // One that is closed, with a name to find it by, needs no descriptor.
                node.below = (node.open > 0 || node.links == 0).then(|| Arc::new(file));
                node.places.insert(at.clone());
            }
            Change::Folder { at, ino, mode } => {
                let path = self.path(at)?;
                DirBuilder::new().mode(own(*mode) | 0o700).create(&path).os()?;
                let node = self.node_mut(*ino)?;
                give(&File::open(path).os()?, &node.attr);
                node.places.insert(at.clone());
            }
            Change::Symlink { at, ino, target } => {
                symlink(target, self.path(at)?).os()?;
                self.node_mut(*ino)?.places.insert(at.clone());
            }
            Change::Link { at, ino } => {
                let from = self.path(self.node(*ino)?.places.first().ok_or(Errno::ENOENT)?)?;
                fs::hard_link(from, self.path(at)?).os()?;
                self.node_mut(*ino)?.places.insert(at.clone());
            }
            Change::Unlink { at, ino } => {
                self.hold(*ino)?;
                fs::remove_file(self.path(at)?).os()?;
                self.node_mut(*ino)?.places.remove(at);
            }
            Change::Rmdir { at, ino } => {
                fs::remove_dir(self.path(at)?).os()?;
                self.node_mut(*ino)?.places.remove(at);
            }
            Change::Rename { from, to, ino, over } => {
                if let Some(over) = over {
                    self.hold(*over)?;
                }
                fs::rename(self.path(from)?, self.path(to)?).os()?;
                if let Some(over) = over {
                    self.node_mut(*over)?.places.remove(to);
                }
                let places = &mut self.node_mut(*ino)?.places;
                places.remove(from);
                places.insert(to.clone());
            }
        }
        Ok(())
    }

    /// Opens the file below before its name goes, if anybody can still read it.
    fn hold(&mut self, ino: Ino) -> Done<()> {
        if !self.node(ino)?.is_dead() {
            self.below(ino)?;
        }
        Ok(())
    }

    /// The file below; none when nothing of it is durable, or it is no file.
    pub(super) fn below(&mut self, ino: Ino) -> Done<Option<Arc<File>>> {
        let node = self.node(ino)?;
        if node.below.is_some() || !matches!(node.kind, Kind::File(_)) {
            return Ok(node.below.clone());
        }
        let Some(place) = node.places.first() else {
            return Ok(None);
        };
        let path = self.path(place)?;
        let mut options = OpenOptions::new();
        let no_link = fcntl::OFlag::O_NOFOLLOW.bits();
        let file = options.read(true).write(true).custom_flags(no_link).open(path).os()?;
        let file = Arc::new(file);
        self.node_mut(ino)?.below = Some(Arc::clone(&file));
        Ok(Some(file))
    }

    /// Where a name is below.
    fn path(&self, place: &Place) -> Done<PathBuf> {
        Ok(self.path_of(place.0)?.join(&place.1))
    }

    /// Where a folder is below.
    fn path_of(&self, folder: Ino) -> Done<PathBuf> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != ROOT {
            let place = self.node(at)?.places.first().ok_or(Errno::ENOENT)?;
            names.push(&place.1);
            at = place.0;
        }
        Ok(names.iter().rev().fold(self.root.clone(), |path, name| path.join(name)))
    }
}

/// The mode below: whoever serves the disk must be able to open it again, unlike whoever made it.
const fn own(mode: u32) -> u32 {
    mode & 0o7777 | 0o600
}

/// Gives what is below to its owner, which only root can do for another.
fn give(file: &File, attr: &Attr) {
    if unistd::geteuid().is_root() {
        // Who owns it decides nothing that is judged.
        let _ = fchown(file, Some(attr.uid), Some(attr.gid));
    }
}
