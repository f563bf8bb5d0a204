//! Several runs of one command.

#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::{Bench, small, text};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const TRANSFER: &str = "  - at: 200ms\n    transfer_leader: { shard: 0, to: any_follower }";

#[test]
fn the_same_run_twice_is_a_mistake_of_usage() {
    let bench = Bench::new();
    bench.scenario(&small(TRANSFER));
    let twice = bench.firedrill(&["run", "scenario.yaml", "scenario.yaml"]).output();
    let twice = twice.expect("the command starts");
    assert_eq!(twice.status.code(), Some(2), "{}", text(&twice));
    assert!(
        text(&twice).contains("small with seed 7 is asked for twice"),
        "{}",
        text(&twice)
    );
    assert!(!bench.path("runs").exists(), "nothing was to be started");
}

#[test]
fn two_seeds_end_with_one_document_and_a_summary_above_them() {
    let bench = Bench::new();
    bench.scenario(&small(TRANSFER));
    let run = bench
        .firedrill(&["run", "scenario.yaml", "--repeat", "2", "--format", "json"])
        .output();
    let run = run.expect("the command starts");
    let document: Value =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", text(&run)));
    assert_eq!(document["exit_code"].as_i64(), run.status.code().map(i64::from));
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(bench.path(name)).expect(name)).expect("JSON") };
    let summary = read("runs/batch-1/summary.json");
    for (index, seed) in [7, 8].into_iter().enumerate() {
        let one = read(&format!("runs/batch-1/small/{seed}/run.json"));
        assert_eq!(document["runs"][index]["run_json"], one);
        assert_eq!(summary["runs"][index]["seed"], seed);
        assert_eq!(summary["runs"][index]["exit_code"], one["exit_code"]);
    }
}

#[test]
fn an_interrupt_ends_the_batch_and_the_summary_says_so() {
    let bench = Bench::new();
    let steps = "  - at: 60s\n    transfer_leader: { shard: 0, to: any_follower }";
    let scenario = bench.scenario(&small(steps));
    let scenario = scenario.to_str().expect("a temporary path is text");
    let mut run = bench.start_with(&["run", scenario, "--repeat", "3", "--out", "out"]);
    run.until("phase disturb");
    kill(Pid::from_raw(run.child.id().cast_signed()), Signal::SIGINT).expect("it is ours");
    assert_eq!(run.wait(), 130);
    let summary: Value =
        serde_json::from_slice(&fs::read(bench.path("out/summary.json")).expect("a summary")).expect("JSON");
    assert_eq!(summary["runs"].as_array().expect("runs").len(), 1, "{summary:#}");
    assert_eq!(
        (&summary["exit_code"], &summary["stopped"]),
        (&130.into(), &"interrupted".into())
    );
}
