//! A real etcd under the command: three nodes, the leader killed three times, the power of all lost three times. Skipped by
//! name where there is no etcd, or no disk can be mounted.

mod common;

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use common::{Bench, text};
use firedrill::{
    backend::disk,
    base::{Nanos, RunClock},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// No run of a scenario on its own takes longer, in seconds.
const TOOK_MAX_S: u64 = 60;
/// One cluster at a time: two would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// As scenarios/systems/etcd-leader-kill.yaml, with fewer kills.
fn scenario() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../scenarios/systems/etcd-leader-kill.yaml"
    );
    let whole = std::fs::read_to_string(path).expect("the scenario is in the repository");
    let (head, rest) = whole.split_once("\nsteps:\n").expect("it has steps");
    let (_, tail) = rest.split_once("\nsettle:").expect("and settles after them");
    let kills: String = [500, 8637, 16_774]
        .map(|ms| format!("  - at: {ms}ms\n    kill: leader\n    heal_after: 4200ms\n"))
        .concat();
    // Other tests run beside it, and the generator may be late for them.
    format!("{head}\nlimits: {{ lag_p99: 250ms }}\nsteps:\n{kills}\nsettle:{tail}")
}

/// A scenario of the repository, as it is.
fn whole(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(path);
    std::fs::read_to_string(path).expect("the scenario is in the repository")
}

/// Whether disks can be mounted beside an etcd; says so where not, and fails where there must be one.
fn with_disks() -> bool {
    if !installed() {
        return false;
    }
    let Err(why) = disk::available() else { return true };
    assert!(
        std::env::var_os("CI").is_none(),
        "no disks can be mounted on this continuous-integration machine: {why}"
    );
    println!("skipped: {why}");
    false
}

/// What is mounted below a bench's folder.
fn mounts(bench: &Bench) -> Vec<String> {
    let below = bench.path("out").display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    mounts
        .lines()
        .filter(|line| line.contains(&below))
        .map(str::to_owned)
        .collect()
}

/// Whether there is an etcd; says so where there is none. A continuous-integration machine has one, or is set up wrongly.
fn installed() -> bool {
    if Command::new("etcd").arg("--version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "etcd is not installed on this continuous-integration machine: apt-get install etcd-server"
    );
    println!("skipped: etcd is not installed");
    false
}

#[test]
fn a_killed_leader_of_etcd_is_replaced_and_nothing_acknowledged_is_lost() {
    if !installed() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new();
    let output = bench.run(&scenario());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let run = bench.run_json();
    let faults = run["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 3, "{faults:?}");
    for fault in faults {
        assert_eq!(fault["outcome"], "installed", "{fault}");
        assert!(
            fault["evidence"].as_str().is_some_and(|seen| seen.contains("is gone")),
            "{fault}"
        );
    }
    let rows = run["recovery"].as_array().expect("a list");
    for fault in faults {
        let row = rows
            .iter()
            .find(|row| row["fault"] == fault["id"] && row["class"] == "put" && row["group"] == "all");
        let row = row.unwrap_or_else(|| panic!("no row for {fault} in {rows:?}"));
        // A leader that is killed is missed for most of an election timeout; etcd knows no faster way.
        let first_ok = row["first_ok_ms"]
            .as_f64()
            .unwrap_or_else(|| panic!("no figure in {row}"));
        assert!((300.0..6000.0).contains(&first_ok), "{row}");
    }
    let lost = run["promises"]
        .as_array()
        .and_then(|promises| promises.iter().find(|promise| promise["name"] == "lost-acked").cloned())
        .expect("it is judged");
    assert_eq!(lost["verdict"], "pass", "{lost}");
    assert!(lost["obligations"].as_u64().is_some_and(|count| count > 1000), "{lost}");
}

#[test]
fn a_program_that_is_not_there_is_named_before_anything_starts() {
    let bench = Bench::new();
    let absent = scenario().replace("- etcd\n", "- etcd-that-is-not-there\n");
    let output = bench.run(&absent);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(
        text.contains("`etcd-that-is-not-there`") && text.contains("install"),
        "{text}"
    );
}

#[test]
fn an_etcd_that_loses_its_power_loses_nothing_that_it_acknowledged() {
    if !with_disks() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A machine that is too busy to tell may have another try.
    let mut tries = 3;
    let (bench, text) = loop {
        let bench = Bench::new();
        let clock = RunClock::start();
        let output = bench.run(&whole("systems/etcd-power-loss.yaml"));
        let text = text(&output);
        assert!(mounts(&bench).is_empty(), "{:?}", mounts(&bench));
        tries -= 1;
        if output.status.code() == Some(5) && tries > 0 {
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(clock.now() <= Nanos::from_millis(TOOK_MAX_S * 1000), "{text}");
        break (bench, text);
    };
    assert!(text.contains("its disk lost"), "{text}");
    let run = bench.run_json();
    let faults = run["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 3, "{faults:?}");
    for fault in faults {
        let seen = fault["evidence"].as_str().unwrap_or_default();
        assert_eq!(
            seen.matches("its disk lost").count(),
            3,
            "each disk says what it lost: {seen}"
        );
        assert!(fault["healed_ms"].is_number(), "{fault}");
    }
    let lost = run["promises"]
        .as_array()
        .and_then(|promises| promises.iter().find(|promise| promise["name"] == "lost-acked").cloned())
        .expect("it is judged");
    assert_eq!(lost["verdict"], "pass", "{lost}");
    assert!(lost["obligations"].as_u64().is_some_and(|count| count > 1000), "{lost}");
}

#[test]
fn an_interrupt_and_a_killed_harness_leave_no_mount() {
    if !with_disks() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (sent, mounted) in [(Signal::SIGINT, 0), (Signal::SIGKILL, 3)] {
        let bench = Bench::new();
        let mut run = bench.start(&whole("systems/etcd-power-loss.yaml"));
        run.until("1-power_loss healed");
        assert_eq!(mounts(&bench).len(), 3, "each node has its disk");
        kill(
            Pid::from_raw(i32::try_from(run.child.id()).expect("a process id")),
            sent,
        )
        .expect("it is ours");
        run.wait();
        assert_eq!(mounts(&bench).len(), mounted, "after {sent}");
        let heal = bench.firedrill(&["heal"]).output().expect("the command starts");
        assert_eq!(heal.status.code(), Some(0), "{}", text(&heal));
        assert_eq!(text(&heal).contains("unmounted"), mounted > 0, "{}", text(&heal));
        assert_eq!(mounts(&bench).len(), 0, "{sent}, then heal");
    }
}
