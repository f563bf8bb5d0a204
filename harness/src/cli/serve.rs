//! `firedrill serve`: the controller alone, on loopback.

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use super::{
    output::{note, out},
    runtime,
};
use crate::{base::Exit, controller::Controller, grpc};

const EXAMPLES: &str = "\
Examples:
  firedrill serve                                 on 127.0.0.1:7414, until Ctrl-C
  firedrill serve --listen 127.0.0.1:0            on a free port; the address is printed on standard output
  grpcurl -plaintext 127.0.0.1:7414 list          reflection and health are served too

Whoever reaches the controller can start runs and break what they started, so only loopback is served. From elsewhere,
reach it through an SSH tunnel. Ending it heals and ends every run.";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The loopback address to listen on
    #[arg(long, default_value = "127.0.0.1:7414", value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(super) fn main(args: &Args) -> Exit {
    runtime::block_on(serve(args.listen))
}

async fn serve(address: SocketAddr) -> Exit {
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            note(&format!("failed to listen for signals: {error}"));
            return Exit::Internal;
        }
    };
    let controller = Controller::new();
    let healed = controller.clone();
    // The runs are ended first: a watcher's stream ends with its run, and the server waits for its streams.
    let until = async move {
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        healed.shut_down().await;
    };
    let served = grpc::serve(controller, address, |bound| out(&format!("listening {bound}\n")), until).await;
    match served {
        Ok(()) => Exit::Pass,
        Err(error @ grpc::ServeError::NotLoopback(_)) => {
            note(&format!("failed to {error}"));
            Exit::Usage
        }
        Err(error) => {
            note(&format!("failed to {error}"));
            Exit::Internal
        }
    }
}
