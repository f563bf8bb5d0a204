//! A node's process from its first instruction to its exit code.

use std::{
    io::{self, Write as _},
    net::TcpListener,
    process::ExitCode,
};

use nix::unistd::getppid;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    args::Args,
    running::{Ended, RunningNode, StartError, grpc_runtime, real_disk},
    telemetry::Telemetry,
};

/// An argument, the configuration or a listener can't work.
pub(super) const USAGE: u8 = 2;
/// The storage failed.
const STORAGE: u8 = 70;
/// The loop panicked: Rust's own exit code for it.
const PANIC: u8 = 101;

/// Runs one node until it is stopped (SIGTERM or SIGINT: gracefully) or fails. Prints one line to standard output when
/// it serves: `ready client=ADDR peer=ADDR node=ID`. To be called from the main thread, on no runtime.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    if let Some(parent) = args.die_with_parent
        && let Err(why) = die_with(parent)
    {
        return fail(USAGE, &why);
    }
    let config = match args.node_config() {
        Ok(config) => config,
        Err(why) => return fail(USAGE, &why),
    };
    let grpc = match grpc_runtime() {
        Ok(grpc) => grpc,
        Err(error) => return fail(USAGE, &error),
    };
    let guard = grpc.enter();
    let telemetry = match Telemetry::start(&config) {
        Ok(telemetry) => telemetry,
        Err(why) => return fail(USAGE, &why),
    };
    // From here on a signal waits for its handler.
    let signals =
        signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(USAGE, &format!("handle signals: {error}")),
    };
    drop(guard);

    let number = config.node;
    let (client_listen, peer_listen) = (config.client_listen, config.peer_listen);
    let listen = |key, address| {
        let listener = TcpListener::bind(address);
        listener.map_err(|source| StartError::Listen { key, address, source })
    };
    let handle = grpc.handle().clone();
    let disk = real_disk(&config);
    let started = listen("client_listen", client_listen)
        .and_then(|clients| Ok((clients, listen("peer_listen", peer_listen)?)))
        .and_then(|(clients, peers)| RunningNode::start_with(config, clients, peers, disk, grpc));
    let node = match started {
        Ok(node) => node,
        Err(StartError::Ended(ended)) => return finish(&ended),
        Err(error) => return fail(USAGE, &error),
    };
    let (client, peer) = (node.client_address(), node.peer_address());
    let mut out = io::stdout();
    // Who started this may have stopped listening: that is no reason to end.
    let _ = writeln!(out, "ready client={client} peer={peer} node={number}").and_then(|()| out.flush());
    tracing::info!(node = number, %client, %peer, "serving");

    let ended = handle.block_on(async {
        tokio::select! {
            biased;
            ended = node.ended() => Some(ended),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        }
    });
    if let Some(ended) = ended {
        return finish(&ended);
    }
    tracing::info!(node = number, "stopping");
    let (ended, grpc) = node.halt();
    // The last spans travel over gRPC's runtime.
    telemetry.end();
    if let Some(grpc) = grpc {
        grpc.shutdown_background();
    }
    finish(&ended)
}

fn finish(ended: &Ended) -> ExitCode {
    match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Failed(_) => fail(STORAGE, ended),
        Ended::Panicked(_) => fail(PANIC, ended),
    }
}

pub(super) fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    // A closed standard error is no reason to fail otherwise.
    let _ = writeln!(io::stderr(), "target-service: {why}");
    ExitCode::from(code)
}

/// Asks the kernel to kill this process when its parent dies, and makes sure that it has not died already.
#[cfg(target_os = "linux")]
pub(super) fn die_with(parent: i32) -> Result<(), String> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| format!("--die-with-parent {parent}: {error}"))?;
    still_child_of(parent)
}

/// There is no such signal here: a thread looks, since nothing tells.
#[cfg(not(target_os = "linux"))]
pub(super) fn die_with(parent: i32) -> Result<(), String> {
    use std::{process, sync::mpsc, thread, time::Duration};
    still_child_of(parent)?;
    let watch = move || {
        // Nobody ever sends: this is a wait that has no other way to end.
        let (_keep, never) = mpsc::channel::<()>();
        while never.recv_timeout(Duration::from_millis(200)).is_err() {
            if still_child_of(parent).is_err() {
                process::exit(i32::from(USAGE));
            }
        }
    };
    let started = thread::Builder::new().name("parent".to_owned()).spawn(watch);
    started
        .map(drop)
        .map_err(|error| format!("--die-with-parent {parent}: {error}"))
}

fn still_child_of(parent: i32) -> Result<(), String> {
    let now = getppid().as_raw();
    if now == parent {
        Ok(())
    } else {
        Err(format!(
            "--die-with-parent {parent}: the parent is {now}: it has died, or the number is not its own"
        ))
    }
}
