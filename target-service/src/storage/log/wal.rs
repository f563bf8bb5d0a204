//! The log itself: append, sync, rotate, purge.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use prost::Message as _;

use super::{
    record::{Record, WriteBatch},
    replay::Replay,
    segment::{self, HEADER, Header},
    shard::ShardLog,
};
use crate::{
    env::{Disk, DiskError, DiskFile},
    storage::StorageError,
};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment of at least this many bytes is followed by a new one; from 4 KiB to 1 GiB.
    pub segment_bytes: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
        }
    }
}

/// Counters of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Segments on the disk.
    pub segments: u64,
    /// Syncs since the log was opened.
    pub syncs: u64,
}

/// Bytes that wait for a flush are bounded by this, so that offsets in a segment fit their field.
const BUFFER_MAX_BYTES: usize = 1 << 30;

/// Bytes of a shard's entries that are written anew at once, well below what a frame can hold.
const CARRIED_BYTES_MAX: u64 = 32 << 20;

/// The log of a node.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: String,
    options: LogOptions,
    /// From the oldest to the active one.
    segments: VecDeque<Segment>,
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// How much of the active segment is known to be synced, in bytes.
    durable: u32,
    shards: BTreeMap<u32, ShardLog>,
    syncs: u64,
    failed: Option<String>,
}

#[derive(Debug)]
struct Segment {
    sequence: u64,
    len: u64,
    /// The highest index of each shard that stands in this segment.
    highest: BTreeMap<u32, u64>,
}

impl Log {
    /// Opens the log in `dir`, or starts one there. A torn tail is cut off.
    ///
    /// # Errors
    /// When the disk fails, or holds what was not written there: then file and offset are named.
    pub fn open(disk: Arc<dyn Disk>, dir: &str, options: LogOptions) -> Result<Self, StorageError> {
        let options = LogOptions {
            segment_bytes: options.segment_bytes.clamp(4 << 10, 1 << 30),
        };
        disk.create_dir(dir)?;
        let mut sequences = Vec::new();
        for name in disk.list(dir)? {
            if name.ends_with(segment::UNFINISHED) {
                disk.remove(&format!("{dir}/{name}"))?;
            } else if let Some(sequence) = segment::sequence_of(&name) {
                sequences.push(sequence);
            }
        }
        sequences.sort_unstable();
        if sequences.is_empty() {
            create(&*disk, dir, 1, 0, &[])?;
            sequences.push(1);
        }
        let (segments, shards) = read_segments(&*disk, dir, &sequences)?;
        let active = segments.back().map_or(1, |s| s.sequence);
        let durable = segments.back().map_or(0, |s| u32::try_from(s.len).unwrap_or(u32::MAX));
        let file = disk.open(&segment::path(dir, active))?;
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            options,
            segments,
            file,
            buffer: Vec::new(),
            durable,
            shards,
            syncs: 0,
            failed: None,
        };
        log.rotate_if_full()?;
        Ok(log)
    }

    /// The log of one shard; empty if it never wrote any.
    pub fn shard(&mut self, shard: u32) -> ShardLog {
        self.shards.entry(shard).or_default().clone()
    }

    /// Takes a batch: readers see it at once, the disk has it after [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`StorageError::Misuse`] when entries don't follow what is there, or one is too large to be read again; then
    /// nothing of the batch is taken.
    /// [`StorageError::Fatal`] when the log failed earlier.
    pub fn append(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        self.alive()?;
        for (&shard, writes) in &batch.shards {
            let log = self.shards.entry(shard).or_default();
            let (base, last) = match writes.snapshot {
                Some((index, _)) if index < log.base().0 => {
                    let what = format!(
                        "snapshot {index} is older than the log, which starts behind {}",
                        log.base().0
                    );
                    return Err(StorageError::Misuse { shard, what });
                }
                Some((index, _)) => (index, index),
                None => (log.base().0, log.last_index()),
            };
            log.check(base, last, &writes.entries)
                .map_err(|what| StorageError::Misuse { shard, what })?;
            if let Some(entry) = writes.entries.iter().find(|entry| !Record::fits(entry)) {
                let what = format!("entry {} has {} bytes", entry.index, entry.encoded_len());
                return Err(StorageError::Misuse { shard, what });
            }
        }
        for (shard, writes) in batch.shards {
            for record in writes.into_records() {
                self.write(shard, record);
            }
        }
        if self.buffer.len() > BUFFER_MAX_BYTES {
            return self.sync();
        }
        Ok(())
    }

    /// Forgets the entries of `shard` up to and with `index`: a durable checkpoint or snapshot covers them. Their
    /// segments go once nothing in them is needed. An index that was released before changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Misuse`] when `index` is beyond the log, [`StorageError::Fatal`] when the log failed earlier.
    pub fn release(&mut self, shard: u32, index: u64) -> Result<(), StorageError> {
        self.alive()?;
        let log = self.shards.entry(shard).or_default();
        if index <= log.base().0 {
            return Ok(());
        }
        let term = log.term(index).map_err(|e| StorageError::Misuse {
            shard,
            what: format!("release of {index}, which is {e}"),
        })?;
        self.write(shard, Record::Released { index, term });
        Ok(())
    }

    /// Forgets a shard that is held here no more, but for its term and vote: whoever voted must not vote again.
    ///
    /// # Errors
    /// [`StorageError::Fatal`] when the log failed earlier.
    pub fn forget(&mut self, shard: u32) -> Result<(), StorageError> {
        self.alive()?;
        for segment in &mut self.segments {
            segment.highest.remove(&shard);
        }
        self.write(shard, Record::Forgotten);
        Ok(())
    }

    /// Writes the entries that `shard` still needs once more, so that older segments need not be kept for them: for entries
    /// that can't be released yet, such as those of a shard without a majority. Returns whether that was done: more than
    /// fits into one frame is left where it is.
    ///
    /// # Errors
    /// [`StorageError::Fatal`] when the log failed earlier.
    pub fn carry_forward(&mut self, shard: u32) -> Result<bool, StorageError> {
        self.alive()?;
        let log = self.shards.entry(shard).or_default();
        let entries = log.all();
        // One frame: half of them would stand for all, and cut off the rest.
        if log.bytes() + 5 * entries.len() as u64 > CARRIED_BYTES_MAX {
            return Ok(false);
        }
        for segment in &mut self.segments {
            segment.highest.remove(&shard);
        }
        if !entries.is_empty() {
            self.write(shard, Record::Entries(entries));
        }
        Ok(true)
    }

    /// Writes what was appended to the file, without making it durable: it survives the process, not the machine.
    ///
    /// # Errors
    /// [`StorageError::Fatal`], now and from then on.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        self.alive()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.append(&self.buffer);
        self.fatal(written)?;
        if let Some(active) = self.segments.back_mut() {
            active.len += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything that was appended durable, for all shards at once; starts a new segment when this one is full,
    /// and removes those that nothing needs. Does nothing if all is durable already.
    ///
    /// # Errors
    /// [`StorageError::Fatal`], now and from then on: the process has to end.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        let len = self.segments.back().map_or(0, |s| s.len);
        if len == u64::from(self.durable) {
            return Ok(());
        }
        let synced = self.file.sync();
        self.fatal(synced)?;
        self.syncs += 1;
        self.durable = u32::try_from(len).unwrap_or(u32::MAX);
        let tidied = self.rotate_if_full().and_then(|()| self.purge());
        self.fatal(tidied)
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        LogStats {
            bytes: self.segments.iter().map(|s| s.len).sum(),
            segments: self.segments.len() as u64,
            syncs: self.syncs,
        }
    }

    /// The shards whose unreleased entries keep the oldest segment, when there are more than `max_segments`:
    /// a checkpoint of these lets it go. Else a quiet shard would keep the log of the busy ones for ever.
    #[must_use]
    pub fn holding_back(&self, max_segments: usize) -> Vec<u32> {
        match self.segments.front() {
            Some(oldest) if self.segments.len() > max_segments => self.needed(oldest).collect(),
            _ => Vec::new(),
        }
    }

    fn needed<'a>(&'a self, segment: &'a Segment) -> impl Iterator<Item = u32> + 'a {
        let needed = segment.highest.iter().filter(|(shard, highest)| {
            let base = self.shards.get(shard).map_or(0, |log| log.base().0);
            **highest > base
        });
        needed.map(|(shard, _)| *shard)
    }

    fn alive(&self) -> Result<(), StorageError> {
        match &self.failed {
            Some(cause) => Err(StorageError::Fatal { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers a failure for ever.
    fn fatal<E: std::fmt::Display>(&mut self, result: Result<(), E>) -> Result<(), StorageError> {
        if let Err(error) = result {
            self.failed = Some(error.to_string());
        }
        self.alive()
    }

    fn write(&mut self, shard: u32, record: Record) {
        record.write(&mut self.buffer, self.durable, shard);
        if let Record::Entries(entries) = &record
            && let (Some(active), Some(last)) = (self.segments.back_mut(), entries.last())
        {
            let highest = active.highest.entry(shard).or_default();
            *highest = last.index.max(*highest);
        }
        self.shards.entry(shard).or_default().apply(record);
    }

    fn rotate_if_full(&mut self) -> Result<(), DiskError> {
        let Some(active) = self.segments.back() else {
            return Ok(());
        };
        if active.len < u64::from(self.options.segment_bytes) {
            return Ok(());
        }
        let sequence = active.sequence + 1;
        let mut prelude = Vec::new();
        for (&shard, log) in &self.shards {
            for record in log.prelude() {
                record.write(&mut prelude, 0, shard);
            }
        }
        let len = create(&*self.disk, &self.dir, sequence, self.durable, &prelude)?;
        self.file = self.disk.open(&segment::path(&self.dir, sequence))?;
        self.durable = len;
        self.segments.push_back(Segment {
            sequence,
            len: u64::from(len),
            highest: BTreeMap::new(),
        });
        Ok(())
    }

    fn purge(&mut self) -> Result<(), DiskError> {
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && self.needed(oldest).next().is_none()
        {
            self.disk.remove(&segment::path(&self.dir, oldest.sequence))?;
            // Each removal is durable before the next, so that a power loss can't leave a gap between segments.
            self.disk.sync_dir(&self.dir)?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// Makes a segment that is durable with its prelude before it has its name. Returns its length.
fn create(disk: &dyn Disk, dir: &str, sequence: u64, previous_len: u32, prelude: &[u8]) -> Result<u32, DiskError> {
    let path = segment::path(dir, sequence);
    let header = Header {
        sequence,
        previous_len,
        prelude_len: u32::try_from(prelude.len()).unwrap_or(u32::MAX),
    };
    publish(disk, dir, &path, &[&header.to_bytes(), prelude].concat())?;
    Ok(u32::try_from(HEADER + prelude.len()).unwrap_or(u32::MAX))
}

/// Gives a name to bytes that are durable by then, or leaves what had it.
fn publish(disk: &dyn Disk, dir: &str, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let unfinished = format!("{path}{}", segment::UNFINISHED);
    let file = disk.create(&unfinished)?;
    file.append(bytes)?;
    file.sync()?;
    disk.rename(&unfinished, path)?;
    disk.sync_dir(dir)
}

type Read = (VecDeque<Segment>, BTreeMap<u32, ShardLog>);

fn read_segments(disk: &dyn Disk, dir: &str, sequences: &[u64]) -> Result<Read, StorageError> {
    let mut replay = Replay::default();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut end = (String::new(), 0);
    for (i, &sequence) in sequences.iter().enumerate() {
        let path = segment::path(dir, sequence);
        let file = disk.open(&path)?;
        let bytes = crate::env::read_all(&*file)?;
        let corrupt = |what: String| StorageError::Corrupt {
            file: path.clone(),
            offset: 0,
            what,
        };
        let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut forgotten = BTreeSet::new();
        let last = i + 1 == sequences.len();
        let scanned = segment::scan(&path, &bytes, last, |frame| {
            let record = Record::read(frame.kind, frame.payload)?;
            if let Record::Entries(entries) = &record
                && let Some(last) = entries.last()
            {
                let highest = highest.entry(frame.shard).or_default();
                *highest = last.index.max(*highest);
            }
            if record == Record::Forgotten {
                highest.remove(&frame.shard);
                forgotten.insert(frame.shard);
            }
            replay.take(frame.shard, record);
            Ok(())
        })?;
        if scanned.header.sequence != sequence {
            let what = format!("it says that it is segment {}", scanned.header.sequence);
            return Err(corrupt(what));
        }
        if let Some(previous) = segments.back() {
            if previous.sequence + 1 != sequence {
                let what = format!("segment {} is missing before it", previous.sequence + 1);
                return Err(corrupt(what));
            }
            if previous.len != u64::from(scanned.header.previous_len) {
                let (before, path) = (scanned.header.previous_len, segment::path(dir, previous.sequence));
                let what = format!(
                    "{path} had {before} bytes when this was started, and has {}",
                    previous.len
                );
                return Err(corrupt(what));
            }
        }
        if scanned.whole_len < bytes.len() {
            tracing::warn!(
                file = path,
                from = bytes.len(),
                to = scanned.whole_len,
                "cut off a torn tail of the log"
            );
        }
        if last {
            // What was read may stand only in the page cache: a process that was killed, or ended because a sync
            // failed, leaves it there. After a failed sync those pages even count as clean, and no later sync of the
            // same file would write them. So they are written anew.
            publish(disk, dir, &path, &bytes[..scanned.whole_len])?;
        }
        for segment in &mut segments {
            segment.highest.retain(|shard, _| !forgotten.contains(shard));
        }
        end = (path.clone(), scanned.whole_len as u64);
        segments.push_back(Segment {
            sequence,
            len: scanned.whole_len as u64,
            highest,
        });
    }
    let shards = replay.finish().map_err(|what| StorageError::Corrupt {
        file: end.0,
        offset: end.1,
        what,
    })?;
    Ok((segments, shards))
}
