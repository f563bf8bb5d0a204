//! The processes at the edge, from their first instruction to their exit codes.

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    process::ExitCode,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use super::{
    lifetime::{USAGE, die_with, fail},
    running::grpc_runtime,
};
use crate::{
    edge::{DirectoryConfig, GatewayConfig, PageConfig, serve_directory, serve_gateway, serve_page},
    env::Clock,
    grpc::ServeError,
};

/// A listener failed while it served.
const LISTENER: u8 = 70;
/// Longest configuration file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Arguments of a process at the edge.
#[derive(Clone, Debug, clap::Args)]
pub struct EdgeArgs {
    /// Its configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Die at once when this parent process does (Linux)
    #[arg(long, value_name = "PID")]
    pub die_with_parent: Option<i32>,
}

/// What else this program can be than a node.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Edge {
    /// A gateway: holds clients' connections and leads them to whoever leads their shards
    Gateway(EdgeArgs),
    /// The directory, in which gateways say where they are and clients find them
    Directory(EdgeArgs),
    /// The status page, which says whether all is well
    StatusPage(EdgeArgs),
}

/// A configuration that was read, with its listeners.
enum Ready {
    Gateway(Box<GatewayConfig>, [StdListener; 2]),
    Directory(DirectoryConfig, StdListener),
    Page(Box<PageConfig>, StdListener),
}

/// Runs one until it is stopped (SIGTERM or SIGINT: gracefully) or fails. Prints one line to standard output when it
/// serves: `ready listen=ADDR`, or `ready client=ADDR peer=ADDR name=NAME` for a gateway. To be called from the main
/// thread, on no runtime.
#[must_use]
pub(super) fn run(edge: &Edge) -> ExitCode {
    match start(edge) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => fail(code, &why),
    }
}

type Failed = (u8, String);

fn usage<E: ToString>(error: E) -> Failed {
    (USAGE, error.to_string())
}

fn start(edge: &Edge) -> Result<(), Failed> {
    let (Edge::Gateway(args) | Edge::Directory(args) | Edge::StatusPage(args)) = edge;
    if let Some(parent) = args.die_with_parent {
        die_with(parent).map_err(usage)?;
    }
    let ready = read(edge, args).map_err(usage)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false);
    // A program that carries the service may have a subscriber already; then that one is used.
    let _ = logs.with_env_filter(filter).try_init();
    let runtime = grpc_runtime().map_err(usage)?;
    let ended = runtime.block_on(serve(ready));
    runtime.shutdown_background();
    ended
}

fn read(edge: &Edge, args: &EdgeArgs) -> Result<Ready, String> {
    let name = args.config.display();
    let named = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let bytes = fs::metadata(&args.config).map_err(|error| named(&error))?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(named(&format!(
            "{bytes} bytes long: a configuration has at most {CONFIG_BYTES_MAX}"
        )));
    }
    let text = fs::read_to_string(&args.config).map_err(|error| named(&error))?;
    Ok(match edge {
        Edge::Gateway(_) => {
            let config = GatewayConfig::parse(&text).map_err(|error| named(&error))?;
            let clients = listen("client_listen", config.client_listen)?;
            let peers = listen("peer_listen", config.peer_listen)?;
            Ready::Gateway(Box::new(config), [clients, peers])
        }
        Edge::Directory(_) => {
            let config = DirectoryConfig::parse(&text).map_err(|error| named(&error))?;
            let listener = listen("listen", config.listen)?;
            Ready::Directory(config, listener)
        }
        Edge::StatusPage(_) => {
            let config = PageConfig::parse(&text).map_err(|error| named(&error))?;
            let listener = listen("listen", config.listen)?;
            Ready::Page(Box::new(config), listener)
        }
    })
}

fn listen(key: &str, address: SocketAddr) -> Result<StdListener, String> {
    let no = |error: io::Error| format!("{key} is {address}: {error}: choose a free address of this machine");
    let listener = StdListener::bind(address).map_err(no)?;
    listener.set_nonblocking(true).map_err(no)?;
    Ok(listener)
}

async fn serve(ready: Ready) -> Result<(), Failed> {
    let (ask, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(usage)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(usage)?;
    let served = start_serving(ready, stop).map_err(usage)?;
    let asked = async {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        ask.send_replace(true);
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        () = asked => Ok(()),
    };
    ended.map_err(|error| (LISTENER, format!("a listener failed: {error}")))
}

type Serving = std::pin::Pin<Box<dyn Future<Output = Result<(), ServeError>>>>;

fn start_serving(ready: Ready, stop: watch::Receiver<bool>) -> io::Result<Serving> {
    let clock = Clock::system();
    Ok(match ready {
        Ready::Gateway(config, [clients, peers]) => {
            let (clients, peers) = (TcpListener::from_std(clients)?, TcpListener::from_std(peers)?);
            let (client, peer) = (clients.local_addr()?, peers.local_addr()?);
            say(&format!("ready client={client} peer={peer} name={}", config.name));
            Box::pin(async move { serve_gateway(clients, peers, &config, clock, stop).await })
        }
        Ready::Directory(config, listener) => {
            let listener = TcpListener::from_std(listener)?;
            say(&format!("ready listen={}", listener.local_addr()?));
            Box::pin(async move { serve_directory(listener, &config, clock, stop).await })
        }
        Ready::Page(config, listener) => {
            let listener = TcpListener::from_std(listener)?;
            say(&format!("ready listen={}", listener.local_addr()?));
            Box::pin(async move { serve_page(listener, &config, clock, stop).await })
        }
    })
}

/// The listener takes connections already; what comes first waits for the loop. Who started this may have stopped
/// listening: that is no reason to end.
fn say(line: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
