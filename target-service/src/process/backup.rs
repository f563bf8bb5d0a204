//! `target-service backup --id ID --at ADDR...`: has nodes that serve copy what they hold, all at a time, and waits for it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use firedrill_proto::chat::v1::{BackupAction, BackupPhase, BackupPoint, BackupRequest, BackupStatus};
use tokio::runtime::Builder;

use super::{
    lifetime::{USAGE, fail},
    show::parsed,
};
use crate::{
    client::{ChannelOptions, Channels, Client},
    env::Clock,
};

/// A node did not answer, or its backup failed.
const FAILED: u8 = 69;
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Takes a backup of a cluster that serves: each node named writes its share below its own `backup_dir`
#[derive(Debug, Parser)]
#[command(name = "target-service backup", version)]
struct Backup {
    /// Names it: 1 to 64 of a-z, 0-9, - and _
    #[arg(long)]
    id: String,
    /// Where nodes serve clients, as HOST:PORT: one that holds every shard, or so many that together they do
    #[arg(long, value_name = "ADDR", required = true)]
    at: Vec<String>,
    /// Other nodes, to ask how far they are: what they have acknowledged has to be in it
    #[arg(long, value_name = "ADDR")]
    ask: Vec<String>,
    /// How long all of it may take
    #[arg(long, value_name = "S", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    within_s: u64,
}

/// Carries the subcommand out; `args` start with its name.
pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let it = match parsed::<Backup>(args) {
        Ok(it) => it,
        Err(code) => return code,
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(USAGE, &format!("start a runtime: {error}")),
    };
    match runtime.block_on(take(&it)) {
        Ok(bytes) => {
            let _ = writeln!(io::stdout(), "backup {} is taken: {bytes} bytes", it.id);
            ExitCode::SUCCESS
        }
        Err(why) => fail(FAILED, &format!("backup {}: {why}", it.id)),
    }
}

async fn take(it: &Backup) -> Result<u64, String> {
    let clock = Clock::system();
    let until = clock.now() + Duration::from_secs(it.within_s);
    let addresses: BTreeMap<u64, String> = (0..).zip(it.at.iter().chain(&it.ask).cloned()).collect();
    let writers = 0..it.at.len() as u64;
    let client = Client::new(Channels::new(addresses.clone(), ChannelOptions::default()));
    let failed = |at: &u64, error: &dyn std::fmt::Display| format!("{}: {error}", addresses[at]);
    // What was acknowledged by now was applied by whoever acknowledged it.
    let mut points: BTreeMap<u32, u64> = BTreeMap::new();
    for at in addresses.keys() {
        let status = client.status(*at).await.map_err(|error| failed(at, &error))?;
        for shard in status.shards {
            let index = points.entry(shard.shard).or_default();
            *index = shard.applied.max(*index);
        }
    }
    let at_least: Vec<BackupPoint> = points
        .into_iter()
        .map(|(shard, index)| BackupPoint { shard, index })
        .collect();
    let ask = async |at: u64, action: BackupAction| {
        let request = BackupRequest {
            action: action.into(),
            id: it.id.clone(),
            hold: it.at.len() > 1,
            at_least: at_least.clone(),
        };
        let answer = client.backup(at, request).await.map_err(|error| failed(&at, &error))?;
        Ok::<BackupStatus, String>(answer.status.unwrap_or_default())
    };
    for at in writers.clone() {
        ask(at, BackupAction::BackupStart).await?;
    }
    let stages = match it.at.len() {
        1 => &[BackupPhase::Finished][..],
        _ => &[BackupPhase::Following, BackupPhase::Finished],
    };
    let mut bytes = 0;
    for &stage in stages {
        bytes = 0;
        for at in writers.clone() {
            if stage == BackupPhase::Finished && stages.len() > 1 {
                ask(at, BackupAction::BackupFinish).await?;
            }
        }
        for at in writers.clone() {
            loop {
                let status = client.status(at).await.map_err(|error| failed(&at, &error))?;
                let status = status.backup.filter(|status| status.id == it.id).unwrap_or_default();
                let phase = status.phase();
                if phase == BackupPhase::Failed || phase == BackupPhase::Unspecified {
                    return Err(failed(&at, &format!("it failed: {}", status.error)));
                }
                if phase == stage || phase == BackupPhase::Finished {
                    bytes += status.bytes;
                    break;
                }
                if clock.now() > until {
                    return Err(failed(&at, &format!("not within {} s: {phase:?}", it.within_s)));
                }
                clock.sleep(LOOK_EVERY).await;
            }
        }
    }
    Ok(bytes)
}
