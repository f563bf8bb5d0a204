//! `target-service restore --from FOLDER --config FILE`: an empty folder becomes that of a founder, from a backup.
//!
//! Offline, and for each founder by itself: a running node holds its folder and votes for what is in it, and no node should be
//! asked to replace what it votes for. All come to the same from the same folders; whoever wasn't restored is refused by those
//! that were.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tokio::runtime::Builder;

use super::{
    args::Args,
    lifetime::{USAGE, fail},
    show::parsed,
};
use crate::{
    env::{Clock, Disk, RealDisk},
    node::{Progress, restore},
};

/// The backup or a disk can't be used.
const STORAGE: u8 = 70;
/// From one word of progress to the next, in bytes.
const TELL_BYTES: u64 = 16 << 20;

/// Restores a founder's empty data folder from a backup. Do this for each founder, from the same folders, then start them
/// without --bootstrap
#[derive(Debug, Parser)]
#[command(name = "target-service restore", version)]
struct Restore {
    #[command(flatten)]
    node: Args,
    /// The backup: BACKUP_DIR/node-N/ID. Several where nodes hold different shards
    #[arg(long, value_name = "FOLDER", required = true)]
    from: Vec<PathBuf>,
    /// Bytes a second that are read, instead of the file's `backup_bytes_per_second`; 0 is no limit
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
}

/// Carries the subcommand out; `args` start with its name.
pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let it = match parsed::<Restore>(args) {
        Ok(it) => it,
        Err(code) => return code,
    };
    let config = match it.node.node_config() {
        Ok(config) => config,
        Err(why) => return fail(USAGE, &why),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(USAGE, &format!("start a runtime: {error}")),
    };
    let rate = it.bytes_per_second.unwrap_or(config.backup_bytes_per_second);
    let done = runtime.block_on(async {
        let clock = Clock::system();
        let mut from: Vec<Arc<dyn Disk>> = Vec::new();
        for folder in &it.from {
            from.push(Arc::new(RealDisk::existing(folder).map_err(|error| error.to_string())?));
        }
        let disk = RealDisk::open(&config.data_dir).map_err(|error| error.to_string())?;
        let mut told = 0;
        let mut tell = |progress: Progress| {
            if progress.bytes >= told + TELL_BYTES && io::stderr().is_terminal() {
                told = progress.bytes;
                let (of, shard, replayed) = (progress.bytes_total, progress.shard, progress.replayed);
                // A closed standard error is no reason to fail.
                let _ = writeln!(
                    io::stderr(),
                    "shard {shard}: {told} of {of} bytes, {replayed} entries replayed"
                );
            }
        };
        let restored = restore(&from, &config, Arc::new(disk), &clock, rate, &mut tell).await;
        restored.map_err(|error| error.to_string())
    });
    match done {
        Ok(restored) => {
            let ends = restored.ends.iter().map(|(shard, end)| format!("{shard}:{end}"));
            let ends = ends.collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                io::stdout(),
                "restored {} at node {}: shards {:?}, {} entries replayed; every founder has to say the same: {ends}",
                restored.id,
                config.node,
                restored.held,
                restored.replayed
            );
            ExitCode::SUCCESS
        }
        Err(why) => fail(STORAGE, &format!("restore: {why}")),
    }
}
