//! A gateway's registry at work: one loop that owns the members, one courier for each other gateway, all bounded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::{RegistryBatch, RegistryEnvelope, registry_client::RegistryClient};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

use super::{GatewayConfig, lock, registry_wire};
use crate::{
    env::{Clock, Streams},
    grpc::Connector,
    node::{Answer, Reason, Refusal},
    registry::{Envelope, Host, HostStatus, Member, MemberId, MemberOptions},
};

/// Messages that one courier takes along.
const BATCH_MAX: usize = 256;
/// Messages that may wait for one courier: what finds no room is lost, as on a link that is down.
const COURIER_MAX: usize = 4096;
/// How long one errand may take.
const ERRAND_WITHIN: Duration = Duration::from_secs(1);
/// How often a courier without anything to carry makes sure that the other gateway is there.
const MAKE_SURE_EVERY: Duration = Duration::from_millis(500);
/// How long a courier waits after an errand that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Largest batch that is taken, in bytes. A whole state of very many sessions doesn't fit: the naive mode ends there.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;
/// When to come back to a registry that is behind.
const RETRY_FULL: Duration = Duration::from_millis(200);

enum Ask {
    Open(u64, oneshot::Sender<bool>),
    Batch(Vec<Envelope>),
    Link(usize, bool),
}

/// A gateway's registry, from outside its loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    asks: mpsc::Sender<Ask>,
    /// Sessions that ended. Each that is opened takes the room for its end at once, since a drop can't wait.
    ends: mpsc::Sender<u64>,
    seen: Arc<Mutex<Seen>>,
    dropped: Arc<AtomicU64>,
}

/// What the loop last showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) host: HostStatus,
    pub(super) peers_up: usize,
    pub(super) peers: usize,
}

/// A session that is registered while this lives.
#[derive(Debug)]
pub(super) struct Registered {
    session: u64,
    end: Option<mpsc::OwnedPermit<u64>>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.send(self.session);
        }
    }
}

impl Registry {
    /// Starts the registry of the gateway that `config` describes, in its life `incarnation`. Must be called on a runtime,
    /// whose end is its own.
    pub(super) fn start(config: &GatewayConfig, incarnation: u64, clock: &Clock) -> Self {
        let places = config.places();
        let streams = Streams::new(config.seed);
        let everybody: Vec<MemberId> = (0..places.len()).flat_map(|place| config.members_of(place)).collect();
        let own = places.iter().position(|name| *name == config.name).unwrap_or(0);
        let members = config.members_of(own).into_iter().map(|id| {
            let options = MemberOptions {
                mode: config.registry.mode,
                sessions_max: config.sessions_max,
                ..MemberOptions::default()
            };
            let rng = streams.stream(&format!("{} member {id}", config.name));
            Member::new(id, everybody.iter().copied(), incarnation, options, rng)
        });
        let host = Host::new(members, config.registry.queue);
        let (asks, asked) = mpsc::channel(config.registry.queue);
        let (ends, ended) = mpsc::channel(config.sessions_max);
        let registry = Self {
            asks,
            ends,
            seen: Arc::default(),
            dropped: Arc::default(),
        };
        let mut couriers = BTreeMap::new();
        for (place, name) in places.iter().enumerate() {
            let Some(address) = config.gateways.get(name).filter(|_| place != own) else {
                continue;
            };
            let (carry, carried) = mpsc::channel(COURIER_MAX);
            couriers.insert(place, carry);
            let courier = Courier {
                place,
                from: config.name.clone(),
                address: address.clone(),
                tell: registry.asks.clone(),
                clock: clock.clone(),
            };
            tokio::spawn(courier.run(carried));
        }
        let peers = (0..places.len())
            .map(|place| (place, config.members_of(place)))
            .collect();
        let desk = Desk {
            host,
            peers,
            couriers,
            up: BTreeMap::new(),
            streams: BTreeMap::new(),
            seen: registry.seen.clone(),
            lost: registry.dropped.clone(),
        };
        let round = Duration::from_millis(config.registry.round_ms);
        tokio::spawn(desk.run(asked, ended, round, clock.clone()));
        registry
    }

    /// Registers a session; it is registered until what is returned is dropped. Waits behind what members have to take in:
    /// a registry in a storm lets nobody in.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] when there is no room to wait in, or none for the session.
    pub(super) async fn open(&self, session: u64) -> Answer<Registered> {
        let full = |what| Err(Refusal::new(Reason::Overloaded, what).after(RETRY_FULL));
        let Ok(end) = self.ends.clone().try_reserve_owned() else {
            return full("the session registry has no room for another session");
        };
        let (answer, opened) = oneshot::channel();
        if self.asks.try_send(Ask::Open(session, answer)).is_err() {
            return full("the session registry is behind: its queue is full");
        }
        let registered = Registered {
            session,
            end: Some(end),
        };
        match opened.await {
            Ok(true) => Ok(registered),
            _ => full("the session registry has no room for another session"),
        }
    }

    /// Takes what another gateway's members say; says how much found no room.
    pub(super) fn deliver(&self, batch: Vec<RegistryEnvelope>) -> u64 {
        let batch: Vec<Envelope> = batch.into_iter().filter_map(registry_wire::from_wire).collect();
        let many = batch.len() as u64;
        if many == 0 || self.asks.try_send(Ask::Batch(batch)).is_ok() {
            return 0;
        }
        self.dropped.fetch_add(many, Ordering::Relaxed);
        many
    }

    /// What it looks like.
    pub(super) fn seen(&self) -> Seen {
        let mut seen = *lock(&self.seen);
        seen.host.dropped += self.dropped.load(Ordering::Relaxed);
        seen
    }
}

/// The loop's state.
struct Desk {
    host: Host,
    peers: BTreeMap<usize, Vec<MemberId>>,
    couriers: BTreeMap<usize, mpsc::Sender<Envelope>>,
    up: BTreeMap<usize, bool>,
    /// Streams of each session: a device that comes back is here twice until its old stream is noticed to be gone.
    streams: BTreeMap<u64, u32>,
    seen: Arc<Mutex<Seen>>,
    lost: Arc<AtomicU64>,
}

impl Desk {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<Ask>,
        mut ended: mpsc::Receiver<u64>,
        round: Duration,
        clock: Clock,
    ) {
        let mut next_round = clock.now() + round;
        loop {
            // A message is taken in only when nobody asks and no round is due, and one at a time: so a storm is seen in
            // the queue, which is bounded, and not in the answers.
            let waits = self.host.queue() > 0;
            tokio::select! {
                biased;
                session = ended.recv() => match session {
                    Some(session) => self.end(session),
                    None => return,
                },
                () = clock.sleep_until(next_round) => {
                    self.host.tick();
                    next_round = clock.now() + round;
                }
                ask = asked.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                () = std::future::ready(()), if waits => {
                    self.host.take_in();
                }
            }
            self.send();
            *lock(&self.seen) = Seen {
                host: self.host.status(),
                peers_up: self.up.values().filter(|up| **up).count(),
                peers: self.couriers.len(),
            };
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Open(session, answer) => {
                // Whoever asked and has gone has dropped what ends the session, before it was open.
                let opened = self.host.open(session);
                if opened {
                    *self.streams.entry(session).or_default() += 1;
                }
                if answer.send(opened).is_err() && opened {
                    self.end(session);
                }
            }
            Ask::Batch(batch) => {
                for envelope in batch {
                    self.host.deliver(envelope);
                }
            }
            Ask::Link(place, up) => {
                self.up.insert(place, up);
                if let Some(members) = self.peers.get(&place) {
                    self.host.link(members, up);
                }
            }
        }
    }

    fn end(&mut self, session: u64) {
        let Some(streams) = self.streams.get_mut(&session) else {
            return;
        };
        *streams -= 1;
        if *streams == 0 {
            self.streams.remove(&session);
            self.host.end(session);
        }
    }

    fn send(&mut self) {
        for envelope in self.host.drain() {
            let place = self.peers.iter().find(|(_, members)| members.contains(&envelope.to));
            let courier = place.and_then(|(place, _)| self.couriers.get(place));
            if courier.is_none_or(|courier| courier.try_send(envelope).is_err()) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Carries messages to one other gateway, and tells whether it is there.
struct Courier {
    place: usize,
    from: String,
    address: String,
    tell: mpsc::Sender<Ask>,
    clock: Clock,
}

impl Courier {
    async fn run(self, mut carried: mpsc::Receiver<Envelope>) {
        let channel = Endpoint::from_static("http://gateway")
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .connect_with_connector_lazy(Connector::new(&self.address, ERRAND_WITHIN / 2));
        let client = RegistryClient::new(channel).max_decoding_message_size(BATCH_BYTES_MAX);
        let mut up = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                many = carried.recv_many(&mut batch, BATCH_MAX) => if many == 0 { return },
                () = self.clock.sleep(MAKE_SURE_EVERY) => {}
            }
            let request = RegistryBatch {
                from: self.from.clone(),
                envelopes: batch.iter().map(registry_wire::to_wire).collect(),
            };
            let mut client = client.clone();
            let errand = tokio::time::timeout(ERRAND_WITHIN, client.exchange(request)).await;
            let there = matches!(errand, Ok(Ok(_)));
            if there != up {
                up = there;
                if !up {
                    // What waits was meant for a link that is gone.
                    while carried.try_recv().is_ok() {}
                }
                // Links come and go rarely, and the loop always takes in: this waits for room, not for ever.
                if self.tell.send(Ask::Link(self.place, up)).await.is_err() {
                    return;
                }
            }
            if !there {
                self.clock.sleep(AFTER_FAILURE).await;
            }
        }
    }
}
