//! What is refused before anything starts, with which exit code and which words.

mod common;

use common::{Bench, small, text};

fn refused(yaml: &str, code: i32, words: &[&str]) {
    let bench = Bench::new();
    let output = bench.run(yaml);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    assert!(
        !bench.path("out").exists(),
        "nothing was to be started, and a folder was made"
    );
}

#[test]
fn a_misspelt_key_is_shown_at_its_line_and_column() {
    let yaml = small("  - at: 1s\n    kill: leader\n    heal_aftr: 2s");
    refused(&yaml, 3, &["scenario.yaml:13:5", "heal_aftr", "heal_after"]);
}

#[test]
fn an_alias_bomb_is_refused_and_not_expanded() {
    let mut yaml = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (one, next) in ('a'..'i').zip('b'..) {
        yaml.push_str(&format!(
            "{next}: &{next} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
        ));
    }
    refused(&yaml, 3, &["scenario.yaml:"]);
}

#[test]
fn noise_is_refused() {
    refused("\u{1}\u{2}\u{fffd}{{{[[[:::- - -\n\t%%%", 3, &["scenario.yaml"]);
}

#[test]
fn an_unknown_target_is_refused_by_name() {
    refused(
        &small("  - at: 1s\n    kill: { node: n9 }\n    heal_after: 1s"),
        3,
        &["n9", "n1"],
    );
}

#[cfg(not(feature = "plants"))]
#[test]
fn a_plant_is_refused_by_a_build_without_plants() {
    let yaml = small("  []")
        .replace("shards: 2", "shards: 2, plant: redeliver")
        .replace("steps:\n  []", "steps: []");
    refused(&yaml, 4, &["redeliver", "plants"]);
}

#[test]
fn a_missing_file_and_a_wrong_flag_are_mistakes_of_usage() {
    let bench = Bench::new();
    let missing = bench
        .firedrill(&["run", "nowhere.yaml"])
        .output()
        .expect("the command starts");
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing));
    assert!(text(&missing).contains("nowhere.yaml"));
    let flag = bench
        .firedrill(&["run", "--sede", "1"])
        .output()
        .expect("the command starts");
    assert_eq!(flag.status.code(), Some(2), "{}", text(&flag));
    assert!(text(&flag).contains("--seed"), "the flag that was meant is named");
}
