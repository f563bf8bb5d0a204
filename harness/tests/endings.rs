//! How a run ends when it is not left alone: interrupted, killed, starved, or meddled with from outside.

#![cfg(target_os = "linux")]

mod common;

use common::{Bench, PATIENCE, processes_of, small, state_of, text, waited_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const FREEZE: &str = "  - at: 500ms\n    freeze: leader\n    heal_after: 60s";

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("it is ours");
}

#[test]
fn an_interrupt_heals_and_leaves_nothing() {
    let bench = Bench::new();
    let mut run = bench.start(&small(FREEZE));
    run.until("1-freeze installed");
    let nodes = processes_of(&bench.path("out"));
    assert_eq!(nodes.len(), 3, "three nodes run");
    assert!(
        nodes.iter().any(|pid| state_of(*pid) == Some('T')),
        "one of them is frozen"
    );
    signal(run.child.id(), Signal::SIGINT);
    assert_eq!(run.wait(), 130);
    assert!(
        nodes.iter().all(|pid| state_of(*pid).is_none()),
        "a node outlived the run"
    );
    let json = bench.run_json();
    assert_eq!(json["exit_code"], 130);
    assert!(json["faults"][0]["healed_ms"].is_number(), "{}", json["faults"]);
    nothing_else_in(&bench);
}

/// No file outside the run's folder, but the scenario and the command's own state, which names no run any more.
fn nothing_else_in(bench: &Bench) {
    let mut names: Vec<String> = std::fs::read_dir(bench.path("."))
        .expect("the folder is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.retain(|name| name != "state");
    assert_eq!(names, ["out", "scenario.yaml"]);
    let sweep = bench.firedrill(&["heal"]).output().expect("the command starts");
    assert_eq!(sweep.status.code(), Some(0), "{}", text(&sweep));
}

#[test]
fn a_killed_harness_takes_its_nodes_with_it_and_the_next_start_sweeps() {
    let bench = Bench::new();
    let mut run = bench.start(&small(FREEZE));
    run.until("1-freeze installed");
    let nodes = processes_of(&bench.path("out"));
    assert_eq!(nodes.len(), 3, "three nodes run");
    signal(run.child.id(), Signal::SIGKILL);
    run.wait();
    let gone = waited_for(|| nodes.iter().all(|pid| matches!(state_of(*pid), None | Some('Z'))));
    assert!(gone, "nodes outlived a killed harness: {nodes:?}");
    let heal = bench.firedrill(&["heal"]).output().expect("the command starts");
    assert_eq!(heal.status.code(), Some(0), "{}", text(&heal));
    assert!(
        text(&heal).contains("run small-"),
        "it names the run that left something:\n{}",
        text(&heal)
    );
    let again = bench.firedrill(&["heal"]).output().expect("the command starts");
    assert!(
        text(&again).contains("nothing to heal"),
        "swept once, nothing is left to say:\n{}",
        text(&again)
    );
}

#[test]
fn a_node_frozen_from_outside_is_no_pass() {
    let bench = Bench::new();
    // A quiet scenario: its only fault is a leader that hands over.
    let steps = "  - at: 8s\n    transfer_leader: { shard: 0, to: any_follower }";
    let mut run = bench.start(&small(steps));
    run.until("phase disturb");
    let nodes = processes_of(&bench.path("out"));
    for pid in &nodes {
        signal(*pid, Signal::SIGSTOP);
    }
    let stopped = waited_for(|| nodes.iter().all(|pid| state_of(*pid) == Some('T')));
    assert!(stopped);
    pause(2_000);
    for pid in &nodes {
        signal(*pid, Signal::SIGCONT);
    }
    let code = run.wait();
    let json = bench.run_json();
    assert_ne!(code, 0, "an outage that nobody asked for was passed over: {json:#}");
    let gap = json["recovery"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["worst_gap_ms"].as_f64())
        .fold(0.0, f64::max);
    assert!(gap >= 1_500.0, "two seconds of silence show as a gap of {gap} ms");
}

#[test]
fn a_harness_that_stood_still_says_inconclusive() {
    let bench = Bench::new();
    let mut run = bench.start(&small(
        "  - at: 5s\n    transfer_leader: { shard: 0, to: any_follower }",
    ));
    run.until("phase disturb");
    signal(run.child.id(), Signal::SIGSTOP);
    pause(3_000);
    signal(run.child.id(), Signal::SIGCONT);
    assert_eq!(run.wait(), 5, "{:#}", bench.run_json());
    let reasons = bench.run_json()["reasons"].to_string();
    assert!(reasons.contains("stood still"), "{reasons}");
}

#[expect(clippy::disallowed_methods, reason = "the length of the pause is the experiment")]
fn pause(ms: u64) {
    assert!(std::time::Duration::from_millis(ms) < PATIENCE);
    std::thread::sleep(std::time::Duration::from_millis(ms));
}
