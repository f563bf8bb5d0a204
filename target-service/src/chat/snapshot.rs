//! The whole state as bytes, and its digest.
//!
//! A snapshot is: magic, format, every record in key order as (key length, key, value length, value), and a CRC-32C of
//! all before it. Lengths, format and checksum are 32-bit little-endian. Equal states give equal bytes.

use bytes::Bytes;
use redb::ReadableTable as _;
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

/// One record of a snapshot.
type Record<'a> = (&'a [u8], &'a [u8]);

impl Machine {
    /// The whole applied state.
    ///
    /// # Errors
    /// When the database fails, or a record is too large for the format.
    pub fn snapshot(&self) -> Result<Bytes, ChatError> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        for item in self.read()?.iter()? {
            let (key, value) = item?;
            // Damage must not spread to whoever is given this.
            store::unsealed(key.value(), value.value())?;
            for part in [key.value(), value.value()] {
                let len = u32::try_from(part.len())
                    .map_err(|_| store::damaged(key.value(), "larger than a snapshot can carry"))?;
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        Ok(out.into())
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
