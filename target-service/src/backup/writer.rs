//! Writes a node's share of a backup, a part at a time, while the node goes on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use firedrill_proto::chat::v1::LogEntry;

use super::{
    cut::{self, Timeline},
    manifest::{Manifest, ManifestError, Part, below},
    tail::{Batch, Marks},
};
use crate::{
    chat::{Applied, ChatError, Machine, Reply, SnapshotBuild},
    env::{Disk, DiskError, DiskFile},
};

/// Bytes that are written at once, and those after which a file is synced: neither holds the node up for long.
const STEP_BYTES: usize = 256 << 10;
const SYNC_BYTES: u64 = 4 << 20;
/// Bytes of entries that may wait to be written: who can't keep up with what is applied ends.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of entries that may wait while there is a state to be written.
const WAITING_BYTES: usize = 8 << 20;
/// How long it goes on behind the states, at most: for whoever has to say when to end, and for points that fit together.
const TAIL_FOR: Duration = Duration::from_secs(300);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// States are written down.
    Copying,
    /// They are; what is applied is still added.
    Following,
    /// The manifest is written.
    Done,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The folder's disk failed.
    #[error("the backup's disk failed to {0}")]
    Disk(#[from] DiskError),
    /// A state can't be read.
    #[error("shard {shard}: {source}")]
    Chat {
        /// Whose.
        shard: u32,
        /// Why.
        source: ChatError,
    },
    /// The folder has a backup.
    #[error("there is a finished backup {0:?} already: choose another id")]
    Exists(String),
    /// It is of no use any more.
    #[error("{0}")]
    GaveUp(String),
}

impl From<ManifestError> for WriterError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Disk(error) => Self::Disk(error),
            other => Self::GaveUp(other.to_string()),
        }
    }
}

/// One file on its way to the disk.
#[derive(Debug)]
struct File {
    file: Box<dyn DiskFile>,
    bytes: u64,
    unsynced: u64,
    crc: u32,
}

impl File {
    fn create(disk: &dyn Disk, name: &str) -> Result<Self, DiskError> {
        Ok(Self {
            file: disk.create(name)?,
            bytes: 0,
            unsynced: 0,
            crc: 0,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.append(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if self.unsynced > 0 {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

/// One shard.
#[derive(Debug)]
struct Copy {
    /// The state, until it is written.
    build: Option<SnapshotBuild>,
    as_of: (u64, u64),
    snapshot: File,
    tail: File,
    waiting: Vec<u8>,
    last: u64,
    /// The entry that it has to have.
    until: u64,
    timeline: Timeline,
}

/// A node's share of a backup.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    phase: Phase,
    /// Whether somebody will say when to end.
    held: bool,
    copies: BTreeMap<u32, Copy>,
    bytes_per_second: u64,
    /// Bytes that may be written by now.
    budget: u64,
    filled_at: Duration,
    /// Since when all states are written.
    following_since: Duration,
}

impl Writer {
    /// Begins to copy `machines`, as they are now, into the folder of the manifest's id; `until` says which entries it has to
    /// have, by shard. What an earlier attempt of this id left is removed.
    ///
    /// # Errors
    /// [`WriterError`].
    pub fn begin<'a>(
        disk: Arc<dyn Disk>,
        manifest: Manifest,
        machines: impl IntoIterator<Item = &'a Machine>,
        until: &BTreeMap<u32, u64>,
        held: bool,
        (bytes_per_second, now): (u64, Duration),
    ) -> Result<Self, WriterError> {
        let dir = manifest.id.clone();
        disk.create_dir(&dir)?;
        if Manifest::exists(&*disk, &dir)? {
            return Err(WriterError::Exists(dir));
        }
        for name in disk.list(&dir)? {
            disk.remove(&below(&dir, &name))?;
        }
        let mut copies = BTreeMap::new();
        for machine in machines {
            let shard = machine.shard();
            let chat = |source| WriterError::Chat { shard, source };
            let build = machine.begin_snapshot().map_err(chat)?;
            let as_of = build.as_of();
            let mut copy = Copy {
                build: Some(build),
                as_of,
                snapshot: File::create(&*disk, &below(&dir, &Part::snapshot_file(shard)))?,
                tail: File::create(&*disk, &below(&dir, &Part::tail_file(shard)))?,
                waiting: Vec::new(),
                last: as_of.0,
                until: until.get(&shard).copied().unwrap_or_default(),
                timeline: Timeline::default(),
            };
            let others = 0..machine.shards();
            let marks = marks(machine, others).map_err(chat)?;
            copy.add(Batch {
                end: as_of.0,
                term: as_of.1,
                entries: Vec::new(),
                marks,
            });
            copies.insert(shard, copy);
        }
        Ok(Self {
            disk,
            manifest,
            phase: Phase::Copying,
            held,
            copies,
            bytes_per_second,
            budget: 0,
            filled_at: now,
            following_since: now,
        })
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// How far it is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Shards whose state is written, of how many, and bytes written.
    #[must_use]
    pub fn progress(&self) -> (usize, usize, u64) {
        let written = self.copies.values().filter(|copy| copy.build.is_none()).count();
        let bytes = self.copies.values().map(|copy| copy.snapshot.bytes + copy.tail.bytes);
        (written, self.copies.len(), bytes.sum())
    }

    /// Nobody has to say when to end any more.
    pub const fn finish(&mut self) {
        self.held = false;
    }

    /// Whether what `shard` applies belongs into it.
    #[must_use]
    pub fn follows(&self, shard: u32) -> bool {
        self.phase != Phase::Done && self.copies.contains_key(&shard)
    }

    /// Adds what a shard has applied.
    ///
    /// # Errors
    /// When the state can't be read, or too much waits to be written.
    pub fn applied(&mut self, machine: &Machine, entries: Vec<LogEntry>, applied: &Applied) -> Result<(), WriterError> {
        let shard = machine.shard();
        let Some(copy) = self.copies.get_mut(&shard).filter(|_| self.phase != Phase::Done) else {
            return Ok(());
        };
        let Some((end, term)) = entries.last().map(|entry| (entry.index, entry.term)) else {
            return Ok(());
        };
        if entries.first().is_some_and(|first| first.index != copy.last + 1) {
            return Err(WriterError::GaveUp(format!(
                "shard {shard} went on at entry {end} behind entry {}: what is between came as a snapshot",
                copy.last
            )));
        }
        let mut others = applied.outboxes.clone();
        for outcome in &applied.outcomes {
            match &outcome.reply {
                Reply::Accepted { from_shard, .. } => drop(others.insert(*from_shard)),
                Reply::Trimmed { to_shard, .. } => drop(others.insert(*to_shard)),
                Reply::TrimmedAll(trimmed) => others.extend(trimmed.keys()),
                _ => {}
            }
        }
        let marks = marks(machine, others).map_err(|source| WriterError::Chat { shard, source })?;
        copy.add(Batch {
            end,
            term,
            entries,
            marks,
        });
        let waiting: usize = self.copies.values().map(|copy| copy.waiting.len()).sum();
        if waiting > WAITING_BYTES_MAX {
            return Err(WriterError::GaveUp(format!(
                "{waiting} bytes of entries wait to be written: raise backup_bytes_per_second, which is {}",
                self.bytes_per_second
            )));
        }
        Ok(())
    }

    /// Writes as much as may be written by now.
    ///
    /// # Errors
    /// [`WriterError`]: then there is no backup.
    pub fn step(&mut self, now: Duration, wall_ms: u64) -> Result<Phase, WriterError> {
        self.refill(now);
        while self.phase != Phase::Done && self.budget > 0 {
            let waiting: usize = self.copies.values().map(|copy| copy.waiting.len()).sum();
            // States first, or entries that come as fast as they can be written would keep them from ever being whole.
            let next = self.copies.iter_mut().find(|(_, copy)| copy.build.is_some());
            if let Some((&shard, copy)) = next.filter(|_| waiting < WAITING_BYTES) {
                let bytes = usize::try_from(self.budget).unwrap_or(STEP_BYTES).min(STEP_BYTES);
                let written = copy.step(bytes).map_err(|error| error.of(shard))?;
                self.budget = self.budget.saturating_sub(written);
            } else if let Some(copy) = self.copies.values_mut().find(|copy| !copy.waiting.is_empty()) {
                let bytes = copy.waiting.len().min(STEP_BYTES);
                copy.tail.append(&copy.waiting[..bytes])?;
                copy.waiting.drain(..bytes);
                self.budget = self.budget.saturating_sub(bytes as u64);
            } else if self.phase == Phase::Copying {
                self.phase = Phase::Following;
                self.following_since = now;
            } else {
                self.end_if_it_fits(now, wall_ms)?;
                break;
            }
        }
        Ok(self.phase)
    }

    fn refill(&mut self, now: Duration) {
        let most = match self.bytes_per_second {
            0 => u64::MAX,
            rate => rate,
        };
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = now;
        let more = (passed * most as f64) as u64;
        // What one moment may do is bounded, however long nobody came.
        self.budget = self.budget.saturating_add(more).min(most / 8 + 1).min(4 * SYNC_BYTES);
    }

    /// Ends once every shard has come far enough and points fit together, unless somebody says when.
    fn end_if_it_fits(&mut self, now: Duration, wall_ms: u64) -> Result<(), WriterError> {
        let lags = self.copies.iter().find(|(_, copy)| copy.last < copy.until);
        let why = if self.held {
            "nobody said that it may end".to_owned()
        } else if let Some((shard, copy)) = lags {
            format!("shard {shard} has applied {} of {} entries", copy.last, copy.until)
        } else if let Err(error) = self.fits() {
            error.to_string()
        } else {
            return self.end(wall_ms);
        };
        if now.saturating_sub(self.following_since) > TAIL_FOR {
            return Err(WriterError::GaveUp(format!("{why} within {TAIL_FOR:?}")));
        }
        Ok(())
    }

    /// Whether points fit together, among the shards of this node; others are compared when all shares are there.
    fn fits(&self) -> Result<(), cut::NoCut> {
        let timelines = self.copies.iter().map(|(shard, copy)| (*shard, copy.timeline.clone()));
        cut::latest(&timelines.collect()).map(drop)
    }

    fn end(&mut self, wall_ms: u64) -> Result<(), WriterError> {
        for (&shard, copy) in &mut self.copies {
            copy.snapshot.sync()?;
            copy.tail.sync()?;
            self.manifest.parts.push(Part {
                shard,
                index: copy.as_of.0,
                term: copy.as_of.1,
                snapshot_bytes: copy.snapshot.bytes,
                snapshot_crc: copy.snapshot.crc,
                last_index: copy.last,
                tail_bytes: copy.tail.bytes,
                tail_crc: copy.tail.crc,
            });
        }
        self.disk.sync_dir(&self.manifest.id)?;
        self.disk.sync_dir("")?;
        self.manifest.ended_ms = wall_ms;
        self.manifest.write(&*self.disk, &self.manifest.id)?;
        self.phase = Phase::Done;
        Ok(())
    }
}

/// What went wrong with one copy.
enum StepError {
    Disk(DiskError),
    Chat(ChatError),
}

impl StepError {
    fn of(self, shard: u32) -> WriterError {
        match self {
            Self::Disk(error) => WriterError::Disk(error),
            Self::Chat(source) => WriterError::Chat { shard, source },
        }
    }
}

impl Copy {
    fn add(&mut self, batch: Batch) {
        self.timeline.push(batch.end, &batch.marks);
        self.last = batch.end;
        batch.write(&mut self.waiting);
    }

    /// Writes about `bytes` of the state, and says how many it were.
    fn step(&mut self, bytes: usize) -> Result<u64, StepError> {
        let Some(build) = &mut self.build else { return Ok(0) };
        let (part, whole) = build.part(bytes).map_err(StepError::Chat)?;
        self.snapshot.append(&part).map_err(StepError::Disk)?;
        if whole {
            self.build = None;
            self.snapshot.sync().map_err(StepError::Disk)?;
        }
        Ok(part.len() as u64)
    }
}

/// How a shard stands to others.
fn marks(machine: &Machine, others: impl IntoIterator<Item = u32>) -> Result<Vec<Marks>, ChatError> {
    let mut marks = Vec::new();
    for other in others {
        let (posted, trimmed) = machine.outbox_stands(other)?;
        let accepted = machine.accepted_through(other)?;
        if posted + accepted > 0 {
            marks.push(Marks {
                other,
                posted,
                trimmed,
                accepted,
            });
        }
    }
    Ok(marks)
}
