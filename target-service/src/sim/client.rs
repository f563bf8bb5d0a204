//! Simulated people: they sign up, open sessions on two devices, send from the first, lead their social lives on the
//! second ([`social`]), and read their streams, through everything.
//!
//! A client makes attempts through [`ClientApi`], with delay on the way and answers that get lost; it repeats a send
//! with the same client id until it is answered. It knows no node's inside.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, OpenSessionRequest, RoutesRequest, SendRequest, SignUpRequest, SubscribeRequest,
    subscribe_event::Event,
};
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;

use super::{
    net::Network,
    records::{Device, MessageKey, Records, body},
    social::{self, Social},
    trace::Trace,
};
use crate::{
    chat::ids,
    env::Clock,
    node::{Answer, Call, ClientApi as _, NodeHandle, Protocols, Reason, Refusal, Subscription},
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// How long a device waits for a sign of life on its stream; the service sends one a second.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// One of so many answers gets lost on its way back.
const LOST_ANSWERS: f64 = 0.04;

/// No epoch: a client that has no map goes where it is told. [`Caller::attempt`] gives those who have one theirs.
pub(super) const EPOCH: u64 = 0;

/// One of so many clients has a map of the shards, and says of which epoch it is.
const WITH_MAP: f64 = 0.5;

/// Devices of each person.
const DEVICES: u32 = 2;

/// What all clients share.
#[derive(Clone)]
pub(super) struct World {
    pub(super) net: Network,
    pub(super) clock: Clock,
    pub(super) trace: Trace,
    pub(super) records: Rc<RefCell<Records>>,
    /// Users that can be written to.
    pub(super) people: Rc<RefCell<Vec<u64>>>,
    /// Everybody's phone numbers.
    pub(super) phones: Rc<[String]>,
    /// Groups that were made.
    pub(super) groups: Rc<RefCell<Vec<u64>>>,
    /// Members that nobody knows, for the first group that is made: almost as many as it may have.
    pub(super) fill: Rc<RefCell<Vec<u64>>>,
    /// Whether new sends are started.
    pub(super) loading: Rc<Cell<bool>>,
    /// The tasks that read streams.
    pub(super) readers: Rc<RefCell<JoinSet<()>>>,
    pub(super) nodes: u64,
    pub(super) shards: u32,
}

/// Why an attempt failed.
pub(super) enum Missed {
    Refused(Refusal),
    /// No answer: it may have happened.
    Lost,
}

impl Missed {
    /// A refusal that can't be right while the client has done nothing wrong.
    fn wrong(&self) -> Option<&Refusal> {
        use Reason::{
            GroupFull, Invalid, NoSuchConversation, NoSuchDevice, NoSuchUser, NotMember, Resync, SessionEnded,
            StaleRoute, WrongCode,
        };
        match self {
            Self::Refused(r)
                if matches!(
                    r.reason,
                    Invalid
                        | NoSuchDevice
                        | NoSuchUser
                        | NoSuchConversation
                        | NotMember
                        | GroupFull
                        | Resync
                        | SessionEnded
                        | StaleRoute
                        | WrongCode
                ) =>
            {
                Some(r)
            }
            _ => None,
        }
    }
}

/// Makes calls for one client, and remembers who leads.
pub(super) struct Caller {
    world: World,
    pub(super) rng: ChaCha8Rng,
    leaders: BTreeMap<u32, u64>,
    /// The versions of the protocol that it speaks.
    speaks: Protocols,
    /// The epoch of its map; 0 when it has none.
    epoch: u64,
}

impl Caller {
    pub(super) fn new(world: World, mut rng: ChaCha8Rng) -> Self {
        let speaks = match rng.random_bool(0.5) {
            true => Protocols::ALL,
            false => Protocols::FIRST,
        };
        // The map of every cluster begins with epoch 1.
        let epoch = u64::from(rng.random_bool(WITH_MAP));
        Self {
            world,
            rng,
            leaders: BTreeMap::new(),
            speaks,
            epoch,
        }
    }

    pub(super) fn world(&self) -> World {
        self.world.clone()
    }

    pub(super) async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.rng.random_range(ms);
        self.world.clock.sleep(Duration::from_millis(ms)).await;
    }

    /// One attempt at whoever is thought to lead `shard`.
    pub(super) async fn attempt<T>(
        &mut self,
        shard: u32,
        request: impl AsyncFnOnce(NodeHandle, Call, u64) -> Answer<T>,
    ) -> Result<T, Missed> {
        let any = self.rng.random_range(1..=self.world.nodes);
        let node = *self.leaders.entry(shard).or_insert(any);
        self.pause(0..3).await;
        let Some(handle) = self.world.net.handle(node) else {
            self.leaders.remove(&shard);
            return Err(Missed::Refused(Refusal::new(Reason::NotLeader, "connection refused")));
        };
        let call = Call::within(PATIENCE).speaking(self.speaks);
        let answer = request(handle.clone(), call, self.epoch).await;
        self.pause(0..3).await;
        if self.rng.random_bool(LOST_ANSWERS) {
            return Err(Missed::Lost);
        }
        if let Err(refusal) = &answer
            && refusal.reason == Reason::StaleRoute
        {
            return Err(self.follow(refusal.clone(), &handle).await);
        }
        answer.map_err(|refusal| {
            self.leaders.remove(&shard);
            if let Some(leader) = refusal.leader.filter(|leader| *leader != node) {
                self.leaders.insert(shard, leader);
            }
            if refusal.reason == Reason::Maybe {
                return Missed::Lost;
            }
            Missed::Refused(refusal)
        })
    }

    /// The route is of another epoch than the node's map: takes over the newer of the two maps, if it is the node's. Who is
    /// newer than the node waits for the node to hear of it.
    async fn follow(&mut self, refusal: Refusal, node: &NodeHandle) -> Missed {
        self.leaders.clear();
        if self.epoch == 0 || refusal.epoch == self.epoch {
            // Nothing was wrong with the route.
            return Missed::Refused(refusal);
        }
        let newer = refusal.epoch > self.epoch;
        self.world.records.borrow_mut().stale_route(newer);
        if newer && let Ok(map) = node.routes(RoutesRequest {}, Call::within(PATIENCE)).await {
            self.epoch = self.epoch.max(map.epoch);
            let leaders = map.routes.iter().filter(|route| route.leader != 0);
            self.leaders = leaders.map(|route| (route.shard, route.leader)).collect();
        }
        Missed::Refused(Refusal::new(Reason::NotLeader, "its route was stale, and it followed"))
    }

    /// Attempts until there is an answer, or a refusal that depends on what others did meanwhile.
    pub(super) async fn settle<T>(
        &mut self,
        shard: u32,
        what: &str,
        request: impl AsyncFn(NodeHandle, Call, u64) -> Answer<T>,
    ) -> Result<T, Refusal> {
        // Bounded by whoever runs the simulation: it ends the task when liveness is due.
        loop {
            match self.attempt(shard, &request).await {
                Ok(answer) => return Ok(answer),
                Err(Missed::Refused(refusal)) if matches!(refusal.reason, Reason::NotMember | Reason::GroupFull) => {
                    return Err(refusal);
                }
                Err(missed) => self.missed(what, &missed).await,
            }
        }
    }

    async fn missed(&mut self, what: &str, missed: &Missed) {
        if let Some(refusal) = missed.wrong() {
            let what = format!("{what}: {refusal}");
            self.world.records.borrow_mut().violation("refused rightly", what);
            self.pause(500..1000).await;
        }
        self.pause(5..60).await;
    }

    /// Attempts until there is an answer. A refusal that can't be right is reported, and then waited out too.
    pub(super) async fn insist<T>(
        &mut self,
        shard: u32,
        what: &str,
        request: impl AsyncFn(NodeHandle, Call, u64) -> Answer<T>,
    ) -> T {
        // Bounded by whoever runs the simulation: it ends the task when liveness is due.
        loop {
            let any = self.rng.random_range(1..=self.world.nodes);
            let node = *self.leaders.entry(shard).or_insert(any);
            let began = self.world.net.owners(|owners| owners.stint(shard, node));
            match self.attempt(shard, &request).await {
                Ok(answer) => {
                    self.world
                        .net
                        .owners(|owners| owners.answered(shard, node, began, what));
                    return answer;
                }
                Err(missed) => self.missed(what, &missed).await,
            }
        }
    }
}

/// A person's life. Ends when its devices have stopped sending; the streams are tasks of their own and go on.
pub(super) async fn person(world: World, number: u32, streams: crate::env::Streams) {
    let Some(phone) = world.phones.get(number as usize).cloned() else {
        return;
    };
    let mut caller = Caller::new(world.clone(), streams.stream(&format!("person {number}")));
    let Ok(home) = ids::phone_shard(&phone, world.shards) else {
        return;
    };
    let request = SignUpRequest {
        phone: phone.clone(),
        epoch: EPOCH,
        code: String::new(),
    };
    let mut user = 0;
    // Twice: the second answer must be the first again.
    for _ in 0..2 {
        let sign_up = async |node: NodeHandle, call: Call, _: u64| node.sign_up(request.clone(), call).await;
        user = caller.insist(home, "sign up", sign_up).await.user;
        world.records.borrow_mut().signed_up(&phone, user);
    }
    let account = ids::owner(user, world.shards);
    let mut senders = Vec::new();
    for device in 1..=DEVICES {
        let request = OpenSessionRequest {
            user,
            device,
            epoch: EPOCH,
            client_nonce: u64::from(number) + 1,
        };
        let open = async |node: NodeHandle, call: Call, epoch: u64| {
            node.open_session(OpenSessionRequest { epoch, ..request }, call).await
        };
        let opened = caller.insist(account, "open session", open).await;
        let now = world.clock.now();
        world.records.borrow_mut().opened((user, device), opened.session, now);
        let name = format!("stream {number}/{device}");
        let reader = Caller::new(world.clone(), streams.stream(&name));
        let stream = read_stream(reader, (user, device), opened.session);
        world.readers.borrow_mut().spawn_local(stream);
        senders.push((device, opened.session));
    }
    world.people.borrow_mut().push(user);
    let mut tasks = JoinSet::new();
    for (device, session) in senders {
        let sender = Caller::new(world.clone(), streams.stream(&format!("sender {number}/{device}")));
        if device == social::DEVICE {
            tasks.spawn_local(Social::new(sender, user, session).live());
        } else {
            tasks.spawn_local(send_all(sender, (user, device), session));
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn send_all(mut caller: Caller, device: Device, session: u64) {
    let world = caller.world.clone();
    let mut client_id = 0;
    while world.loading.get() {
        caller.pause(10..400).await;
        let others: Vec<u64> = world
            .people
            .borrow()
            .iter()
            .copied()
            .filter(|u| *u != device.0)
            .collect();
        let Some(&recipient) = others.choose(&mut caller.rng) else {
            continue;
        };
        client_id += 1;
        let key = MessageKey {
            sender: device.0,
            device: device.1,
            client_id,
        };
        let request = SendRequest {
            sender: device.0,
            device: device.1,
            session,
            recipient,
            client_id,
            body: body(key, recipient),
            epoch: EPOCH,
            timeout_ms: 0,
            group: 0,
        };
        world.records.borrow_mut().tried(key, recipient, 0, world.clock.now());
        let home = ids::owner(ids::conversation_id(device.0, recipient), world.shards);
        let send = async |node: NodeHandle, call: Call, epoch: u64| {
            node.send(
                SendRequest {
                    epoch,
                    ..request.clone()
                },
                call,
            )
            .await
        };
        let answer = caller.insist(home, "send", send).await;
        world.trace.event(format_args!(
            "{key:?} at {} of {:x}",
            answer.position, answer.conversation
        ));
        world
            .records
            .borrow_mut()
            .acknowledged(key, answer.conversation, answer.position);
    }
}

/// Reads a device's stream for ever, from wherever it stands, over and over.
async fn read_stream(mut caller: Caller, device: Device, session: u64) {
    let world = caller.world.clone();
    let account = ids::owner(device.0, world.shards);
    loop {
        let after = world.records.borrow().last_sequence(device);
        let request = SubscribeRequest {
            user: device.0,
            device: device.1,
            session,
            after,
            incarnation: u64::from(after > 0),
            epoch: EPOCH,
        };
        let subscribe = async |node: NodeHandle, call: Call, epoch: u64| {
            node.subscribe(SubscribeRequest { epoch, ..request }, call).await
        };
        let stream = caller.insist(account, "subscribe", subscribe).await;
        read_until_it_ends(&mut caller, stream, device, session).await;
        caller.pause(1..40).await;
    }
}

async fn read_until_it_ends(caller: &mut Caller, mut stream: Subscription, device: Device, session: u64) {
    let world = caller.world.clone();
    let account = ids::owner(device.0, world.shards);
    // A silent stream is given up; so is one that ends.
    while let Ok(Some(event)) = tokio::time::timeout(SILENCE_MAX, stream.recv()).await {
        match event.map(|event| event.event) {
            Ok(Some(Event::Delivery(delivery))) => {
                world
                    .trace
                    .event(format_args!("{device:?} received {}", delivery.sequence));
                let sequence = delivery.sequence;
                world.records.borrow_mut().delivered(device, delivery);
                if caller.rng.random_bool(0.2) {
                    let request = AcknowledgeRequest {
                        user: device.0,
                        device: device.1,
                        session,
                        sequence,
                        epoch: EPOCH,
                    };
                    let acknowledge = async |node: NodeHandle, call: Call, epoch: u64| {
                        node.acknowledge(AcknowledgeRequest { epoch, ..request }, call).await
                    };
                    // An acknowledgement that is lost is made up for by the next.
                    if let Err(Missed::Refused(refusal)) = caller.attempt(account, acknowledge).await {
                        world
                            .trace
                            .event(format_args!("{device:?} refused: {:?}", refusal.reason));
                    }
                }
            }
            Ok(Some(Event::Position(position))) => world.records.borrow_mut().position(device, &position),
            Ok(Some(Event::Notice(notice))) => world.records.borrow_mut().noticed(device, &notice),
            Ok(None) => {}
            Err(refusal) => {
                caller.leaders.remove(&account);
                if let Some(leader) = refusal.leader {
                    caller.leaders.insert(account, leader);
                }
                return;
            }
        }
    }
}
