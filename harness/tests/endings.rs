//! How a run ends when it is not left alone: interrupted, killed, starved, or meddled with from outside.

#![cfg(target_os = "linux")]

mod common;

use common::{Bench, PATIENCE, Running, all_listening, listening, processes_of, small, state_of, text, waited_for};
use firedrill::base::{Nanos, RunClock};
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

const FREEZE: &str = "  - at: 500ms\n    freeze: leader\n    heal_after: 60s";

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("it is ours");
}

#[test]
fn an_interrupt_heals_and_leaves_nothing() {
    heals_and_leaves_nothing(Signal::SIGINT);
}

#[test]
fn a_termination_heals_and_leaves_nothing() {
    heals_and_leaves_nothing(Signal::SIGTERM);
}

fn heals_and_leaves_nothing(ask: Signal) {
    let bench = Bench::new();
    let mut run = bench.start(&small(FREEZE));
    run.until("1-freeze installed");
    let nodes = processes_of(&bench.path("out"));
    assert_eq!(nodes.len(), 3, "three nodes run");
    assert!(
        nodes.iter().any(|pid| state_of(*pid) == Some('T')),
        "one of them is frozen"
    );
    let whose: Vec<u32> = nodes.iter().copied().chain([run.child.id()]).collect();
    let sockets = listening(&whose);
    assert!(sockets.len() > nodes.len(), "nodes and links listen: {sockets:?}");
    signal(run.child.id(), ask);
    assert_eq!(run.wait(), 130);
    assert!(
        nodes.iter().all(|pid| state_of(*pid).is_none()),
        "a node outlived the run"
    );
    assert_eq!(all_listening().intersection(&sockets).next(), None, "a port is left");
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
    assert!(
        nodes.iter().any(|pid| state_of(*pid) == Some('T')),
        "one of them is frozen"
    );
    let began = RunClock::start();
    signal(run.child.id(), Signal::SIGKILL);
    let gone = waited_for(|| nodes.iter().all(|pid| matches!(state_of(*pid), None | Some('Z'))));
    let took = began.now();
    assert!(gone, "nodes outlived a killed harness: {nodes:?}");
    assert!(took < Nanos(1_000_000_000), "the last was gone after {took:?}");
    run.wait();
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

/// Holds a process as a debugger does, so that nothing but its end moves it on, until it has ended.
fn hold(pid: u32) -> std::thread::JoinHandle<()> {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let (held, tell) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        ptrace::attach(pid).expect("a grandchild can be held");
        let next = || waitpid(pid, Some(WaitPidFlag::__WALL));
        let first = next();
        held.send(()).expect("the test waits");
        let mut seen = first;
        while !matches!(seen, Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_)) {
            seen = next();
        }
    });
    tell.recv_timeout(PATIENCE).expect("it is held");
    holder
}

/// A run with a frozen node that nobody can thaw.
fn unthawable(bench: &Bench, steps: &str) -> (Running, std::thread::JoinHandle<()>) {
    let mut run = bench.start(&small(steps));
    run.until("1-freeze installed");
    let frozen = processes_of(&bench.path("out"))
        .into_iter()
        .find(|pid| state_of(*pid) == Some('T'));
    let holder = hold(frozen.expect("one is frozen"));
    (run, holder)
}

#[test]
fn a_heal_that_fails_ends_with_8_and_names_the_remedy() {
    let bench = Bench::new();
    let (mut run, holder) = unthawable(&bench, &FREEZE.replace("60s", "5s"));
    assert_eq!(run.wait(), 8);
    holder.join().expect("it saw the node end");
    let json = bench.run_json();
    assert_eq!(
        (&json["exit_code"], &json["verdict"]),
        (&8.into(), &"unknown".into()),
        "{json:#}"
    );
    assert!(
        json["reasons"].to_string().contains("1-freeze could not be undone"),
        "{}",
        json["reasons"]
    );
    nothing_else_in(&bench);
}

#[test]
fn a_second_interrupt_says_what_was_not_healed_and_does_not_claim_130() {
    let bench = Bench::new();
    let (mut run, holder) = unthawable(&bench, FREEZE);
    signal(run.child.id(), Signal::SIGINT);
    run.until("healing and ending");
    signal(run.child.id(), Signal::SIGINT);
    run.until("ended without healing");
    run.until("fault 1-freeze");
    run.until("firedrill heal");
    assert_eq!(run.wait(), 8);
    holder.join().expect("the node ended with its harness");
    nothing_else_in(&bench);
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

/// Who follows is missed by no client, as long as two of three agree.
#[test]
fn one_node_frozen_from_outside_is_told_by_name() {
    let bench = Bench::new();
    let mut run = bench.start(&small(
        "  - at: 6s\n    transfer_leader: { shard: 0, to: any_follower }",
    ));
    run.until("phase disturb");
    let node = *processes_of(&bench.path("out")).first().expect("a node");
    signal(node, Signal::SIGSTOP);
    assert!(waited_for(|| state_of(node) == Some('T')));
    pause(1_000);
    signal(node, Signal::SIGCONT);
    assert_eq!(run.wait(), 5, "{:#}", bench.run_json());
    let reasons = bench.run_json()["reasons"].to_string();
    assert!(
        reasons.contains("was frozen from outside") && reasons.contains(&format!("pid {node}")),
        "{reasons}"
    );
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
