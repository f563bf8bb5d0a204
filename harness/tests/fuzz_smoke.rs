//! Parsers under seeded mutants of a corpus, few enough for every test run. `fuzz/README.md` says how to read a failure.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use std::{collections::BTreeMap, path::Path};

use firedrill::{
    base::Nanos,
    history::{
        Announced, Answer, Class, Contact, Event, FORMAT, FaultChange, FaultEvent, GroupStatus, Header, Move,
        MovePhase, NodeStatus, Observed, Operation, Outcome, Phase, PhaseEvent, Placement, ProcessChange, ProcessEvent,
        ReadBack, ReadItem, SessionChange, SessionEvent, Shown, Statement, Subject, Told, Word, fuzz_read,
    },
    scenario::fuzz_load,
};

#[test]
fn scenario() {
    // The scenarios of the project are the corpus: they can't grow stale.
    let all = mutate::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"));
    let files: Vec<Vec<u8>> = all
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|(_, bytes)| bytes)
        .collect();
    mutate::smoke("scenario", &files, fuzz_load);
}

#[test]
fn history() {
    let lines = lines();
    let packed = zstd::stream::encode_all(lines.as_slice(), 1).expect("memory takes any bytes");
    mutate::hold_corpus("history", &[("all.jsonl", lines)]);
    let mut corpus: Vec<Vec<u8>> = mutate::files(&mutate::corpus_of("history"))
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    // Not committed: zstd's bytes may differ from version to version.
    corpus.push(packed);
    mutate::smoke("history", &corpus, fuzz_read);
}

/// A history with an event of each type.
fn lines() -> Vec<u8> {
    let header = Header {
        format: FORMAT.to_owned(),
        plan: serde_json::json!({
            "scenario": "corpus", "seed": 7, "backend": "process",
            "systems": [{"name": "main", "kind": {"messaging": {}}}],
            "steady": {"require": ["send.success >= 99.9%", "send.p99 < 50ms"]},
            "expect": {"recovery": ["send.steady < 5s"], "promises": "all"},
        }),
        started: "2030-01-01T00:00:00Z".to_owned(),
        versions: BTreeMap::from([("firedrill".to_owned(), "0.1.0".to_owned())]),
    };
    let mut lines = serde_json::to_vec(&header).expect("a header is JSON");
    for event in events() {
        lines.push(b'\n');
        lines.extend(serde_json::to_vec(&event).expect("an event is JSON"));
    }
    lines.push(b'\n');
    lines
}

fn events() -> Vec<Event> {
    let system = || "main".to_owned();
    let log = || "c:77".to_owned();
    let at = Nanos::from_millis;
    let fault = |ms, change| {
        Event::Fault(FaultEvent {
            at: at(ms),
            id: "1-kill".to_owned(),
            kind: "kill".to_owned(),
            system: system(),
            targets: vec!["n2".to_owned()],
            needs: vec!["shard:0".to_owned()],
            resolved: None,
            change,
        })
    };
    let operation = Operation {
        id: 1,
        attempt: 1,
        last: true,
        system: system(),
        session: 3,
        class: Class::Send,
        needs: "shard:0".to_owned(),
        groups: BTreeMap::from([("zone".to_owned(), "europe".to_owned())]),
        probe: false,
        intended: at(1500),
        sent: at(1501),
        done: at(1510),
        outcome: Outcome::Ok,
        answered_by: Some("n1".to_owned()),
        error: None,
        subject: Subject::Item {
            item: 1,
            log: log(),
            author: 2,
            owed: vec![4],
            group: false,
            client_id: 1,
            hash: 99,
            position: Some(1),
            repeated: Some(false),
        },
    };
    let session = |change| {
        Event::Session(SessionEvent {
            at: at(1400),
            system: system(),
            session: 4,
            user: 4,
            device: 1,
            change,
        })
    };
    let status = NodeStatus {
        groups: vec![GroupStatus {
            group: "shard:0".to_owned(),
            leader: true,
            term: 3,
            commit: 9,
            applied: 9,
            digest: 12,
        }],
        backlog: 1,
        placement: Some(Placement {
            epoch: 3,
            moves: vec![Move {
                id: 1,
                group: "shard:0".to_owned(),
                from: "n1".to_owned(),
                to: "n4".to_owned(),
                phase: MovePhase::Done,
            }],
        }),
        gauges: BTreeMap::from([("inbox".to_owned(), 2.0)]),
    };
    let phase = |ms, phase| Event::Phase(PhaseEvent { at: at(ms), phase });
    vec![
        phase(0, Phase::Prepare),
        Event::Process(ProcessEvent {
            at: at(5),
            system: system(),
            node: "n1".to_owned(),
            pid: 4711,
            change: ProcessChange::Started,
        }),
        phase(1000, Phase::Steady),
        session(SessionChange::Connected {
            connection: 1,
            after: 0,
        }),
        Event::Op(Operation {
            id: 2,
            class: Class::Contacts,
            subject: Subject::Import {
                user: 2,
                phones: vec!["+99900001".to_owned()],
                added: Some(1),
            },
            ..operation.clone()
        }),
        Event::Told(Told {
            began: at(1600),
            ended: at(1610),
            system: system(),
            session: 3,
            user: 2,
            device: 1,
            answer: Answer::Contacts {
                contacts: vec![Contact {
                    phone: "99900001".to_owned(),
                    user: 4,
                    imported: true,
                    matched: false,
                }],
            },
        }),
        Event::Op(operation),
        Event::Shown(Shown {
            at: at(1520),
            system: system(),
            session: 4,
            user: 4,
            device: 1,
            connection: 1,
            incarnation: 1,
            sequence: 1,
            log: log(),
            position: 1,
            author: 2,
            item: Some(1),
            hash: 99,
            repeated_on_wire: false,
        }),
        session(SessionChange::Current {
            sequence: 1,
            incarnation: 1,
        }),
        phase(2000, Phase::Disturb),
        fault(2100, FaultChange::Requested),
        fault(
            2105,
            FaultChange::Installed {
                effective: at(2102),
                evidence: "gone".to_owned(),
            },
        ),
        Event::Observed(Observed {
            at: at(2200),
            asked: Some(at(2199)),
            system: system(),
            node: "n1".to_owned(),
            status: Some(status),
        }),
        Event::Announced(Announced {
            asked: at(2250),
            at: at(2251),
            system: system(),
            statement: Some(Statement {
                said: Word::Degraded,
                sessions: Some(3),
                sessions_before: 4,
                backlog: None,
                reasons: vec!["3 sessions are there, of 4 that were".to_owned()],
            }),
        }),
        fault(
            3000,
            FaultChange::Healed {
                healed: at(2999),
                evidence: "back".to_owned(),
            },
        ),
        Event::Read(ReadBack {
            began: at(4000),
            ended: at(4010),
            system: system(),
            log: log(),
            complete: true,
            after: None,
            items: vec![ReadItem {
                position: 1,
                author: 2,
                item: Some(1),
                hash: 99,
            }],
            changes: Vec::new(),
        }),
        phase(5000, Phase::TearDown),
    ]
}
