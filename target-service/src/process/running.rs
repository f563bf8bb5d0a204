//! A node with its two runtimes, in this process.

use std::{
    any::Any,
    fmt, fs, io,
    net::{SocketAddr, TcpListener as StdListener},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use firedrill_proto::chat::v1::StatusRequest;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    env::{Clock, Disk, RealDisk, Streams, VolatileDisk},
    grpc::{ClientPlaneOptions, PeerBook, PeerOptions, PeerTransport, serve_clients, serve_peers},
    node::{self, Call, ClientApi as _, Identity, NodeConfig, NodeHandle, Parts},
};

/// Threads for gRPC.
const GRPC_THREADS: usize = 2;
/// How long a graceful stop may take the loop, beyond what the configuration grants for handing leaderships over: it
/// makes every shard's state durable, on a disk that may be busy.
const STOP_SLACK: Duration = Duration::from_secs(15);
/// How long the last messages to peers, and then the last answers to clients, are waited for.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(300);

/// How a node's loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Its storage failed, or what it found there can't be served.
    Failed(String),
    /// A bug. What the loop believed can't be trusted any more.
    Panicked(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => f.write_str(why),
            Self::Panicked(why) => write!(f, "the node's loop panicked: {why}"),
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener can't be had.
    #[error("{key} is {address}: {source}: choose a free address of this machine")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No threads, or no descriptors.
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
    /// The node's loop ended before it served.
    #[error("{0}")]
    Ended(Ended),
}

/// A node that serves, on threads of its own. Dropping it is its sudden death, as far as one process can show it: its
/// connections break and its loop ends where it stands.
#[derive(Debug)]
pub struct RunningNode {
    handle: NodeHandle,
    transport: PeerTransport,
    client_address: SocketAddr,
    peer_address: SocketAddr,
    ended: watch::Receiver<Option<Ended>>,
    /// Dropped to end the loop where it stands.
    lives: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
    peers_done: Option<JoinHandle<()>>,
    clients_done: Option<JoinHandle<()>>,
    stop_within: Duration,
    grpc: Option<Runtime>,
}

/// A runtime for gRPC.
pub(super) fn grpc_runtime() -> Result<Runtime, StartError> {
    Builder::new_multi_thread()
        .worker_threads(GRPC_THREADS)
        .thread_name("grpc")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
}

/// Opens the configuration's disk, behind a volatile cache if it asks for one.
pub(super) fn real_disk(config: &NodeConfig) -> impl FnOnce() -> Result<Arc<dyn Disk>, String> + Send + use<> {
    let (data_dir, volatile) = (config.data_dir.clone(), config.volatile_write_cache);
    move || {
        let disk = Arc::new(RealDisk::open(data_dir).map_err(|error| error.to_string())?);
        if !volatile {
            return Ok(disk);
        }
        let disk = VolatileDisk::open(disk).map_err(|error| error.to_string())?;
        Ok(Arc::new(disk))
    }
}

impl RunningNode {
    /// Starts a node and waits until it serves. Not to be called on a runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let listen = |key, address| {
            let listener = StdListener::bind(address);
            listener.map_err(|source| StartError::Listen { key, address, source })
        };
        let clients = listen("client_listen", config.client_listen)?;
        let peers = listen("peer_listen", config.peer_listen)?;
        let disk = real_disk(&config);
        Self::start_with(config, clients, peers, disk, grpc_runtime()?)
    }

    /// The same, on listeners and a disk that are there already, whatever the configuration says of them.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_on(
        config: NodeConfig,
        clients: StdListener,
        peers: StdListener,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, clients, peers, || Ok(disk), grpc_runtime()?)
    }

    pub(super) fn start_with(
        config: NodeConfig,
        clients: StdListener,
        peers: StdListener,
        disk: impl FnOnce() -> Result<Arc<dyn Disk>, String> + Send + 'static,
        grpc: Runtime,
    ) -> Result<Self, StartError> {
        let (clients, client_address) = listener(&grpc, clients, "client_listen", config.client_listen)?;
        let (peers, peer_address) = listener(&grpc, peers, "peer_listen", config.peer_listen)?;
        let clock = grpc.block_on(async { Clock::system() });
        let addresses = config.peers.iter().map(|(id, at)| (*id, at.to_string())).collect();
        let transport = PeerTransport::new(config.node, &addresses);
        let (handle, inbox) = node::channel(&config, clock.clone());
        let stop_within = Duration::from_millis(config.timing.stop_ms_max) + STOP_SLACK;

        let (lives, dies) = oneshot::channel::<()>();
        let (tell, ended) = watch::channel(None);
        let looped = {
            let (config, clock, transport) = (config.clone(), clock.clone(), transport.clone());
            move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| error.to_string())?;
                runtime.block_on(async move {
                    let disk = disk()?;
                    let mut config = config;
                    config.bootstrap |= permitted(&config)?;
                    let own = Identity::open(&config, &*disk, &clock).map_err(|error| error.to_string())?;
                    use_permit_up(&config)?;
                    let book = PeerBook::open(own, config.agreed(), config.versions.speaks(), Arc::clone(&disk))
                        .map_err(|error| error.to_string())?;
                    transport.identify(book);
                    let parts = Parts {
                        clock,
                        disk,
                        transport: Arc::new(transport),
                        observer: None,
                        #[cfg(feature = "plants")]
                        promises_early: false,
                    };
                    let run = node::run(config, parts, inbox);
                    tokio::select! {
                        biased;
                        _ = dies => Ok(()),
                        outcome = run => outcome.map_err(|error| error.to_string()),
                    }
                })
            }
        };
        let thread = thread::Builder::new()
            .name(format!("node-{}", config.node))
            .spawn(move || {
                let outcome = match catch_unwind(AssertUnwindSafe(looped)) {
                    Ok(Ok(())) => Ended::Stopped,
                    Ok(Err(why)) => Ended::Failed(why),
                    Err(panic) => Ended::Panicked(words(panic.as_ref())),
                };
                tell.send_replace(Some(outcome));
            })
            .map_err(StartError::Runtime)?;

        let (shutdown, told) = watch::channel(false);
        let mut running = Self {
            handle,
            transport,
            client_address,
            peer_address,
            ended,
            lives: Some(lives),
            thread: Some(thread),
            shutdown,
            peers_done: None,
            clients_done: None,
            stop_within,
            grpc: Some(grpc),
        };
        running.serve(&config, clock, clients, peers, told)?;
        Ok(running)
    }

    /// Waits until the loop answers, then opens both planes.
    fn serve(
        &mut self,
        config: &NodeConfig,
        clock: Clock,
        clients: TcpListener,
        peers: TcpListener,
        told: watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let Some(grpc) = &self.grpc else {
            return Ok(());
        };
        let (handle, ended) = (&self.handle, self.ended.clone());
        grpc.block_on(async {
            tokio::select! {
                biased;
                outcome = wait_for_end(ended) => Err(StartError::Ended(outcome)),
                _ = handle.status(StatusRequest {}, Call::default()) => Ok(()),
            }
        })?;
        let options = PeerOptions::default();
        let streams = Streams::new(config.seed);
        let transport = self.transport.clone();
        self.peers_done = Some(grpc.spawn(transport.run(options, streams, clock, self.handle.clone())));
        let served = serve_peers(
            peers,
            self.transport.clone(),
            options,
            self.handle.clone(),
            wanted(told.clone()),
        );
        grpc.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the back-end plane's listener failed");
            }
        });
        let api = Arc::new(self.handle.clone());
        let served = serve_clients(clients, api, ClientPlaneOptions::default(), wanted(told));
        self.clients_done = Some(grpc.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the client plane's listener failed");
            }
        }));
        Ok(())
    }

    /// The node itself.
    #[must_use]
    pub const fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Where clients are served.
    #[must_use]
    pub const fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where peers are served.
    #[must_use]
    pub const fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Completes when the node's loop has ended, with how.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + use<> {
        wait_for_end(self.ended.clone())
    }

    /// Stops gracefully: hands leaderships over, says goodbye, makes everything durable, answers what is in flight.
    /// Bounded. Not to be called on a runtime.
    #[must_use]
    pub fn stop(self) -> Ended {
        let (ended, grpc) = self.halt();
        if let Some(grpc) = grpc {
            grpc.shutdown_background();
        }
        ended
    }

    /// The same, leaving gRPC's runtime to whom still needs it.
    pub(super) fn halt(mut self) -> (Ended, Option<Runtime>) {
        let Some(grpc) = self.grpc.take() else {
            return (Ended::Stopped, None);
        };
        let (peers_done, clients_done) = (self.peers_done.take(), self.clients_done.take());
        let ended = grpc.block_on(async {
            let stopped = tokio::time::timeout(self.stop_within, async {
                self.handle.stop().await;
                wait_for_end(self.ended.clone()).await
            });
            let ended = stopped.await.unwrap_or_else(|_| {
                let waited = self.stop_within.as_millis();
                Ended::Failed(format!("the node's loop did not stop within {waited} ms"))
            });
            self.transport.close();
            if let Some(done) = peers_done {
                let _ = tokio::time::timeout(LAST_WORDS_WITHIN, done).await;
            }
            self.shutdown.send_replace(true);
            if let Some(done) = clients_done {
                let _ = tokio::time::timeout(LAST_WORDS_WITHIN, done).await;
            }
            ended
        });
        (ended, Some(grpc))
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        drop(self.lives.take());
        if let Some(grpc) = self.grpc.take() {
            grpc.shutdown_background();
        }
        if let Some(thread) = self.thread.take() {
            // The loop's panic was told as its end.
            let _ = thread.join();
        }
    }
}

/// Whether a file permits to found a cluster.
fn permitted(config: &NodeConfig) -> Result<bool, String> {
    let Some(permit) = &config.bootstrap_permit else {
        return Ok(false);
    };
    permit
        .try_exists()
        .map_err(|error| format!("bootstrap_permit {}: {error}", permit.display()))
}

/// Removes the permit, now that the folder says durably whose it is: what happens to the folder later, nobody founds a
/// cluster in it.
fn use_permit_up(config: &NodeConfig) -> Result<(), String> {
    let Some(permit) = config.bootstrap_permit.as_ref().filter(|_| config.bootstrap) else {
        return Ok(());
    };
    match fs::remove_file(permit) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
            "bootstrap_permit {} can't be removed: {error}: while it is there, a lost folder would be founded anew",
            permit.display()
        )),
        _ => Ok(()),
    }
}

fn listener(
    grpc: &Runtime,
    listener: StdListener,
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let _guard = grpc.enter();
    let adopt = || {
        let at = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok((TcpListener::from_std(listener)?, at))
    };
    adopt().map_err(|source| StartError::Listen { key, address, source })
}

async fn wanted(mut told: watch::Receiver<bool>) {
    // An error means that nobody is left to ask for more service.
    let _ = told.wait_for(|told| *told).await;
}

async fn wait_for_end(mut ended: watch::Receiver<Option<Ended>>) -> Ended {
    match ended.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Ended::Stopped),
        Err(_) => Ended::Panicked("its thread vanished".to_owned()),
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned())
}
