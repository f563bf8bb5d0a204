//! Makes an empty folder that of a founder who has applied what a backup holds.
//!
//! Every founder does this for itself, from the same backup, and comes to the same state: nothing is asked of anybody. Its
//! identity is written last: until then no node starts in the folder, and another attempt begins anew.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use firedrill_proto::chat::v1::{ConfState, HardState};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    config::NodeConfig,
    identity::{Identity, IdentityError},
    recover,
    routes::placement_nodes,
    run::NodeError,
};
use crate::{
    backup::{
        Batch, Manifest, ManifestError, Part,
        cut::{self, NoCut},
        tail,
    },
    chat::{ChatError, Committed, Machine},
    consensus::changes_members,
    env::{Clock, Disk, DiskError, DiskFile, replace},
    placement,
    storage::{StorageError, log::WriteBatch},
};

/// Says that a restore has begun in this folder, until it has ended.
const UNFINISHED: &str = "restoring";
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Keys that nodes must be configured with alike, and that a restored cluster may have other values of: who founds it, and
/// what seals sessions (with another one, all devices log in again).
const OWN_KEYS: [&str; 2] = ["founders", "session_key"];

/// Why a folder was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A disk failed.
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    /// A share of the backup can't be used.
    #[error("share {share} of the backup: {source}")]
    Manifest {
        /// Which of those given, from 1.
        share: usize,
        /// Why.
        source: ManifestError,
    },
    /// A file of the backup is not what was written.
    #[error("{file} of node {node} is damaged: {what}")]
    Damaged {
        /// Who wrote it.
        node: u64,
        /// Which.
        file: String,
        /// How.
        what: String,
    },
    /// The shares don't belong together, or not to this cluster.
    #[error("{0}")]
    Unfit(String),
    /// The shares were taken at different times.
    #[error("the backup is torn: {0}; take it again, of all nodes at a time")]
    Torn(#[from] NoCut),
    /// The folder is some node's, or holds something.
    #[error("the data folder holds {0}: a backup is restored into an empty folder only")]
    NotEmpty(String),
    /// The folder's identity can't be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The folder's storage failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The state machine refused it.
    #[error("shard {shard}: {source}")]
    Chat {
        /// Whose state.
        shard: u32,
        /// Why.
        source: ChatError,
    },
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The shard that is being restored.
    pub shard: u32,
    /// Bytes read of all that are to be read.
    pub bytes: u64,
    /// These.
    pub bytes_total: u64,
    /// Entries applied behind the states.
    pub replayed: u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup's id.
    pub id: String,
    /// The last entry of each shard, of the whole cluster.
    pub ends: BTreeMap<u32, u64>,
    /// The shards that this node holds.
    pub held: Vec<u32>,
    /// Entries applied behind the states.
    pub replayed: u64,
}

/// A share of the backup: its disk, and what it says it has.
struct Share<'a> {
    disk: &'a dyn Disk,
    manifest: Manifest,
}

/// Reads within a rate, and tells how far it is.
struct Meter<'a> {
    clock: &'a Clock,
    began: Duration,
    bytes_per_second: u64,
    progress: Progress,
    tell: &'a mut (dyn FnMut(Progress) + Send),
}

impl Meter<'_> {
    async fn read(&mut self, bytes: usize) {
        self.progress.bytes += bytes as u64;
        (self.tell)(self.progress);
        if self.bytes_per_second > 0 {
            let due = self.progress.bytes as f64 / self.bytes_per_second as f64;
            self.clock.sleep_until(self.began + Duration::from_secs_f64(due)).await;
        }
    }
}

/// Restores this node's folder from the shares of one backup, each the root of its disk, at `bytes_per_second` (0 is no limit).
///
/// # Errors
/// [`RestoreError`]: then no node can start in the folder, and it can be restored again.
pub async fn restore(
    from: &[Arc<dyn Disk>],
    config: &NodeConfig,
    disk: Arc<dyn Disk>,
    clock: &Clock,
    bytes_per_second: u64,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Restored, RestoreError> {
    let mut shares = Vec::new();
    for (at, disk) in from.iter().enumerate() {
        let manifest =
            Manifest::read(&**disk, "").map_err(|source| RestoreError::Manifest { share: at + 1, source })?;
        shares.push(Share {
            disk: &**disk,
            manifest,
        });
    }
    let parts = parts(&shares, config)?;
    let map = recover::founding_map(config);
    let held: Vec<u32> = (0..config.shards)
        .filter(|shard| placement::holds(&map, *shard, config.node))
        .collect();
    if !config.founding().contains(&config.node) {
        return Err(RestoreError::Unfit(format!(
            "node {} is no founder: restore the founders, start it empty and move replicas to it",
            config.node
        )));
    }
    clear(&*disk)?;
    replace(&*disk, UNFINISHED, b"")?;

    let tails = parts.values().map(|(_, part)| part.tail_bytes);
    let states = parts.iter().filter(|(shard, _)| held.contains(shard));
    let bytes_total = tails.sum::<u64>() + states.map(|(_, (_, part))| part.snapshot_bytes).sum::<u64>();
    let mut meter = Meter {
        clock,
        began: clock.now(),
        bytes_per_second,
        progress: Progress {
            shard: 0,
            bytes: 0,
            bytes_total,
            replayed: 0,
        },
        tell,
    };
    let (mut timelines, mut batches) = (BTreeMap::new(), BTreeMap::new());
    for (&shard, (share, part)) in &parts {
        meter.progress.shard = shard;
        let bytes = read(
            share,
            &Part::tail_file(shard),
            (part.tail_bytes, part.tail_crc),
            &mut meter,
        )
        .await?;
        let of_shard = tail_of(share, part, &bytes)?;
        timelines.insert(shard, tail::timeline(&of_shard));
        if held.contains(&shard) {
            batches.insert(shard, of_shard);
        }
    }
    let ends = cut::latest(&timelines)?;
    let mut log = WriteBatch::default();
    for (&shard, (share, part)) in parts.iter().filter(|(shard, _)| held.contains(shard)) {
        meter.progress.shard = shard;
        let file = Part::snapshot_file(shard);
        let state = read(share, &file, (part.snapshot_bytes, part.snapshot_crc), &mut meter).await?;
        let mut machine = recover::open_machine(shard, config, Arc::clone(&disk))?;
        let chat = |source| RestoreError::Chat { shard, source };
        machine.install(part.index, part.term, &state).map_err(chat)?;
        let end = ends.get(&shard).copied().unwrap_or_default();
        for batch in batches.remove(&shard).unwrap_or_default() {
            if batch.end <= end {
                meter.progress.replayed += replay(shard, &mut machine, &batch)?;
            }
        }
        machine.restored().map_err(chat)?;
        let (index, term) = machine.applied();
        let voters = map.shards.get(shard as usize).map(|placed| placed.founders.clone());
        let members = ConfState {
            voters: voters.unwrap_or_default(),
            ..ConfState::default()
        };
        log.snapshot(shard, index, term, members);
        let state = HardState {
            term,
            vote: 0,
            commit: index,
        };
        log.hard_state(shard, state);
        (meter.tell)(meter.progress);
    }
    let replayed = meter.progress.replayed;
    let storage = |error: StorageError| RestoreError::Node(NodeError::Storage(error));
    let mut wal = recover::open_log(config, Arc::clone(&disk))?;
    wal.append(log).map_err(storage)?;
    wal.sync().map_err(storage)?;
    // Routes from before are stale, or clients that have them would wait for this cluster to come so far.
    let epoch = shares
        .iter()
        .map(|share| share.manifest.epoch)
        .max()
        .unwrap_or_default();
    let map = recover::founding_map(&NodeConfig {
        epoch: config.epoch.max(epoch + 1),
        ..config.clone()
    });
    recover::keep_map(&*disk, &map).map_err(storage)?;
    if placement_nodes(config).contains(&config.node) {
        recover::keep_council(&*disk, &placement::Machine::new(map)).map_err(storage)?;
    }
    let id = shares
        .first()
        .map(|share| share.manifest.id.clone())
        .unwrap_or_default();
    Identity::write(config, &*disk, clock, &origin(&id, &ends))?;
    disk.remove(UNFINISHED)?;
    disk.sync_dir("")?;
    Ok(Restored {
        id,
        ends,
        held,
        replayed,
    })
}

/// Makes sure that a folder is empty: of what an attempt left that didn't end, it is emptied.
fn clear(disk: &dyn Disk) -> Result<(), RestoreError> {
    // It is written last: whoever has one is whole, and may have served since.
    if Identity::exists(disk)? {
        return Err(RestoreError::NotEmpty("the identity of a node".to_owned()));
    }
    let unfinished = disk.exists(UNFINISHED)?;
    for dir in recover::DIRS {
        disk.create_dir(dir)?;
        for name in disk.list(dir)? {
            if !unfinished {
                return Err(RestoreError::NotEmpty(format!("{dir}/{name}")));
            }
            disk.remove(&format!("{dir}/{name}"))?;
        }
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// What all founders that were restored from this have in common, and those that were not have not.
fn origin(id: &str, ends: &BTreeMap<u32, u64>) -> String {
    let ends = ends.iter().map(|(shard, end)| format!("{shard}:{end}"));
    let all = [id.to_owned()].into_iter().chain(ends).collect::<Vec<_>>().join(" ");
    format!("backup-{:016x}", xxh3_64(all.as_bytes()))
}

/// The copy to use of each shard, of all shards.
fn parts<'a>(
    shares: &'a [Share<'a>],
    config: &NodeConfig,
) -> Result<BTreeMap<u32, (&'a Share<'a>, &'a Part)>, RestoreError> {
    let unfit = |what: String| Err(RestoreError::Unfit(what));
    let Some(first) = shares.first() else {
        return unfit("there is no backup to restore from".to_owned());
    };
    let of = |manifest: &Manifest| (manifest.id.clone(), manifest.cluster.clone(), manifest.shards);
    if let Some(other) = shares.iter().find(|share| of(&share.manifest) != of(&first.manifest)) {
        let (a, b) = (of(&first.manifest), of(&other.manifest));
        return unfit(format!(
            "the shares are of different backups: {a:?} and {b:?} (id, cluster, shards)"
        ));
    }
    if first.manifest.shards != config.shards {
        let (theirs, ours) = (first.manifest.shards, config.shards);
        return unfit(format!(
            "the backup has {theirs} shards, the configuration {ours}: shards is never changed"
        ));
    }
    let agreed = config.agreed();
    for (key, theirs) in first
        .manifest
        .agreed
        .iter()
        .filter(|(key, _)| !OWN_KEYS.contains(&key.as_str()))
    {
        if let Some(ours) = agreed.get(key).filter(|ours| *ours != theirs) {
            return unfit(format!(
                "{key} is {theirs} in the backup and {ours} in the configuration: it is never changed"
            ));
        }
    }
    let mut parts = BTreeMap::new();
    for share in shares {
        for part in &share.manifest.parts {
            parts.entry(part.shard).or_insert((share, part));
        }
    }
    let missing: Vec<u32> = (0..config.shards).filter(|shard| !parts.contains_key(shard)).collect();
    if missing.is_empty() {
        return Ok(parts);
    }
    unfit(format!(
        "no share has shards {missing:?}: give the shares of the other nodes too"
    ))
}

/// A whole file of a share, if it is what was written.
async fn read(
    share: &Share<'_>,
    name: &str,
    (bytes, crc): (u64, u32),
    meter: &mut Meter<'_>,
) -> Result<Vec<u8>, RestoreError> {
    let damaged = |what: String| RestoreError::Damaged {
        node: share.manifest.node,
        file: name.to_owned(),
        what,
    };
    if !share.disk.exists(name)? {
        return Err(damaged("it is missing".to_owned()));
    }
    let file: Box<dyn DiskFile> = share.disk.open(name)?;
    let len = file.len()?;
    if len != bytes {
        return Err(damaged(format!("it has {len} bytes, {bytes} were written")));
    }
    let mut all = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let mut at = 0;
    for chunk in all.chunks_mut(READ_BYTES) {
        file.read_at(at, chunk)?;
        at += chunk.len() as u64;
        meter.read(chunk.len()).await;
    }
    if crc32c::crc32c(&all) != crc {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    Ok(all)
}

fn tail_of(share: &Share<'_>, part: &Part, bytes: &[u8]) -> Result<Vec<Batch>, RestoreError> {
    let damaged = |what: String| RestoreError::Damaged {
        node: share.manifest.node,
        file: Part::tail_file(part.shard),
        what,
    };
    let batches = tail::read(bytes).map_err(damaged)?;
    let ends = (
        batches.first().map(|it| (it.end, it.term)),
        batches.last().map(|it| it.end),
    );
    if ends != (Some((part.index, part.term)), Some(part.last_index)) {
        return Err(damaged(format!(
            "it goes from and to {ends:?}, the manifest says otherwise"
        )));
    }
    Ok(batches)
}

fn replay(shard: u32, machine: &mut Machine, batch: &Batch) -> Result<u64, RestoreError> {
    let chat = |source| RestoreError::Chat { shard, source };
    let mut committed = Vec::with_capacity(batch.entries.len());
    for entry in &batch.entries {
        committed.push(match changes_members(entry) {
            true => Committed::empty(entry.index, entry.term),
            false => Committed::decode(entry.index, entry.term, &entry.data).map_err(chat)?,
        });
    }
    machine.apply(&committed).map_err(chat)?;
    Ok(committed.len() as u64)
}
