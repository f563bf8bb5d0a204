//! One schedule, from its seed to its verdict.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AuditRequest, Caller as Who, ContactsRequest, DigestRequest, FenceRequest, HistoryRequest, OpenRequest,
    SendRequest, StatusRequest, StoredMessage,
};
use tokio::{
    task::{JoinSet, LocalSet, spawn_local},
    time::{Instant, timeout},
};

use super::{
    Violation,
    client::{Caller, EPOCH, Missed, World, person},
    cluster::{self, Cluster},
    groups,
    judge::{self, Histories},
    ledger::Ledger,
    nemesis::schedule,
    net::Network,
    ownership::Ownership,
    records::{Finals, Records},
    social,
    trace::Trace,
};
use crate::{
    chat::{ids, validate::GROUP_MEMBERS_MAX},
    env::Streams,
    node::{Call, ClientApi as _, NodeHandle, Plant, Protocols, Reason},
    placement,
};

/// How long everything may take to converge once all faults have ended.
const LIVENESS: Duration = Duration::from_secs(30);

/// How long the load goes on after the faults have ended.
const CALM: Duration = Duration::from_secs(2);

/// From one look at the replicas' digests to the next.
const DIGEST_EVERY: Duration = Duration::from_millis(500);

/// What is simulated.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes, ids from 1.
    pub nodes: u64,
    /// Shards, each on all nodes.
    pub shards: u32,
    /// People, with two devices each.
    pub people: u32,
    /// Most members of a group.
    pub group_max: u64,
    /// How long there are faults.
    pub faults: Duration,
    /// Whether each shard is on three nodes only, so that replicas can move.
    pub spread: bool,
    /// Whether nodes of both versions of the protocol live side by side while there are faults: each start draws one, up or
    /// down. Afterwards all are updated, and every shard has to turn to the second.
    pub mixed: bool,
    /// A deliberate error of the service, in builds that have them.
    pub plant: Option<Plant>,
    /// Disks whose log syncs do nothing: a deliberate error below the service, in every build.
    pub lying_disks: bool,
    /// Nodes that send promises before they sync: a deliberate error, in builds that have them.
    pub promises_early: bool,
    /// Delays drawn from the process's own randomness: what the comparison of two runs must catch.
    pub thread_rng: bool,
    /// Keep the trace's lines, not only its digest.
    pub keep_lines: bool,
}

impl SimOptions {
    /// What a seed stands for: three nodes in most, five in some, four and shards that move in others; one to three shards.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self {
            seed,
            nodes: match seed % 16 {
                12.. => 4,
                7 => 5,
                _ => 3,
            },
            spread: seed % 16 >= 12,
            shards: 1 + u32::try_from(seed % 3).unwrap_or(0),
            people: 3,
            // The limit is contested where there are as many people as it lets in; in some it is the real one.
            group_max: if seed % 32 == 9 { GROUP_MEMBERS_MAX } else { 2 },
            faults: Duration::from_secs(6),
            mixed: (seed / 4) % 3 == 1,
            plant: None,
            lying_disks: false,
            promises_early: false,
            thread_rng: false,
            keep_lines: false,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything wrong that was seen; empty is a pass.
    pub violations: Vec<Violation>,
    /// Sends that were acknowledged.
    pub acknowledged: usize,
    /// Deliveries that devices received.
    pub delivered: usize,
    /// Changes of groups that were acknowledged.
    pub changes: usize,
    /// Entries of users' logs that devices were shown and that were no messages.
    pub notices: u64,
    /// How often the app was opened: current, and with what a node had.
    pub opens: (u64, u64),
    /// Stale routes that clients were told of: older than the node's map, and newer.
    pub stale_routes: (u64, u64),
    /// Starts of nodes with the first and with the second version of the protocol.
    pub boots: (u64, u64),
    /// Terms that had a leader, over all shards.
    pub elections: usize,
    /// Faults that took hold, by kind.
    pub acts: BTreeMap<&'static str, u64>,
    /// From the end of the faults until everything had converged; virtual time.
    pub converged: Option<Duration>,
    /// Digest of the trace, the number of its events, and its lines if they were kept.
    pub trace: (u64, u64, Vec<String>),
}

/// Runs one schedule to its end. Takes a thread for itself, and no time of the outside world.
///
/// # Errors
/// When the runtime can not be made.
pub fn simulate(options: &SimOptions) -> std::io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, run(options)))
}

async fn run(options: &SimOptions) -> Outcome {
    let streams = Streams::new(options.seed);
    let start = Instant::now();
    let clock = cluster::clock(start, 0);
    let trace = Trace::new(clock.clone(), options.keep_lines);
    let net = Network::new(
        streams.stream("network"),
        clock.clone(),
        trace.clone(),
        options.thread_rng,
        Ownership::new(cluster::founding(options), options.nodes),
    );
    let world = World {
        net: net.clone(),
        clock: clock.clone(),
        trace: trace.clone(),
        records: Rc::new(RefCell::new(Records::new(options.group_max))),
        people: Rc::default(),
        phones: (0..options.people).map(|number| format!("10000{number:03}")).collect(),
        groups: Rc::default(),
        fill: Rc::new(RefCell::new(fill(options.group_max))),
        readers: Rc::default(),
        loading: Rc::new(Cell::new(true)),
        nodes: options.nodes,
        shards: options.shards,
    };
    let cluster = Cluster::new(world.clone(), start, options, streams);
    spawn_local(net.clone().run());
    cluster.start_all();
    let digests = Rc::new(RefCell::new(Digests::default()));
    spawn_local(watch_digests(world.clone(), Rc::clone(&digests)));
    let mut people = JoinSet::new();
    for number in 0..options.people {
        people.spawn_local(person(world.clone(), number, streams));
    }

    // Safety: faults at any time.
    for step in schedule(
        &mut streams.stream("nemesis"),
        options.nodes,
        options.shards,
        options.faults,
    ) {
        clock.sleep_until(step.at).await;
        cluster.act(&step.act);
    }
    // Liveness: all is healed, and the clock of the bound starts.
    trace.event(format_args!("faults end"));
    cluster.heal();
    let healed = clock.now();
    clock.sleep(CALM).await;
    world.loading.set(false);
    let mut histories = Histories::new();
    let mut caller = Caller::new(world.clone(), streams.stream("judge"));
    let mut stage = "every send is answered";
    let converge = async {
        while people.join_next().await.is_some() {}
        stage = "conversations are read";
        histories = read_all(&mut caller, &world).await;
        stage = "everything owed is delivered";
        all_delivered(&world, &histories).await;
        stage = "lists are read and contacts found";
        read_lists(&mut caller, &world).await;
        stage = "sessions are fenced";
        // Streams of fenced sessions end too.
        world.readers.borrow_mut().abort_all();
        fence(&mut caller, &world).await;
        stage = "conversations are read again";
        histories = read_all(&mut caller, &world).await;
        stage = "replicas agree";
        digests.borrow_mut().last.clear();
        while !digests.borrow().agree(&world) {
            clock.sleep(DIGEST_EVERY).await;
        }
        stage = "every shard turns to the second version";
        while !turned(&world).await {
            clock.sleep(DIGEST_EVERY).await;
        }
        stage = "nodes stop";
        // One after the other, so that leaderships have somewhere to go.
        for id in 1..=options.nodes {
            cluster.stop_for_good(id);
            while !cluster.is_down(id) {
                clock.sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let converged = timeout(LIVENESS, converge).await.ok().map(|()| clock.now() - healed);
    if converged.is_some() {
        cluster.read_disks();
    } else {
        let what = format!("{LIVENESS:?} after the faults ended, not yet: {stage}");
        world.records.borrow_mut().violation("liveness", what);
    }
    let syncs = cluster.syncs();
    trace.event(format_args!("the end, after {syncs} syncs"));

    let records = world.records.borrow();
    let mut violations = net.ledger(|ledger| ledger.violations().to_vec());
    net.owners(|owners| violations.extend_from_slice(owners.violations()));
    violations.extend_from_slice(records.violations());
    violations.extend_from_slice(&digests.borrow().violations);
    // Read whole, or not at all.
    if !histories.is_empty() {
        violations.extend(judge::judge(&records, &histories));
    }
    Outcome {
        violations,
        changes: records
            .changes
            .values()
            .filter(|change| change.position.is_some())
            .count(),
        notices: records.notices(),
        opens: records.opens,
        stale_routes: records.stale_routes,
        boots: cluster.boots(),
        acknowledged: records.acknowledged_sends(),
        delivered: records.deliveries(),
        elections: net.ledger(|ledger: &mut Ledger| ledger.elections()),
        acts: cluster.acts(),
        converged,
        trace: trace.finish(),
    }
}

/// Accounts that don't exist, to fill a group of at most `max` members up to all but one.
fn fill(max: u64) -> Vec<u64> {
    let buckets = 0..u16::MAX;
    let users = buckets
        .zip(1..max.saturating_sub(1))
        .map(|(bucket, n)| ids::user_id(bucket, 1_000_000 + n));
    users.collect()
}

/// Asks for everybody's conversations and contacts, until all contacts are found, and has everybody read every group.
async fn read_lists(caller: &mut Caller, world: &World) {
    let devices: Vec<(u64, u64)> = {
        let records = world.records.borrow();
        let second = records.sessions.iter().filter(|(device, _)| device.1 == social::DEVICE);
        second.map(|(device, opened)| (device.0, opened.session)).collect()
    };
    let groups = world.groups.borrow().clone();
    for (user, session) in devices {
        let who = Some(Who {
            user,
            device: social::DEVICE,
            session,
        });
        let account = ids::owner(user, world.shards);
        let request = OpenRequest {
            caller: who,
            after: 0,
            epoch: EPOCH,
        };
        let sync = async |node: NodeHandle, call: Call, _: u64| node.sync(request, call).await;
        let mut finals = Finals {
            threads: caller.insist(account, "sync", sync).await.threads,
            ..Finals::default()
        };
        loop {
            let request = ContactsRequest {
                caller: who,
                after: String::new(),
                epoch: EPOCH,
            };
            let contacts = async |node: NodeHandle, call: Call, _: u64| node.contacts(request.clone(), call).await;
            finals.contacts = caller.insist(account, "contacts", contacts).await.contacts;
            if world
                .records
                .borrow()
                .missing_contacts(user, &finals.contacts)
                .is_empty()
            {
                break;
            }
            world.clock.sleep(Duration::from_millis(100)).await;
        }
        for &group in &groups {
            let request = HistoryRequest {
                conversation: group,
                caller: who,
                epoch: EPOCH,
                ..HistoryRequest::default()
            };
            let history = async |node: NodeHandle, call: Call, _: u64| node.history(request, call).await;
            let page = caller
                .settle(ids::owner(group, world.shards), "history of a group", history)
                .await;
            let seen = page
                .ok()
                .map(|page| page.messages.iter().map(|it| it.position).collect());
            finals.histories.insert(group, seen);
        }
        world.records.borrow_mut().finals.insert(user, finals);
    }
}

/// Ends all sessions on all shards, and makes sure that they ended.
async fn fence(caller: &mut Caller, world: &World) {
    let sessions: Vec<u64> = world.records.borrow().sessions.values().map(|s| s.session).collect();
    for shard in 0..world.shards {
        let request = FenceRequest {
            shard,
            sessions: sessions.clone(),
            epoch: EPOCH,
        };
        let fence = async |node: NodeHandle, call: Call, _: u64| node.fence(request.clone(), call).await;
        caller.insist(shard, "fence", fence).await;
    }
    let late = world
        .records
        .borrow()
        .sends
        .iter()
        .rfind(|(_, sent)| sent.group == 0)
        .map(|(key, sent)| (*key, sent.recipient));
    let Some((key, recipient)) = late else { return };
    let Some(opened) = world.records.borrow().sessions.get(&(key.sender, key.device)).copied() else {
        return;
    };
    let home = ids::owner(ids::conversation_id(key.sender, recipient), world.shards);
    loop {
        let request = SendRequest {
            sender: key.sender,
            device: key.device,
            session: opened.session,
            recipient,
            client_id: key.client_id + 1,
            body: bytes::Bytes::from_static(b"too late"),
            epoch: EPOCH,
            timeout_ms: 0,
            group: 0,
        };
        let send = async |node: NodeHandle, call: Call, _: u64| node.send(request, call).await;
        match caller.attempt(home, send).await {
            Err(Missed::Refused(refusal)) if refusal.reason == Reason::SessionEnded => return,
            Err(_) => world.clock.sleep(Duration::from_millis(30)).await,
            Ok(answer) => {
                let what = format!("a fenced session sent at position {}", answer.position);
                return world.records.borrow_mut().violation("fenced is fenced", what);
            }
        }
    }
}

/// Reads every conversation, linearizably, in slices.
async fn read_all(caller: &mut Caller, world: &World) -> Histories {
    let mut histories = Histories::new();
    let conversations = world.records.borrow().conversations();
    for conversation in conversations.into_keys() {
        let home = ids::owner(conversation, world.shards);
        let messages = histories.entry(conversation).or_default();
        loop {
            let request = AuditRequest {
                conversation,
                after: messages.last().map_or(0, |m| m.position),
                limit: 50,
                epoch: EPOCH,
            };
            let audit = async |node: NodeHandle, call: Call, _: u64| node.audit(request, call).await;
            let slice = caller.insist(home, "audit", audit).await;
            if slice.messages.is_empty() {
                let last = messages.last().map_or(0, |m| m.position);
                if last < slice.last_position {
                    let what = format!(
                        "conversation {conversation:x} ends at {last} of {}",
                        slice.last_position
                    );
                    world.records.borrow_mut().violation("whole histories", what);
                }
                break;
            }
            messages.extend(slice.messages);
        }
    }
    let groups = world.records.borrow().groups();
    for group in groups {
        let home = ids::owner(group, world.shards);
        let messages = histories.entry(group).or_default();
        // Bounded by the group's length, which nobody adds to any more.
        loop {
            let request = AuditRequest {
                conversation: group,
                after: messages.last().map_or(0, |it: &StoredMessage| it.position),
                limit: 100,
                epoch: EPOCH,
            };
            let audit = async |node: NodeHandle, call: Call, _: u64| node.audit(request, call).await;
            let slice = caller.insist(home, "audit", audit).await;
            if slice.messages.is_empty() {
                break;
            }
            messages.extend(slice.messages);
        }
    }
    histories
}

/// Waits until every device has all that it is owed.
async fn all_delivered(world: &World, histories: &Histories) {
    loop {
        let missing = {
            let records = world.records.borrow();
            let memberships = groups::memberships(&records, histories, &mut Vec::new());
            records.sessions.keys().any(|device| {
                let stream = records.streams.get(device);
                let has: std::collections::BTreeSet<_> =
                    stream.into_iter().flatten().map(super::records::key_of).collect();
                judge::owed(&records, histories, &memberships, *device)
                    .iter()
                    .any(|(key, _)| !has.contains(key))
            })
        };
        if !missing {
            return;
        }
        world.clock.sleep(Duration::from_millis(50)).await;
    }
}

/// Whether every replica of every shard says that its log has turned to the second version of the protocol.
async fn turned(world: &World) -> bool {
    for node in 1..=world.nodes {
        let Some(handle) = world.net.handle(node) else {
            return false;
        };
        let asked = handle.status(StatusRequest {}, Call::within(Duration::from_millis(200)));
        let Ok(status) = asked.await else { return false };
        if status.shards.iter().any(|shard| shard.version < Protocols::ALL.most()) {
            return false;
        }
    }
    true
}

/// The replicas' digests: at one index of one shard there is one.
#[derive(Default)]
struct Digests {
    seen: BTreeMap<(u32, u64), (u64, u64)>,
    /// The last (applied, digest) of each (shard, node).
    last: BTreeMap<(u32, u64), (u64, u64)>,
    violations: Vec<Violation>,
}

impl Digests {
    fn saw(&mut self, shard: u32, node: u64, applied: u64, digest: u64) {
        self.last.insert((shard, node), (applied, digest));
        let (other, known) = *self.seen.entry((shard, applied)).or_insert((node, digest));
        if known != digest {
            let what =
                format!("shard {shard} at index {applied} is {known:x} on node {other} and {digest:x} on node {node}");
            super::report(&mut self.violations, "replicas agree", what);
        }
    }

    /// Whether all moves have ended, and every node that holds a shard by the map, and no other, has been seen with it, all
    /// at the same index, which has all that was committed.
    fn agree(&self, world: &World) -> bool {
        let map = world.net.owners(|owners| owners.map().clone());
        let quiet = !map.operations.iter().any(placement::is_active);
        let others = self
            .last
            .keys()
            .any(|(shard, node)| !placement::holds(&map, *shard, *node));
        quiet
            && !others
            && (0..world.shards).all(|shard| {
                let members = &map.shards[shard as usize].members;
                let mut ends = members.iter().map(|node| self.last.get(&(shard, *node)));
                let first = ends.next().flatten();
                let committed = world.net.ledger(|ledger| ledger.committed_index(shard));
                first.is_some_and(|(applied, _)| *applied >= committed) && ends.all(|end| end == first)
            })
    }
}

async fn watch_digests(world: World, digests: Rc<RefCell<Digests>>) {
    loop {
        world.clock.sleep(DIGEST_EVERY).await;
        for node in 1..=world.nodes {
            for shard in 0..world.shards {
                let Some(handle) = world.net.handle(node) else { continue };
                let asked = handle.digest(DigestRequest { shard }, Call::within(Duration::from_millis(200)));
                match asked.await {
                    Ok(answer) => digests.borrow_mut().saw(shard, node, answer.applied, answer.digest),
                    Err(_) => drop(digests.borrow_mut().last.remove(&(shard, node))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_differ_at_an_index_are_seen() {
        let mut digests = Digests::default();
        digests.saw(0, 1, 5, 77);
        digests.saw(0, 2, 4, 78);
        digests.saw(1, 2, 5, 79);
        assert!(digests.violations.is_empty());
        digests.saw(0, 2, 5, 78);
        assert_eq!(digests.violations.len(), 1);
        assert_eq!(digests.violations[0].promise, "replicas agree");
    }
}
