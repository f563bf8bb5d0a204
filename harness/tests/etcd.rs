//! A real etcd under the command: three nodes, the leader killed three times. Skipped by name where there is no etcd.

mod common;

use std::process::Command;

use common::{Bench, text};

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
    format!("{head}\nsteps:\n{kills}\nsettle:{tail}")
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
