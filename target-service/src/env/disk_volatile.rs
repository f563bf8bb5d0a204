//! A write cache that lives in the process: what was not synced is gone when the process is.
//!
//! A killed process loses nothing that it wrote, since the kernel keeps it; so killing tests no sync. Behind this cache
//! every death of the process is a power loss: bytes reach the disk below when their file is synced, and a name when its
//! directory is. Directories themselves are made at once.
//!
//! Names change in order: syncing a directory also makes durable what was done to other names before, as a journal does.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::disk::{Disk, DiskError, DiskFile, DiskResult, parent};

/// Where files stand below whose names are not durable yet. What is there when the disk is opened belongs to nobody.
const NAMELESS: &str = ".nameless";
const PAGE: usize = 4096;
const PAGE_BYTES: u64 = 4096;
/// Pages of one file that are kept; beyond, they are written below, as a kernel does under pressure.
const PAGES_MAX: usize = 64 << 10;

/// A disk whose unsynced writes die with the process.
#[derive(Clone, Debug)]
pub struct VolatileDisk {
    below: Arc<dyn Disk>,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    /// What was done to names and is not durable, oldest first.
    done: Vec<Change>,
    /// Files that are or were open, by the name that they have now.
    open: BTreeMap<String, Arc<Inode>>,
    made: u64,
}

#[derive(Clone, Debug)]
enum Change {
    /// A new file, which stands below as `nameless`.
    Create {
        name: String,
        nameless: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
}

impl Change {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Self::Create { name, .. } | Self::Remove { name } => parent(name) == dir,
            Self::Rename { from, to } => parent(from) == dir || parent(to) == dir,
        }
    }
}

impl VolatileDisk {
    /// A cache above `below`, whose leftovers of an earlier life are cleared.
    ///
    /// # Errors
    /// When the disk below fails.
    pub fn open(below: Arc<dyn Disk>) -> DiskResult<Self> {
        below.create_dir(NAMELESS)?;
        for left in below.list(NAMELESS)? {
            below.remove(&format!("{NAMELESS}/{left}"))?;
        }
        Ok(Self {
            below,
            names: Arc::default(),
        })
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }

    /// The file called `name`, wherever it stands below.
    fn inode(&self, names: &mut Names, name: &str) -> DiskResult<Arc<Inode>> {
        if !self.exists_in(names, name)? {
            return Err(not_found("open", name));
        }
        if let Some(inode) = names.open.get(name) {
            return Ok(Arc::clone(inode));
        }
        let file = self.below.open(&names.stands_at(name))?;
        let inode = Arc::new(Inode::new(file)?);
        names.open.insert(name.to_owned(), Arc::clone(&inode));
        Ok(inode)
    }

    fn exists_in(&self, names: &Names, name: &str) -> DiskResult<bool> {
        match names.said_of(name) {
            Some(exists) => Ok(exists),
            None => self.below.exists(name),
        }
    }

    fn handle(name: &str, inode: Arc<Inode>) -> Box<dyn DiskFile> {
        Box::new(VolatileFile {
            name: name.to_owned(),
            inode,
        })
    }
}

impl Names {
    /// Whether `name` exists, as far as what is not durable says.
    fn said_of(&self, name: &str) -> Option<bool> {
        self.done.iter().rev().find_map(|change| match change {
            Change::Create { name: made, .. } if made == name => Some(true),
            Change::Rename { to, .. } if to == name => Some(true),
            Change::Rename { from, .. } if from == name => Some(false),
            Change::Remove { name: gone } if gone == name => Some(false),
            _ => None,
        })
    }

    /// Where the file now called `name` stands on the disk below.
    fn stands_at(&self, name: &str) -> String {
        let mut at = name.to_owned();
        for change in self.done.iter().rev() {
            match change {
                Change::Create { name, nameless } if *name == at => return nameless.clone(),
                Change::Rename { from, to } if *to == at => at.clone_from(from),
                _ => {}
            }
        }
        at
    }
}

impl Disk for VolatileDisk {
    fn create(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let mut names = self.names();
        if self.exists_in(&names, name)? {
            let inode = self.inode(&mut names, name)?;
            inode.truncate(0)?;
            return Ok(Self::handle(name, inode));
        }
        // A directory that isn't there fails here and not at its sync.
        self.below.list(parent(name))?;
        names.made += 1;
        let nameless = format!("{NAMELESS}/{}", names.made);
        let inode = Arc::new(Inode::new(self.below.create(&nameless)?)?);
        names.done.push(Change::Create {
            name: name.to_owned(),
            nameless,
        });
        names.open.insert(name.to_owned(), Arc::clone(&inode));
        Ok(Self::handle(name, inode))
    }

    fn open(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let inode = self.inode(&mut self.names(), name)?;
        Ok(Self::handle(name, inode))
    }

    fn exists(&self, name: &str) -> DiskResult<bool> {
        self.exists_in(&self.names(), name)
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        let mut names = self.names();
        let inode = self.inode(&mut names, from)?;
        self.below.list(parent(to))?;
        if from == to {
            return Ok(());
        }
        names.done.push(Change::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        names.open.remove(from);
        names.open.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> DiskResult<()> {
        let mut names = self.names();
        if !self.exists_in(&names, name)? {
            return Err(not_found("remove", name));
        }
        names.done.push(Change::Remove { name: name.to_owned() });
        names.open.remove(name);
        Ok(())
    }

    fn list(&self, dir: &str) -> DiskResult<Vec<String>> {
        let names = self.names();
        let mut listed: BTreeSet<String> = self.below.list(dir)?.into_iter().collect();
        let short = |name: &str| {
            let inside = (parent(name) == dir).then(|| name.rsplit('/').next().unwrap_or(name));
            inside.map(str::to_owned)
        };
        for change in &names.done {
            match change {
                Change::Create { name, .. } => listed.extend(short(name)),
                Change::Rename { from, to } => {
                    if let Some(from) = short(from) {
                        listed.remove(&from);
                    }
                    listed.extend(short(to));
                }
                Change::Remove { name } => {
                    if let Some(name) = short(name) {
                        listed.remove(&name);
                    }
                }
            }
        }
        Ok(listed.into_iter().collect())
    }

    fn create_dir(&self, dir: &str) -> DiskResult<()> {
        self.below.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> DiskResult<()> {
        let mut names = self.names();
        let last = names.done.iter().rposition(|change| change.touches(dir));
        let mut touched = BTreeSet::from([dir.to_owned()]);
        for change in names.done.drain(..last.map_or(0, |last| last + 1)) {
            match change {
                Change::Create { name, nameless } => {
                    self.below.rename(&nameless, &name)?;
                    touched.insert(parent(&name).to_owned());
                }
                Change::Rename { from, to } => {
                    self.below.rename(&from, &to)?;
                    touched.extend([parent(&from).to_owned(), parent(&to).to_owned()]);
                }
                Change::Remove { name } => {
                    self.below.remove(&name)?;
                    touched.insert(parent(&name).to_owned());
                }
            }
        }
        touched.iter().try_for_each(|dir| self.below.sync_dir(dir))
    }
}

fn not_found(op: &'static str, name: &str) -> DiskError {
    DiskError::new(op, name, io::Error::from(io::ErrorKind::NotFound))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the node; what another thread sees until then was whole between two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One file: what it has below, and the pages that are ahead of that.
#[derive(Debug)]
struct Inode {
    state: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    below: Box<dyn DiskFile>,
    /// The length, as the process sees it.
    len: u64,
    /// The file's length below.
    below_len: u64,
    /// Up to where what stands below is still true: a truncation hides what is behind it.
    valid: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Inode {
    fn new(below: Box<dyn DiskFile>) -> DiskResult<Self> {
        let len = below.len()?;
        let content = Content {
            below,
            len,
            below_len: len,
            valid: len,
            pages: BTreeMap::new(),
        };
        Ok(Self {
            state: Mutex::new(content),
        })
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        lock(&self.state).truncate(len)
    }
}

impl Content {
    /// A page as it reads: the cached one, or what is true below, and zeros.
    fn load(&self, number: u64) -> DiskResult<Box<[u8; PAGE]>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = Box::new([0; PAGE]);
        let start = number * PAGE_BYTES;
        let there = usize::try_from(self.valid.saturating_sub(start))
            .unwrap_or(PAGE)
            .min(PAGE);
        if there > 0 {
            self.below.read_at(start, &mut page[..there])?;
        }
        Ok(page)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, inside) = split(at);
            let take = rest.len().min(PAGE - inside);
            if !self.pages.contains_key(&number) {
                let page = self.load(number)?;
                self.pages.insert(number, page);
            }
            if let Entry::Occupied(mut page) = self.pages.entry(number) {
                page.get_mut()[inside..inside + take].copy_from_slice(&rest[..take]);
            }
            rest = &rest[take..];
            at += take as u64;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        if self.pages.len() > PAGES_MAX {
            self.write_below()?;
        }
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> DiskResult<()> {
        let mut filled = 0;
        while filled < buf.len() {
            let (number, inside) = split(offset + filled as u64);
            let take = (buf.len() - filled).min(PAGE - inside);
            let page = self.load(number)?;
            buf[filled..filled + take].copy_from_slice(&page[inside..inside + take]);
            filled += take;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> DiskResult<()> {
        if len < self.len {
            let (number, inside) = split(len);
            self.pages.split_off(&(number + u64::from(inside > 0)));
            if let Some(page) = self.pages.get_mut(&number) {
                page[inside..].fill(0);
            }
            self.valid = self.valid.min(len);
        }
        self.len = len;
        Ok(())
    }

    /// Writes what is ahead to the file below, without making it durable.
    fn write_below(&mut self) -> DiskResult<()> {
        if self.below_len > self.valid {
            self.below.truncate(self.valid)?;
            self.below_len = self.valid;
        }
        for (number, page) in &self.pages {
            let start = number * PAGE_BYTES;
            let there = usize::try_from(self.len.saturating_sub(start))
                .unwrap_or(PAGE)
                .min(PAGE);
            self.below.write_at(start, &page[..there])?;
            self.below_len = self.below_len.max(start + there as u64);
        }
        if self.below_len != self.len {
            self.below.truncate(self.len)?;
        }
        (self.below_len, self.valid) = (self.len, self.len);
        self.pages.clear();
        Ok(())
    }
}

/// The page that `offset` is in, and where in it.
fn split(offset: u64) -> (u64, usize) {
    let inside = usize::try_from(offset % PAGE_BYTES).unwrap_or(0);
    (offset / PAGE_BYTES, inside)
}

#[derive(Debug)]
struct VolatileFile {
    name: String,
    inode: Arc<Inode>,
}

impl VolatileFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.inode.state)
    }

    /// The error with the name that the file has here, rather than below.
    fn named<T>(&self, outcome: DiskResult<T>) -> DiskResult<T> {
        outcome.map_err(|error| DiskError {
            file: self.name.clone(),
            ..error
        })
    }
}

impl DiskFile for VolatileFile {
    fn append(&self, bytes: &[u8]) -> DiskResult<()> {
        let mut content = self.content();
        let end = content.len;
        self.named(content.write(end, bytes))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        self.named(self.content().write(offset, bytes))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<()> {
        let content = self.content();
        if offset + buf.len() as u64 > content.len {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(DiskError::new("read", &self.name, source));
        }
        self.named(content.read(offset, buf))
    }

    fn len(&self) -> DiskResult<u64> {
        Ok(self.content().len)
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        self.named(self.content().truncate(len))
    }

    fn sync(&self) -> DiskResult<()> {
        let mut content = self.content();
        let outcome = content.write_below().and_then(|()| content.below.sync());
        self.named(outcome)
    }
}
