//! Two hundred schedules of everything going wrong, and the proof that a seed is a run.
//!
//! Thousands of them, on all cores and resumable: `cargo run --release -p target-service --example seeds -- --seeds 5000`.
//! With a plant, in a build that has them: `SIM_PLANT=serve-after-removal`.
//! One seed alone, with its trace in a file:
//! `SIM_SEED=17 SIM_TRACE=trace.txt cargo test -p target-service --test sim_schedules chosen_seeds -- --nocapture`

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use target_service::sim::{Outcome, SimOptions, simulate};

const REPRODUCE: &str = "cargo test -p target-service --test sim_schedules chosen_seeds -- --nocapture";

fn complain(seed: u64, outcome: &Outcome) -> String {
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    format!(
        "seed {seed} broke {} promises:\n{}\nreproduce: SIM_SEED={seed} {REPRODUCE}",
        violations.len(),
        violations.join("\n")
    )
}

/// Runs a slice of the seeds. Slices are tests of their own, so that they run beside each other.
fn slice(first: u64) {
    let mut acts: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut acknowledged, mut delivered, mut elections) = (0, 0, 0);
    let (mut changes, mut notices, mut opens) = (0, 0, (0, 0));
    let (mut stale, mut first_version) = (0, 0);
    for seed in (first..200).step_by(4) {
        let outcome = simulate(&SimOptions::from_seed(seed)).unwrap();
        assert!(outcome.violations.is_empty(), "{}", complain(seed, &outcome));
        assert!(
            outcome.acknowledged > 0 && outcome.delivered > 0,
            "seed {seed} exercised nothing"
        );
        for (kind, count) in outcome.acts {
            *acts.entry(kind).or_default() += count;
        }
        acknowledged += outcome.acknowledged;
        delivered += outcome.delivered;
        elections += outcome.elections;
        changes += outcome.changes;
        notices += outcome.notices;
        opens = (opens.0 + outcome.opens.0, opens.1 + outcome.opens.1);
        stale += outcome.stale_routes.0;
        first_version += outcome.boots.0;
    }
    // A pass of schedules in which nothing happened would say nothing.
    assert_eq!(acts.len(), 16, "every kind of fault took hold: {acts:?}");
    assert!(acts.values().all(|count| *count >= 2), "{acts:?}");
    assert!(
        acknowledged > 3000 && delivered > 6000 && elections > 200,
        "{acknowledged} {delivered} {elections}"
    );
    assert!(
        changes > 300 && notices > 1000 && opens.0 > 20 && opens.1 > 0,
        "groups, receipts, contacts and opening were exercised: {changes} {notices} {opens:?}"
    );
    assert!(
        stale > 0 && first_version > 20,
        "routes went stale and clients followed, and versions were mixed: {stale} {first_version}"
    );
}

#[test]
fn schedules_0_of_4() {
    slice(0);
}

#[test]
fn schedules_1_of_4() {
    slice(1);
}

#[test]
fn schedules_2_of_4() {
    slice(2);
}

#[test]
fn schedules_3_of_4() {
    slice(3);
}

/// The seeds that the environment names: `17`, or `200..1000`.
fn chosen() -> std::ops::Range<u64> {
    let Ok(text) = env::var("SIM_SEED") else { return 0..1 };
    let number = |text: &str| {
        text.parse::<u64>()
            .expect("SIM_SEED is a number, or two with .. between them")
    };
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

/// The seeds of your choice; also what the comparison below runs in processes of their own.
#[test]
fn chosen_seeds() {
    let trace = env::var_os("SIM_TRACE");
    for seed in chosen() {
        let mut options = SimOptions::from_seed(seed);
        options.thread_rng = env::var("SIM_PLANT").is_ok_and(|plant| plant == "thread-rng");
        options.plant = env::var("SIM_PLANT")
            .ok()
            .and_then(|plant| target_service::node::Plant::named(&plant));
        options.keep_lines = trace.is_some();
        let outcome = simulate(&options).unwrap();
        println!(
            "seed {seed}: {} acknowledged, {} delivered, {} changes of groups, {} notices, opened {:?}, {} elections, {} events, converged after {:?}, {:?}",
            outcome.acknowledged,
            outcome.delivered,
            outcome.changes,
            outcome.notices,
            outcome.opens,
            outcome.elections,
            outcome.trace.1,
            outcome.converged.unwrap_or_default(),
            outcome.acts
        );
        if let Some(path) = &trace {
            fs::write(path, outcome.trace.2.join("\n")).unwrap();
        }
        assert!(outcome.violations.is_empty(), "{}", complain(seed, &outcome));
    }
}

/// The trace of a seed, from a process of its own.
fn trace_of(seed: u64, plant: Option<&str>, file: &Path) -> Vec<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "chosen_seeds"])
        .env("SIM_SEED", seed.to_string())
        .env("SIM_TRACE", file)
        .env_remove("SIM_PLANT");
    if let Some(plant) = plant {
        command.env("SIM_PLANT", plant);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The first line in which two traces differ.
fn difference(a: &[String], b: &[String]) -> Option<String> {
    let end = "(the end)".to_owned();
    let at = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i))?;
    let (a, b) = (a.get(at).unwrap_or(&end), b.get(at).unwrap_or(&end));
    Some(format!("event {at} is\n{a}\nthen\n{b}"))
}

#[test]
fn a_seed_is_a_run_and_foreign_randomness_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    for seed in [3, 7] {
        let first = trace_of(seed, None, &file);
        assert!(first.len() > 1000, "{} events", first.len());
        let differs = difference(&first, &trace_of(seed, None, &file));
        assert!(differs.is_none(), "seed {seed}: {}", differs.unwrap_or_default());
    }
    let planted = [(); 2].map(|()| trace_of(3, Some("thread-rng"), &file));
    assert!(
        difference(&planted[0], &planted[1]).is_some(),
        "a thread's randomness went unnoticed"
    );
}

/// The first of the seeds that sees one of `promises` broken when `break_it` is in force, and how.
fn caught(promises: &[&str], break_it: impl Fn(&mut SimOptions)) -> Option<(u64, String)> {
    (0..40).find_map(|seed| {
        let mut options = SimOptions::from_seed(seed);
        break_it(&mut options);
        let violations = simulate(&options).unwrap().violations;
        let named = violations.iter().find(|v| promises.contains(&v.promise));
        named.map(|v| (seed, v.to_string()))
    })
}

#[test]
fn disks_that_lie_are_caught() {
    let promises = ["nothing acknowledged is lost", "committed for ever", "logs survive"];
    let found = caught(&promises, |options| options.lying_disks = true);
    assert!(found.is_some(), "power losses with lying disks went unnoticed");
}

/// The order within a turn: only a power loss in its middle tells it.
#[cfg(feature = "plants")]
#[test]
fn promises_before_the_sync_are_caught() {
    let found = caught(&["promises are kept"], |options| options.promises_early = true);
    println!("{found:?}");
    assert!(found.is_some(), "promises that a power loss forgot went unnoticed");
}

#[cfg(feature = "plants")]
#[test]
fn every_plant_is_caught() {
    use target_service::node::Plant;
    for plant in Plant::ALL.iter().copied() {
        let promises = match plant {
            Plant::NoLimit => ["groups have a limit"],
            Plant::LeakMembership => ["only members hear"],
            Plant::LeakHistory => ["history begins with the joining"],
            Plant::MissJoined => ["nothing missed after joining"],
            Plant::AcceptStrangers => ["strangers stay outside"],
            Plant::PhantomContact => ["no phantom contact"],
            Plant::MiscountUnread => ["unread is what was not read"],
            Plant::EarlyReceipt => ["no receipt before its delivery"],
            Plant::DoubleAccount => ["one id a phone"],
            Plant::CrossLeak => ["nobody else's"],
            Plant::ForgetOwnDevices => ["own devices keep up"],
            Plant::AckBeforeDurable => ["nothing acknowledged is lost"],
            Plant::ForgetAfterPowerLoss => ["committed for ever"],
            Plant::Redeliver => ["delivered once"],
            Plant::Reorder => ["delivered in order"],
            Plant::DropDelivery => ["everything is delivered"],
            Plant::Corrupt => ["nothing invented"],
            Plant::DupStore => ["exactly once"],
            // The simulation reads logs and lists when all is healed, and asks nobody who is there. The service's own tests
            // and a scenario for each see these.
            Plant::Stale | Plant::ShrinkHistory | Plant::GhostOnline => continue,
            // It keeps what the map says is gone, and the holders never become those of the map.
            Plant::ServeAfterRemoval => ["liveness"],
            // The replica that was given the snapshot; a repeated send at it is another matter of the same cause.
            Plant::ForgetDedup => ["replicas agree"],
        };
        let found = caught(&promises, |options| options.plant = Some(plant));
        println!("{plant:?}: {found:?}");
        assert!(found.is_some(), "{plant:?} went unnoticed");
    }
}
