//! The half of the command that executes nothing, as a script sees it: output and exit codes.

use std::path::Path;
use std::process::{Command, Output};

fn firedrill(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firedrill"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the command runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a scenario `good.yaml`.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let made = firedrill(dir.path(), &["new", "good"]);
    assert_eq!(code(&made), 0, "{}", err(&made));
    dir
}

#[test]
fn a_new_scenario_is_valid_and_plans() {
    let dir = folder();
    let valid = firedrill(dir.path(), &["validate", "good.yaml"]);
    assert_eq!((code(&valid), out(&valid).as_str()), (0, "ok      good.yaml good\n"));
    let plan = firedrill(dir.path(), &["plan", "good.yaml", "--seed", "9", "--format", "json"]);
    assert_eq!(code(&plan), 0, "{}", err(&plan));
    let plan: serde_json::Value = serde_json::from_str(&out(&plan)).expect("JSON");
    assert_eq!(
        (plan["seed"].as_u64(), plan["steps"][0]["id"].as_str()),
        (Some(9), Some("1-kill"))
    );
    // The same again gives the same bytes.
    let twice = [0, 1].map(|_| out(&firedrill(dir.path(), &["plan", "good.yaml", "--format", "json"])));
    assert_eq!(twice[0], twice[1]);
    let again = firedrill(dir.path(), &["new", "good"]);
    assert_eq!(code(&again), 2, "a file is never overwritten");
}

#[test]
fn bad_files_end_with_3_and_their_place() {
    let dir = folder();
    let good = std::fs::read_to_string(dir.path().join("good.yaml")).expect("it was written");
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for (name, text, says) in [
        (
            "key.yaml",
            good.replace("heal_after", "heel_after"),
            "did you mean `heal_after`",
        ),
        ("target.yaml", good.replace("shard: 0", "shard: 44"), "shard 44"),
        (
            "node.yaml",
            good.replace("{ leader_of: { shard: 0 } }", "{ node: n9 }"),
            "`n9`",
        ),
        ("bomb.yaml", bomb.to_owned(), "aliases"),
        ("noise.yaml", "\u{7f}\u{1}%&*[[{{".to_owned(), "noise.yaml:1:"),
    ] {
        std::fs::write(dir.path().join(name), text).expect("a file");
        let result = firedrill(dir.path(), &["validate", name]);
        assert_eq!(code(&result), 3, "{name}");
        assert!(err(&result).contains(says), "{name}: {}", err(&result));
        assert!(err(&result).contains(&format!("{name}:")), "{name}: {}", err(&result));
        assert_eq!(
            code(&firedrill(dir.path(), &["plan", name])),
            3,
            "{name}: nothing is planned either"
        );
    }
    let annotated = firedrill(dir.path(), &["validate", "--format", "github", "key.yaml", "good.yaml"]);
    assert_eq!(code(&annotated), 3);
    assert!(
        out(&annotated).starts_with("::error file=key.yaml,line="),
        "{}",
        out(&annotated)
    );
    let json = firedrill(dir.path(), &["validate", "--format", "json", "."]);
    let json: serde_json::Value = serde_json::from_str(&out(&json)).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(6));
    assert_eq!(code(&firedrill(dir.path(), &["validate", "missing.yaml"])), 3);
}

#[test]
fn what_this_build_can_not_do_ends_with_4_by_name() {
    let dir = folder();
    let path = dir.path().join("good.yaml");
    let good = std::fs::read_to_string(&path).expect("it was written");
    std::fs::write(&path, good.replace("shards: 4", "shards: 4, plant: reorder")).expect("a file");
    let plan = firedrill(dir.path(), &["plan", "good.yaml"]);
    assert_eq!(code(&plan), if cfg!(feature = "plants") { 0 } else { 4 });
    assert!(
        cfg!(feature = "plants") || err(&plan).contains("`reorder`"),
        "{}",
        err(&plan)
    );
    let backend = firedrill(dir.path(), &["plan", "good.yaml", "--backend", "docker"]);
    assert_ne!(code(&backend), 0);
    assert!(err(&backend).contains("docker"), "{}", err(&backend));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_a_hint() {
    let dir = folder();
    for (args, says) in [
        (vec!["validat"], "validate"),
        (vec!["list", "fault"], "faults"),
        (vec!["explain", "partitoin"], "did you mean `partition`"),
        (vec!["new", "Not A Name"], "lower-case"),
        (vec!["list", "scenarios"], "--folder"),
    ] {
        let result = firedrill(dir.path(), &args);
        assert_eq!(code(&result), 2, "{args:?}");
        assert!(err(&result).contains(says), "{args:?}: {}", err(&result));
    }
    for args in [vec!["--help"], vec!["--version"], vec!["plan", "--help"]] {
        assert_eq!(code(&firedrill(dir.path(), &args)), 0, "{args:?}");
    }
}

#[test]
fn what_is_generated_from_the_command_line_is_whole() {
    let dir = folder();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            out(&firedrill(dir.path(), &["completions", shell])).contains("validate"),
            "{shell}"
        );
    }
    assert!(out(&firedrill(dir.path(), &["man"])).contains("firedrill"));
    assert_eq!(code(&firedrill(dir.path(), &["man", "--dir", "pages"])), 0);
    assert!(dir.path().join("pages/firedrill-plan.1").is_file());
    let schema: serde_json::Value =
        serde_json::from_str(&out(&firedrill(dir.path(), &["schema"]))).expect("the schema is JSON");
    assert_eq!(schema["title"], "firedrill scenario");
    for what in ["faults", "targets", "systems", "backends", "promises"] {
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&out(&firedrill(dir.path(), &["list", what, "--format", "json"]))).expect("JSON");
        assert!(!rows.is_empty(), "{what}");
        let name = rows[0]["name"].as_str().expect("a name");
        assert_eq!(code(&firedrill(dir.path(), &["explain", name])), 0, "{name}");
    }
}
