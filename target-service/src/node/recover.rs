//! Bringing a node's shards up from its disk.

use std::{sync::Arc, time::Duration};

use firedrill_proto::chat::v1::{ConfState, PlacementMap};

use super::{
    config::{NodeConfig, Timing},
    council::Council,
    routes::{PLACEMENT, Routes, placement_nodes},
    run::NodeError,
    shard::Shard,
};
use crate::{
    chat::{Machine, Settings},
    consensus::{Replica, Start, Tuning},
    env::{Disk, Streams, read_all, replace},
    placement,
    storage::{
        StateDb, StorageError,
        log::{Log, LogOptions, WriteBatch},
    },
};

/// Where the log lives, and the databases.
const LOG_DIR: &str = "log";
pub(super) const STATE_DIR: &str = "state";
/// The newest map of shards that this node knows, and the placement group's state.
const MAP_FILE: &str = "state/placement-map";
const COUNCIL_FILE: &str = "state/placement";
/// All of them.
pub(super) const DIRS: [&str; 2] = [LOG_DIR, STATE_DIR];

/// The file of a shard's state.
pub(super) fn state_file(shard: u32) -> String {
    format!("{STATE_DIR}/shard-{shard:04}.redb")
}

/// Opens the log.
pub(super) fn open_log(config: &NodeConfig, disk: Arc<dyn Disk>) -> Result<Log, NodeError> {
    let segment_bytes = u32::try_from(config.retention.segment_bytes).unwrap_or(u32::MAX);
    Ok(Log::open(disk, LOG_DIR, LogOptions { segment_bytes })?)
}

/// The newest map of shards that this node knows, which is the configuration's at first. A configuration that is changed
/// later must not change who votes, since two files would make two majorities: it is compared with the founders.
pub(super) fn open_map(config: &NodeConfig, disk: &dyn Disk, log: &mut Log) -> Result<PlacementMap, NodeError> {
    let founding = founding_map(config);
    let placement = placement_nodes(config);
    let agree = |shard, logged: &[u64], configured: &[u64]| match logged == configured {
        true => Ok(()),
        false => Err(NodeError::Members {
            shard,
            logged: logged.to_vec(),
            configured: configured.to_vec(),
        }),
    };
    let (_, council) = log.shard(PLACEMENT).initial_state();
    let kept = kept(disk, MAP_FILE, founding.shards.len())?.map(|kept| kept.map().clone());
    if let Some(map) = &kept {
        for (shard, (kept, founded)) in (0..).zip(map.shards.iter().zip(&founding.shards)) {
            agree(shard, &kept.founders, &founded.founders)?;
        }
    } else {
        for (shard, founded) in (0..).zip(&founding.shards) {
            let (_, logged) = log.shard(shard).initial_state();
            if !logged.voters.is_empty() {
                agree(shard, &logged.voters, &founded.founders)?;
            }
        }
    }
    if !council.voters.is_empty() {
        agree(PLACEMENT, &council.voters, &placement)?;
    }
    Ok(kept.unwrap_or(founding))
}

/// Keeps a map: after a crash there is this one or the one before.
pub(super) fn keep_map(disk: &dyn Disk, map: &PlacementMap) -> Result<(), StorageError> {
    disk.create_dir(STATE_DIR)?;
    Ok(replace(
        disk,
        MAP_FILE,
        &placement::Machine::new(map.clone()).snapshot(),
    )?)
}

fn founding_map(config: &NodeConfig) -> PlacementMap {
    let routes = Routes::new(config);
    let members = (0..routes.shards()).map(|shard| routes.members(shard).to_vec());
    placement::founded(config.epoch, members)
}

/// The placement state in a file, if there is one.
fn kept(disk: &dyn Disk, file: &str, shards: usize) -> Result<Option<placement::Machine>, StorageError> {
    if !disk.exists(file)? {
        return Ok(None);
    }
    let bytes = read_all(&*disk.open(file)?)?;
    let restored = placement::Machine::restored(&bytes, shards);
    restored.map(Some).map_err(|error| StorageError::Corrupt {
        file: file.to_owned(),
        offset: 0,
        what: error.to_string(),
    })
}

/// Makes the log say who the members of a group are, as soon as there is a log. A replica that joins later begins with
/// those whose log it is given from its start, but without itself: until the log adds it, it votes for nothing.
fn settle_members(shard: u32, founders: &[u64], joins: Option<u64>, log: &mut Log) -> Result<ConfState, NodeError> {
    let (_, logged) = log.shard(shard).initial_state();
    if !logged.voters.is_empty() {
        return Ok(logged);
    }
    let mut voters = founders.to_vec();
    voters.retain(|node| Some(*node) != joins || founders.len() == 1);
    let members = ConfState {
        voters,
        ..ConfState::default()
    };
    let mut batch = WriteBatch::default();
    batch.conf_state(shard, members.clone());
    log.append(batch)?;
    log.sync()?;
    Ok(members)
}

/// Opens the placement group, if this node holds it.
pub(super) fn open_council(
    config: &NodeConfig,
    disk: Arc<dyn Disk>,
    log: &mut Log,
) -> Result<Option<Council>, NodeError> {
    let nodes = placement_nodes(config);
    if !nodes.contains(&config.node) {
        return Ok(None);
    }
    let founding = founding_map(config);
    let kept = kept(&*disk, COUNCIL_FILE, founding.shards.len())?;
    let machine = kept.unwrap_or_else(|| placement::Machine::new(founding));
    reconcile(PLACEMENT, machine.applied(), COUNCIL_FILE, log)?;
    let members = settle_members(PLACEMENT, &nodes, None, log)?;
    let start = Start {
        node: config.node,
        log: log.shard(PLACEMENT),
        members,
        applied: machine.applied().0,
        rng: Streams::new(config.seed).stream(&format!("election/{}/placement", config.node)),
    };
    let failed = |source| NodeError::Replica {
        shard: PLACEMENT,
        source,
    };
    let replica = Replica::new(start, &tuning(config)).map_err(failed)?;
    Ok(Some(Council::new(config.node, replica, machine)))
}

/// Makes the placement group's state durable.
pub(super) fn keep_council(disk: &dyn Disk, machine: &placement::Machine) -> Result<(), StorageError> {
    disk.create_dir(STATE_DIR)?;
    Ok(replace(disk, COUNCIL_FILE, &machine.snapshot())?)
}

/// Forgets a shard that this node doesn't hold: its state, a note that it was damaged, and of its log all but term and vote. The log goes first, since
/// a state without a log is known for what it is, but not the reverse.
pub(super) fn forget_shard(id: u32, disk: &dyn Disk, log: &mut Log) -> Result<bool, StorageError> {
    let shard = log.shard(id);
    let logged = shard.last_index() > 0 || !shard.initial_state().1.voters.is_empty();
    if logged {
        log.forget(id)?;
        log.sync()?;
    }
    let file = state_file(id);
    let stored = disk.exists(&file)?;
    if stored {
        disk.remove(&file)?;
        disk.sync_dir(STATE_DIR)?;
    }
    // Last: until the damaged file is gone, the note keeps everybody from it.
    super::quarantine::forget(disk, id)?;
    Ok(logged || stored)
}

/// Opens one shard. The state machine is as of its last durable checkpoint; the log goes on from there.
pub(super) fn open_shard(
    id: u32,
    config: &NodeConfig,
    map: &PlacementMap,
    disk: Arc<dyn Disk>,
    log: &mut Log,
) -> Result<Shard, NodeError> {
    let founders = map.shards.get(id as usize).map_or(&[][..], |placed| &placed.founders);
    let joins = (map.version > 0).then_some(config.node);
    let unknown = log.shard(id).initial_state().1.voters.is_empty();
    if joins.is_some() && unknown {
        // What an earlier replica left when it was forgotten half.
        forget_shard(id, &*disk, log)?;
    }
    let members = settle_members(id, founders, joins, log)?;
    let mut database = StateDb::open(disk, &state_file(id))?;
    if config.retention.verify_state {
        database.verify()?;
    }
    let database = database.into_database();
    let chat = |source| NodeError::Chat { shard: id, source };
    let settings = Settings {
        group_max: config.bounds.group_members,
        ..config.state
    };
    let machine = Machine::open_with(database, id, config.shards, settings).map_err(chat)?;
    #[cfg(feature = "plants")]
    let machine = {
        let mut machine = machine;
        machine.set_plant(config.plant);
        machine
    };
    reconcile(id, machine.applied(), &state_file(id), log)?;
    let streams = Streams::new(config.seed);
    let start = Start {
        node: config.node,
        log: log.shard(id),
        members,
        applied: machine.applied().0,
        rng: streams.stream(&format!("election/{}/{id}", config.node)),
    };
    let replica = Replica::new(start, &tuning(config)).map_err(|source| NodeError::Replica { shard: id, source })?;
    let rng = streams.stream(&format!("streams/{}/{id}", config.node));
    Ok(Shard::new(id, replica, machine, config, map.epoch, rng))
}

/// Makes the log continue the state. A snapshot is durable in the state before the log hears of it, so that a crash
/// between the two leaves a log that ends before the state, or belongs to another history there: it starts anew then.
fn reconcile(id: u32, (index, term): (u64, u64), file: &str, log: &mut Log) -> Result<(), NodeError> {
    let shard = log.shard(id);
    if index < shard.base().0 {
        return Err(NodeError::Storage(StorageError::Damaged {
            file: file.to_owned(),
            what: format!(
                "its state ends at entry {index}, the log begins behind {}",
                shard.base().0
            ),
        }));
    }
    if index > 0 && shard.term(index) != Ok(term) {
        let (_, members) = shard.initial_state();
        tracing::warn!(
            shard = id,
            index,
            log_end = shard.last_index(),
            "the log starts anew behind the state"
        );
        let mut batch = WriteBatch::default();
        batch.snapshot(id, index, term, members);
        log.append(batch)?;
        log.sync()?;
    }
    Ok(())
}

/// Configured durations as ticks.
pub(super) fn tuning(config: &NodeConfig) -> Tuning {
    let Timing {
        tick_ms,
        heartbeat_ms,
        election_ms_min,
        election_ms_max,
        ..
    } = config.timing;
    let ticks = |ms: u64| usize::try_from(ms.div_ceil(tick_ms)).unwrap_or(usize::MAX);
    let least = ticks(election_ms_min);
    Tuning {
        heartbeat_ticks: ticks(heartbeat_ms),
        election_ticks: least..ticks(election_ms_max).max(least + 1),
        inflight_messages: config.bounds.inflight_messages,
        message_bytes: config.bounds.message_bytes,
        uncommitted_bytes: config.bounds.uncommitted_bytes,
        snapshot_ticks: ticks(4 * election_ms_max) as u64,
    }
}

/// How long a node without news from a leader speaks of no leader, rather than of no majority.
pub(super) const fn quorum_patience(timing: &Timing) -> Duration {
    Duration::from_millis(2 * timing.election_ms_max)
}
