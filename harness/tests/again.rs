//! A run looked at again: judged from its folder, resolved from its scenario, run once more.

#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::{Bench, small, text};
use serde_json::Value;

const KILL: &str = "  - at: 500ms\n    kill: leader\n    heal_after: 1s";

fn stdout(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", text(output)))
}

/// All that a judgement comes to; what is left out of the comparison is nothing.
#[test]
fn check_agrees_with_run_and_replay_with_the_plan() {
    let bench = Bench::new();
    let run = bench.run(&small(KILL));
    let said = bench.run_json();
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    assert_eq!(said["faults"][0]["outcome"], "installed", "{}", text(&run));

    let check = bench.firedrill(&["check", "out", "--format", "json"]).output();
    let check = check.expect("the command starts");
    assert_eq!(check.status.code(), run.status.code(), "{}", text(&check));
    assert_eq!(stdout(&check), said, "check does not say what run said");

    // From a folder where the scenario's path, as it was given, means nothing.
    let out = bench.path("out");
    let out = out.to_str().expect("a temporary path is text");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let replay = |args: &[&str]| {
        let args: Vec<&str> = ["replay", out].iter().chain(args).copied().collect();
        let mut command = bench.firedrill(&args);
        command
            .current_dir(elsewhere.path())
            .output()
            .expect("the command starts")
    };
    let same = replay(&["--format", "json"]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same));
    let frozen: Value = serde_saphyr::from_str(
        &fs::read_to_string(bench.path("out/scenario.resolved.yaml")).expect("the plan is in the folder"),
    )
    .expect("the plan is YAML");
    assert_eq!(stdout(&same), frozen, "the same plan");

    let again = replay(&["--run", "--out", "again"]);
    assert_eq!(again.status.code(), run.status.code(), "{}", text(&again));
    let json = fs::read(elsewhere.path().join("again/run.json")).expect("it ran");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(
        (&json["seed"], &json["faults"][0]["id"]),
        (&said["seed"], &said["faults"][0]["id"])
    );

    bench.scenario(&small(&KILL.replace("500ms", "600ms")));
    for args in [&[][..], &["--run"][..]] {
        let other = replay(args);
        assert_eq!(other.status.code(), Some(3), "{}", text(&other));
        assert!(
            text(&other).contains("different") && text(&other).contains("600"),
            "{}",
            text(&other)
        );
    }
}
