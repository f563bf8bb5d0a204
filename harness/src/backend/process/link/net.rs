//! All links of a backend, and the thread they run on.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::connection::{self, Context};
use super::gate::{Gate, WhoDials};
use super::half::Half;
use super::probe::{Dialling, Probe};
use crate::backend::{BackendError, Direction, LinkId, LinkRule, ProbeResult};
use crate::base::{Nanos, RunClock, Streams};

/// Connections of one link at a time, held ones included; beyond, new ones are reset.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Links of one backend: each ordered pair of 64 nodes.
const LINKS_MAX: usize = 4096;
/// The longest that a probe waits for the path that no fault touches.
const CONTROL_WITHIN: Duration = Duration::from_secs(2);

/// Links by name, known to gates as well.
pub(super) type Links = Arc<Mutex<BTreeMap<LinkId, Arc<Link>>>>;

/// The links of a backend.
pub struct LinkNet {
    clock: RunClock,
    streams: Streams,
    runtime: Handle,
    links: Links,
    gates: Mutex<Vec<tokio::task::AbortHandle>>,
    /// A link that no rule is ever put on, to nowhere: its probe shows that the machine is not merely busy.
    control: Arc<Link>,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

pub(super) struct Link {
    name: String,
    address: SocketAddr,
    upstream: SocketAddr,
    halves: [Half; 2],
    resets: watch::Sender<u64>,
    open: Semaphore,
    accepted: AtomicU64,
    /// Ports of our own probes, and where they are dialled on to.
    ours: Mutex<BTreeMap<u16, SocketAddr>>,
    probe: tokio::sync::Mutex<Option<Probe>>,
    accepting: Mutex<Option<tokio::task::AbortHandle>>,
}

impl std::fmt::Debug for LinkNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkNet")
            .field("links", &self.names())
            .finish_non_exhaustive()
    }
}

impl LinkNet {
    /// Starts the links' thread.
    ///
    /// # Errors
    /// When there is no thread or no socket to be had.
    pub async fn start(clock: RunClock, streams: Streams) -> Result<Self, BackendError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(os("make the links' runtime"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || {
                // Ends when the sender is dropped; every task of the links ends with the runtime.
                let _ = runtime.block_on(stopped);
            })
            .map_err(os("start the links' thread"))?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let control = Link::open("control".to_owned(), nowhere, &handle, clock, streams).await?;
        Ok(Self {
            clock,
            streams,
            runtime: handle,
            links: Links::default(),
            gates: Mutex::default(),
            control,
            _stop: stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Opens a link to `upstream`; returns where to dial it.
    ///
    /// # Errors
    /// When it is open already, there are too many, or no socket is to be had.
    pub async fn open(&self, id: LinkId, upstream: SocketAddr) -> Result<SocketAddr, BackendError> {
        {
            let links = self.lock();
            if links.contains_key(&id) {
                return Err(BackendError::Limit(format!("link `{id}` is open already")));
            }
            if links.len() >= LINKS_MAX {
                return Err(BackendError::Limit(format!("there are {LINKS_MAX} links already")));
            }
        }
        let link = Link::open(id.to_string(), upstream, &self.runtime, self.clock, self.streams).await?;
        let address = link.address;
        self.lock().insert(id, link);
        Ok(address)
    }

    /// Opens one address for all nodes that dial `to`, at `upstream`; returns where to dial it. Each connection belongs to
    /// the link of the node that `who` names.
    ///
    /// # Errors
    /// When there are too many, or no socket is to be had.
    pub async fn open_gate(&self, to: &str, upstream: SocketAddr, who: WhoDials) -> Result<SocketAddr, BackendError> {
        if lock(&self.gates).len() >= LINKS_MAX {
            return Err(BackendError::Limit(format!("there are {LINKS_MAX} gates already")));
        }
        let gate = Gate {
            to: to.to_owned(),
            upstream,
            who,
            links: Arc::clone(&self.links),
            clock: self.clock,
            streams: self.streams,
        };
        let what = format!("listen for those who dial node `{to}`");
        // The listener belongs to the links' runtime, so it is made there.
        let listener = self.on_links(Gate::listen()).await?.map_err(os(&what))?;
        let address = listener.local_addr().map_err(os(&what))?;
        let task = self.runtime.spawn(gate.accept(listener));
        lock(&self.gates).push(task.abort_handle());
        Ok(address)
    }

    /// The links that are open.
    #[must_use]
    pub fn names(&self) -> Vec<LinkId> {
        self.lock().keys().cloned().collect()
    }

    /// Puts rules in force, all at one instant, which is returned.
    ///
    /// # Errors
    /// When a link is not open; then no rule was set.
    pub async fn set_rules(&self, rules: &[(LinkId, Direction, LinkRule)]) -> Result<Nanos, BackendError> {
        let mut found = Vec::with_capacity(rules.len());
        for (id, direction, rule) in rules {
            found.push((self.find(id)?, *direction, *rule));
        }
        let clock = self.clock;
        // On the links' own thread: nothing else of theirs runs meanwhile.
        self.on_links(async move {
            for (link, direction, rule) in found {
                link.halves[direction as usize].set(rule, clock);
            }
            clock.now()
        })
        .await
    }

    /// Resets every connection of a link, at both ends; returns how many there were.
    ///
    /// # Errors
    /// When it is not open.
    pub async fn reset(&self, id: &LinkId) -> Result<usize, BackendError> {
        let link = self.find(id)?;
        self.on_links(async move {
            let count = CONNECTIONS_MAX - link.open.available_permits();
            link.resets.send_modify(|generation| *generation += 1);
            count
        })
        .await
    }

    /// Bytes that one half has handed on, on all connections.
    ///
    /// # Errors
    /// When the link is not open.
    pub fn delivered_bytes(&self, id: &LinkId, direction: Direction) -> Result<u64, BackendError> {
        Ok(self.find(id)?.halves[direction as usize].delivered_bytes())
    }

    /// Sends a frame each way through each link. Waits until all have arrived; or else at least `within`, and until
    /// the same has arrived on a path that no fault touches.
    ///
    /// # Errors
    /// When a link is not open, or even the untouched path lets nothing through.
    pub async fn probe(&self, ids: &[LinkId], within: Duration) -> Result<Vec<ProbeResult>, BackendError> {
        let links: Vec<Arc<Link>> = ids.iter().map(|id| self.find(id)).collect::<Result<_, _>>()?;
        let clock = self.clock;
        let control = Arc::clone(&self.control);
        self.on_links(async move {
            let over = watch::Sender::new(false);
            let mut rounds = JoinSet::new();
            for (index, link) in links.into_iter().enumerate() {
                let mut over = over.subscribe();
                rounds.spawn(async move {
                    let over = async move {
                        // A closed channel means the same: nobody waits any more.
                        let _ = over.wait_for(|over| *over).await;
                    };
                    (index, link.probe_round(clock, over).await)
                });
            }
            let bound = async {
                let seen = control.probe_round(clock, clock.sleep(CONTROL_WITHIN)).await;
                clock.sleep(within).await;
                over.send_replace(true);
                seen
            };
            let rounds = async {
                let mut results = BTreeMap::new();
                while let Some(Ok((index, result))) = rounds.join_next().await {
                    results.insert(index, result);
                }
                results
            };
            tokio::pin!(bound, rounds);
            let (results, control) = tokio::select! {
                biased;
                results = &mut rounds => (results, None),
                control = &mut bound => (rounds.await, Some(control)),
            };
            if let Some(control) = control {
                let seen = control.map_err(os("probe the path that no fault touches"))?;
                if seen.forward.arrived.is_none() || seen.backward.arrived.is_none() {
                    return Err(BackendError::NoEvidence {
                        what: "a byte on the path that no fault touches".to_owned(),
                        within: CONTROL_WITHIN,
                        seen: "nothing: this machine is too busy to tell a cut from a delay".to_owned(),
                    });
                }
            }
            results
                .into_values()
                .map(|result| result.map_err(os("probe a link")))
                .collect()
        })
        .await?
    }

    /// Closes every link and with it every connection. Idempotent.
    pub async fn close(&self) {
        self.close_gates();
        let links: Vec<Arc<Link>> = std::mem::take(&mut *self.lock()).into_values().collect();
        let _ = self
            .on_links(async move {
                for link in links {
                    link.close();
                }
            })
            .await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Arc<Link>>> {
        lock(&self.links)
    }

    fn close_gates(&self) {
        for gate in lock(&self.gates).drain(..) {
            gate.abort();
        }
    }

    fn find(&self, id: &LinkId) -> Result<Arc<Link>, BackendError> {
        let links = self.lock();
        links
            .get(id)
            .cloned()
            .ok_or_else(|| BackendError::UnknownLink(id.clone()))
    }

    async fn on_links<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BackendError> {
        self.runtime.spawn(work).await.map_err(|_| BackendError::Closed)
    }
}

impl Drop for LinkNet {
    fn drop(&mut self) {
        self.close_gates();
        for link in std::mem::take(&mut *self.lock()).into_values() {
            link.close();
        }
        self.control.close();
        // The thread itself ends when `_stop` is dropped, right after this; it is not waited for here.
        drop(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Link {
    async fn open(
        name: String,
        upstream: SocketAddr,
        runtime: &Handle,
        clock: RunClock,
        streams: Streams,
    ) -> Result<Arc<Self>, BackendError> {
        // The listener belongs to the links' runtime, so it is made there.
        let bound = runtime
            .spawn(async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await })
            .await
            .map_err(|_| BackendError::Closed)?;
        let what = format!("listen for link `{name}`");
        let listener = bound.map_err(os(&what))?;
        let link = Arc::new(Self {
            name,
            address: listener.local_addr().map_err(os(&what))?,
            upstream,
            halves: Default::default(),
            resets: watch::Sender::new(0),
            open: Semaphore::new(CONNECTIONS_MAX),
            accepted: AtomicU64::new(0),
            ours: Mutex::default(),
            probe: tokio::sync::Mutex::default(),
            accepting: Mutex::default(),
        });
        let task = runtime.spawn(Arc::clone(&link).accept(listener, clock, streams));
        *link.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(link)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, clock: RunClock, streams: Streams) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok((client, peer)) = accepted else {
                // Out of descriptors, or the client was gone before it was taken: the next one may do better.
                clock.sleep(Duration::from_millis(1)).await;
                continue;
            };
            let link = Arc::clone(&self);
            let ours = self.ours().remove(&peer.port());
            connections.spawn(async move {
                let upstream = ours.unwrap_or(link.upstream);
                link.serve(client, upstream, clock, streams).await;
            });
        }
    }

    /// Serves a connection under this link's rules, on to `upstream`, to its end.
    pub(super) async fn serve(&self, client: TcpStream, upstream: SocketAddr, clock: RunClock, streams: Streams) {
        let Ok(_permit) = self.open.try_acquire() else {
            return connection::reset(&client);
        };
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let context = Context {
            halves: &self.halves,
            upstream,
            clock,
            streams,
            name: format!("{}#{number}", self.name),
        };
        connection::serve(client, context, self.resets.subscribe()).await;
    }

    async fn probe_round(&self, clock: RunClock, over: impl Future<Output = ()>) -> io::Result<ProbeResult> {
        let mut probe = self.probe.lock().await;
        tokio::pin!(over);
        // Twice: a standing connection may have been reset since it was last used.
        for attempt in 0..2 {
            if probe.is_none() {
                tokio::select! {
                    biased;
                    opened = self.open_probe(clock) => *probe = opened?,
                    () = &mut over => {}
                }
            }
            let Some(open) = probe.as_mut() else { break };
            match open.round(clock, &mut over).await {
                Ok(result) => return Ok(result),
                Err(error) => {
                    *probe = None;
                    if attempt == 1 {
                        return Err(error);
                    }
                }
            }
        }
        // The link holds new connections back: nothing gets through either way.
        let now = clock.now();
        let nothing = crate::backend::HalfProbe {
            sent: now,
            arrived: None,
        };
        Ok(ProbeResult {
            forward: nothing,
            backward: nothing,
        })
    }

    async fn open_probe(&self, clock: RunClock) -> io::Result<Option<Probe>> {
        let dialling = Dialling::new().await?;
        let (port, far_end) = (dialling.port()?, dialling.far_end()?);
        let _known = Known { link: self, port };
        self.ours().insert(port, far_end);
        dialling.dial(self.address, clock).await
    }

    fn ours(&self) -> MutexGuard<'_, BTreeMap<u16, SocketAddr>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        if let Some(task) = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A port of ours that is about to dial; forgotten when it has, or has given up.
struct Known<'a> {
    link: &'a Link,
    port: u16,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.link.ours().remove(&self.port);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn os(what: &str) -> impl FnOnce(io::Error) -> BackendError {
    let what = what.to_owned();
    move |source| BackendError::Os { what, source }
}
