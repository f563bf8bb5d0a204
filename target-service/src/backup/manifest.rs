//! What a copy is of, and the checksums that it must have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::env::{Disk, DiskError, read_all, replace};

/// The file. It is written last: a folder without it is no backup.
const FILE: &str = "manifest.json";

/// The format of the folder; another one is refused.
const FORMAT: u32 = 1;

/// Largest manifest, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// One node's share of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the folder.
    pub format: u32,
    /// The backup that it belongs to: nodes that copy together use the same.
    pub id: String,
    /// Who wrote it.
    pub node: u64,
    /// Of which cluster.
    pub cluster: String,
    /// Number of shards of the whole cluster.
    pub shards: u32,
    /// Version and epoch of the map of shards by then.
    pub map_version: u64,
    /// See `map_version`.
    pub epoch: u64,
    /// What all nodes have to be configured with alike.
    pub agreed: BTreeMap<String, String>,
    /// When it began, wall milliseconds of the node.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// The shards that it has, by number.
    pub parts: Vec<Part>,
}

/// The copy of one shard: two files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Which.
    pub shard: u32,
    /// The entry that the state is of.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Bytes of the state.
    pub snapshot_bytes: u64,
    /// Their CRC-32C.
    pub snapshot_crc: u32,
    /// The last entry behind it.
    pub last_index: u64,
    /// Bytes of these entries.
    pub tail_bytes: u64,
    /// Their CRC-32C.
    pub tail_crc: u32,
}

impl Part {
    /// The file of the state.
    #[must_use]
    pub fn snapshot_file(shard: u32) -> String {
        format!("shard-{shard:04}.snapshot")
    }

    /// The file of the entries behind it.
    #[must_use]
    pub fn tail_file(shard: u32) -> String {
        format!("shard-{shard:04}.tail")
    }
}

/// A manifest that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The disk failed.
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    /// There is none.
    #[error("there is no {FILE}: it is no backup, or one that was not finished")]
    Missing,
    /// It is not what was written.
    #[error("{FILE} is damaged: {0}")]
    Damaged(String),
}

/// The name of a file in a folder of a disk, or of the disk's root.
pub(super) fn below(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        dir => format!("{dir}/{name}"),
    }
}

impl Manifest {
    /// The format that this version writes.
    pub const FORMAT: u32 = FORMAT;

    /// Whether the folder `dir` has one.
    pub(super) fn exists(disk: &dyn Disk, dir: &str) -> Result<bool, DiskError> {
        disk.exists(&below(dir, FILE))
    }

    /// Writes it into the folder `dir`, whole or not at all.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &str) -> Result<(), ManifestError> {
        let text = self.to_text().map_err(ManifestError::Damaged)?;
        Ok(replace(disk, &below(dir, FILE), text.as_bytes())?)
    }

    /// Reads that of the folder `dir`.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(disk: &dyn Disk, dir: &str) -> Result<Self, ManifestError> {
        let name = below(dir, FILE);
        if !disk.exists(&name)? {
            return Err(ManifestError::Missing);
        }
        let file = disk.open(&name)?;
        let bytes = file.len()?;
        if bytes > BYTES_MAX {
            return Err(ManifestError::Damaged(format!(
                "it has {bytes} bytes, at most {BYTES_MAX}"
            )));
        }
        let text = String::from_utf8(read_all(&*file)?).map_err(|error| ManifestError::Damaged(error.to_string()))?;
        Self::parse(&text).map_err(ManifestError::Damaged)
    }

    fn to_text(&self) -> Result<String, String> {
        let body = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let checksum = crc32c::crc32c(body.as_bytes());
        Ok(format!("{body}\ncrc32c {checksum:08x}\n"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let ended = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n'));
        let (body, last) = ended.ok_or("its checksum is missing")?;
        if last != format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes())) {
            return Err("the checksum does not match".to_owned());
        }
        let manifest: Self = serde_json::from_str(body).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!(
                "its format is {}, this version knows {FORMAT}",
                manifest.format
            ));
        }
        let shards: BTreeSet<u32> = manifest.parts.iter().map(|part| part.shard).collect();
        if shards.len() != manifest.parts.len() || shards.last().is_some_and(|last| *last >= manifest.shards) {
            return Err(format!("it names shards {shards:?} of {}", manifest.shards));
        }
        match manifest.parts.iter().find(|part| part.last_index < part.index) {
            Some(part) => Err(format!("shard {} ends before it begins", part.shard)),
            None => Ok(manifest),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::env::{SimDisk, Streams};

    fn part(shard: u32) -> impl Strategy<Value = Part> {
        let numbers = (any::<u64>(), 0u64..1 << 40, any::<u64>(), any::<[u32; 2]>());
        numbers.prop_map(move |(index, term, bytes, crc)| Part {
            shard,
            index: index / 2,
            term,
            snapshot_bytes: bytes,
            snapshot_crc: crc[0],
            last_index: index,
            tail_bytes: bytes / 3,
            tail_crc: crc[1],
        })
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let parts = (1u32..5).prop_flat_map(|shards| (0..shards).map(part).collect::<Vec<_>>());
        let words = ("[a-z0-9-]{1,20}", "[ -~]{0,20}");
        (words, any::<[u64; 5]>(), parts).prop_map(|((id, cluster), numbers, parts)| Manifest {
            format: FORMAT,
            id,
            node: numbers[0],
            cluster,
            shards: u32::try_from(parts.len()).unwrap(),
            map_version: numbers[1],
            epoch: numbers[2],
            agreed: BTreeMap::from([("shards".to_owned(), parts.len().to_string())]),
            began_ms: numbers[3],
            ended_ms: numbers[4],
            parts,
        })
    }

    proptest! {
        #[test]
        fn it_reads_back_and_no_bit_of_it_may_flip(it in manifest(), flip: proptest::sample::Index, bit in 0u8..7) {
            let disk = SimDisk::new();
            disk.create_dir("b").unwrap();
            it.write(&disk.attach(), "b").unwrap();
            prop_assert_eq!(Manifest::read(&disk.attach(), "b").unwrap(), it.clone());
            let mut bytes = it.to_text().unwrap().into_bytes();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let damaged = String::from_utf8(bytes).map_err(|error| error.to_string());
            prop_assert!(damaged.and_then(|text| Manifest::parse(&text)).is_err());
        }

        #[test]
        fn a_torn_one_is_refused(it in manifest(), cut: proptest::sample::Index) {
            let text = it.to_text().unwrap();
            let torn = text.get(..cut.index(text.len())).unwrap_or_default();
            prop_assert!(Manifest::parse(torn).is_err());
        }
    }

    #[test]
    fn a_power_loss_leaves_a_whole_one_or_none() {
        for calls in 1..12 {
            let disk = SimDisk::new();
            disk.create_dir("b").unwrap();
            disk.sync_dir("").unwrap();
            use proptest::strategy::ValueTree as _;
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let it = manifest().new_tree(&mut runner).unwrap().current();
            disk.cut_power_after(calls, Streams::new(calls).stream("cut"));
            let wrote = it.write(&disk.attach(), "b");
            disk.disarm();
            disk.power_loss(&mut Streams::new(calls).stream("power"));
            match Manifest::read(&disk.attach(), "b") {
                Ok(found) => assert_eq!(found, it),
                Err(ManifestError::Missing) => assert!(wrote.is_err(), "it was said to be written"),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
