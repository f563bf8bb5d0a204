//! Over the whole list: names, examples, forms.

use std::collections::BTreeSet;

use super::*;
use crate::backend::Capability;
use crate::target::{Roster, RosterNode};

fn roster() -> Roster {
    let names = ["n1", "n2", "n3"];
    Roster {
        nodes: names
            .iter()
            .map(|name| RosterNode {
                name: (*name).to_owned(),
                zone: "a".to_owned(),
            })
            .collect(),
        groups: [("shard:0".to_owned(), names.iter().map(|n| (*n).to_owned()).collect())].into(),
        ..Roster::default()
    }
}

fn parse(yaml: &str) -> FaultSpec {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn refusal(yaml: &str) -> String {
    parse(yaml).check(&roster()).unwrap_err().to_string()
}

#[test]
fn every_verb_has_its_own_name_and_an_example_that_loads_and_holds() {
    let mut names = BTreeSet::new();
    for info in ALL {
        assert!(names.insert(info.name), "{} twice", info.name);
        let spec = parse(info.example);
        assert_eq!(spec.kind(), info.name);
        assert_eq!(spec.check(&roster()), Ok(()), "{}", info.name);
        assert!(!info.summary.is_empty() && !info.evidence.is_empty());
        assert!(!spec.needs().is_empty(), "{} needs nothing of anybody", info.name);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<FaultSpec>(&json).unwrap(), spec, "{json}");
        assert_eq!(find(info.name).map(|found| found.name), Some(info.name));
    }
    assert!(find("explode").is_none());
}

#[test]
fn needs_follow_targets_and_planes() {
    assert_eq!(
        parse("kill: { node: n1 }").needs(),
        BTreeSet::from([Capability::Processes])
    );
    assert!(parse("kill: leader").needs().contains(&Capability::Observe));
    let both = parse("isolate: { target: all, plane: all }").needs();
    assert!(both.contains(&Capability::Links) && both.contains(&Capability::ClientLinks));
    assert!(
        !parse("isolate: { target: all }")
            .needs()
            .contains(&Capability::ClientLinks)
    );
    assert!(parse("power_loss: all").needs().contains(&Capability::VolatileDisk));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_remedy() {
    for (yaml, word) in [
        ("partition: {}", "exactly one of"),
        (
            "partition: { all_nodes: true, groups: [minority, all] }",
            "exactly one of",
        ),
        ("partition: { groups: [minority] }", "isolate"),
        ("partition: { from: { node: n1 } }", "exactly one of"),
        (
            "partition: { from: { node: n1 }, to: { node: n2 }, plane: client }",
            "isolate",
        ),
        ("partition: { groups: [{ node: n7 }, all] }", "the nodes are n1, n2, n3"),
        (
            "delay: { from: all, to: all, delay: 0s, jitter: 1s }",
            "can not be proven",
        ),
        ("delay: { from: all, to: all, delay: 2m }", "partition"),
        (
            "flap: { partition: { all_nodes: true }, on: 0s, off: 1s, times: 2 }",
            "on: 0s",
        ),
        (
            "flap: { partition: { all_nodes: true }, on: 1s, off: 1s, times: 0 }",
            "times: 0",
        ),
        ("transfer_leader: { shard: 9, to: any_follower }", "no shard 9"),
        ("kill: { zone: mars }", "no zone `mars`"),
        ("load: { x: 0 }", "more than 0"),
        ("load: { x: 101 }", "at most 100"),
        ("load: { x: .nan }", "more than 0"),
        ("relaunch: { share: 1.5 }", "at most 1"),
    ] {
        let text = refusal(yaml);
        assert!(text.contains(word), "{yaml}: {text}");
    }
}

#[test]
fn a_flap_knows_how_long_it_lasts() {
    let FaultSpec::Flap(flap) = parse("flap: { partition: { all_nodes: true }, on: 4s, off: 3s, times: 5 }") else {
        panic!("not a flap")
    };
    assert_eq!(flap.lasts_ms(), 32_000);
}
