//! Every scenario that has to fail fails, for the reason that it names: each deliberately wrong service is caught by its
//! promise. Needs the feature `plants`.

mod common;

use std::{fs, path::Path, time::Duration};

use common::{Bench, text};
use firedrill::{
    base::{Nanos, RunClock},
    plan,
    scenario::{self, Loaded},
    system,
};

/// A negative scenario shows one thing, and does it quickly.
const TOOK_MAX: Duration = Duration::from_secs(60);

fn negative(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scenarios/negative")
        .join(format!("{name}.yaml"));
    scenario::load(&path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// Whether this machine has what it needs of others, such as etcd; says so where it has not. A continuous-integration
/// machine has it, or is set up wrongly.
fn possible(loaded: &Loaded) -> bool {
    let plan = plan::plan(loaded, None, "process").unwrap_or_else(|error| panic!("{error}"));
    let Some(missing) = plan.systems.iter().find_map(system::missing) else {
        return true;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "on a continuous-integration machine: {missing}"
    );
    println!("skipped: {missing}");
    false
}

fn ends_as_it_says(name: &str) {
    let loaded = negative(name);
    let expect = &loaded.scenario.expect;
    let code = expect
        .exit
        .unwrap_or_else(|| panic!("{name} does not say how it has to end"));
    if !possible(&loaded) {
        return;
    }
    let bench = Bench::new();
    let clock = RunClock::start();
    let output = bench.run(&loaded.text);
    let said = text(&output);
    assert!(
        clock.now() <= Nanos::from_duration(TOOK_MAX),
        "{name} took longer than {TOOK_MAX:?}:\n{said}"
    );
    assert_eq!(output.status.code(), Some(i32::from(code)), "{name}:\n{said}");
    if expect.breaks.is_empty() {
        return;
    }
    let json = bench.run_json();
    let broken: Vec<&str> = json["promises"]
        .as_array()
        .expect("promises")
        .iter()
        .filter(|promise| promise["verdict"] == "fail")
        .filter_map(|promise| promise["name"].as_str())
        .collect();
    assert!(
        expect.breaks.iter().any(|name| broken.contains(&name.as_str())),
        "{name} broke {broken:?}:\n{said}"
    );
    let witnessed = json["promises"].as_array().expect("promises").iter().all(|promise| {
        promise["verdict"] != "fail" || promise["witness"].as_str().is_some_and(|witness| !witness.is_empty())
    });
    assert!(witnessed, "a broken promise without a witness: {:#}", json["promises"]);
}

macro_rules! negatives {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { ends_as_it_says($name); })*

        #[test]
        fn every_negative_scenario_is_run_here() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/negative");
            let mut files: Vec<String> = fs::read_dir(folder)
                .expect("the folder is there")
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".yaml").map(str::to_owned))
                .collect();
            files.sort();
            let mut run = vec![$($name),*];
            run.sort_unstable();
            assert_eq!(files, run);
        }
    };
}

negatives! {
    acknowledging_before_it_is_durable_is_caught: "ack-before-durable",
    a_disk_whose_flush_lies_is_caught: "etcd-lying-disk",
    forgetting_after_a_power_loss_is_caught: "forget-after-power-loss",
    delivering_twice_is_caught: "redeliver",
    reordering_is_caught: "reorder",
    reading_what_is_no_longer_so_is_caught: "stale",
    taking_too_many_members_is_caught: "no-limit",
    taking_a_strangers_message_is_caught: "accept-strangers",
    sending_to_who_was_removed_is_caught: "leak-membership",
    telling_what_was_said_before_is_caught: "leak-history",
    missing_the_first_message_after_a_joining_is_caught: "miss-joined",
    telling_somebody_else_is_caught: "cross-leak",
    forgetting_the_senders_own_devices_is_caught: "forget-own-devices",
    counting_unread_messages_wrong_is_caught: "miscount-unread",
    a_receipt_of_what_is_not_there_is_caught: "early-receipt",
    a_ghost_that_is_said_to_be_online_is_caught: "ghost-online",
    showing_less_after_a_log_in_is_caught: "shrink-history",
    a_second_account_for_one_number_is_caught: "double-account",
    a_contact_from_nowhere_is_caught: "phantom-contact",
    serving_what_is_held_no_more_is_caught: "serve-after-removal",
    an_all_clear_that_comes_too_soon_is_caught: "false-all-clear",
    a_budget_that_can_not_be_met_is_exceeded: "impossible-budget",
    a_collapse_that_outlives_its_trigger_is_seen_to_last: "metastable",
    a_steady_state_that_can_not_be_reached_is_inconclusive: "no-steady-state",
}
