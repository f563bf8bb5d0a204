//! `target-service status --addr ADDR`: what a node says of itself, for people.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use firedrill_proto::chat::v1::StatusResponse;
use tokio::runtime::Builder;

use super::{
    args::run_from_args,
    lifetime::{USAGE, fail},
};
use crate::client::{ChannelOptions, Channels, Client};

/// The node did not answer.
const UNREACHABLE: u8 = 69;

/// Asks one node what it believes of itself, and prints it.
#[derive(Debug, Parser)]
#[command(name = "target-service status", version)]
struct Show {
    /// Where the node serves clients, as HOST:PORT
    #[arg(long, value_name = "ADDR")]
    addr: String,
    /// How long it may take to answer
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

/// What the program does: asks for a status where that is the first word, or [`run_from_args`].
pub fn main_from_args<I>(args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.get(1).is_some_and(|word| word == "status") {
        return show(args.into_iter().skip(1));
    }
    run_from_args(args)
}

/// Carries the subcommand out; `args` start with its name.
fn show<I>(args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let show = match Show::try_parse_from(args) {
        Ok(show) => show,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(USAGE, &format!("start a runtime: {error}")),
    };
    let answer = runtime.block_on(async {
        let channels = Channels::new(BTreeMap::from([(0, show.addr.clone())]), ChannelOptions::default());
        let client = Client::new(channels).with_timeout(Duration::from_millis(show.timeout_ms));
        client.status(0).await
    });
    match answer {
        Ok(status) => {
            // A closed terminal is no reason to fail.
            let _ = io::stdout().write_all(page(&status).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(UNREACHABLE, &format!("ask {} for its status: {error}", show.addr)),
    }
}

/// A status, to be read.
fn page(status: &StatusResponse) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "node {} zone {:?} version {} build {} protocol {}-{} map epoch {} up {:.1} s{}",
        status.node,
        status.zone,
        status.version,
        status.build,
        status.protocol_least,
        status.protocol_most,
        status.map_epoch,
        status.uptime_ms as f64 / 1000.0,
        if status.plant.is_empty() {
            String::new()
        } else {
            format!(" PLANT {}", status.plant)
        }
    );
    if let Some(queues) = &status.queues {
        let _ = writeln!(
            out,
            "queues  calls {}/{} proposals {}/{} streams {}/{} refused {}",
            queues.inbox,
            queues.inbox_max,
            queues.proposals,
            queues.proposals_max,
            queues.streams,
            queues.streams_max,
            queues.refused
        );
    }
    if let Some(storage) = &status.storage {
        let _ = writeln!(
            out,
            "storage log {} bytes in {} segments, {} syncs, p50 {} us, p99 {} us; snapshots {} out, {} in, {} bytes sent",
            storage.log_bytes,
            storage.log_segments,
            storage.syncs,
            storage.sync_us_p50,
            storage.sync_us_p99,
            storage.snapshots_out,
            storage.snapshots_in,
            storage.snapshot_bytes
        );
    }
    for found in &status.quarantined {
        let at = if found.at.is_empty() { "" } else { " at " };
        let _ = writeln!(
            out,
            "QUARANTINED shard {}: {}{at}{}: {}",
            found.shard, found.file, found.at, found.what
        );
    }
    if !status.shards.is_empty() {
        let _ = writeln!(
            out,
            "{:>6} {:<13} {:>6} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}",
            "shard", "role", "term", "leader", "commit", "applied", "durable", "version", "outbox", "unseen"
        );
    }
    for shard in &status.shards {
        let _ = writeln!(
            out,
            "{:>6} {:<13} {:>6} {:>6} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}",
            shard.shard,
            shard.role().as_str_name().to_lowercase(),
            shard.term,
            shard.leader,
            shard.commit,
            shard.applied,
            shard.checkpoint,
            shard.version,
            shard.outbox_backlog,
            shard.delivery_backlog
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{QuarantinedReplica, Role, ShardStatus};

    use super::*;

    #[test]
    fn a_page_names_what_an_operator_acts_on() {
        let shard = ShardStatus {
            shard: 3,
            role: Role::Leader.into(),
            term: 7,
            leader: 2,
            applied: 41,
            ..ShardStatus::default()
        };
        let found = QuarantinedReplica {
            shard: 1,
            file: "state/shard-0001.redb".to_owned(),
            at: "record 0a07".to_owned(),
            what: "its checksum is wrong".to_owned(),
        };
        let page = page(&StatusResponse {
            node: 2,
            build: "2-bad".to_owned(),
            shards: vec![shard],
            quarantined: vec![found],
            ..StatusResponse::default()
        });
        for words in [
            "node 2",
            "build 2-bad",
            "leader",
            "QUARANTINED shard 1: state/shard-0001.redb at record 0a07: its checksum is wrong",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(
            page.lines()
                .any(|line| line.contains(" 3 leader") && line.contains(" 41 ")),
            "{page}"
        );
    }

    #[test]
    fn who_does_not_answer_is_69_and_a_wrong_word_2() {
        let code = |args: &[&str]| format!("{:?}", show(args.iter().copied()));
        assert_eq!(code(&["status"]), format!("{:?}", ExitCode::from(2)));
        let silent = ["status", "--addr", "127.0.0.1:1", "--timeout-ms", "200"];
        assert_eq!(code(&silent), format!("{:?}", ExitCode::from(69)));
    }
}
