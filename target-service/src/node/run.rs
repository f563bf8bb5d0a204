//! The loop: hear, decide, make durable, tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use firedrill_proto::chat::v1::{Command, Goodbye, PlacementMap, command, peer_message::Message};

use super::{
    admission::{Gate, LoginLimit},
    config::{ConfigError, NodeConfig},
    council::Council,
    failover::{Failover, View},
    identity::{Identity, IdentityError},
    inbox::{Inbox, Queued},
    meters::{Histogram, TokenBucket},
    metrics::Instruments,
    moves::REPORT_TICKS,
    net::Net,
    outbox::Directory,
    quarantine::Quarantined,
    recover,
    routes::{PLACEMENT, Routes},
    shard::{ReadWait, Shard},
    snapshots::{Incoming, Outgoing},
    verification::Courier,
    versions::Peers,
};
use crate::{
    chat::ChatError,
    consensus::{Replica, ReplicaError},
    env::{Clock, Disk, Streams, Transport},
    placement,
    storage::{StorageError, log::Log},
};

/// Peer batches and calls that one turn takes in, so that what it makes durable at once stays bounded.
const PEER_BATCHES_MAX: usize = 512;
const CALLS_MAX: usize = 1024;

/// Ticks that are made up for at once after the loop was held up. A node that was frozen for long must hear its peers
/// before it judges them.
const LATE_TICKS_MAX: u32 = 5;

/// Ticks between looks at which devices' heartbeats are due: those of one look share a confirmed read.
const BEATS_TICKS: u64 = 5;

/// Ticks between looks at what needs no hurry.
const CHORES_TICKS: u64 = 64;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration can't work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder is another's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log and the configuration name different members.
    #[error(
        "shard {shard} has the members {logged:?} by the log, and {configured:?} by peers and replication_factor of the \
         configuration: give this node the configuration that its cluster was started with"
    )]
    Members {
        /// Which shard.
        shard: u32,
        /// By the log.
        logged: Vec<u64>,
        /// By the configuration.
        configured: Vec<u64>,
    },
    /// The disk failed or is corrupt. What is durable is unknown: the process must end.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A state machine failed.
    #[error("shard {shard}: {source}")]
    Chat {
        /// Which.
        shard: u32,
        /// How.
        source: ChatError,
    },
    /// The placement group's state can't be taken over.
    #[error("placement: {source}")]
    Placement {
        /// Why.
        source: placement::SnapshotError,
    },
    /// The shard has turned to a later version than this node speaks.
    #[error(
        "shard {shard} has turned to version {needs} of the protocol, this node speaks {speaks}: start it with \
         versions.protocol = {needs}; going back is possible only while versions.finalize is false everywhere"
    )]
    Version {
        /// Which.
        shard: u32,
        /// The shard's.
        needs: u32,
        /// This node's.
        speaks: u32,
    },
    /// Consensus can't go on.
    #[error("shard {shard}: {source}")]
    Replica {
        /// Which.
        shard: u32,
        /// How.
        source: ReplicaError,
    },
}

/// Sees what a node does to its shards, from inside: for simulations that judge it. Called on the node's loop.
pub trait Observer: Send + Sync + 'static {
    /// `node` leads `shard` in `term`.
    fn leads(&self, node: u64, shard: u32, term: u64);
    /// `node` applied the entry at `index`; `data` is what it holds.
    fn applied(&self, node: u64, shard: u32, index: u64, term: u64, data: &[u8]);
}

/// What a node runs on.
pub struct Parts {
    /// The clock; the one given to [`super::channel`].
    pub clock: Clock,
    /// The node's disk.
    pub disk: Arc<dyn Disk>,
    /// The way to its peers.
    pub transport: Arc<dyn Transport>,
    /// Who watches, if anybody.
    pub observer: Option<Arc<dyn Observer>>,
    /// A deliberate error: promises are sent before what they promise is synced.
    #[cfg(feature = "plants")]
    pub promises_early: bool,
}

/// A node.
pub(super) struct Node {
    pub(super) config: NodeConfig,
    pub(super) clock: Clock,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) log: Log,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) routes: Routes,
    /// What the routes follow from.
    pub(super) map: PlacementMap,
    pub(super) shards: BTreeMap<u32, Shard>,
    /// The placement group, if this node holds it.
    pub(super) council: Option<Council>,
    /// Who pushed a map last: it leads the placement group, or knows who does.
    pub(super) placement_hint: u64,
    /// Which member is asked when nobody has.
    pub(super) placement_turn: usize,
    /// Somebody knew a newer map.
    pub(super) asks_for_map: std::cell::Cell<bool>,
    /// Replicas that are not served.
    pub(super) quarantined: BTreeMap<u32, Quarantined>,
    pub(super) net: Net,
    /// What the other nodes speak.
    pub(super) peers: Peers,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) ticket: u64,
    /// The calls of clients that wait for their turn.
    pub(super) gate: Gate<Queued>,
    pub(super) logins: LoginLimit,
    pub(super) syncs: TokenBucket,
    pub(super) courier: Courier,
    pub(super) sync_times: Histogram,
    pub(super) instruments: Instruments,
    pub(super) refused: u64,
    pub(super) malformed: u64,
    next_tick: Duration,
    ticks: u64,
    /// Peers that said that they are about to stop, and until when that is believed.
    pub(super) peers_stopping: BTreeMap<u64, Duration>,
    stopping: Option<Stopping>,
    #[cfg(feature = "plants")]
    pub(super) promises_early: bool,
}

struct Stopping {
    until: Duration,
    /// Whom each shard was already offered to.
    tried: BTreeMap<u32, BTreeSet<u64>>,
}

/// Runs a node until it is stopped through its handle. Opens its disk first: nothing is answered before that is done.
///
/// # Errors
/// When the configuration can't work, or storage or consensus fail: the process must end, and not with 0.
pub async fn run(config: NodeConfig, parts: Parts, mut inbox: Inbox) -> Result<(), NodeError> {
    let clock = parts.clock.clone();
    let mut node = Node::open(config, parts)?;
    for id in node.shards.keys().copied().collect::<Vec<_>>() {
        node.check_version(id)?;
    }
    node.say_hello();
    loop {
        let wake = node.wake_at();
        tokio::select! {
            biased;
            Some(()) = inbox.stop.recv() => node.begin_stop(),
            Some(message) = inbox.peers.recv() => node.hear(message)?,
            Some(call) = inbox.calls.recv() => node.receive(call, &inbox),
            () = clock.sleep_until(wake) => {}
        }
        for _ in 0..PEER_BATCHES_MAX {
            match inbox.peers.try_recv() {
                Ok(message) => node.hear(message)?,
                Err(_) => break,
            }
        }
        for _ in 0..CALLS_MAX {
            match inbox.calls.try_recv() {
                Ok(call) => node.receive(call, &inbox),
                Err(_) => break,
            }
        }
        node.serve(&inbox);
        node.timers()?;
        node.measure(&inbox);
        while node.flush()? {
            // More follows from it; others on this runtime get their turn in between.
            tokio::task::yield_now().await;
        }
        if node.has_stopped() {
            // Closing takes several syncs. Whoever asks from here on is told at once to go elsewhere, instead of waiting
            // for them and then not knowing what became of the call.
            inbox.calls.close();
            node.dismiss(&inbox);
            while let Ok(call) = inbox.calls.try_recv() {
                node.call(call, &inbox);
            }
            node.close()?;
            // Whoever asked waits for the inbox to go.
            return Ok(());
        }
    }
}

/// Where shards are, as one node knows it.
pub(super) struct Known<'a> {
    pub(super) routes: &'a Routes,
    pub(super) leaders: BTreeMap<u32, u64>,
}

impl Directory for Known<'_> {
    fn leader(&self, shard: u32) -> Option<u64> {
        self.leaders.get(&shard).copied()
    }

    fn members(&self, shard: u32) -> &[u64] {
        self.routes.members(shard)
    }
}

impl Node {
    fn open(config: NodeConfig, parts: Parts) -> Result<Self, NodeError> {
        config.check()?;
        Identity::open(&config, &*parts.disk, &parts.clock)?;
        let mut log = recover::open_log(&config, parts.disk.clone())?;
        let map = recover::open_map(&config, &*parts.disk, &mut log)?;
        let (mut shards, mut quarantined) = (BTreeMap::new(), BTreeMap::new());
        for id in 0..config.shards {
            if !placement::holds(&map, id, config.node) {
                recover::forget_shard(id, &*parts.disk, &mut log)?;
                continue;
            }
            if let Some(found) = Quarantined::read(&*parts.disk, id).map_err(StorageError::from)? {
                tracing::error!(
                    shard = id,
                    file = found.file,
                    at = found.at,
                    what = found.what,
                    "still quarantined"
                );
                quarantined.insert(id, found);
                continue;
            }
            match recover::open_shard(id, &config, &map, parts.disk.clone(), &mut log) {
                Ok(shard) => drop(shards.insert(id, shard)),
                Err(error) => {
                    let found = Quarantined::of(id, &error).ok_or(error)?;
                    found.write(&*parts.disk).map_err(StorageError::from)?;
                    quarantined.insert(id, found);
                }
            }
        }
        let council = recover::open_council(&config, parts.disk.clone(), &mut log)?;
        if map.version == 0 {
            recover::keep_map(&*parts.disk, &map)?;
        }
        let now = parts.clock.now();
        for shard in shards.values_mut() {
            shard.leaderless_since = Some(now);
        }
        tracing::info!(node = config.node, zone = config.zone, shards = shards.len(), "node up");
        let mut logins = LoginLimit::new(config.bounds.logins_per_second, config.bounds.login_burst);
        let ramp = &config.login_ramp;
        if ramp.over_ms > 0 {
            let rates = (ramp.from_per_second, config.bounds.logins_per_second);
            logins.ramp(rates, Duration::from_millis(ramp.over_ms), now);
        }
        let mut node = Self {
            clock: parts.clock,
            transport: parts.transport,
            observer: parts.observer,
            disk: parts.disk,
            log,
            routes: Routes::of(&map),
            map,
            shards,
            council,
            placement_hint: 0,
            placement_turn: 0,
            asks_for_map: Default::default(),
            quarantined,
            net: Net::new(config.node),
            peers: Peers::default(),
            outgoing: Outgoing::new(
                config.retention.chunk_bytes,
                config.retention.snapshot_bytes_per_second,
                Duration::from_millis(config.timing.outbox_resend_ms),
            ),
            incoming: Incoming::default(),
            ticket: 0,
            gate: Gate::new(&config.capacity, &config.protections),
            logins,
            syncs: TokenBucket::new(config.bounds.syncs_per_second, config.bounds.sync_burst),
            courier: Courier::new(
                &config.verification,
                Streams::new(config.seed).stream(&format!("codes/{}", config.node)),
            ),
            instruments: Instruments::default(),
            sync_times: Histogram::default(),
            refused: 0,
            malformed: 0,
            next_tick: now + config.timing.tick(),
            ticks: 0,
            peers_stopping: BTreeMap::new(),
            stopping: None,
            #[cfg(feature = "plants")]
            promises_early: parts.promises_early,
            config,
        };
        // The placement group's state may have been made durable after the map that was kept.
        if let Some(newest) = node.council.as_ref().map(|council| council.machine.map().clone()) {
            node.adopt(newest, now)?;
        }
        node.report();
        Ok(node)
    }

    /// Every replica at this node, the placement group's too, and the plan to replace its leader.
    pub(super) fn replicas_mut(&mut self) -> impl Iterator<Item = (u32, &mut Replica, &mut Failover)> {
        let shards = self.shards.iter_mut();
        let council = self.council.as_mut();
        shards
            .map(|(id, shard)| (*id, &mut shard.replica, &mut shard.failover))
            .chain(council.map(|council| (PLACEMENT, &mut council.replica, &mut council.failover)))
    }

    /// One of them.
    pub(super) fn replica_mut(&mut self, id: u32) -> Option<&mut Replica> {
        self.replicas_mut()
            .find(|(it, ..)| *it == id)
            .map(|(_, replica, _)| replica)
    }

    /// The command of a proposal of this node.
    pub(super) fn command(ticket: &mut u64, node: u64, clock: &Clock, command: command::Command) -> Command {
        *ticket += 1;
        Command {
            time_ms: clock.wall_ms(),
            proposer: node,
            ticket: *ticket,
            command: Some(command),
        }
    }

    fn wake_at(&self) -> Duration {
        if self.is_stopping() {
            return self.next_tick;
        }
        let shards = self.shards.values().map(|shard| &shard.failover);
        let plans = shards.chain(self.council.as_ref().map(|council| &council.failover));
        let plans = plans.filter_map(Failover::due_at);
        let others = self.courier.due_at().into_iter().chain(self.gate.due_at());
        plans.chain(others).fold(self.next_tick, Duration::min)
    }

    pub(super) fn known(routes: &Routes, leaders: BTreeMap<u32, u64>) -> Known<'_> {
        Known { routes, leaders }
    }

    /// The leaders that this node knows of its own shards.
    pub(super) fn leaders(&self) -> BTreeMap<u32, u64> {
        let leaders = self.shards.iter().map(|(id, shard)| (*id, shard.replica.leader()));
        leaders.filter(|(_, leader)| *leader != 0).collect()
    }

    fn timers(&mut self) -> Result<(), NodeError> {
        let now = self.clock.now();
        let stopping = self.is_stopping();
        for (shard, replica, failover) in self.replicas_mut().filter(|_| !stopping) {
            if failover.due(View::of(replica), now) {
                tracing::info!(shard, term = replica.term(), "campaigns: the leader is gone");
                replica.campaign_fast();
            }
        }
        self.carried();
        let mut made_up = 0;
        while self.next_tick <= now && made_up < LATE_TICKS_MAX {
            made_up += 1;
            self.next_tick += self.config.timing.tick();
            let ticked = self.tick(now);
            self.contain(ticked)?;
        }
        if self.next_tick <= now {
            self.next_tick = now + self.config.timing.tick();
        }
        Ok(())
    }

    fn tick(&mut self, now: Duration) -> Result<(), NodeError> {
        self.ticks += 1;
        let leaders = self.leaders();
        let stopping = self.stopping.is_some();
        // Time makes a follower a candidate: a node that stops has no use for that.
        for (_, replica, _) in self.replicas_mut().filter(|(_, it, _)| !stopping || it.is_leader()) {
            replica.tick();
        }
        let known = Self::known(&self.routes, leaders);
        for (&id, shard) in &mut self.shards {
            shard.open_overdue(now);
            shard.after_hand_over(now);
            shard
                .build_snapshot()
                .map_err(|source| NodeError::Chat { shard: id, source })?;
            if shard.led.is_none() {
                continue;
            }
            let chat = |source| NodeError::Chat { shard: id, source };
            shard.streams.resume(&shard.machine).map_err(chat)?;
            if self.ticks.is_multiple_of(BEATS_TICKS) {
                for (device, session) in shard.streams.beats_due(now) {
                    shard.read(ReadWait::Beat(device, session));
                }
            }
            for to in shard.outbox.overdue(now) {
                shard
                    .outbox
                    .pump(to, &shard.machine, &known, &mut self.net, now)
                    .map_err(chat)?;
            }
            shard.trim(now, |command| {
                Self::command(&mut self.ticket, self.config.node, &self.clock, command)
            });
        }
        if !stopping {
            self.drive_moves(self.ticks, now);
        }
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            self.push_map(false);
        }
        let asks = self.asks_for_map.take();
        if asks || self.ticks.is_multiple_of(CHORES_TICKS) {
            self.report();
        }
        self.carry_snapshots();
        if self.ticks.is_multiple_of(CHORES_TICKS) {
            self.chores();
            let relieved = self.relieve_log(true);
            self.contain(relieved)?;
        }
        self.hand_over(now);
        Ok(())
    }

    fn chores(&mut self) {
        for shard in self.shards.values_mut() {
            shard.sweep_reads();
        }
        for (_, replica, _) in self.replicas_mut() {
            replica.retire_snapshot();
        }
        self.sweep_snapshots();
        self.say_hello();
        self.raise_versions();
    }

    /// Starts to stop. Asked again, it goes on stopping.
    fn begin_stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        let now = self.clock.now();
        let until = now + Duration::from_millis(self.config.timing.stop_ms_max);
        tracing::info!("stopping");
        let tried = BTreeMap::new();
        self.stopping = Some(Stopping { until, tried });
        for peer in self.config.others() {
            let soon = Goodbye {
                stopping: true,
                ..Goodbye::default()
            };
            self.net.send(peer, 0, Message::Goodbye(soon));
        }
        self.hand_over(now);
    }

    /// A peer is about to stop: for as long as that may take, it is handed nothing.
    pub(super) fn peer_stops(&mut self, peer: u64) {
        let now = self.clock.now();
        let until = now + Duration::from_millis(self.config.timing.stop_ms_max);
        self.peers_stopping.insert(peer, until);
        self.hand_over(now);
    }

    /// The peers that are handed nothing.
    pub(super) fn shunned(&mut self) -> BTreeSet<u64> {
        let now = self.clock.now();
        self.peers_stopping.retain(|_, until| *until > now);
        self.peers_stopping.keys().copied().collect()
    }

    /// Ticks since the start.
    pub(super) const fn ticks(&self) -> u64 {
        self.ticks
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Keeps asking others to take this node's leaderships, while it stops: each other voter once, but none that stops.
    fn hand_over(&mut self, now: Duration) {
        if !self.is_stopping() {
            return;
        }
        let shunned = self.shunned();
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        let mut left = 0;
        let shards = self.shards.iter_mut().map(|(id, shard)| (*id, &mut shard.replica));
        let council = self.council.as_mut().map(|council| (PLACEMENT, &mut council.replica));
        for (id, replica) in shards.chain(council).filter(|(_, replica)| replica.is_leader()) {
            let asked = replica.handing_over_to();
            if asked.is_some_and(|to| shunned.contains(&to)) {
                replica.stop_handing_over();
            } else if asked.is_some() {
                left += 1;
                continue;
            }
            let tried = stopping.tried.entry(id).or_default();
            let avoid = tried.union(&shunned).copied().collect();
            if let Ok(to) = replica.transfer(0, &avoid) {
                tried.insert(to);
                left += 1;
            }
        }
        // Those who were told to wait are answered first.
        left += self.shards.values().filter(|shard| shard.hand_over.is_owed()).count();
        if left == 0 {
            stopping.until = now;
        }
    }

    fn has_stopped(&self) -> bool {
        let now = self.clock.now();
        self.stopping.as_ref().is_some_and(|stopping| stopping.until <= now)
    }

    /// Says goodbye where it still leads, and makes everything durable.
    fn close(&mut self) -> Result<(), NodeError> {
        let led = self.replicas_mut().filter(|(_, replica, _)| replica.is_leader());
        let led: Vec<_> = led
            .map(|(id, replica, _)| (id, replica.term(), replica.voters()))
            .collect();
        for (id, term, voters) in led {
            for peer in voters.into_iter().filter(|peer| *peer != self.config.node) {
                let goodbye = Goodbye {
                    term,
                    ..Goodbye::default()
                };
                self.net.send(peer, id, Message::Goodbye(goodbye));
            }
        }
        self.net.flush(&*self.transport);
        self.log.sync()?;
        for id in self.shards.keys().copied().chain([PLACEMENT]).collect::<Vec<_>>() {
            let done = self.checkpoint(id, self.config.retention.keep_behind);
            self.contain(done)?;
        }
        self.log.sync()?;
        tracing::info!(node = self.config.node, "node down");
        Ok(())
    }
}
