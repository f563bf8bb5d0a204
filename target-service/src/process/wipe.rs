//! `target-service wipe --node N --config FILE --ask ADDR...`: empties the folder of a node that is down, if the others can do
//! without it.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use tokio::runtime::Builder;

use super::{
    args::Args,
    lifetime::{USAGE, fail},
    show::parsed,
};
use crate::{
    client::{ChannelOptions, Channels, Client},
    env::{Disk, RealDisk},
    node::wipe,
};

/// It was refused, or the disk failed.
const REFUSED: u8 = 70;

/// Empties a node's data folder for good: its id is never used again. The node has to be down, and --node has to be whose
/// folder it is
#[derive(Debug, Parser)]
#[command(name = "target-service wipe", version)]
struct Wipe {
    #[command(flatten)]
    node: Args,
    /// Where another node serves clients, as HOST:PORT; all of them
    #[arg(long, value_name = "ADDR")]
    ask: Vec<String>,
    /// How long each may take to answer
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

/// Carries the subcommand out; `args` start with its name.
pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let it = match parsed::<Wipe>(args) {
        Ok(it) => it,
        Err(code) => return code,
    };
    if it.node.node.is_none() {
        return fail(
            USAGE,
            &"wipe: say with --node which node it is: a folder is emptied for one node only",
        );
    }
    let config = match it.node.node_config() {
        Ok(config) => config,
        Err(why) => return fail(USAGE, &why),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(USAGE, &format!("start a runtime: {error}")),
    };
    let wiped = runtime.block_on(async {
        // Held until it is empty: the node can't start meanwhile.
        let disk = RealDisk::open(&config.data_dir).map_err(|error| error.to_string())?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let addresses = (0..).zip(it.ask.iter().cloned()).collect();
        let channels = Channels::new(addresses, ChannelOptions::default());
        let client = Client::new(channels).with_timeout(Duration::from_millis(it.timeout_ms));
        let mut others = Vec::new();
        for (at, address) in (0..).zip(&it.ask) {
            match client.status(at).await {
                Ok(status) => others.push(status),
                // Whoever doesn't answer can't be counted on.
                Err(error) => drop(writeln!(io::stderr(), "{address} doesn't answer: {error}")),
            }
        }
        wipe(&config, &disk, &others).map_err(|error| error.to_string())
    });
    match wiped {
        Ok(()) => {
            let node = config.node;
            let _ = writeln!(
                io::stdout(),
                "node {node} is wiped. Never start it under this id again: add a node under a new one (in everybody's peers, \
                 in nobody's founders), and move the replicas of node {node} there"
            );
            ExitCode::SUCCESS
        }
        Err(why) => fail(REFUSED, &format!("wipe: {why}")),
    }
}
