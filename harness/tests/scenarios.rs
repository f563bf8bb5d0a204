//! The scenarios that come with the project, and what is generated from the scenario format.
//!
//! To write generated files anew: `UPDATE_GENERATED=1 cargo test -p firedrill --test scenarios`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firedrill::plan::{self, PlanError};
use firedrill::scenario::{self, DiskKind, Loaded};
use firedrill::{check, fault};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

/// All scenarios by their path under `scenarios/`.
fn all() -> BTreeMap<String, Loaded> {
    let folder = root().join("scenarios");
    let mut files = Vec::new();
    walk(&folder, &mut files);
    let loaded = files.into_iter().map(|path| {
        let loaded = scenario::load(&path).unwrap_or_else(|error| panic!("{}", error.render(false)));
        let name = path
            .strip_prefix(&folder)
            .expect("it lies under the folder")
            .display()
            .to_string();
        (name, loaded)
    });
    loaded.collect()
}

fn of(group: &str) -> Vec<(String, Loaded)> {
    let found: Vec<_> = all()
        .into_iter()
        .filter(|(path, _)| path.starts_with(&format!("{group}/")))
        .collect();
    assert!(!found.is_empty(), "there are scenarios in {group}/");
    found
}

#[test]
fn every_scenario_plans() {
    for (path, loaded) in all() {
        match plan::plan(&loaded, None, "process") {
            Ok(plan) => assert!(!plan::table(&plan).is_empty()),
            Err(PlanError::Capability(why)) => {
                assert!(why.contains("plants") && !cfg!(feature = "plants"), "{path}: {why}")
            }
            Err(PlanError::Invalid(why)) => panic!("{path}: {why}"),
        }
    }
}

#[test]
fn a_scenario_is_called_as_its_file() {
    let mut names = BTreeSet::new();
    for (path, loaded) in all() {
        let stem = Path::new(&path)
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        assert_eq!(loaded.scenario.name.as_str(), stem, "{path}");
        assert!(names.insert(stem), "{path}: the name is taken");
    }
}

#[test]
fn every_scenario_satisfies_the_schema_and_a_wrong_one_does_not() {
    let schema = jsonschema::validator_for(&scenario::schema()).expect("the schema is one");
    for (path, loaded) in all() {
        let value: serde_json::Value = serde_saphyr::from_str(&loaded.text).expect("it has been read before");
        let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:?}");
        // The schema is as strict as the reader.
        for (pointer, wrong) in [
            ("/version", serde_json::json!(2)),
            ("/load/0/rate", serde_json::json!(300)),
            ("/system/nodes", serde_json::json!("three")),
            ("/steps/0/at", serde_json::json!("soon")),
        ] {
            let mut value = value.clone();
            *value
                .pointer_mut(pointer)
                .unwrap_or_else(|| panic!("{path} has {pointer}")) = wrong;
            assert!(!schema.is_valid(&value), "{path}: {pointer}");
        }
        let mut unknown = value.clone();
        unknown["steps"][0]["heel_after"] = "1s".into();
        assert!(!schema.is_valid(&unknown), "{path}: an unknown key");
        let mut two = value.clone();
        for verb in ["kill", "stop"] {
            two["steps"][0][verb] = "all".into();
        }
        assert!(!schema.is_valid(&two), "{path}: several verbs");
    }
}

#[test]
fn generated_files_are_up_to_date() {
    let reference = std::process::Command::new(env!("CARGO_BIN_EXE_firedrill"))
        .args(["schema", "--markdown"])
        .output()
        .expect("the command runs");
    assert!(reference.status.success());
    let reference = String::from_utf8(reference.stdout).expect("it writes UTF-8");
    for (path, text) in [
        ("scenarios/scenario.schema.json", scenario::schema_text()),
        ("docs/scenarios.md", reference),
    ] {
        let file = root().join(path);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&file, &text).expect("the repository can be written");
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == text,
            "{path} is not what the definitions say; run UPDATE_GENERATED=1 cargo test -p firedrill --test scenarios"
        );
    }
}

/// Parts of a file whose numbers are not claims about the world.
const NO_CLAIMS: &[&str] = &["version", "seed", "repeat", "provenance", "ratios", "claims", "expect"];

#[test]
fn every_number_of_a_documented_outage_says_where_it_comes_from() {
    for (path, loaded) in of("outages") {
        let scenario = &loaded.scenario;
        let value: serde_json::Value = serde_saphyr::from_str(&loaded.text).expect("it has been read before");
        let known: Vec<&String> = scenario.provenance.iter().flat_map(|entry| &entry.of).collect();
        for number in scenario::numbers(&value) {
            let exempt = NO_CLAIMS.iter().any(|part| scenario::covers(part, &number));
            let said = known.iter().any(|of| scenario::covers(of, &number));
            assert!(exempt || said, "{path}: where does `{number}` come from?");
        }
        assert!(scenario.story.is_some(), "{path} tells what happened");
        assert!(
            scenario.claims.as_ref().is_some_and(|claims| !claims.now.is_empty()),
            "{path} says what it claims"
        );
        assert!(scenario.ratios.is_some(), "{path} keeps or waives the seven ratios");
    }
}

#[test]
fn the_sizes_of_2014_are_kept() {
    let all = all();
    let loaded = &all["outages/whatsapp-2014-vlan.yaml"];
    let plan = plan::plan(loaded, None, "process").expect("it plans");
    // k = 210: 210 minutes are 60 seconds, after 20 of steady state, within 120 seconds in all.
    assert_eq!(plan.steps_end_ms(), 60_000);
    assert_eq!(plan.steady.for_ms, 20_000);
    let longest = plan.steady.within_ms + plan.steps_end_ms() + plan.settle.within_ms + plan.drain_within_ms;
    assert!(
        longest <= 115_000,
        "{longest} ms leave too little of 120 s to start and to judge"
    );
    // Clients to log-in capacity, relative to the outage: 639 s of 12600 s.
    let send = loaded.scenario.load[0].send.as_ref().expect("people send");
    let sessions = f64::from(send.users * send.devices);
    let limit = loaded
        .scenario
        .system
        .as_ref()
        .and_then(|system| system.login_limit)
        .expect("log-ins are limited");
    let ratio = sessions / limit.per_s() / 60.0;
    assert!((ratio / (639.0 / 12_600.0) - 1.0).abs() < 0.01, "{ratio}");
    // Bursts enough to count as five installed faults and more.
    let fault::FaultSpec::Flap(flap) = &plan.steps[0].fault else {
        panic!("the network flaps")
    };
    assert!(flap.times >= 5 && flap.off.as_millis() > plan.settle.hold_ms);
}

#[test]
fn a_scenario_that_must_fail_says_how() {
    for (path, loaded) in of("negative") {
        let expect = &loaded.scenario.expect;
        let code = expect.exit.unwrap_or_else(|| panic!("{path} says its exit code"));
        assert!([5, 6, 7].contains(&code), "{path}: {code}");
        assert_eq!(
            code == 7,
            !expect.breaks.is_empty(),
            "{path}: a broken promise is named"
        );
        for name in &expect.breaks {
            assert!(check::promise_named(name).is_some(), "{path}: {name}");
        }
        let planted = loaded
            .scenario
            .system
            .as_ref()
            .is_some_and(|system| system.plant.is_some() || system.disk == Some(DiskKind::Lying));
        assert_eq!(
            code == 7,
            planted,
            "{path}: only a plant or a disk that lies breaks a promise"
        );
    }
}

#[test]
fn every_fault_has_a_scenario() {
    let used: BTreeSet<&str> = all()
        .values()
        .flat_map(|loaded| &loaded.scenario.steps)
        .map(|step| step.fault.kind())
        .collect();
    let unused: Vec<&str> = fault::ALL
        .iter()
        .map(|verb| verb.name)
        .filter(|verb| !used.contains(verb))
        .collect();
    assert!(unused.is_empty(), "no scenario uses {unused:?}");
}

#[cfg(feature = "plants")]
#[test]
fn the_plants_are_those_of_the_service() {
    let of_the_page = target_service::edge::PAGE_PLANT;
    for (name, _) in scenario::PLANTS {
        let known = target_service::node::Plant::named(name).is_some() || *name == of_the_page;
        assert!(known, "{name}");
    }
    assert_eq!(scenario::PLANTS.len(), target_service::node::Plant::ALL.len() + 1);
}
