//! Reading and writing records in the one table of a shard's database.
//!
//! A stored value ends with a CRC-32C of its key and itself, which every read compares: rot under a record that is asked
//! for is an error, not an answer.

use std::ops::RangeInclusive;

use prost::Message;
use redb::{ReadableTable, Table, TableDefinition};

use super::{error::ChatError, keys::Key};

/// Everything the shard holds.
pub(super) const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("chat");

type Bytes = &'static [u8];

/// The record behind `key`.
pub(super) fn get<M: Message + Default>(
    table: &impl ReadableTable<Bytes, Bytes>,
    key: &Key,
) -> Result<Option<M>, ChatError> {
    let Some(value) = table.get(key.bytes())? else {
        return Ok(None);
    };
    decode(key.bytes(), value.value()).map(Some)
}

/// Whether there is a record behind `key`.
pub(super) fn has(table: &impl ReadableTable<Bytes, Bytes>, key: &Key) -> Result<bool, ChatError> {
    Ok(table.get(key.bytes())?.is_some())
}

/// The records of `range` in order, with their keys, at most `limit` and until their bytes reach `bytes_max`; at least
/// one if there is one.
pub(super) fn scan<M: Message + Default>(
    table: &impl ReadableTable<Bytes, Bytes>,
    range: &RangeInclusive<Key>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<(Vec<u8>, M)>, ChatError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    if limit == 0 || range.start() > range.end() {
        return Ok(found);
    }
    for item in table.range(range.start().bytes()..=range.end().bytes())? {
        let (key, value) = item?;
        bytes += value.value().len();
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        found.push((key.value().to_vec(), decode(key.value(), value.value())?));
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// Writes a record.
pub(super) fn put<M: Message>(table: &mut Table<'_, Bytes, Bytes>, key: &Key, record: &M) -> Result<(), ChatError> {
    let mut value = record.encode_to_vec();
    value.extend_from_slice(&seal(key.bytes(), &value).to_le_bytes());
    table.insert(key.bytes(), value.as_slice())?;
    Ok(())
}

/// Removes a record; whether there was one.
pub(super) fn remove(table: &mut Table<'_, Bytes, Bytes>, key: &Key) -> Result<bool, ChatError> {
    Ok(table.remove(key.bytes())?.is_some())
}

/// The message of `bytes`, stored under `key`.
pub(super) fn decode<M: Message + Default>(key: &[u8], bytes: &[u8]) -> Result<M, ChatError> {
    M::decode(unsealed(key, bytes)?).map_err(|error| damaged(key, &error.to_string()))
}

fn seal(key: &[u8], record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), record)
}

/// The record of a stored value, if it is as it was written under `key`.
pub(super) fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], ChatError> {
    match value.split_last_chunk() {
        Some((record, written)) if u32::from_le_bytes(*written) == seal(key, record) => Ok(record),
        Some(_) => Err(damaged(key, "its checksum is wrong")),
        None => Err(damaged(key, "it is too short for a checksum")),
    }
}

/// The error for a record that can not be what it is.
pub(super) fn damaged(key: &[u8], reason: &str) -> ChatError {
    ChatError::Damaged {
        key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        reason: reason.to_owned(),
    }
}
