//! What is promised of lists, marks and presence, on a town's story and on spoilt ones.

use super::town::{LOAD_END, Town, header, session};
use super::*;
use crate::history::{Answer, Marks, Notice, Noticed, Online, SessionEvent, Thread, Told};

const LETTER: &str = "c:102";
const OTHER: &str = "c:103";
/// When the second device of 3 falls silent, and when it comes back, in milliseconds.
const SILENT: (u64, u64) = (20_000, 40_000);

fn thread(log: &str, read: u64, unread: u64) -> Thread {
    Thread {
        log: log.to_owned(),
        group: false,
        last_position: 1,
        marks: Marks {
            delivered: 1,
            read,
            unread,
        },
        joined: 0,
        left: 0,
    }
}

fn list(threads: Vec<Thread>) -> Answer {
    Answer::Threads {
        current: true,
        more: false,
        threads,
    }
}

fn opens(town: &mut Town, user: u64, threads: Vec<Thread>) {
    let began = town.tick();
    town.tell(user, began, list(threads));
}

/// `user` says that it has read a letter, and whoever wrote it hears of that.
fn reads(town: &mut Town, user: u64, asked: u64) {
    let marks = Marks {
        delivered: 1,
        read: 1,
        unread: 0,
    };
    let subject = Subject::Receipt {
        log: LETTER.to_owned(),
        user,
        delivered: asked,
        read: asked,
        marks: Some(marks),
    };
    let operation = town.operation(Class::Receipt, user, subject);
    town.events.push(Event::Op(operation));
    let receipt = Notice::Receipt {
        log: LETTER.to_owned(),
        user,
        delivered: 1,
        read: 1,
        unread: 0,
    };
    town.notice(&BTreeSet::from([1, 2]), &receipt);
}

fn changes(town: &mut Town, ms: u64, change: SessionChange) {
    town.events.push(Event::Session(SessionEvent {
        at: Nanos::from_millis(ms),
        system: "main".to_owned(),
        session: session(3, 2),
        user: 3,
        device: 2,
        change,
    }));
}

/// 1 writes to 2, who reads it, and to 3, one of whose devices falls silent for a while.
fn story() -> Vec<Event> {
    let mut town = Town::of(3);
    let letter = town.write(1, 2);
    opens(&mut town, 2, vec![thread(LETTER, 0, 1)]);
    reads(&mut town, 2, 1);
    // A phone that counts wrong: the service goes no further than there is something.
    reads(&mut town, 2, 1000);
    opens(&mut town, 2, vec![thread(LETTER, 1, 0)]);
    for _ in 0..2 {
        let began = town.tick();
        let found = town.events.iter().find_map(|event| match event {
            Event::Read(read) if read.log == LETTER => Some(read.items.clone()),
            _ => None,
        });
        let answer = Answer::Log {
            log: LETTER.to_owned(),
            last_position: 1,
            items: found.unwrap_or_default(),
            changes: Vec::new(),
        };
        town.tell(2, began, answer);
    }
    assert!(letter > 0);
    town.write(1, 3);
    changes(&mut town, SILENT.0, SessionChange::Dozed);
    changes(&mut town, SILENT.1, SessionChange::Woke);
    for (ms, second) in [
        (SILENT.0 + 5000, true),
        (SILENT.0 + 14_000, false),
        (SILENT.1 + 10, true),
    ] {
        let online = |device, online| Online {
            device,
            online,
            owed: 0,
        };
        let devices = vec![online(1, true), online(2, second)];
        town.tell(1, Nanos::from_millis(ms), Answer::Presence { whose: 3, devices });
    }
    let end = Nanos::from_millis(LOAD_END + 50);
    town.tell(3, end, list(vec![thread(OTHER, 0, 1)]));
    town.end()
}

fn judged(events: Vec<Event>) -> BTreeMap<&'static str, Finding> {
    let history = History::new(header(), events);
    judge(&history, ALL).into_iter().map(|f| (f.name, f)).collect()
}

fn told(events: &mut [Event], wanted: fn(&Answer) -> bool, nth: usize) -> &mut Told {
    let mut told = events.iter_mut().filter_map(|event| match event {
        Event::Told(told) if wanted(&told.answer) => Some(told),
        _ => None,
    });
    told.nth(nth).unwrap()
}

fn lists(events: &mut [Event], nth: usize) -> &mut Vec<Thread> {
    match &mut told(events, |it| matches!(it, Answer::Threads { .. }), nth).answer {
        Answer::Threads { threads, .. } => threads,
        _ => unreachable!("it was looked for"),
    }
}

fn last_receipt(events: &mut [Event]) -> (&mut u64, &mut u64) {
    let mut receipts = events.iter_mut().rev().filter_map(|event| match event {
        Event::Noticed(Noticed {
            notice: Notice::Receipt { delivered, read, .. },
            ..
        }) => Some((delivered, read)),
        _ => None,
    });
    receipts.next().unwrap()
}

/// A way of spoiling the story, and the promise that must catch it.
type Spoil = (&'static str, fn(&mut Vec<Event>));

pub(super) const SPOILS: &[Spoil] = &[
    ("unread-count", |events| lists(events, 0)[0].marks.unread = 0),
    // The list ends before what its user is owed, when all is quiet.
    ("unread-count", |events| lists(events, 2).clear()),
    // Said of what never was there.
    ("early-receipt", |events| *last_receipt(events).0 = 5),
    // Read before anybody said so.
    ("early-receipt", |events| {
        events.retain(|event| !matches!(event, Event::Op(op) if op.class == Class::Receipt));
    }),
    // Given before it was sent.
    ("early-receipt", |events| {
        let sent = Nanos::from_millis(50_000);
        let letter = events
            .iter_mut()
            .filter_map(op_mut)
            .find(|op| op.class == Class::Send)
            .unwrap();
        (letter.intended, letter.sent, letter.done) = (sent, sent, sent.plus(Duration::from_millis(2)));
    }),
    ("receipt-regress", |events| *last_receipt(events).1 = 0),
    ("receipt-regress", |events| {
        let marks = &mut lists(events, 1)[0].marks;
        (marks.read, marks.unread) = (0, 1);
    }),
    ("ghost-online", |events| {
        let asked = told(events, |it| matches!(it, Answer::Presence { .. }), 1);
        if let Answer::Presence { devices, .. } = &mut asked.answer {
            devices[1].online = true;
        }
    }),
    ("shrinking-history", |events| {
        let looked = told(events, |it| matches!(it, Answer::Log { .. }), 1);
        if let Answer::Log { items, .. } = &mut looked.answer {
            items.clear();
        }
    }),
    ("shrinking-history", |events| lists(events, 1).clear()),
];

#[test]
fn an_honest_town_keeps_what_it_says_of_lists_marks_and_presence() {
    let found = judged(story());
    for finding in found.values() {
        assert!(
            finding.verdict != Verdict::Fail && finding.verdict != Verdict::Unknown,
            "{finding:?}"
        );
    }
    for (name, _) in SPOILS {
        assert_eq!(found[name].verdict, Verdict::Pass, "{name}");
    }
    // Three lists of one conversation each, and what user 3 is owed at the end.
    assert_eq!(found["unread-count"].obligations, 4);
    assert_eq!(
        found["ghost-online"].obligations, 1,
        "who has just fallen silent may still be believed in"
    );
}

#[test]
fn each_way_of_spoiling_it_is_caught_with_a_witness() {
    let missed: Vec<String> = (0..)
        .zip(SPOILS)
        .filter_map(|(number, (name, spoil))| {
            let mut events = story();
            spoil(&mut events);
            let found = judged(events);
            let told = found[name].witness.as_deref().is_some_and(|it| it.len() > 20);
            (found[name].verdict != Verdict::Fail || !told)
                .then(|| format!("{number} is for {name}: {:?}", found[name]))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_list_that_says_that_it_is_not_current_may_be_older_but_must_agree_with_itself() {
    let mut events = story();
    let told = told(&mut events, |it| matches!(it, Answer::Threads { .. }), 1);
    told.answer = Answer::Threads {
        current: false,
        more: false,
        threads: vec![thread(LETTER, 0, 1)],
    };
    let found = judged(events.clone());
    for name in ["unread-count", "receipt-regress", "shrinking-history"] {
        assert_eq!(found[name].verdict, Verdict::Pass, "{name}");
    }
    lists(&mut events, 1)[0].marks.unread = 7;
    assert_eq!(judged(events)["unread-count"].verdict, Verdict::Fail);
}

#[test]
fn what_nobody_asked_is_not_judged() {
    let mut town = Town::of(2);
    town.write(1, 2);
    let found = judged(town.events);
    for (name, _) in SPOILS {
        assert_eq!(found[name].verdict, Verdict::NotJudged, "{name}");
        assert!(found[name].reason.is_some());
    }
}
