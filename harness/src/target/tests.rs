use super::*;
use crate::base::Streams;
use crate::history::GroupStatus;

fn roster(nodes: usize) -> Roster {
    let names: Vec<NodeName> = (1..=nodes).map(|n| format!("n{n}")).collect();
    Roster {
        nodes: names
            .iter()
            .enumerate()
            .map(|(i, name)| RosterNode {
                name: name.clone(),
                zone: if i % 2 == 0 { "a" } else { "b" }.to_owned(),
            })
            .collect(),
        groups: (0..3)
            .map(|shard| (group_of(shard), names.iter().cloned().collect()))
            .collect(),
        gateways: gateway_names(&["a".to_owned()], 2)
            .into_iter()
            .map(|(name, zone)| RosterNode { name, zone })
            .collect(),
    }
}

#[test]
fn a_gateway_is_found_by_its_name_and_is_in_no_other_target() {
    let gateway = |name: &str| pick(&Target::Gateway(name.to_owned()), 3, &Observations::new());
    assert_eq!(gateway("gw-a-2"), Ok(vec!["gw-a-2".to_owned()]));
    let error = gateway("gw-b-1").unwrap_err();
    assert!(
        error.is_static() && error.to_string().contains("gw-a-1, gw-a-2"),
        "{error}"
    );
    let all = pick(&Target::All, 3, &Observations::new()).unwrap();
    assert!(all.iter().all(|name| name.starts_with('n')), "{all:?}");
}

#[test]
fn gateways_are_called_after_their_zones() {
    let names = |zones: &[&str]| -> Vec<String> {
        let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
        let named = gateway_names(&zones, 2).into_iter();
        named.map(|(name, zone)| format!("{name} in {zone}")).collect()
    };
    assert_eq!(names(&[]), ["gw-1 in ", "gw-2 in "]);
    assert_eq!(
        names(&["a", "b"]),
        ["gw-a-1 in a", "gw-a-2 in a", "gw-b-1 in b", "gw-b-2 in b"]
    );
}

/// `leads[i]` leads shard i in the given term.
fn seen(leads: &[(&str, u64)]) -> Observations {
    let mut seen = Observations::new();
    for (shard, (node, term)) in (0..).zip(leads) {
        seen.entry((*node).to_owned()).or_default().groups.push(GroupStatus {
            group: group_of(shard),
            leader: true,
            term: *term,
            ..GroupStatus::default()
        });
    }
    seen
}

fn pick(target: &Target, nodes: usize, seen: &Observations) -> Result<Vec<NodeName>, TargetError> {
    resolve(target, &roster(nodes), seen, &mut Streams::new(1).stream("t"))
}

#[test]
fn leaders_are_asked_of_the_system() {
    let seen = seen(&[("n2", 4), ("n3", 4), ("n3", 4)]);
    assert_eq!(pick(&Target::Leader, 3, &seen).unwrap(), ["n3"]);
    assert_eq!(
        pick(&Target::LeaderOf(ShardRef { shard: 0 }), 3, &seen).unwrap(),
        ["n2"]
    );
    assert_eq!(
        pick(&Target::FollowersOf(ShardRef { shard: 0 }), 3, &seen).unwrap(),
        ["n1", "n3"]
    );
    let follower = pick(&Target::AnyFollower, 3, &seen).unwrap();
    assert!(follower == ["n1"] || follower == ["n2"]);
}

#[test]
fn a_stale_leader_loses_to_the_higher_term() {
    let mut seen = seen(&[("n1", 4)]);
    seen.extend(self::seen(&[("n2", 5)]));
    assert_eq!(pick(&Target::Leader, 3, &seen).unwrap(), ["n2"]);
}

#[test]
fn parts_hold_the_leader_and_have_the_right_size() {
    let seen = seen(&[("n4", 1), ("n4", 1), ("n4", 1)]);
    for (nodes, minority, majority) in [(4, 1, 3), (5, 2, 3), (7, 3, 4)] {
        let small = pick(&Target::Minority, nodes, &seen).unwrap();
        let large = pick(&Target::Majority, nodes, &seen).unwrap();
        assert_eq!((small.len(), large.len()), (minority, majority));
        assert!(small.contains(&"n4".to_owned()) && large.contains(&"n4".to_owned()));
    }
}

#[test]
fn nobody_leads_is_not_a_mistake_of_the_scenario() {
    let none = Observations::new();
    assert!(!pick(&Target::Leader, 3, &none).unwrap_err().is_static());
    assert_eq!(pick(&Target::Majority, 3, &none).unwrap().len(), 2);
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let none = Observations::new();
    for (target, word) in [
        (Target::Node("n9".into()), "n9"),
        (Target::Zone("mars".into()), "mars"),
        (Target::LeaderOf(ShardRef { shard: 77 }), "77"),
        (Target::Random(0), "random: 0"),
        (Target::Random(4), "random: 4"),
        (Target::Nodes(vec![]), "nodes"),
    ] {
        let error = pick(&target, 3, &none).unwrap_err();
        assert!(error.is_static() && error.to_string().contains(word), "{error}");
    }
    assert!(check(&Target::Minority, &roster(2)).is_err());
}

#[test]
fn random_is_seeded_and_distinct() {
    let none = Observations::new();
    let one = pick(&Target::Random(3), 5, &none).unwrap();
    assert_eq!(one, pick(&Target::Random(3), 5, &none).unwrap());
    assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(pick(&Target::Zone("b".into()), 5, &none).unwrap(), ["n2", "n4"]);
}

#[test]
fn every_documented_target_parses_and_is_listed_once() {
    let mut names = BTreeSet::new();
    for info in ALL {
        let target: Target = serde_saphyr::from_str(info.example).unwrap();
        let json = serde_json::to_value(&target).unwrap();
        let name = json.as_str().map_or_else(
            || json.as_object().unwrap().keys().next().unwrap().clone(),
            str::to_owned,
        );
        assert_eq!(name, info.name);
        assert_eq!(needs_observation(&target), info.needs_observation, "{name}");
        assert!(names.insert(info.name));
    }
    assert_eq!(names.len(), 12);
}
