//! A disk in memory that forgets what was not synced.
//!
//! The model: a file's unsynced writes may or may not have reached the platter, in any order and in part (sectors of
//! 512 bytes); names change in order, and the last unsynced changes may be forgotten. A sync that fails leaves the
//! bytes readable but never durable, and a later sync that succeeds doesn't bring them back, as on Linux.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::disk::{Disk, DiskError, DiskFile, DiskResult, parent};

const SECTOR: usize = 512;

/// The disk of a simulated machine. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The boot that this handle belongs to; `None` outlives crashes.
    boot: Option<u64>,
}

#[derive(Default)]
struct State {
    boot: u64,
    files: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    renames: Vec<NameChange>,
    dirs: BTreeSet<String>,
    capacity_bytes: Option<u64>,
    failing_syncs: Vec<String>,
    /// After how many calls the power goes, and what decides over what was not synced then.
    cut: Option<(u64, ChaCha8Rng)>,
    lying: Option<String>,
    syncs: u64,
    written_bytes: u64,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// A change of a file's bytes that was not synced.
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A change of names that was not synced.
enum NameChange {
    Link { name: String, inode: Inode },
    Unlink { name: String },
    Rename { from: String, to: String },
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_into(data, *offset, bytes),
            Self::Length(len) => data.resize(*len, 0),
        }
    }
}

impl NameChange {
    fn dirs(&self) -> (&str, &str) {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => (parent(name), parent(name)),
            Self::Rename { from, to } => (parent(from), parent(to)),
        }
    }

    fn apply(self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name, inode);
            }
            Self::Unlink { name } => {
                names.remove(&name);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

fn write_into(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[offset..end].copy_from_slice(bytes);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere must not hide its message behind a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk")
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk. This handle survives crashes: it is the experimenter's.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            boot: None,
        }
    }

    /// The disk as the machine sees it until its next [`crash`](Self::crash) or [`power_loss`](Self::power_loss).
    #[must_use]
    pub fn attach(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            boot: Some(lock(&self.state).boot),
        }
    }

    /// The process dies: its handles are dead, what it wrote stays in the page cache.
    pub fn crash(&self) {
        lock(&self.state).boot += 1;
    }

    /// The machine loses power: handles are dead, and what was not synced is kept, torn or lost as `rng` says.
    pub fn power_loss(&self, rng: &mut ChaCha8Rng) {
        lock(&self.state).lose_power(rng);
    }

    /// The machine loses power at its call to the disk after `calls` more: that call fails, and all that follow. What
    /// becomes of what was not synced is drawn from `rng`, as at a [`power_loss`](Self::power_loss).
    pub fn cut_power_after(&self, calls: u64, rng: ChaCha8Rng) {
        lock(&self.state).cut = Some((calls, rng));
    }

    /// The next sync of a file whose name starts with `prefix` fails.
    pub fn fail_next_sync(&self, prefix: &str) {
        lock(&self.state).failing_syncs.push(prefix.to_owned());
    }

    /// Takes back what [`fail_next_sync`](Self::fail_next_sync) and [`cut_power_after`](Self::cut_power_after) asked for
    /// and has not happened.
    pub fn disarm(&self) {
        let mut state = lock(&self.state);
        state.failing_syncs.clear();
        state.cut = None;
    }

    /// From now on syncs of files whose names start with this succeed without making anything durable, as on a device
    /// that lies; `None` ends that.
    pub fn set_lying(&self, prefix: Option<&str>) {
        lock(&self.state).lying = prefix.map(str::to_owned);
    }

    /// Writes that would grow the disk beyond this many bytes fail; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.state).capacity_bytes = bytes;
    }

    /// Flips bits of the byte at `offset` of a file, on the platter and in the cache: rot.
    ///
    /// # Errors
    /// When there is no such file or byte, or `mask` flips nothing.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> DiskResult<()> {
        let state = lock(&self.state);
        let invalid = |what: &str| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
            DiskError::new("flip a bit of", name, source)
        };
        let inode = state.files.get(name).ok_or_else(|| invalid("no such file"))?;
        let mut content = lock(inode);
        let at = usize::try_from(offset).map_err(|_| invalid("offset out of range"))?;
        if mask == 0 || at >= content.live.len() {
            return Err(invalid("nothing to flip there"));
        }
        content.live[at] ^= mask;
        if let Some(byte) = content.durable.get_mut(at) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// How many syncs of files succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// How many bytes were written to files.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        lock(&self.state).written_bytes
    }

    fn alive(&self, op: &'static str, name: &str) -> DiskResult<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        if self.boot == Some(state.boot) {
            state.come_closer_to_the_cut();
        }
        if self.boot.is_some_and(|boot| boot != state.boot) {
            let source = io::Error::new(io::ErrorKind::BrokenPipe, "the machine went down");
            return Err(DiskError::new(op, name, source));
        }
        Ok(state)
    }

    fn handle(&self, boot: u64, name: &str, inode: Inode) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            disk: Self {
                state: Arc::clone(&self.state),
                boot: Some(boot),
            },
            name: name.to_owned(),
            inode,
        })
    }
}

impl State {
    fn lose_power(&mut self, rng: &mut ChaCha8Rng) {
        self.boot += 1;
        let changes = std::mem::take(&mut self.renames);
        let kept = rng.random_range(0..=changes.len());
        for change in changes.into_iter().take(kept) {
            change.apply(&mut self.durable);
        }
        self.files = self.durable.clone();
        for inode in self.files.values() {
            lock(inode).lose(rng);
        }
    }

    fn come_closer_to_the_cut(&mut self) {
        if let Some((calls @ 1.., _)) = &mut self.cut {
            *calls -= 1;
        } else if let Some((_, mut rng)) = self.cut.take() {
            self.lose_power(&mut rng);
        }
    }
}

impl Content {
    /// Settles what was pending when the power went: each change survives, is torn, or is lost.
    fn lose(&mut self, rng: &mut ChaCha8Rng) {
        let pending = std::mem::take(&mut self.pending);
        // One in two: the writes reached the platter in order, up to a point. Otherwise in any order.
        let ordered = rng.random_bool(0.5);
        let kept = rng.random_range(0..=pending.len());
        for (i, change) in pending.into_iter().enumerate() {
            if !ordered {
                change.tear(&mut self.durable, rng);
            } else if i < kept {
                change.apply(&mut self.durable);
            } else if i == kept
                && let Change::Write { offset, bytes } = &change
            {
                let torn = rng.random_range(0..=bytes.len());
                write_into(&mut self.durable, *offset, &bytes[..torn]);
            }
        }
        self.live = self.durable.clone();
    }
}

impl Change {
    /// Applies a random choice of the sectors of this change.
    fn tear(&self, data: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        match self {
            Self::Length(len) => {
                if rng.random_bool(0.5) {
                    data.resize(*len, 0);
                }
            }
            Self::Write { offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
                    if rng.random_bool(0.5) {
                        write_into(data, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

fn missing(op: &'static str, name: &str) -> DiskError {
    DiskError::new(op, name, io::Error::new(io::ErrorKind::NotFound, "no such file"))
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let mut state = self.alive("create", name)?;
        if !state.dirs.contains(parent(name)) && !parent(name).is_empty() {
            return Err(missing("create", name));
        }
        let inode = if let Some(inode) = state.files.get(name) {
            let mut content = lock(inode);
            content.live.clear();
            content.pending.push(Change::Length(0));
            Arc::clone(inode)
        } else {
            let inode = Inode::default();
            state.files.insert(name.to_owned(), Arc::clone(&inode));
            state.renames.push(NameChange::Link {
                name: name.to_owned(),
                inode: Arc::clone(&inode),
            });
            inode
        };
        Ok(self.handle(state.boot, name, inode))
    }

    fn open(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let state = self.alive("open", name)?;
        let inode = state.files.get(name).ok_or_else(|| missing("open", name))?;
        Ok(self.handle(state.boot, name, Arc::clone(inode)))
    }

    fn exists(&self, name: &str) -> DiskResult<bool> {
        Ok(self.alive("look for", name)?.files.contains_key(name))
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        let mut state = self.alive("rename", from)?;
        let inode = state.files.remove(from).ok_or_else(|| missing("rename", from))?;
        state.files.insert(to.to_owned(), inode);
        state.renames.push(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> DiskResult<()> {
        let mut state = self.alive("remove", name)?;
        state.files.remove(name).ok_or_else(|| missing("remove", name))?;
        state.renames.push(NameChange::Unlink { name: name.to_owned() });
        Ok(())
    }

    fn list(&self, dir: &str) -> DiskResult<Vec<String>> {
        let state = self.alive("list", dir)?;
        if !dir.is_empty() && !state.dirs.contains(dir) {
            return Err(missing("list", dir));
        }
        let names = state.files.keys().filter(|name| parent(name) == dir);
        Ok(names
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect())
    }

    fn create_dir(&self, dir: &str) -> DiskResult<()> {
        let mut state = self.alive("create directory", dir)?;
        // Directories are made once, when a node is set up; they are durable at once to keep the model small.
        let mut dir = dir;
        while !dir.is_empty() {
            state.dirs.insert(dir.to_owned());
            dir = parent(dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> DiskResult<()> {
        let mut state = self.alive("sync directory", dir)?;
        // Names change in order: syncing a directory also settles whatever came before in others.
        let last = state.renames.iter().rposition(|change| {
            let (a, b) = change.dirs();
            a == dir || b == dir
        });
        if let Some(last) = last {
            let settled: Vec<_> = state.renames.drain(..=last).collect();
            for change in settled {
                change.apply(&mut state.durable);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
    inode: Inode,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("live_bytes", &self.live.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl SimFile {
    /// Grows the file if the disk has room.
    fn write(&self, op: &'static str, offset: Option<u64>, bytes: &[u8]) -> DiskResult<()> {
        let mut state = self.disk.alive(op, &self.name)?;
        let used: u64 = match state.capacity_bytes {
            Some(_) => state.files.values().map(|i| lock(i).live.len() as u64).sum(),
            None => 0,
        };
        let mut content = lock(&self.inode);
        let offset = match offset {
            Some(offset) => usize::try_from(offset)
                .map_err(|_| DiskError::new(op, &self.name, io::ErrorKind::InvalidInput.into()))?,
            None => content.live.len(),
        };
        let growth = (offset + bytes.len()).saturating_sub(content.live.len()) as u64;
        if state.capacity_bytes.is_some_and(|capacity| used + growth > capacity) {
            let source = io::Error::new(io::ErrorKind::StorageFull, "no space left on the disk");
            return Err(DiskError::new(op, &self.name, source));
        }
        state.written_bytes += bytes.len() as u64;
        write_into(&mut content.live, offset, bytes);
        content.pending.push(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn append(&self, bytes: &[u8]) -> DiskResult<()> {
        self.write("append to", None, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        self.write("write", Some(offset), bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<()> {
        let _alive = self.disk.alive("read", &self.name)?;
        let content = lock(&self.inode);
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buf.len())?))
            .and_then(|range| content.live.get(range));
        let Some(bytes) = range else {
            let source = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "{} bytes at {offset}, but the length is {}",
                    buf.len(),
                    content.live.len()
                ),
            );
            return Err(DiskError::new("read", &self.name, source));
        };
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> DiskResult<u64> {
        let _alive = self.disk.alive("stat", &self.name)?;
        Ok(lock(&self.inode).live.len() as u64)
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        let _alive = self.disk.alive("truncate", &self.name)?;
        let mut content = lock(&self.inode);
        let len = usize::try_from(len)
            .map_err(|_| DiskError::new("truncate", &self.name, io::ErrorKind::InvalidInput.into()))?;
        content.live.resize(len, 0);
        content.pending.push(Change::Length(len));
        Ok(())
    }

    fn sync(&self) -> DiskResult<()> {
        let mut state = self.disk.alive("sync", &self.name)?;
        let mut content = lock(&self.inode);
        if state.lying.as_ref().is_some_and(|p| self.name.starts_with(p.as_str())) {
            return Ok(());
        }
        let pending = std::mem::take(&mut content.pending);
        if let Some(i) = state
            .failing_syncs
            .iter()
            .position(|p| self.name.starts_with(p.as_str()))
        {
            state.failing_syncs.remove(i);
            let source = io::Error::other("the device reported a write error");
            return Err(DiskError::new("sync", &self.name, source));
        }
        for change in &pending {
            change.apply(&mut content.durable);
        }
        state.syncs += 1;
        Ok(())
    }
}
