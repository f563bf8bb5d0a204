//! The nodes: started, killed, robbed of their power, and started again.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use firedrill_proto::chat::v1::{AbortOperationRequest, MoveReplicaRequest, PlacementMap};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tokio::{
    task::{AbortHandle, JoinError},
    time::Instant,
};

use super::{
    SimOptions,
    client::World,
    ledger,
    nemesis::{Act, Victim},
};
use crate::{
    chat::Settings,
    env::{Clock, Disk, SimDisk, Streams, WallClock},
    node::{
        self, Bounds, ClientApi as _, NodeConfig, NodeError, PLACEMENT, Parts, Retention, Timing, Verification,
        Versions,
    },
    placement,
    storage::log::{Log, LogOptions},
};

/// A wall clock that runs with virtual time, and is wrong by a constant.
struct SimWall {
    start: Instant,
    offset_ms: u64,
}

impl WallClock for SimWall {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(self.offset_ms)
    }
}

/// What a disk says whose sync was made to fail.
const SYNC_FAILED: &str = "the device reported a write error";
/// What a disk says whose machine lost its power.
const POWER_CUT: &str = "the machine went down";

/// Some instant in the past, from which all wall clocks count.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A clock that is `offset_ms` off.
pub(super) fn clock(start: Instant, offset_ms: u64) -> Clock {
    Clock::new(Arc::new(SimWall {
        start,
        offset_ms: EPOCH_MS + offset_ms,
    }))
}

/// The map with which the nodes begin: as they draw it themselves.
pub(super) fn founding(options: &SimOptions) -> PlacementMap {
    let nodes: Vec<u64> = (1..=options.nodes).collect();
    let members = (0..options.shards as usize).map(|shard| {
        let held = if options.spread { 3 } else { nodes.len() };
        let mut members: Vec<u64> = (0..held).map(|i| nodes[(shard + i) % nodes.len()]).collect();
        members.sort_unstable();
        members
    });
    placement::founded(1, members)
}

/// All nodes of a simulation. Clones are the same cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    inner: Rc<RefCell<Inner>>,
    world: World,
    start: Instant,
    options: SimOptions,
}

struct Inner {
    rng: ChaCha8Rng,
    disks: BTreeMap<u64, SimDisk>,
    running: BTreeMap<u64, Running>,
    boots: u64,
    /// Nodes whose disk was told to fail: they have to end with an error, which has these words.
    doomed: BTreeMap<u64, &'static str>,
    /// Whether a node that a fault had asked to stop, and that stops only now, is started again.
    revive: bool,
    /// Whether starts still draw a version of the protocol.
    mixes: bool,
    /// Starts with each version of the protocol.
    versions: (u64, u64),
    /// How often each kind of fault took hold.
    acts: BTreeMap<&'static str, u64>,
}

struct Running {
    boot: u64,
    abort: AbortHandle,
}

impl Inner {
    /// What the next start speaks. As long as versions are mixed no shard may turn, since any node may go back.
    fn draw_version(&mut self) -> Versions {
        let protocol = match self.mixes {
            true => self.rng.random_range(1..=2),
            false => 2,
        };
        self.versions.0 += u64::from(protocol == 1);
        self.versions.1 += u64::from(protocol == 2);
        Versions {
            protocol,
            finalize: !self.mixes,
            ..Versions::default()
        }
    }
}

impl Cluster {
    pub(super) fn new(world: World, start: Instant, options: &SimOptions, streams: Streams) -> Self {
        let disks = (1..=options.nodes).map(|id| (id, SimDisk::new()));
        let inner = Inner {
            rng: streams.stream("cluster"),
            disks: disks.collect(),
            running: BTreeMap::new(),
            boots: 0,
            doomed: BTreeMap::new(),
            revive: false,
            mixes: options.mixed,
            versions: (0, 0),
            acts: BTreeMap::new(),
        };
        if options.lying_disks {
            for disk in inner.disks.values() {
                disk.set_lying(Some("log"));
            }
        }
        Self {
            inner: Rc::new(RefCell::new(inner)),
            world,
            start,
            options: options.clone(),
        }
    }

    /// Starts every node that is down.
    pub(super) fn start_all(&self) -> u64 {
        (1..=self.options.nodes).filter(|id| self.start(*id)).count() as u64
    }

    fn start(&self, id: u64) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.running.contains_key(&id) {
            return false;
        }
        inner.boots += 1;
        let boot = inner.boots;
        let disk: Arc<dyn Disk> = Arc::new(inner.disks[&id].attach());
        let clock = clock(self.start, inner.rng.random_range(0..100));
        let mut config = self.config(id, boot);
        config.versions = inner.draw_version();
        let (handle, inbox) = node::channel(&config, clock.clone());
        self.world.net.up(id, handle);
        let parts = Parts {
            clock,
            disk,
            transport: self.world.net.transport(id),
            observer: Some(self.world.net.observer()),
            #[cfg(feature = "plants")]
            promises_early: self.options.promises_early,
        };
        self.world.trace.event(format_args!("node {id} starts"));
        // The node's only task: aborting it is a crash of all of the node.
        let task = tokio::task::spawn_local(node::run(config, parts, inbox));
        let abort = task.abort_handle();
        inner.running.insert(id, Running { boot, abort });
        drop(inner);
        let cluster = self.clone();
        tokio::task::spawn_local(async move {
            let ended = task.await;
            cluster.ended(id, boot, ended);
        });
        true
    }

    fn config(&self, id: u64, boot: u64) -> NodeConfig {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        NodeConfig {
            node: id,
            cluster: String::new(),
            zone: format!("zone-{id}"),
            peers: (1..=self.options.nodes).map(|id| (id, address)).collect(),
            founders: Vec::new(),
            bootstrap: true,
            bootstrap_permit: None,
            client_listen: address,
            peer_listen: address,
            data_dir: "/".into(),
            shards: self.options.shards,
            replication_factor: 3,
            everywhere_up_to: if self.options.spread { 0 } else { 5 },
            epoch: 1,
            // Another boot draws other timeouts.
            seed: self.options.seed ^ boot.rotate_left(32),
            plant: self.options.plant,
            timing: Timing::default(),
            bounds: Bounds {
                group_members: self.options.group_max,
                ..Bounds::default()
            },
            // Small, so that checkpoints, rotation, purging and snapshots all happen in seconds.
            volatile_write_cache: false,
            retention: Retention {
                checkpoint_every: 25,
                keep_behind: 15,
                segment_bytes: 8 << 10,
                chunk_bytes: 2 << 10,
                ..Retention::default()
            },
            state: Settings::default(),
            verification: Verification::default(),
            capacity: Default::default(),
            login_ramp: Default::default(),
            protections: Default::default(),
            versions: Versions::default(),
        }
    }

    /// Tells what became of a node's task.
    fn ended(&self, id: u64, boot: u64, ended: Result<Result<(), NodeError>, JoinError>) {
        let mut inner = self.inner.borrow_mut();
        let current = inner.running.get(&id).is_some_and(|r| r.boot == boot);
        let what = match &ended {
            Ok(Ok(())) => "stopped".to_owned(),
            Ok(Err(error)) => format!("failed: {error}"),
            Err(join) if join.is_panic() => format!("panicked: {join}"),
            Err(_) => "was killed".to_owned(),
        };
        self.world.trace.event(format_args!("node {id} {what}"));
        let words = inner.doomed.get(&id).copied();
        let doomed = words.filter(|words| matches!(&ended, Ok(Err(error)) if error.to_string().contains(words)));
        if doomed.is_some() {
            inner.doomed.remove(&id);
        }
        let panicked = ended.as_ref().is_err_and(JoinError::is_panic);
        // A node that was killed may report that its disk went away under it.
        if panicked || (current && matches!(ended, Ok(Err(_))) && doomed.is_none()) {
            let mut records = self.world.records.borrow_mut();
            records.violation("nodes end for a reason", format!("node {id} {what}"));
        }
        if current {
            inner.running.remove(&id);
            inner.disks[&id].crash();
            self.world.net.down(id);
            if doomed == Some(POWER_CUT) {
                self.read_disk(id, &inner.disks[&id]);
            }
        }
        let revive = current && inner.revive && matches!(ended, Ok(Ok(())));
        drop(inner);
        if revive {
            self.start(id);
        }
    }

    /// Kills a node, and its machine's power with it if asked to.
    fn kill(&self, id: u64, power_loss: bool) -> bool {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if power_loss {
            inner.disks[&id].power_loss(&mut inner.rng);
            // A machine that comes back has another write cache; and its disk is about to be read here.
            inner.disks[&id].disarm();
            inner.doomed.remove(&id);
        } else {
            inner.disks[&id].crash();
        }
        let running = inner.running.remove(&id);
        if let Some(running) = &running {
            self.world.net.down(id);
            running.abort.abort();
        }
        self.world
            .trace
            .event(format_args!("node {id} dies, power loss: {power_loss}"));
        if power_loss {
            self.read_disk(id, &inner.disks[&id]);
        }
        running.is_some()
    }

    /// Looks at the durable log of a node that is down: what it calls committed must be what was committed.
    fn read_disk(&self, id: u64, disk: &SimDisk) {
        let disk: Arc<dyn Disk> = Arc::new(disk.attach());
        let mut log = match Log::open(disk, "log", LogOptions::default()) {
            Ok(log) => log,
            Err(error) => {
                let mut records = self.world.records.borrow_mut();
                return records.violation("logs survive", format!("node {id}: {error}"));
            }
        };
        for shard in (0..self.options.shards).chain([PLACEMENT]) {
            let log = log.shard(shard);
            let (hard, members) = log.initial_state();
            // A shard that left this node is forgotten, but for its vote.
            let last = match members.voters.is_empty() {
                true => u64::MAX,
                false => log.last_index(),
            };
            let broken = self.world.net.promises(|p| p.broken(id, shard, hard, last));
            if let Some(what) = broken {
                self.world.records.borrow_mut().violation("promises are kept", what);
            }
            let commit = hard.commit;
            for entry in log.entries(log.first_index(), commit + 1, None).unwrap_or_default() {
                let source = format_args!("the disk of node {id}");
                let print = ledger::print(entry.term, &entry.data);
                self.world.net.ledger(|l| l.commit(shard, entry.index, print, source));
            }
        }
    }

    /// Does what the schedule says. Counted if it took hold.
    pub(super) fn act(&self, act: &Act) {
        self.world.trace.event(format_args!("{act:?}"));
        let nodes = self.options.nodes;
        let took_hold = match act {
            Act::Heal => {
                self.world.net.heal();
                true
            }
            Act::Isolate(victim) => self.cut(*victim, true, true),
            Act::Mute(victim) => self.cut(*victim, true, false),
            Act::Deafen(victim) => self.cut(*victim, false, true),
            Act::CutOneWay(from, to) => {
                self.world.net.cut(*from, *to);
                true
            }
            Act::Split(side) => {
                for a in (1..=nodes).filter(|a| side.contains(a)) {
                    for b in (1..=nodes).filter(|b| !side.contains(b)) {
                        self.world.net.cut(a, b);
                        self.world.net.cut(b, a);
                    }
                }
                !side.is_empty() && side.len() as u64 != nodes
            }
            Act::Degrade(loss, delay) => {
                self.world.net.degrade(*loss, *delay);
                true
            }
            Act::Crash(victim) => self.kill(self.resolve(*victim), false),
            Act::PowerLoss(victim) => self.kill(self.resolve(*victim), true),
            Act::PowerLossAll => (1..=nodes).filter(|id| self.kill(*id, true)).count() > 0,
            Act::FailSync(victim) => {
                let id = self.resolve(*victim);
                let mut inner = self.inner.borrow_mut();
                let fresh = !inner.doomed.contains_key(&id);
                if fresh {
                    inner.doomed.insert(id, SYNC_FAILED);
                    inner.disks[&id].fail_next_sync("");
                }
                fresh
            }
            Act::CutPower(victim, calls) => {
                let id = self.resolve(*victim);
                let mut inner = self.inner.borrow_mut();
                let fresh = !inner.doomed.contains_key(&id);
                if fresh {
                    inner.doomed.insert(id, POWER_CUT);
                    let rng = Streams::new(inner.rng.random()).stream("cut");
                    inner.disks[&id].cut_power_after(*calls, rng);
                }
                fresh
            }
            Act::Restart => self.start_all() > 0,
            Act::Transfer(shard) => self.transfer(*shard),
            Act::Move(shard, which) => self.move_replica(*shard, *which),
            Act::Stop(victim) => self.stop(self.resolve(*victim)),
        };
        if took_hold {
            *self.inner.borrow_mut().acts.entry(act.kind()).or_default() += 1;
        }
    }

    fn resolve(&self, victim: Victim) -> u64 {
        match victim {
            Victim::Node(id) => id,
            Victim::LeaderOf(shard) => self.world.net.ledger(|l| l.leader(shard)).unwrap_or(1),
        }
    }

    fn cut(&self, victim: Victim, out: bool, inward: bool) -> bool {
        let id = self.resolve(victim);
        for other in (1..=self.options.nodes).filter(|other| *other != id) {
            if out {
                self.world.net.cut(id, other);
            }
            if inward {
                self.world.net.cut(other, id);
            }
        }
        true
    }

    fn transfer(&self, shard: u32) -> bool {
        let leader = self.resolve(Victim::LeaderOf(shard));
        let Some(handle) = self.world.net.handle(leader) else {
            return false;
        };
        tokio::task::spawn_local(async move {
            let request = firedrill_proto::chat::v1::TransferLeaderRequest { shard, to: 0 };
            // It may not lead any more: then nothing happens, which is fine.
            let _ = handle.transfer_leader(request, node::Call::default()).await;
        });
        true
    }

    /// Asks whoever leads the placement group to move a replica, or, while one moves, maybe to abort that.
    fn move_replica(&self, shard: u32, which: u64) -> bool {
        let map = self.world.net.owners(|owners| owners.map().clone());
        let members = &map.shards[shard as usize].members;
        let free = (1..=self.options.nodes).find(|node| !members.contains(node));
        let going = placement::active(&map, shard).map(|operation| operation.id);
        let Some(to) = free.filter(|_| going.is_none() || which.is_multiple_of(3)) else {
            return false;
        };
        let from = members[usize::try_from(which).unwrap_or(0) % members.len()];
        let (net, nodes) = (self.world.net.clone(), self.options.nodes);
        tokio::task::spawn_local(async move {
            for node in 1..=nodes {
                let Some(handle) = net.handle(node) else { continue };
                // Refused by all but one, and by that one too, if it isn't the time for it: which is fine.
                let call = node::Call::default();
                if let Some(operation) = going {
                    let _ = handle.abort_operation(AbortOperationRequest { operation }, call).await;
                } else {
                    let request = MoveReplicaRequest {
                        shard,
                        from,
                        to,
                        dry_run: false,
                    };
                    let _ = handle.move_replica(request, call).await;
                }
            }
        });
        true
    }

    /// Stops a node gracefully, in its own time.
    fn stop(&self, id: u64) -> bool {
        let Some(handle) = self.world.net.handle(id) else {
            return false;
        };
        tokio::task::spawn_local(async move { handle.stop().await });
        true
    }

    /// Ends all faults: the network heals, disks behave, every node is up, and of the version that all shall have.
    pub(super) fn heal(&self) {
        self.world.net.heal();
        let mut inner = self.inner.borrow_mut();
        inner.disks.values().for_each(SimDisk::disarm);
        inner.doomed.clear();
        inner.revive = true;
        let update = std::mem::take(&mut inner.mixes);
        let running: Vec<u64> = inner.running.keys().copied().collect();
        drop(inner);
        self.start_all();
        // Each comes back when it has stopped; all at once is the worst way to update.
        for id in running.into_iter().filter(|_| update) {
            self.stop(id);
        }
    }

    /// Starts with the first and with the second version of the protocol.
    pub(super) fn boots(&self) -> (u64, u64) {
        self.inner.borrow().versions
    }

    /// Stops a node gracefully, for good.
    pub(super) fn stop_for_good(&self, id: u64) -> bool {
        self.inner.borrow_mut().revive = false;
        self.stop(id)
    }

    /// Whether a node is down.
    pub(super) fn is_down(&self, id: u64) -> bool {
        !self.inner.borrow().running.contains_key(&id)
    }

    /// Reads the logs of all nodes, which are down.
    pub(super) fn read_disks(&self) {
        for (&id, disk) in &self.inner.borrow().disks {
            self.read_disk(id, disk);
        }
    }

    /// How often each kind of fault took hold.
    pub(super) fn acts(&self) -> BTreeMap<&'static str, u64> {
        self.inner.borrow().acts.clone()
    }

    /// Syncs of all disks.
    pub(super) fn syncs(&self) -> u64 {
        self.inner.borrow().disks.values().map(SimDisk::syncs).sum()
    }
}
