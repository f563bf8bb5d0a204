//! Bringing a node's shards up from its disk.

use std::{sync::Arc, time::Duration};

use firedrill_proto::chat::v1::ConfState;

use super::{
    config::{NodeConfig, Timing},
    routes::Routes,
    run::NodeError,
    shard::Shard,
};
use crate::{
    chat::{Machine, Settings},
    consensus::{Replica, Start, Tuning},
    env::{Disk, Streams},
    storage::{
        StateDb, StorageError,
        log::{Log, LogOptions, WriteBatch},
    },
};

/// Where the log lives, and the databases.
const LOG_DIR: &str = "log";
const STATE_DIR: &str = "state";
/// All of them.
pub(super) const DIRS: [&str; 2] = [LOG_DIR, STATE_DIR];

/// Opens the log.
pub(super) fn open_log(config: &NodeConfig, disk: Arc<dyn Disk>) -> Result<Log, NodeError> {
    let segment_bytes = u32::try_from(config.retention.segment_bytes).unwrap_or(u32::MAX);
    Ok(Log::open(disk, LOG_DIR, LogOptions { segment_bytes })?)
}

/// Makes the log say who the members of each shard are, as soon as there is a log: a file that is changed later must not
/// change who votes, since two files would make two majorities.
pub(super) fn settle_members(config: &NodeConfig, routes: &Routes, log: &mut Log) -> Result<(), NodeError> {
    let mut batch = WriteBatch::default();
    for shard in routes.held_by(config.node) {
        let (_, logged) = log.shard(shard).initial_state();
        let configured = configured(shard, routes);
        if logged.voters.is_empty() {
            batch.conf_state(shard, configured);
        } else if logged != configured {
            return Err(NodeError::Members {
                shard,
                logged: logged.voters,
                configured: configured.voters,
            });
        }
    }
    if !batch.is_empty() {
        log.append(batch)?;
        log.sync()?;
    }
    Ok(())
}

/// The members of a shard by the configuration, in the order in which they are logged.
fn configured(shard: u32, routes: &Routes) -> ConfState {
    ConfState {
        voters: routes.members(shard).to_vec(),
        ..Default::default()
    }
}

/// Opens one shard. The state machine is as of its last durable checkpoint; the log goes on from there.
pub(super) fn open_shard(
    id: u32,
    config: &NodeConfig,
    routes: &Routes,
    disk: Arc<dyn Disk>,
    log: &mut Log,
) -> Result<Shard, NodeError> {
    let database = StateDb::open(disk, &format!("{STATE_DIR}/shard-{id:04}.redb"))?.into_database();
    let chat = |source| NodeError::Chat { shard: id, source };
    let settings = Settings {
        group_max: config.bounds.group_members,
        ..config.state
    };
    let machine = Machine::open_with(database, id, routes.shards(), settings).map_err(chat)?;
    #[cfg(feature = "plants")]
    let machine = super::plants::planted(machine, config.plant);
    reconcile(id, &machine, log)?;
    let streams = Streams::new(config.seed);
    let start = Start {
        node: config.node,
        log: log.shard(id),
        members: configured(id, routes),
        applied: machine.applied().0,
        rng: streams.stream(&format!("election/{}/{id}", config.node)),
    };
    let replica = Replica::new(start, &tuning(config)).map_err(|source| NodeError::Replica { shard: id, source })?;
    let rng = streams.stream(&format!("streams/{}/{id}", config.node));
    Ok(Shard::new(id, replica, machine, config, rng))
}

/// Makes the log continue the state. A snapshot is durable in the state before the log hears of it, so that a crash
/// between the two leaves a log that ends before the state, or belongs to another history there: it starts anew then.
fn reconcile(id: u32, machine: &Machine, log: &mut Log) -> Result<(), NodeError> {
    let (index, term) = machine.applied();
    let shard = log.shard(id);
    if index < shard.base().0 {
        return Err(NodeError::Storage(StorageError::Corrupt {
            file: format!("{STATE_DIR}/shard-{id:04}.redb"),
            offset: 0,
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
