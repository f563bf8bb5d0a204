//! The reader as a whole: what it takes, and where and how it refuses.

use proptest::prelude::*;

use super::*;

const GOOD: &str = "\
version: 1
name: leader-kill-under-load
about: A killed leader is replaced, and no acknowledged message is lost.
seed: 42
system: { kind: messaging, nodes: 3, zones: [a, b, c], shards: 4 }
load:
  - send: { users: 500, size: 256B }
    rate: 300/s
steady_state: { for: 3s, within: 30s, require: [\"send.success >= 99.9%\", \"send.p99 < 50ms\"] }
steps:
  - at: 5s
    kill: { leader_of: { shard: 0 } }
    heal_after: 4s
  - when: { event: leader_elected, within: 10s }
    transfer_leader: { shard: 0, to: any_follower }
expect:
  recovery: [\"send.steady < 2s\", \"deliver.drained < 5s\"]
  promises: all
repeat: 5
";

/// Reads `GOOD` with one piece replaced.
fn with(piece: &str, replacement: &str) -> Result<Loaded, ScenarioError> {
    assert!(GOOD.contains(piece), "{piece} is in the good scenario");
    read("s.yaml", &GOOD.replacen(piece, replacement, 1))
}

#[test]
fn a_good_file_reads() {
    let loaded = read("s.yaml", GOOD).unwrap_or_else(|error| panic!("{}", error.render(false)));
    let scenario = loaded.scenario;
    assert_eq!(scenario.name.as_str(), "leader-kill-under-load");
    assert_eq!(scenario.fault_ids(), ["1-kill", "2-transfer_leader"]);
    assert_eq!(scenario.steps[0].heal_after.unwrap().as_millis(), 4000);
    assert_eq!(scenario.load[0].send.as_ref().unwrap().devices, 1);
    // What is written can be read again.
    let again: Scenario = serde_json::from_value(serde_json::to_value(&scenario).unwrap()).unwrap();
    assert_eq!(again, scenario);
}

/// (piece of the good file, replacement, line, column, what the message holds)
const WRONG: &[(&str, &str, u64, u64, &[&str])] = &[
    (
        "    heal_after: 4s",
        "    heal-after: 4s",
        13,
        5,
        &["`heal-after`", "did you mean `heal_after`?"],
    ),
    (
        "    heal_after: 4s",
        "    heal_after: 4",
        13,
        17,
        &["`4`", "500ms, 2s or 1m"],
    ),
    (
        "    heal_after: 4s",
        "    stop: all",
        13,
        5,
        &["`kill`", "`stop`", "two steps"],
    ),
    (
        "    kill: { leader_of: { shard: 0 } }\n",
        "",
        11,
        5,
        &["exactly one verb", "partition"],
    ),
    (
        "kill: { leader_of: { shard: 0 } }",
        "kil: { leader_of: { shard: 0 } }",
        12,
        5,
        &["`kil`", "did you mean `kill`?"],
    ),
    (
        "kill: { leader_of: { shard: 0 } }",
        "kill: { leader_off: { shard: 0 } }",
        12,
        13,
        &["`leader_off`", "did you mean `leader_of`?"],
    ),
    (
        "kill: { leader_of: { shard: 0 } }",
        "kill: { leader_of: { shard: 9 } }",
        12,
        11,
        &["shard 9"],
    ),
    (
        "kill: { leader_of: { shard: 0 } }",
        "kill: { node: n7 }",
        12,
        11,
        &["`n7`", "n1, n2, n3"],
    ),
    (
        "kill: { leader_of: { shard: 0 } }",
        "kill: { zone: europe }",
        12,
        11,
        &["`europe`", "a, b, c"],
    ),
    ("  - at: 5s\n    kill", "  - kill", 11, 5, &["needs a time", "at: 5s"]),
    ("seed: 42", "seed: 42\nseed: 43", 5, 1, &["`seed`", "twice"]),
    ("seed: 42", "sead: 42", 4, 1, &["`sead`", "did you mean `seed`?"]),
    ("seed: 42", "seed: -1", 4, 7, &[]),
    ("version: 1", "version: 2", 1, 10, &["version 2", "version 1"]),
    ("name: leader", "name: Leader", 2, 7, &["lower-case"]),
    ("nodes: 3", "nodes: 99", 5, 35, &["99 nodes", "1 to 15"]),
    ("nodes: 3", "node: 3", 5, 28, &["`node`", "did you mean `nodes`?"]),
    (
        "shards: 4",
        "shards: 4, client: etcd",
        5,
        75,
        &["`client`", "kind command"],
    ),
    (
        "zones: [a, b, c]",
        "zones: [a, b, c, d]",
        5,
        45,
        &["4 zones for 3 nodes"],
    ),
    ("rate: 300/s", "rate: 300", 8, 11, &["300/s"]),
    (
        "send: { users: 500, size: 256B }",
        "put: { keys: 5 }",
        7,
        10,
        &["does not take `put`"],
    ),
    ("users: 500", "users: 1", 7, 20, &["`users: 1`", "2 to"]),
    ("size: 256B", "size: 1B", 7, 31, &["`1B`"]),
    ("send.p99 < 50ms", "send.p98 < 50ms", 9, 74, &["`p98`", "did you mean"]),
    (
        "send.p99 < 50ms",
        "send.steady < 50ms",
        9,
        74,
        &["`steady`", "expect.recovery"],
    ),
    ("for: 3s", "for: 40s", 9, 22, &["`for: 40s`", "30s"]),
    ("send.steady < 2s", "put.steady < 2s", 17, 14, &["`put`"]),
    ("send.steady < 2s", "send.drained < 2s", 17, 14, &["deliver.drained"]),
    (
        "    kill: { leader_of: { shard: 0 } }",
        "    flap: { partition: { all_nodes: true }, on: 1s, off: 1s, times: 2 }",
        13,
        17,
        &["ends by itself"],
    ),
    (
        "send.steady < 2s",
        "send[fault:3-kill].steady < 2s",
        17,
        14,
        &["fault `3-kill`"],
    ),
    (
        "promises: all",
        "promises: [lost-aked]",
        18,
        14,
        &["`lost-aked`", "did you mean `lost-acked`?"],
    ),
    ("promises: all", "promises: none", 18, 13, &["`none`"]),
    (
        "shards: 4 }",
        "shards: 4, registry: naive }",
        5,
        77,
        &["`registry` is about gateways", "add `gateways: 1`"],
    ),
    (
        "shards: 4 }",
        "gateways: 9 }",
        5,
        66,
        &["`gateways: 9` does not fit", "1 to 8 for each zone"],
    ),
    ("repeat: 5", "repeat: 0", 19, 9, &["1 to 1000"]),
    (
        "repeat: 5",
        "provenance: [{ of: [lod], is: assumed, note: x }]",
        19,
        21,
        &["`lod`", "points at nothing"],
    ),
    ("repeat: 5", "repeat: [", 0, 0, &[]),
    ("about: A", "about: !!binary A", 0, 0, &[]),
    (
        "system: { kind: messaging, nodes: 3, zones: [a, b, c], shards: 4 }\n",
        "",
        1,
        1,
        &["no system"],
    ),
];

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_remedy() {
    let mut wrong = Vec::new();
    for (piece, replacement, line, column, says) in WRONG {
        let error = with(piece, replacement).expect_err(replacement);
        let text = error.to_string();
        for word in says.iter().filter(|word| !text.contains(**word)) {
            wrong.push(format!("{replacement}: `{word}` is not in: {text}"));
        }
        let first = &error.problems[0];
        let exact = (first.line, first.column) == (*line, *column);
        // Where the YAML reader itself stumbles, any place in the file will do.
        if !exact && (*line > 0 || first.line == 0 || first.column == 0) {
            wrong.push(format!("{replacement}: expected at {line}:{column}: {text}"));
        }
        if !error.render(false).contains(&format!("s.yaml:{}", first.line)) {
            wrong.push(format!("{replacement}: no place in {}", error.render(false)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_findings_come_together() {
    let text = GOOD
        .replace("users: 500", "users: 1")
        .replace("repeat: 5", "repeat: 0")
        .replace("nodes: 3", "nodes: 2");
    let error = read("s.yaml", &text).unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
    assert!(error.problems.is_sorted_by_key(|problem| problem.line));
}

#[test]
fn bombs_and_noise_are_refused_quickly_and_with_a_place() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(", "));
    }
    let deep = format!("{GOOD}claims: {}", "[".repeat(10_000));
    let deep_blocks: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let large = format!("{GOOD}# {}", "x".repeat(BYTES_MAX));
    let many = format!("{GOOD}claims: {{ now: [{}] }}", "a,".repeat(60_000));
    for (what, text) in [
        ("an alias bomb", bomb.as_str()),
        ("a deep flow", &deep),
        ("deep blocks", &deep_blocks),
        ("a huge file", &large),
        ("many values", &many),
        ("nothing", ""),
        ("a word", "hello"),
        ("a list", "- 1"),
        ("two documents", &format!("{GOOD}---\n{GOOD}")),
        ("noise", "\u{1}\u{2}%!@{}[]&*\n\t- :"),
        ("an unknown anchor", "version: *nowhere"),
        ("not a number", &GOOD.replace("seed: 42", "seed: .nan")),
    ] {
        let error = read("s.yaml", text).expect_err(what);
        let shown = error.render(false);
        assert!(shown.len() < 8_000, "{what}: {} bytes", shown.len());
        assert!(what == "a huge file" || error.problems[0].line > 0, "{what}: {error}");
    }
    fuzz_load(b"\xff\xfe\x00");
}

#[test]
fn a_count_beyond_its_bound_is_refused_without_counting_that_far() {
    for (from, to) in [("shards: 4", "shards: 4294967295"), ("nodes: 3", "nodes: 4294967295")] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        let error = read("s.yaml", &text).expect_err(to).to_string();
        assert!(
            error.contains("4294967295") && error.contains("does not fit") | error.contains("do not fit"),
            "{error}"
        );
    }
}

#[test]
fn several_systems_are_named() {
    let text = GOOD.replace("system: {", "systems: { w: {").replace(
        "shards: 4 }",
        "shards: 4 }, t: { kind: scripted, nodes: 1, outages: [] } }",
    );
    let error = read("s.yaml", &text).unwrap_err();
    assert!(error.to_string().contains("name one: t, w"), "{error}");
    let text = text
        .replace("rate: 300/s", "rate: 300/s\n    system: w")
        .replace("heal_after: 4s", "heal_after: 4s\n    system: w")
        .replace("to: any_follower }", "to: any_follower }\n    system: x");
    let error = read("s.yaml", &text).unwrap_err();
    assert!(
        error.problems.len() == 1 && error.to_string().contains("no system `x`"),
        "{error}"
    );
    assert!(read("s.yaml", &text.replace("system: x", "system: w")).is_ok());
}

#[test]
fn every_verbs_example_is_a_step() {
    for verb in crate::fault::ALL {
        let text = GOOD.replace("kill: { leader_of: { shard: 0 } }\n    heal_after: 4s", verb.example);
        let loaded = read("s.yaml", &text).unwrap_or_else(|error| panic!("{}", error.render(false)));
        assert_eq!(loaded.scenario.steps[0].fault.kind(), verb.name);
    }
}

/// Damages a good file: bytes replaced, removed, doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..GOOD.len(), 0..3_u8, any::<u8>());
    proptest::collection::vec(edit, 1..8).prop_map(|edits| {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, how, byte) in edits {
            let at = at.min(bytes.len() - 1);
            match how {
                0 => bytes[at] = byte,
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_load(&bytes);
    }

    #[test]
    fn a_damaged_file_never_panics(bytes in damaged()) {
        fuzz_load(&bytes);
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([a-z]{1,4}: ?|- |[\\[\\]{},&*|>!\"'#\n ]|[0-9]{1,3}(ms|s|/s)?|é){0,60}") {
        fuzz_load(text.as_bytes());
    }
}

const COMMAND: &str = "\
version: 1
name: somebody-elses
about: A system of somebody else is broken.
system:
  kind: command
  nodes: 3
  command: [server, --id, \"{name}\", --listen, \"{port:client}\", --peers, \"{peers}\"]
  env: { DATA: \"{dir}/data\" }
  ports: [client, peer]
  peers: \"{name}={address:peer}\"
  ready: { tcp: client }
  client: tcp
load:
  - request: { send: ping, expect: pong }
    rate: 10/s
steady_state: { for: 1s, within: 9s }
";

#[test]
fn what_is_filled_into_a_command_is_checked_where_it_stands() {
    read("s.yaml", COMMAND).expect("a good command system");
    for (piece, replacement, line, says) in [
        (
            "{port:client}",
            "{prot:client}",
            7,
            ["`{prot:client}`", "did you mean `port`"],
        ),
        (
            "{port:client}",
            "{port:clent}",
            7,
            ["`{port:clent}`", "did you mean `client`"],
        ),
        ("{name}", "{name", 7, ["stands alone", "{{"]),
        ("{dir}", "{dir:x}", 8, ["nothing to choose", "{dir}"]),
        (
            "{address:peer}",
            "{port:peer}",
            10,
            ["past the links", "{address:peer}"],
        ),
        (
            "{name}={address",
            "{dir}={address",
            10,
            ["nothing is known for `{dir}`", "it is one of"],
        ),
        (
            "[client, peer]",
            "[cliemt, peer]",
            9,
            ["no port is called `client`", "add it"],
        ),
        (
            "{ send: ping, expect: pong }",
            "{ path: /x }",
            14,
            ["no use for `path`", "leave it out"],
        ),
    ] {
        assert!(COMMAND.contains(piece), "{piece}");
        let error = read("s.yaml", &COMMAND.replacen(piece, replacement, 1)).expect_err(replacement);
        let text = error.to_string();
        assert!(says.iter().all(|word| text.contains(word)), "{replacement}: {text}");
        assert!(
            error.problems.iter().any(|problem| problem.line == line),
            "{replacement}: {text}"
        );
    }
}
