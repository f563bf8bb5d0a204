//! The whole state as bytes, and its digest.
//!
//! A snapshot is: magic, format, every record in key order as (key length, key, value length, value), and a CRC-32C of
//! all before it. Lengths, format and checksum are 32-bit little-endian. Equal states give equal bytes.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableTable as _};
use xxhash_rust::xxh3::Xxh3Default;

use super::{
    Machine,
    error::ChatError,
    keys::Key,
    machine::{check_home, durable},
    records::{FORMAT, Meta},
    store::{self, TABLE},
};

const MAGIC: &[u8; 4] = b"FDCS";
const HEADER: usize = 8;
const CHECKSUM: usize = 4;

/// A snapshot that is being written, a part at a time, while the state goes on: who writes a large one at once does nothing
/// else meanwhile, and a leader that does nothing for long is taken for dead.
pub struct SnapshotBuild {
    /// The state as it was when this began.
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    as_of: (u64, u64),
    out: Vec<u8>,
    /// The key of the last record in `out`.
    last: Option<Vec<u8>>,
    /// So much of `out` is in `checksum`.
    checked: usize,
    checksum: u32,
    #[cfg(any(test, feature = "plants"))]
    plant: Option<super::Plant>,
}

impl std::fmt::Debug for SnapshotBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut it = f.debug_struct("SnapshotBuild");
        it.field("as_of", &self.as_of).field("bytes", &self.out.len()).finish()
    }
}

impl SnapshotBuild {
    /// The index and term that it is of.
    #[must_use]
    pub const fn as_of(&self) -> (u64, u64) {
        self.as_of
    }

    /// Writes at least one more record, and no more once `bytes` were written. Gives the snapshot when it is whole.
    ///
    /// # Errors
    /// When the database fails, a record is damaged, or too large for the format.
    pub fn step(&mut self, bytes: usize) -> Result<Option<Bytes>, ChatError> {
        let until = self.out.len().saturating_add(bytes);
        let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut whole = true;
        for item in self.table.range::<&[u8]>((from, Bound::Unbounded))? {
            if last.is_some() && self.out.len() >= until {
                whole = false;
                break;
            }
            let (key, value) = item?;
            // Damage must not spread to whoever is given this.
            store::unsealed(key.value(), value.value())?;
            last = Some(key.value().to_vec());
            #[cfg(any(test, feature = "plants"))]
            if super::plants::left_out(self.plant, key.value()) {
                continue;
            }
            for part in [key.value(), value.value()] {
                let len = u32::try_from(part.len())
                    .map_err(|_| store::damaged(key.value(), "larger than a snapshot can carry"))?;
                self.out.extend_from_slice(&len.to_le_bytes());
                self.out.extend_from_slice(part);
            }
        }
        self.last = last.or(self.last.take());
        self.checksum = crc32c::crc32c_append(self.checksum, &self.out[self.checked..]);
        self.checked = self.out.len();
        if !whole {
            return Ok(None);
        }
        let mut out = std::mem::take(&mut self.out);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        Ok(Some(out.into()))
    }
}

/// One record of a snapshot.
type Record<'a> = (&'a [u8], &'a [u8]);

impl Machine {
    /// The whole applied state.
    ///
    /// # Errors
    /// When the database fails, or a record is too large for the format.
    pub fn snapshot(&self) -> Result<Bytes, ChatError> {
        let mut building = self.begin_snapshot()?;
        loop {
            if let Some(whole) = building.step(usize::MAX)? {
                return Ok(whole);
            }
        }
    }

    /// Begins to write down the whole applied state, as of now: what is applied meanwhile is not in it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin_snapshot(&self) -> Result<SnapshotBuild, ChatError> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        Ok(SnapshotBuild {
            table: self.read()?,
            as_of: self.applied(),
            out,
            last: None,
            checked: 0,
            checksum: 0,
            #[cfg(any(test, feature = "plants"))]
            plant: self.plant,
        })
    }

    /// Replaces the whole state by a snapshot taken at (`index`, `term`), durably: all of it, or none.
    ///
    /// # Errors
    /// When the snapshot is damaged, of another shard or another index, or older than what is applied (nothing was
    /// changed then), or the database fails.
    pub fn install(&mut self, index: u64, term: u64, data: &[u8]) -> Result<(), ChatError> {
        let (records, meta) = self.checked(index, term, data)?;
        let txn = durable(&self.db)?;
        txn.delete_table(TABLE)?;
        {
            let mut table = txn.open_table(TABLE)?;
            for (key, value) in records {
                table.insert(key, value)?;
            }
        }
        txn.commit()?;
        self.meta = meta;
        Ok(())
    }

    /// Whether [`Machine::install`] would take a snapshot, as far as its bytes tell.
    ///
    /// # Errors
    /// As for [`Machine::install`].
    pub fn check_snapshot(&self, index: u64, term: u64, data: &[u8]) -> Result<(), ChatError> {
        self.checked(index, term, data).map(drop)
    }

    fn checked<'a>(&self, index: u64, term: u64, data: &'a [u8]) -> Result<(Vec<Record<'a>>, Meta), ChatError> {
        let records = parse(data)?;
        let meta = meta_of(&records)?;
        check_home(&meta, self.meta.shard, self.meta.shards)?;
        if (meta.applied_index, meta.applied_term) != (index, term) {
            return Err(refuse(
                0,
                &format!(
                    "its state is of index {} (term {}), {index} (term {term}) was announced",
                    meta.applied_index, meta.applied_term
                ),
            ));
        }
        if index < self.meta.applied_index {
            return Err(refuse(
                0,
                &format!("it is of index {index}, {} is applied", self.meta.applied_index),
            ));
        }
        Ok((records, meta))
    }

    /// A digest of everything applied, the applied index included: replicas at the same index must agree. Reads the
    /// whole state.
    ///
    /// # Errors
    /// When the database fails.
    pub fn digest(&self) -> Result<u64, ChatError> {
        let mut hash = Xxh3Default::new();
        for item in self.read()?.iter()? {
            let (key, value) = item?;
            store::unsealed(key.value(), value.value())?;
            for part in [key.value(), value.value()] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        Ok(hash.digest())
    }
}

fn meta_of(records: &[Record<'_>]) -> Result<Meta, ChatError> {
    match records.first() {
        Some((key, value)) if *key == Key::meta().bytes() => store::decode(key, value),
        _ => Err(refuse(HEADER, "the shard's counters are missing")),
    }
}

/// The records of a snapshot, if its checksum holds and they are in strict order.
fn parse(data: &[u8]) -> Result<Vec<Record<'_>>, ChatError> {
    if data.len() < HEADER + CHECKSUM {
        return Err(refuse(data.len(), "too short"));
    }
    let (body, checksum) = data.split_at(data.len() - CHECKSUM);
    if !body.starts_with(MAGIC) {
        return Err(refuse(0, "not a snapshot of a chat shard"));
    }
    let format = length(body, 4)?;
    if format != FORMAT as usize {
        return Err(refuse(4, &format!("format {format}, this version knows {FORMAT}")));
    }
    if crc32c::crc32c(body).to_le_bytes() != checksum {
        return Err(refuse(body.len(), "the checksum does not match"));
    }
    let mut records: Vec<Record<'_>> = Vec::new();
    let mut at = HEADER;
    while at < body.len() {
        let (key, behind_key) = part(body, at)?;
        let (value, behind_value) = part(body, behind_key)?;
        if records.last().is_some_and(|(before, _)| *before >= key) {
            return Err(refuse(at, "records out of order"));
        }
        records.push((key, value));
        at = behind_value;
    }
    Ok(records)
}

/// The length-prefixed part at `at`, and where it ends.
fn part(body: &[u8], at: usize) -> Result<(&[u8], usize), ChatError> {
    let len = length(body, at)?;
    let start = at + 4;
    let bytes = start.checked_add(len).and_then(|end| body.get(start..end));
    bytes
        .map(|bytes| (bytes, start + len))
        .ok_or_else(|| refuse(at, "a record goes beyond the end"))
}

fn length(body: &[u8], at: usize) -> Result<usize, ChatError> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|bytes| u32::from_le_bytes(*bytes) as usize)
        .ok_or_else(|| refuse(at, "a record goes beyond the end"))
}

fn refuse(at: usize, reason: &str) -> ChatError {
    ChatError::Snapshot {
        at,
        reason: reason.to_owned(),
    }
}
