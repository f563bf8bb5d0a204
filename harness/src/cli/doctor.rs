//! `firedrill doctor`: what this machine can do, and what to do about what it can't.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::output::{Format, out, out_json};
use crate::backend::disk;
use crate::base::{Exit, millis, sync_times};

const EXAMPLES: &str = "\
Examples:
  firedrill doctor
  firedrill doctor --dir /mnt/fast          measure fsync where runs will be written

Ends with 0 when the main job can run here, with 4 when it can't.";

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder in which fsync is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Good.
    Ok,
    /// Not there; only some scenarios need it.
    Optional,
    /// The main job runs, but its figures suffer.
    Warning,
    /// The main job can't run.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

fn check(name: &'static str, status: Status, found: impl Into<String>) -> Check {
    Check {
        name,
        status,
        found: found.into(),
        remedy: None,
    }
}

impl Check {
    fn remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }
}

pub(super) fn main(args: &Args) -> Exit {
    let checks = checks(&args.dir);
    if args.format == Format::Json {
        out_json(&checks);
    } else {
        checks.iter().for_each(|check| out(&line(check)));
    }
    let missing = checks.iter().any(|check| check.status == Status::Missing);
    if missing { Exit::Capability } else { Exit::Pass }
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Optional => "-",
        Status::Warning => "warning",
        Status::Missing => "MISSING",
    };
    let remedy = check
        .remedy
        .as_ref()
        .map(|remedy| format!("\n{:30}{remedy}", ""))
        .unwrap_or_default();
    format!("{status:<8} {:<20} {}{remedy}\n", check.name, check.found)
}

fn checks(dir: &Path) -> Vec<Check> {
    vec![
        system(),
        cores(),
        children(),
        ports(),
        descriptors(),
        fsync(dir),
        plants(),
        etcd(),
        docker(),
        fuse(),
    ]
}

fn system() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH);
    if cfg!(target_os = "linux") {
        check("system", Status::Ok, found)
    } else {
        check("system", Status::Missing, found).remedy("the process backend needs Linux; on Windows use WSL2")
    }
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let found = format!("{cores}");
    if cores >= 2 {
        check("cores", Status::Ok, found)
    } else {
        check("cores", Status::Warning, found)
            .remedy("with one core the load and the nodes starve each other: figures will be coarse")
    }
}

/// Whether a child can be made to die with its parent, and be seen in /proc.
fn children() -> Check {
    let name = "process backend";
    if let Err(error) = nix::sys::prctl::get_pdeathsig() {
        return check(
            name,
            Status::Missing,
            format!("no signal on the parent's death: {error}"),
        )
        .remedy("children would outlive a killed run; use a kernel that has PR_SET_PDEATHSIG");
    }
    if std::fs::read_to_string("/proc/self/stat").is_err() {
        return check(name, Status::Missing, "/proc is not mounted")
            .remedy("evidence of faults is read there; mount it");
    }
    check(name, Status::Ok, "children die with their parent; /proc is readable")
}

/// Whether there is room for listeners below the ports that outgoing connections draw from.
fn ports() -> Check {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest: u16 = range
        .split_whitespace()
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(32768);
    let free = (10_000..lowest)
        .step_by(97)
        .take(200)
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .count();
    let found = format!("{free} of a sample free on loopback, below the ephemeral range at {lowest}");
    if free >= 20 {
        check("ports", Status::Ok, found)
    } else {
        check("ports", Status::Missing, found).remedy(
            "nodes listen between 10000 and the range of net.ipv4.ip_local_port_range; raise its lower end to 32768",
        )
    }
}

/// Sessions are multiplexed, but nodes, links and their logs take descriptors.
fn descriptors() -> Check {
    use nix::sys::resource::{Resource, getrlimit};
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft >= 1024 => check("open files", Status::Ok, format!("{soft}")),
        Ok((soft, hard)) => check("open files", Status::Warning, format!("{soft} (at most {hard})"))
            .remedy("large scenarios need 1024: `ulimit -n 1024`"),
        Err(error) => check("open files", Status::Warning, format!("unknown: {error}")),
    }
}

/// How many times fsync is measured, and at most how long.
const SYNCS: usize = 200;
const SYNCS_LAST: Duration = Duration::from_secs(3);

/// What an acknowledged write costs at least.
fn fsync(dir: &Path) -> Check {
    match sync_times(dir, SYNCS, SYNCS_LAST) {
        Ok(times) => {
            let at = |share: usize| millis(times[(times.len() * share / 100).min(times.len() - 1)]);
            let found = format!(
                "{} writes of 4 KiB in {}: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
                times.len(),
                dir.display(),
                at(50),
                at(99),
                at(100),
            );
            if at(99) <= 50.0 {
                check("fsync", Status::Ok, found)
            } else {
                check("fsync", Status::Warning, found)
                    .remedy("each acknowledged message waits for this; write runs to a faster disk with --out")
            }
        }
        Err(error) => check(
            "fsync",
            Status::Missing,
            format!("failed to write in {}: {error}", dir.display()),
        )
        .remedy("choose a folder that can be written with --dir"),
    }
}

fn plants() -> Check {
    if cfg!(feature = "plants") {
        check("plants", Status::Ok, "this build carries deliberately wrong services")
    } else {
        check("plants", Status::Optional, "this build carries none")
            .remedy("scenarios/negative needs `--features plants`")
    }
}

/// The first line that a program prints, if it is there and answers at once.
fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let line = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    output.status.success().then_some(line)
}

fn etcd() -> Check {
    match first_line("etcd", &["--version"]) {
        Some(version) => check("etcd", Status::Ok, version),
        None => check("etcd", Status::Optional, "not installed")
            .remedy("scenarios on etcd need it: Debian's package is etcd-server"),
    }
}

fn docker() -> Check {
    if !Path::new("/var/run/docker.sock").exists() {
        return check("docker", Status::Optional, "no daemon at /var/run/docker.sock")
            .remedy("no backend of this version needs it");
    }
    match first_line("docker", &["--version"]) {
        Some(version) => check("docker", Status::Ok, version),
        None => check("docker", Status::Optional, "a daemon's socket, but no docker command"),
    }
}

fn fuse() -> Check {
    match disk::available() {
        Ok(()) => check("FUSE", Status::Ok, "disks of a node's own can be mounted"),
        Err(why) => check("FUSE", Status::Optional, why)
            .remedy("`disk:` of a command system needs it, for the power loss of somebody else's system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let checks = checks(dir.path());
        assert_eq!(checks.len(), 10);
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert!(
                check.status == Status::Ok || check.status == Status::Optional || check.remedy.is_some(),
                "{check:?}"
            );
            assert!(line(check).contains(check.name));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_can_not_be_written_is_named() {
        let check = fsync(Path::new("/nowhere/at/all"));
        assert_eq!(check.status, Status::Missing);
        assert!(check.found.contains("/nowhere/at/all"), "{check:?}");
    }
}
