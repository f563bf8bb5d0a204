//! What the planner freezes, and what it refuses.

use std::path::Path;

use super::*;
use crate::base::Exit;
use crate::scenario::{self, Loaded};

const SCENARIO: &str = "\
version: 1
name: small
about: A kill, a flap and a transfer.
seed: 42
system: { kind: messaging, nodes: 3, zones: [a, b], shards: 2, login_limit: 90/s, election_timeout: 200ms }
load:
  - send: { users: 50, devices: 2, size: 1KiB }
    rate: { steps: [{ rate: 10/s, for: 5s }, { rate: 20/s, for: 1s }] }
    retry: { attempts: 3, base: 10ms, cap: 1s }
    probe: 20/s
steps:
  - at: 5s
    kill: { leader_of: { shard: 0 } }
    heal_after: 4s
  - at: 6s
    flap: { partition: { all_nodes: true }, on: 4s, off: 3s, times: 5 }
  - when: { event: leader_elected, within: 10s }
    transfer_leader: { shard: 0, to: any_follower }
expect:
  recovery: [\"send.steady < 2s\"]
";

fn read(text: &str) -> Loaded {
    scenario::read("small.yaml", text).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn everything_is_resolved_and_frozen() {
    let plan = plan(&read(SCENARIO), None, "process").unwrap();
    assert_eq!((plan.seed, plan.repeat, plan.drain_within_ms), (42, 1, 30_000));
    let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["1-kill", "2-flap", "3-transfer_leader"]);
    assert_eq!(plan.steps[0].at, Start::At { ms: 5000 });
    assert_eq!(plan.steps[0].heal_after_ms, Some(4000));
    // 6 s, five bursts of 4 s and four gaps of 3 s.
    assert_eq!(plan.steps_end_ms(), 38_000);
    assert_eq!(plan.steady.require[0].text, "send.success >= 99%");
    assert_eq!(plan.loads[0].retry.attempts, 3);
    // It survives being written, in both languages.
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    let yaml = plan.to_yaml().unwrap();
    assert_eq!(serde_saphyr::from_str::<Plan>(&yaml).unwrap(), plan);
}

#[test]
fn the_same_input_gives_the_same_plan_and_a_seed_overrides() {
    let loaded = read(SCENARIO);
    assert_eq!(
        plan(&loaded, Some(7), "process").unwrap(),
        plan(&loaded, Some(7), "process").unwrap()
    );
    assert_eq!(plan(&loaded, Some(7), "process").unwrap().seed, 7);
}

#[test]
fn what_judging_reads_of_the_plan_is_there() {
    let plan = plan(&read(SCENARIO), None, "process").unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    for pointer in [
        "/scenario",
        "/systems/0/name",
        "/systems/0/kind/messaging/nodes",
        "/loads/0/system",
        "/loads/0/class",
        "/steady/require/0",
        "/settle/hold_ms",
        "/expect/recovery/0",
        "/expect/promises",
        "/limits/lag_p99_ms",
        "/limits/shed_ratio",
        "/limits/phase_operations",
        "/steps/0/id",
    ] {
        assert!(json.pointer(pointer).is_some(), "{pointer} in {json}");
    }
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let error = plan(&read(SCENARIO), None, "proces").unwrap_err();
    assert_eq!(error.exit(), Exit::Invalid);
    assert!(error.to_string().contains("did you mean `process`"), "{error}");

    let command = SCENARIO
        .replace(
            "kind: messaging, nodes: 3, zones: [a, b], shards: 2, login_limit: 90/s, election_timeout: 200ms",
            "kind: command, nodes: 3, command: [echo], ready: { tcp: client }, client: tcp",
        )
        .replace("send: { users: 50, devices: 2, size: 1KiB }", "request: {}")
        .replace("{ leader_of: { shard: 0 } }", "leader")
        .replace("send.", "request.")
        .replace(
            "    transfer_leader: { shard: 0, to: any_follower }",
            "    stop: { node: n2 }",
        );
    let error = plan(&read(&command), None, "process").unwrap_err();
    assert_eq!(error.exit(), Exit::Capability);
    assert!(error.to_string().contains("`1-kill` needs observe"), "{error}");
    assert!(
        plan(
            &read(&command.replace("kill: leader", "kill: { node: n1 }")),
            None,
            "process"
        )
        .is_ok()
    );

    let power = command.replace("kill: leader", "power_loss: all");
    let error = plan(&read(&power), None, "process").unwrap_err();
    assert!(error.to_string().contains("volatile_disk"), "{error}");
    let on_disks = power
        .replace("kind: command,", "kind: command, disk: volatile,")
        .replace("[echo]", "[echo, \"{disk}\"]");
    assert_ne!(on_disks, power);
    assert!(plan(&read(&on_disks), None, "process").is_ok());
}

#[test]
fn a_plant_needs_a_build_with_plants() {
    let planted = read(&SCENARIO.replace("shards: 2", "shards: 2, plant: reorder"));
    let planned = plan(&planted, None, "process");
    assert_eq!(planned.is_ok(), cfg!(feature = "plants"));
    if let Err(error) = planned {
        assert_eq!(error.exit(), Exit::Capability);
        assert!(error.to_string().contains("`reorder`"), "{error}");
    }
}

#[test]
fn a_scripted_system_takes_no_faults() {
    let scripted = SCENARIO
        .replace(
            "kind: messaging, nodes: 3, zones: [a, b], shards: 2, login_limit: 90/s, election_timeout: 200ms",
            "kind: scripted, nodes: 1, outages: [{ at: 5s, for: 2s, effect: dead }, { at: 9s, for: 1s, effect: { errors: 0.3 } }, { at: 12s, for: 3s, effect: { flapping: { on: 1s, off: 500ms } } }]",
        )
        .split("\nsteps:")
        .next()
        .unwrap()
        .to_owned();
    let planned = plan(&read(&scripted), None, "process").unwrap();
    assert!(table(&planned).contains("scripted, 3 outage(s)"));
    let faulty = format!("{scripted}\nsteps:\n  - at: 1s\n    kill: {{ node: n1 }}\n");
    let error = plan(&read(&faulty), None, "process").unwrap_err();
    assert!(error.to_string().contains("needs processes"), "{error}");
}

#[test]
fn the_table_shows_the_timeline() {
    let text = table(&plan(&read(SCENARIO), None, "process").unwrap());
    for piece in [
        "messaging, 3 nodes, 2 shards, zones a b, at most 90 log-ins/s",
        "50 accounts x 2 devices = 100 sessions",
        "5s ",
        "1-kill",
        "healed after 4s",
        "ends by itself after 32s",
        "when a leader is elected, within 10s",
        "recovery  send.steady < 2s",
        "promises  all",
    ] {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
}

#[test]
fn every_word_for_a_class_is_one_of_the_historys() {
    for class in crate::base::expr::CLASSES {
        let parsed: crate::history::Class = serde_json::from_value((*class).into()).unwrap();
        assert_eq!(parsed.name(), *class);
    }
}

/// The scenarios that come with the project, from the folder at the top of the repository.
#[test]
fn the_path_of_the_scenario_goes_with_the_plan() {
    let loaded = read(SCENARIO);
    assert_eq!(
        Path::new(&plan(&loaded, None, "process").unwrap().path),
        Path::new("small.yaml")
    );
}

#[test]
fn gateways_are_planned_with_what_the_scenario_leaves_out() {
    let text = SCENARIO.replace(
        "shards: 2,",
        "shards: 2, gateways: 2, discovery: { ttl: 1s, health_rule: on },",
    );
    let plan = plan(&read(&text), None, "process").unwrap();
    let kind = serde_json::to_value(&plan.systems[0].kind).unwrap();
    let expected = serde_json::json!({
        "per_zone": 2, "ttl_ms": 1000, "negative_ttl_ms": 5000, "health_rule": "on", "registry": "digests",
    });
    assert_eq!(kind["messaging"]["gateways"], expected);
    assert!(table(&plan).contains("2 gateways a zone"), "{}", table(&plan));
}
