//! What is recorded is what is read, whole, cut off, or refused.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::base::Nanos;

fn header() -> Header {
    Header {
        format: FORMAT.to_owned(),
        plan: serde_json::json!({ "scenario": "quiet", "seed": 7 }),
        started: "2030-01-01T00:00:00Z".to_owned(),
        versions: BTreeMap::from([("firedrill".to_owned(), "0.1.0".to_owned())]),
    }
}

fn note(n: u64) -> Event {
    Event::Harness(HarnessEvent {
        at: Nanos(n),
        kind: HarnessKind::Note,
        text: format!("note {n}"),
    })
}

fn word() -> impl Strategy<Value = String> {
    // Everything that JSON has to escape, and lines inside of text.
    let letters = vec!['\n', '"', '\\', 'é', '\u{0}', 'a', 'b', ' '];
    proptest::collection::vec(proptest::sample::select(letters), 0..12).prop_map(String::from_iter)
}

fn nanos() -> impl Strategy<Value = Nanos> {
    any::<u64>().prop_map(Nanos)
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        (word(), any::<Option<u64>>(), any::<Option<bool>>()).prop_map(|(phone, user, created)| Subject::Account {
            phone,
            user,
            created
        }),
        (any::<u64>(), any::<u32>(), any::<Option<u64>>()).prop_map(|(user, device, session)| Subject::Device {
            user,
            device,
            session
        }),
        (
            any::<[u64; 4]>(),
            word(),
            proptest::collection::vec(any::<u64>(), 0..3),
            any::<(Option<u64>, Option<bool>, bool)>()
        )
            .prop_map(
                |([item, author, client_id, hash], log, owed, (position, repeated, group))| Subject::Item {
                    item,
                    log,
                    author,
                    owed,
                    group,
                    client_id,
                    hash,
                    position,
                    repeated
                }
            ),
        (word(), any::<[u64; 3]>(), proptest::option::of(marks())).prop_map(|(log, [user, delivered, read], marks)| {
            Subject::Receipt {
                log,
                user,
                delivered,
                read,
                marks,
            }
        }),
        (
            word(),
            change_kind(),
            any::<[u64; 2]>(),
            users(),
            any::<(Option<u64>, Option<u64>)>()
        )
            .prop_map(
                |(log, change, [actor, client_id], users, (position, members))| Subject::Change {
                    log,
                    change,
                    actor,
                    users,
                    client_id,
                    position,
                    members
                }
            ),
        (
            any::<u64>(),
            proptest::collection::vec(word(), 0..3),
            any::<Option<u64>>()
        )
            .prop_map(|(user, phones, added)| Subject::Import { user, phones, added }),
        Just(Subject::Nothing),
    ]
}

fn users() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(any::<u64>(), 0..3)
}

fn change_kind() -> impl Strategy<Value = ChangeKind> {
    proptest::sample::select(vec![
        ChangeKind::Create,
        ChangeKind::Add,
        ChangeKind::Join,
        ChangeKind::Leave,
        ChangeKind::Remove,
    ])
}

fn group_change() -> impl Strategy<Value = GroupChange> {
    (any::<[u64; 3]>(), change_kind(), users()).prop_map(|([position, actor, client_id], kind, users)| GroupChange {
        position,
        kind,
        actor,
        client_id,
        users,
    })
}

fn read_item() -> impl Strategy<Value = ReadItem> {
    any::<(u64, u64, Option<u64>, u64)>().prop_map(|(position, author, item, hash)| ReadItem {
        position,
        author,
        item,
        hash,
    })
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        (word(), group_change()).prop_map(|(log, change)| Notice::Change { log, change }),
        (word(), any::<[u64; 4]>()).prop_map(|(log, [user, delivered, read, unread])| Notice::Receipt {
            log,
            user,
            delivered,
            read,
            unread
        }),
        (word(), any::<(u64, bool, bool)>()).prop_map(|(phone, (user, imported, matched))| Notice::Contact {
            contact: Contact {
                phone,
                user,
                imported,
                matched
            }
        }),
        Just(Notice::Other),
    ]
}

fn marks() -> impl Strategy<Value = Marks> {
    any::<[u64; 3]>().prop_map(|[delivered, read, unread]| Marks {
        delivered,
        read,
        unread,
    })
}

fn thread() -> impl Strategy<Value = Thread> {
    (word(), any::<(bool, [u64; 3])>(), marks()).prop_map(|(log, (group, [last_position, joined, left]), marks)| {
        Thread {
            log,
            group,
            last_position,
            marks,
            joined,
            left,
        }
    })
}

/// What people are shown beside messages, and what they are told.
fn social() -> impl Strategy<Value = Event> {
    let noticed = (nanos(), word(), any::<([u64; 4], u32, u32, bool)>(), notice()).prop_map(
        |(at, system, ([session, user, incarnation, sequence], device, connection, repeated_on_wire), notice)| {
            Event::Noticed(Noticed {
                at,
                system,
                session,
                user,
                device,
                connection,
                incarnation,
                sequence,
                repeated_on_wire,
                notice,
            })
        },
    );
    let threads = (any::<(bool, bool)>(), proptest::collection::vec(thread(), 0..3))
        .prop_map(|((current, more), threads)| Answer::Threads { current, more, threads });
    let online = any::<(u32, bool, u64)>().prop_map(|(device, online, owed)| Online { device, online, owed });
    let presence = (any::<u64>(), proptest::collection::vec(online, 0..3))
        .prop_map(|(whose, devices)| Answer::Presence { whose, devices });
    let log = (
        word(),
        any::<u64>(),
        proptest::collection::vec(read_item(), 0..3),
        proptest::collection::vec(group_change(), 0..3),
    )
        .prop_map(|(log, last_position, items, changes)| Answer::Log {
            log,
            last_position,
            items,
            changes,
        });
    let contact = (word(), any::<(u64, bool, bool)>()).prop_map(|(phone, (user, imported, matched))| Contact {
        phone,
        user,
        imported,
        matched,
    });
    let contacts = proptest::collection::vec(contact, 0..3).prop_map(|contacts| Answer::Contacts { contacts });
    let answer = prop_oneof![log, contacts, threads, presence];
    let told = (nanos(), nanos(), word(), any::<(u64, u64, u32)>(), answer).prop_map(
        |(began, ended, system, (session, user, device), answer)| {
            Event::Told(Told {
                began,
                ended,
                system,
                session,
                user,
                device,
                answer,
            })
        },
    );
    prop_oneof![noticed, told]
}

fn operation() -> impl Strategy<Value = Event> {
    let class = proptest::sample::select(vec![
        Class::SignUp,
        Class::LogIn,
        Class::Send,
        Class::Sync,
        Class::Group,
        Class::Contacts,
        Class::Open,
        Class::Receipt,
        Class::Presence,
        Class::Put,
    ]);
    let outcome = proptest::sample::select(vec![Outcome::Ok, Outcome::Failed, Outcome::Unknown, Outcome::Shed]);
    (
        any::<(u64, u32, bool, u64, bool)>(),
        (word(), class, word(), outcome, subject()),
        (nanos(), nanos(), nanos()),
        proptest::option::of(word()),
        proptest::collection::btree_map(word(), word(), 0..3),
    )
        .prop_map(|(flat, named, times, text, groups)| {
            Event::Op(Operation {
                id: flat.0,
                attempt: flat.1,
                last: flat.2,
                system: named.0,
                session: flat.3,
                class: named.1,
                needs: named.2,
                groups,
                probe: flat.4,
                intended: times.0,
                sent: times.1,
                done: times.2,
                outcome: named.3,
                answered_by: text.clone(),
                error: text,
                subject: named.4,
            })
        })
}

fn observed() -> impl Strategy<Value = Event> {
    let group = (word(), any::<(bool, u64, u64, u64, u64)>()).prop_map(|(group, n)| GroupStatus {
        group,
        leader: n.0,
        term: n.1,
        commit: n.2,
        applied: n.3,
        digest: n.4,
    });
    // Quarters are exact in text as well.
    let gauges = proptest::collection::btree_map(word(), any::<i32>().prop_map(|n| f64::from(n) / 4.0), 0..3);
    let status =
        (proptest::collection::vec(group, 0..3), any::<u64>(), gauges).prop_map(|(groups, backlog, gauges)| {
            NodeStatus {
                groups,
                backlog,
                placement: None,
                gauges,
            }
        });
    (nanos(), word(), word(), proptest::option::of(status)).prop_map(|(at, system, node, status)| {
        Event::Observed(Observed {
            at,
            asked: None,
            system,
            node,
            status,
        })
    })
}

fn rest() -> impl Strategy<Value = Event> {
    let shown = (
        any::<[u64; 7]>(),
        any::<(u32, u32, Option<u64>, bool)>(),
        word(),
        word(),
    )
        .prop_map(|(n, m, a, b)| {
            Event::Shown(Shown {
                at: Nanos(n[0]),
                system: a,
                session: n[1],
                user: n[2],
                device: m.0,
                connection: m.1,
                incarnation: n[3],
                sequence: n[4],
                log: b,
                position: n[5],
                author: n[6],
                item: m.2,
                hash: n[6],
                repeated_on_wire: m.3,
            })
        });
    let change = prop_oneof![
        Just(FaultChange::Requested),
        Just(FaultChange::HealRequested),
        (nanos(), word()).prop_map(|(effective, evidence)| FaultChange::Installed { effective, evidence }),
        (nanos(), word()).prop_map(|(healed, evidence)| FaultChange::Healed { healed, evidence }),
        word().prop_map(|reason| FaultChange::Skipped { reason }),
        word().prop_map(|reason| FaultChange::HealFailed { reason }),
    ];
    let fault =
        (nanos(), word(), proptest::collection::vec(word(), 0..3), change).prop_map(|(at, text, targets, change)| {
            Event::Fault(FaultEvent {
                at,
                id: text.clone(),
                kind: text.clone(),
                system: text,
                needs: targets.clone(),
                targets,
                resolved: None,
                change,
            })
        });
    let session = (nanos(), any::<(u64, u64, u32)>(), word()).prop_map(|(at, n, reason)| {
        Event::Session(SessionEvent {
            at,
            system: reason.clone(),
            session: n.0,
            user: n.1,
            device: n.2,
            change: SessionChange::Lost { reason },
        })
    });
    let read = (
        nanos(),
        nanos(),
        word(),
        any::<(bool, Option<u64>)>(),
        proptest::collection::vec(read_item(), 0..20),
        proptest::collection::vec(group_change(), 0..3),
    )
        .prop_map(|(began, ended, log, (complete, after), items, changes)| {
            Event::Read(ReadBack {
                began,
                ended,
                system: log.clone(),
                log,
                complete,
                after,
                items,
                changes,
            })
        });
    let process = (nanos(), word(), any::<(u32, bool)>()).prop_map(|(at, how, (pid, asked_for))| {
        Event::Process(ProcessEvent {
            at,
            system: how.clone(),
            node: how.clone(),
            pid,
            change: match pid % 4 {
                0 => ProcessChange::Started,
                1 => ProcessChange::Stopped { asked_for },
                2 => ProcessChange::Continued,
                _ => ProcessChange::Ended { how, asked_for },
            },
        })
    });
    let phase = nanos().prop_map(|at| {
        Event::Phase(PhaseEvent {
            at,
            phase: Phase::Disturb,
        })
    });
    prop_oneof![shown, fault, session, read, process, phase, any::<u64>().prop_map(note)]
}

/// Any event.
fn event() -> impl Strategy<Value = Event> {
    prop_oneof![3 => operation(), 1 => observed(), 3 => rest(), 2 => social()]
}

fn write(path: &Path, events: &[Event]) {
    let recorder = Recorder::create(path, header(), RecorderLimits::default()).expect("a new file");
    for event in events {
        recorder.record(event.clone());
    }
    recorder.finish().expect("written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_recorded_is_read(events in proptest::collection::vec(event(), 0..60)) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE_NAME);
        write(&path, &events);
        let found = read(&path).expect("readable");
        prop_assert_eq!(found.torn, None);
        prop_assert_eq!(found.header, header());
        prop_assert_eq!(found.events, events);
    }

    /// Cut anywhere, a history gives whole records from its start, or nothing at all, and says that it is cut.
    #[test]
    fn a_torn_tail_loses_only_the_tail(count in 1..300u64, cut in 0.0..1.0f64) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE_NAME);
        let events: Vec<Event> = (0..count).map(note).collect();
        write(&path, &events);
        let bytes = std::fs::read(&path).expect("readable");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a place inside of the file")]
        let at = (bytes.len() as f64 * cut) as usize;
        match read_from(&bytes[..at], ReadLimits::default()) {
            Ok(found) => {
                prop_assert!(found.torn.is_some());
                prop_assert_eq!(&found.events[..], &events[..found.events.len()]);
            }
            Err(why) => prop_assert!(why.contains("header") || why.contains("zstd"), "{}", why),
        }
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read_from(&noise[..], ReadLimits::default()).is_err());
        let packed = zstd::encode_all(&noise[..], 1).expect("packed");
        prop_assert!(read_from(&packed[..], ReadLimits::default()).is_err());
    }
}

fn packed(lines: &[&str]) -> Vec<u8> {
    zstd::encode_all(lines.concat().as_bytes(), 1).expect("packed")
}

#[test]
fn flushed_events_are_there_before_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    let mut writer = super::writer::Writer::create(&path).expect("a new file");
    writer.header(&header()).expect("written");
    for n in 0..10 {
        writer.append(&note(n)).expect("written");
    }
    writer.flush().expect("flushed");
    writer.append(&note(10)).expect("written");
    let found = read(&path).expect("readable");
    assert!(found.torn.is_some(), "the frame has not ended");
    assert_eq!(found.events, (0..10).map(note).collect::<Vec<_>>());
}

#[test]
fn other_versions_and_bad_records_are_named() {
    let head = serde_json::to_string(&header()).expect("JSON") + "\n";
    let later = head.replace("/v1", "/v2");
    let why = read_from(&packed(&[&later])[..], ReadLimits::default()).expect_err("refused");
    assert!(why.contains("firedrill.history/v2") && why.contains(FORMAT), "{why}");
    let why = read_from(
        &packed(&[&head, "{\"type\":\"op\"}\n", "{}\n"])[..],
        ReadLimits::default(),
    );
    assert!(why.expect_err("refused").starts_with("record 2: not an event"));
    let why = read_from(&packed(&[])[..], ReadLimits::default()).expect_err("refused");
    assert!(why.contains("empty"), "{why}");
}

#[test]
fn a_corrupt_middle_is_not_taken_for_a_torn_tail() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    write(&path, &(0..5000).map(note).collect::<Vec<_>>());
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 0x5a;
    }
    assert!(read_from(&bytes[..], ReadLimits::default()).is_err());
}

#[test]
fn bounds_hold_against_what_unpacks_to_much() {
    let head = serde_json::to_string(&header()).expect("JSON") + "\n";
    let long = " ".repeat(1 << 20) + "\n";
    let limits = ReadLimits {
        record_bytes: 4096,
        total_bytes: 1 << 30,
        events: 10,
    };
    let why = read_from(&packed(&[&head, &long])[..], limits).expect_err("refused");
    assert!(why.contains("4096"), "{why}");
    let line = serde_json::to_string(&note(1)).expect("JSON") + "\n";
    let why = read_from(&packed(&[&head, &line.repeat(11)])[..], limits).expect_err("refused");
    assert_eq!(why, "more than 10 events");
}

#[test]
fn a_file_is_never_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    write(&path, &[note(1)]);
    assert!(matches!(
        Recorder::create(&path, header(), RecorderLimits::default()),
        Err(HistoryError::Io { .. })
    ));
    assert_eq!(read(&path).expect("readable").events, [note(1)]);
}

#[test]
fn a_full_history_says_so_once_and_stays_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(FILE_NAME);
    let recorder = Recorder::create(&path, header(), RecorderLimits { bytes: 100_000 }).expect("a new file");
    for n in 0..10_000 {
        recorder.record(note(n));
    }
    let kept = recorder.len();
    assert!(kept < 1000, "{kept}");
    assert!(recorder.trouble().expect("trouble").contains("not recorded"));
    recorder.finish().expect("written");
    let events = read(&path).expect("readable").events;
    assert_eq!(events.len(), kept);
    let full = |event: &Event| matches!(event, Event::Harness(h) if h.kind == HarnessKind::Failure);
    assert!(full(&events[kept - 1]) && !events[..kept - 1].iter().any(full));
}

#[tokio::test]
async fn subscribers_see_every_event_in_order_and_the_end() {
    let recorder = Recorder::in_memory(header());
    recorder.record(note(0));
    let mut early = recorder.subscribe(0);
    let mut late = recorder.subscribe(4500);
    let writer = recorder.clone();
    let thread = std::thread::spawn(move || {
        for n in 1..9000 {
            writer.record(note(n));
        }
        writer.finish().expect("ended");
        writer.record(note(9000));
    });
    let mut seen: Vec<Arc<Event>> = Vec::new();
    while let Some(events) = early.next().await {
        seen.extend(events);
    }
    thread.join().expect("joined");
    assert_eq!(seen.len(), 9000);
    assert!(seen.iter().zip(0..).all(|(event, n)| **event == note(n)));
    assert_eq!(*late.next().await.expect("more")[0], note(4500));
    assert_eq!(recorder.recorded().events.len(), 9000, "nothing after the end");
}
