//! The network between the nodes: every directed pair is a link with its own delay, loss and cuts.
//!
//! A link behaves as a connection does: bytes arrive in order, a cut stalls them, and after it heals they arrive late,
//! or are lost with the connection and a reconnect that takes its time. A process that dies resets its connections,
//! which peers that it can reach notice at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use firedrill_proto::chat::v1::PeerMessage;
use prost::Message as _;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ledger::{self, Ledger},
    ownership::Ownership,
    promises::Promises,
    trace::Trace,
};
use crate::{
    env::{Clock, Transport},
    node::{NodeHandle, Observer, PLACEMENT},
};

/// Batches that a stalled link holds; later ones are dropped, as by a full send queue.
const STALLED_MAX: usize = 256;

/// The network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    wake: Notify,
    clock: Clock,
    trace: Trace,
}

struct State {
    rng: ChaCha8Rng,
    nodes: BTreeMap<u64, Up>,
    boots: u64,
    links: BTreeMap<(u64, u64), Link>,
    /// By time and serial number.
    due: BTreeMap<(Duration, u64), Due>,
    serial: u64,
    ledger: Ledger,
    promises: Promises,
    ownership: Ownership,
    delay_us_max: u64,
    loss: f64,
    /// Draws from the process's own randomness: the positive control of the comparison of two runs.
    thread_rng: bool,
}

struct Up {
    handle: NodeHandle,
    boot: u64,
}

#[derive(Default)]
struct Link {
    cut: bool,
    /// Nothing arrives sooner than what was sent before it.
    last: Duration,
    /// Nothing is sent before the connection is up again.
    reconnected_at: Duration,
    stalled: VecDeque<Batch>,
}

struct Batch {
    to_boot: u64,
    messages: Vec<PeerMessage>,
}

enum Due {
    Deliver { from: u64, to: u64, batch: Batch },
    Reset { gone: u64, boot: u64, to: u64 },
}

impl Network {
    pub(crate) fn new(rng: ChaCha8Rng, clock: Clock, trace: Trace, thread_rng: bool, ownership: Ownership) -> Self {
        let state = State {
            rng,
            nodes: BTreeMap::new(),
            boots: 0,
            links: BTreeMap::new(),
            due: BTreeMap::new(),
            serial: 0,
            ledger: Ledger::default(),
            promises: Promises::default(),
            ownership,
            delay_us_max: 2000,
            loss: 0.0,
            thread_rng,
        };
        let inner = Inner {
            state: Mutex::new(state),
            wake: Notify::new(),
            clock,
            trace,
        };
        Self { inner: Arc::new(inner) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at, or adds to, what consensus did.
    pub(crate) fn ledger<T>(&self, with: impl FnOnce(&mut Ledger) -> T) -> T {
        with(&mut self.state().ledger)
    }

    /// Looks at who owns what.
    pub(crate) fn owners<T>(&self, with: impl FnOnce(&mut Ownership) -> T) -> T {
        with(&mut self.state().ownership)
    }

    /// Looks at what nodes promised.
    pub(crate) fn promises<T>(&self, with: impl FnOnce(&Promises) -> T) -> T {
        with(&self.state().promises)
    }

    /// A node is up and reached through `handle`, which only [`transport`](Self::transport)s made afterwards speak for.
    pub(crate) fn up(&self, node: u64, handle: NodeHandle) {
        let mut state = self.state();
        state.boots += 1;
        let boot = state.boots;
        state.nodes.insert(node, Up { handle, boot });
    }

    /// Tells the ledger what nodes see of consensus from inside.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    /// The transport of a node that is up.
    pub(crate) fn transport(&self, node: u64) -> Arc<dyn Transport> {
        let boot = self.state().nodes.get(&node).map_or(0, |up| up.boot);
        Arc::new(NodeTransport {
            network: self.clone(),
            node,
            boot,
        })
    }

    /// How to call a node, if it is up.
    pub(crate) fn handle(&self, node: u64) -> Option<NodeHandle> {
        self.state().nodes.get(&node).map(|up| up.handle.clone())
    }

    /// A node is gone: what was on its way to it is lost, and those that can reach it notice that it resets.
    pub(crate) fn down(&self, node: u64) {
        let now = self.inner.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(up) = state.nodes.remove(&node) else { return };
        let peers: Vec<u64> = state.nodes.keys().copied().collect();
        for peer in peers {
            let cut = |a, b| state.links.get(&(a, b)).is_some_and(|l| l.cut);
            if !cut(node, peer) && !cut(peer, node) {
                let at = now + Duration::from_micros(state.rng.random_range(300..3000));
                state.push(
                    at,
                    Due::Reset {
                        gone: node,
                        boot: up.boot,
                        to: peer,
                    },
                );
            }
            // Whoever dials a dead node backs off.
            let back_off = Duration::from_millis(state.rng.random_range(10..500));
            state.links.entry((peer, node)).or_default().reconnected_at = now + back_off;
        }
        drop(guard);
        self.inner.wake.notify_one();
    }

    /// Cuts the way from one node to another.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.state().links.entry((from, to)).or_default().cut = true;
    }

    /// Heals all cuts, and loss and delay with them.
    pub(crate) fn heal(&self) {
        let now = self.inner.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        state.loss = 0.0;
        state.delay_us_max = 2000;
        let cut: Vec<(u64, u64)> = state.links.iter().filter(|(_, l)| l.cut).map(|(k, _)| *k).collect();
        for (from, to) in cut {
            let survives = state.rng.random_bool(0.5);
            let later = Duration::from_millis(state.rng.random_range(0..500));
            let Some(link) = state.links.get_mut(&(from, to)) else {
                continue;
            };
            link.cut = false;
            let stalled = std::mem::take(&mut link.stalled);
            if survives {
                for batch in stalled {
                    let at = state.arrival(now, from, to);
                    state.push(at, Due::Deliver { from, to, batch });
                }
            } else {
                link.reconnected_at = now + later;
            }
        }
        drop(guard);
        self.inner.wake.notify_one();
    }

    /// Sets how much of the batches is lost, and the longest delay, on all links.
    pub(crate) fn degrade(&self, loss: f64, delay: Duration) {
        let mut state = self.state();
        state.loss = loss;
        state.delay_us_max = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).max(200);
    }

    fn send(&self, from: u64, boot: u64, to: u64, messages: Vec<PeerMessage>) {
        let now = self.inner.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        if state.nodes.get(&from).is_none_or(|up| up.boot != boot) {
            return;
        }
        for message in &messages {
            state.ledger.observe(from, message);
            state.promises.observe(from, message);
        }
        let Some(to_boot) = state.nodes.get(&to).map(|up| up.boot) else {
            return;
        };
        if state.loss > 0.0 && state.rng.random_bool(state.loss) {
            return;
        }
        let link = state.links.entry((from, to)).or_default();
        if now < link.reconnected_at {
            return;
        }
        let batch = Batch { to_boot, messages };
        if link.cut {
            if link.stalled.len() < STALLED_MAX {
                link.stalled.push_back(batch);
            }
            return;
        }
        let at = state.arrival(now, from, to);
        state.push(at, Due::Deliver { from, to, batch });
        drop(guard);
        self.inner.wake.notify_one();
    }

    /// Delivers for ever. The only task of the network; the nodes' crashes don't touch it.
    pub(crate) async fn run(self) {
        loop {
            let next = self.deliver_due();
            let wake = self.inner.wake.notified();
            match next {
                None => wake.await,
                Some(at) => tokio::select! {
                    biased;
                    () = wake => {}
                    () = self.inner.clock.sleep_until(at) => {}
                },
            }
        }
    }

    /// Delivers what is due, and says when the next is.
    fn deliver_due(&self) -> Option<Duration> {
        loop {
            let now = self.inner.clock.now();
            let mut guard = self.state();
            let state = &mut *guard;
            let (&(at, serial), _) = state.due.first_key_value()?;
            if at > now {
                return Some(at);
            }
            let due = state.due.remove(&(at, serial))?;
            match due {
                Due::Reset { gone, boot, to } => {
                    let back = state.nodes.get(&gone).is_some_and(|up| up.boot != boot);
                    let handle = state.nodes.get(&to).map(|up| up.handle.clone());
                    drop(guard);
                    // A fresh connection that is accepted says that the peer is back.
                    if !back && let Some(handle) = handle {
                        self.inner.trace.event(format_args!("reset {gone} seen by {to}"));
                        handle.peer_reset(gone);
                    }
                }
                Due::Deliver { from, to, batch } => {
                    let link = state.links.entry((from, to)).or_default();
                    if link.cut {
                        if link.stalled.len() < STALLED_MAX {
                            link.stalled.push_back(batch);
                        }
                        continue;
                    }
                    let up = state.nodes.get(&to).filter(|up| up.boot == batch.to_boot);
                    let handle = up.map(|up| up.handle.clone());
                    drop(guard);
                    if let Some(handle) = handle {
                        self.trace_batch(from, to, &batch.messages);
                        handle.deliver(from, batch.messages);
                    }
                }
            }
        }
    }

    fn trace_batch(&self, from: u64, to: u64, messages: &[PeerMessage]) {
        for message in messages {
            let bytes = message.encode_to_vec();
            let (shard, len, hash) = (message.shard, bytes.len(), xxh3_64(&bytes));
            self.inner
                .trace
                .event(format_args!("{from}->{to} shard {shard} {len} bytes {hash:016x}"));
        }
    }
}

impl State {
    fn arrival(&mut self, now: Duration, from: u64, to: u64) -> Duration {
        let mut delay = self.rng.random_range(100..=self.delay_us_max);
        if self.thread_rng {
            delay += thread_randomness() % 500;
        }
        let link = self.links.entry((from, to)).or_default();
        link.last = link.last.max(now + Duration::from_micros(delay));
        link.last
    }

    fn push(&mut self, at: Duration, due: Due) {
        self.serial += 1;
        self.due.insert((at, self.serial), due);
    }
}

/// What must never be used in a simulation: it differs from process to process.
#[expect(clippy::disallowed_types, reason = "the planted fault of the determinism test")]
fn thread_randomness() -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(0)
}

impl Observer for Network {
    fn leads(&self, node: u64, shard: u32, term: u64) {
        self.inner
            .trace
            .event(format_args!("node {node} leads shard {shard} in term {term}"));
        self.state().ledger.leads(node, shard, term);
    }

    fn applied(&self, node: u64, shard: u32, index: u64, term: u64, data: &[u8]) {
        let source = format_args!("node {node}, applying");
        let print = ledger::print(term, data);
        let mut state = self.state();
        state.ledger.commit(shard, index, print, source);
        if shard == PLACEMENT {
            for (shard, node) in state.ownership.applied(index, term, data) {
                state.promises.released(node, shard);
            }
        }
    }
}

struct NodeTransport {
    network: Network,
    node: u64,
    boot: u64,
}

impl Transport for NodeTransport {
    fn send(&self, to: u64, messages: Vec<PeerMessage>) {
        if !messages.is_empty() {
            self.network.send(self.node, self.boot, to, messages);
        }
    }
}
