//! Promises, judged on good histories and on spoilt ones: each way of spoiling has the promise that must catch it.

mod announced;
mod contacts;
mod groups;
mod home;
mod ownership;
mod town;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{ALL, Finding, Verdict, judge};
use crate::{
    base::Nanos,
    history::{
        Class, Event, FaultChange, HarnessEvent, HarnessKind, History, LOST_TO_A_GAP, Operation, Outcome, Phase,
        ProcessChange, ProcessEvent, ReadBack, SessionChange, Shown, Subject,
        synth::{Effect, Script, Scripted},
    },
};

/// A short run with an outage in it that leaves unknown attempts, retries and a backlog.
fn script() -> Script {
    Script {
        users: 6,
        gap: Duration::from_millis(20),
        probe_gap: Duration::from_millis(200),
        outages: vec![
            Scripted::ms(4500, 7500, Effect::Stall),
            Scripted::ms(9000, 9400, Effect::Refuse),
        ],
        retries: 1,
        load_end: Nanos::from_millis(13_000),
        ..Script::default()
    }
}

fn findings(script: &Script, events: Vec<Event>) -> BTreeMap<&'static str, Finding> {
    let history = History::new(script.header(), events);
    judge(&history, ALL).into_iter().map(|f| (f.name, f)).collect()
}

fn shown_mut(event: &mut Event) -> Option<&mut Shown> {
    match event {
        Event::Shown(shown) => Some(shown),
        _ => None,
    }
}

fn op_mut(event: &mut Event) -> Option<&mut Operation> {
    match event {
        Event::Op(op) => Some(op),
        _ => None,
    }
}

fn send_ok(event: &Event) -> Option<u64> {
    match event {
        Event::Op(op) if op.class == Class::Send && op.outcome == Outcome::Ok => match &op.subject {
            Subject::Item { item, .. } => Some(*item),
            _ => None,
        },
        _ => None,
    }
}

/// The `n`th message that was acknowledged.
fn acked(events: &[Event], n: usize) -> u64 {
    events.iter().filter_map(send_ok).nth(n).unwrap()
}

fn unread(events: &mut [Event], item: u64) {
    for event in events {
        if let Event::Read(read) = event {
            read.items.retain(|i| i.item != Some(item));
        }
    }
}

fn unshow(events: &mut Vec<Event>, item: u64) {
    events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(item)));
}

/// Makes `item` one of which no answer ever came.
fn unanswered(events: &mut [Event], item: u64) {
    for op in events.iter_mut().filter_map(op_mut) {
        if let Subject::Item {
            item: own,
            position,
            repeated,
            ..
        } = &mut op.subject
            && *own == item
        {
            (*position, *repeated) = (None, None);
            op.outcome = Outcome::Unknown;
        }
    }
}

/// A read in mid-run of what stands behind `after` in the first log that was read back: all that was acknowledged by then.
fn mid_run(events: &[Event], at_ms: u64, after: u64) -> ReadBack {
    let began = Nanos::from_millis(at_ms);
    let acked: BTreeSet<u64> = events
        .iter()
        .filter(|event| event.at() <= began)
        .filter_map(send_ok)
        .collect();
    let whole = events.iter().find_map(|event| match event {
        Event::Read(read) if read.after.is_none() => Some(read),
        _ => None,
    });
    let mut read = whole.unwrap().clone();
    (read.began, read.ended) = (began, began.plus(Duration::from_millis(3)));
    read.after = Some(after);
    read.items
        .retain(|found| found.position > after && found.item.is_some_and(|item| acked.contains(&item)));
    read
}

/// Every node's own count of what it owes, after the load.
fn backlog(events: &mut [Event], owed: u64) {
    for event in events {
        if let Event::Observed(observed) = event
            && let Some(status) = &mut observed.status
        {
            status.backlog = owed;
        }
    }
}

fn not_drained(events: &mut Vec<Event>) {
    events.push(Event::Harness(HarnessEvent {
        at: Nanos::from_millis(15_900),
        kind: HarnessKind::NotDrained,
        text: "the drain's time was up".to_owned(),
    }));
}

/// Shifts every later sequence of the devices so that what is missing leaves no hole in a stream.
fn close_streams(events: &mut [Event]) {
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    for shown in events.iter_mut().filter_map(shown_mut) {
        let next = next.entry((shown.user, shown.device)).or_default();
        *next += 1;
        shown.sequence = *next;
    }
}

#[test]
fn a_good_history_breaks_nothing_and_exercises_nearly_all() {
    let script = script();
    let found = findings(&script, script.events());
    for finding in found.values() {
        assert!(
            matches!(finding.verdict, Verdict::Pass | Verdict::NotJudged),
            "{finding:?}"
        );
        assert_eq!(finding.verdict == Verdict::NotJudged, finding.reason.is_some());
    }
    let silent: Vec<_> = found
        .values()
        .filter(|f| f.verdict == Verdict::NotJudged)
        .map(|f| f.name)
        .collect();
    assert_eq!(
        silent,
        [
            "bad-resume",
            "early-receipt",
            "false-all-clear",
            "ghost-online",
            "history-leak",
            "membership-leak",
            "missed-after-join",
            "outsider-accepted",
            "own-device-staleness",
            "ownership",
            "phantom-contact",
            "receipt-regress",
            "shrinking-history",
            "stale",
            "unread-count"
        ],
        "what a run without groups, lists and reconnects and with one read does not exercise"
    );
    assert!(
        found["retry-duplicate"].obligations > 0,
        "the outage leaves unknown attempts that are retried"
    );
    assert!(found["aborted-read"].obligations > 0);
}

/// A way of spoiling a history, and the promise that must catch it.
type Spoil = (&'static str, fn(&mut Vec<Event>));

const SPOILS: &[Spoil] = &[
    ("lost-acked", |events| {
        let item = acked(events, 100);
        unread(events, item);
        unshow(events, item);
        close_streams(events);
    }),
    // Never shown, though the log has it and what follows it was shown.
    ("lost-acked", |events| {
        let item = acked(events, 50);
        unshow(events, item);
        close_streams(events);
    }),
    // The last one of all: nothing follows it, but no node owes anything.
    ("lost-acked", |events| {
        let item = events.iter().rev().find_map(send_ok).unwrap();
        unshow(events, item);
    }),
    // Nobody acknowledged it, but the final read has it: it happened, and is owed.
    ("lost-acked", |events| {
        let item = acked(events, 50);
        unanswered(events, item);
        unshow(events, item);
        close_streams(events);
    }),
    ("lost-acked", |events| {
        let item = events.iter().rev().find_map(send_ok).unwrap();
        unanswered(events, item);
        unshow(events, item);
    }),
    // Nobody acknowledged it, but a device showed it: the log must have it.
    ("lost-acked", |events| {
        let item = acked(events, 60);
        unanswered(events, item);
        unread(events, item);
    }),
    // Nor is it in the read, but the other device of the account was shown it.
    ("lost-acked", |events| {
        let item = acked(events, 60);
        unanswered(events, item);
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(item) && s.device == 1));
        close_streams(events);
    }),
    ("vanished", |events| {
        let item = acked(events, 70);
        unread(events, item);
    }),
    ("stale", |events| {
        let item = acked(events, 10);
        let early: Vec<Event> = events
            .iter()
            .filter_map(|e| match e {
                Event::Read(read) => {
                    let mut read = read.clone();
                    read.began = read.began.minus(Duration::from_millis(100));
                    read.ended = read.ended.minus(Duration::from_millis(100));
                    read.items.retain(|i| i.item != Some(item));
                    Some(Event::Read(read))
                }
                _ => None,
            })
            .collect();
        events.extend(early);
    }),
    // A read in mid-run lacks the third of what is new in its log.
    ("stale", |events| {
        let mut read = mid_run(events, 3900, 0);
        read.items.remove(2);
        events.push(Event::Read(read));
    }),
    // It is answered by one who stopped hearing what is new.
    ("stale", |events| {
        let known = mid_run(events, 2000, 0);
        let mut read = mid_run(events, 3900, known.items.last().unwrap().position);
        read.items.clear();
        events.extend([Event::Read(known), Event::Read(read)]);
    }),
    ("duplicate-stored", |events| {
        for event in events {
            if let Event::Read(read) = event {
                let mut again = read.items[3].clone();
                again.position = read.items.len() as u64 + 1;
                read.items.push(again);
                return;
            }
        }
    }),
    ("retry-duplicate", |events| {
        let mut unknown = BTreeSet::new();
        let mut retried = None;
        for event in events.iter_mut().filter_map(op_mut) {
            let Subject::Item { item, position, .. } = &mut event.subject else {
                continue;
            };
            match event.outcome {
                Outcome::Unknown => {
                    unknown.insert(*item);
                }
                Outcome::Ok if unknown.contains(item) && retried.is_none() => {
                    *position = Some(999_999);
                    retried = Some(*item);
                }
                _ => {}
            }
        }
        assert!(retried.is_some());
    }),
    ("duplicate-delivered", |events| {
        let shown = events.iter_mut().filter_map(shown_mut).last().unwrap().clone();
        events.push(Event::Shown(Shown {
            at: shown.at.plus(Duration::from_millis(1)),
            sequence: shown.sequence + 1,
            ..shown
        }));
    }),
    ("phantom", |events| {
        events.iter_mut().filter_map(shown_mut).next().unwrap().item = Some(77_777_777);
    }),
    ("aborted-read", |events| {
        let item = acked(events, 20);
        for op in events.iter_mut().filter_map(op_mut) {
            if matches!(op.subject, Subject::Item { item: i, .. } if i == item) {
                op.outcome = Outcome::Failed;
            }
        }
    }),
    ("corrupted", |events| {
        events.iter_mut().filter_map(shown_mut).nth(5).unwrap().hash ^= 1;
    }),
    ("corrupted", |events| {
        events.iter_mut().filter_map(shown_mut).nth(5).unwrap().item = None;
    }),
    ("misattributed", |events| {
        events.iter_mut().filter_map(shown_mut).nth(5).unwrap().author ^= 4;
    }),
    ("cross-user-leak", |events| {
        let shown = events.iter_mut().filter_map(shown_mut).nth(5).unwrap();
        shown.user ^= 2;
    }),
    ("divergent-order", |events| {
        swap_bodies(events, |a, b| {
            a.user == b.user && a.device == b.device && a.log == b.log && a.author == b.author
        });
    }),
    ("sender-reorder", |events| {
        swap_bodies(events, |a, b| {
            a.user == b.user && a.device == b.device && a.log == b.log && a.author == b.author
        });
    }),
    // In the log, a reply moves before its question.
    ("causal-reorder", |events| {
        let authors: BTreeMap<u64, u64> = events
            .iter_mut()
            .filter_map(shown_mut)
            .filter_map(|s| Some((s.item?, s.author)))
            .collect();
        for event in events {
            if let Event::Read(read) = event {
                let author =
                    |n: usize, read: &crate::history::ReadBack| authors.get(&read.items[n].item.unwrap()).copied();
                let n = (0..read.items.len() - 20)
                    .find(|n| author(*n, read) != author(n + 20, read))
                    .unwrap();
                let reply = read.items.remove(n + 20);
                read.items.insert(n, reply);
                return;
            }
        }
    }),
    ("stream-regress", |events| {
        let shown = events.iter_mut().filter_map(shown_mut).nth(60).unwrap();
        shown.sequence = 1;
    }),
    // Within one connection it comes twice, and the device drops it.
    ("stream-regress", |events| {
        let last = last_shown(events, 2, 1);
        events.push(Event::Shown(Shown {
            at: last.at.plus(Duration::from_millis(1)),
            sequence: last.sequence - 3,
            repeated_on_wire: true,
            ..last
        }));
    }),
    // The device saw the gap, showed nothing and asked again: what was missing came then.
    ("stream-gap", |events| {
        let last = last_shown(events, 2, 1);
        gave_up(events, last.at.plus(Duration::from_millis(1)), LOST_TO_A_GAP);
    }),
    ("stream-gap", |events| {
        let (user, device) = (2, 1);
        let mine = events
            .iter_mut()
            .filter_map(shown_mut)
            .filter(|s| s.user == user && s.device == device);
        for shown in mine.skip(10) {
            shown.sequence += 1;
        }
    }),
    // What the resumed stream begins with is not the next, so nothing of it is shown.
    ("bad-resume", |events| {
        let last = last_shown(events, 2, 1);
        let after = |ms| last.at.plus(Duration::from_millis(ms));
        gave_up(events, after(1), "reset");
        let connected = SessionChange::Connected {
            connection: 2,
            after: last.sequence,
        };
        push_session(events, after(2), connected);
        gave_up(events, after(3), LOST_TO_A_GAP);
    }),
    ("bad-resume", |events| {
        let last = last_shown(events, 2, 1);
        gave_up(events, last.at, "reset");
        push_session(
            events,
            last.at.plus(Duration::from_millis(2)),
            SessionChange::Connected {
                connection: 2,
                after: last.sequence,
            },
        );
        let sequence = last.sequence;
        let at = last.at.plus(Duration::from_millis(5));
        events.push(Event::Shown(Shown {
            at,
            connection: 2,
            sequence,
            repeated_on_wire: true,
            ..last
        }));
    }),
    ("false-current", |events| {
        let last = last_shown(events, 2, 1);
        let at = last.at.plus(Duration::from_millis(1));
        push_session(
            events,
            at,
            SessionChange::Current {
                sequence: last.sequence - 1,
                incarnation: 1,
            },
        );
    }),
    // The other device of the account had it before this connection was opened.
    ("false-current", |events| {
        let last = last_shown(events, 2, 1);
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == last.item && s.device == 1));
        gave_up(events, last.at.plus(Duration::from_millis(40)), "reset");
        push_session(
            events,
            last.at.plus(Duration::from_millis(50)),
            SessionChange::Connected {
                connection: 2,
                after: last.sequence - 1,
            },
        );
        push_session(
            events,
            last.at.plus(Duration::from_millis(60)),
            SessionChange::Current {
                sequence: last.sequence - 1,
                incarnation: 1,
            },
        );
    }),
    ("account", |events| {
        for op in events.iter_mut().filter_map(op_mut) {
            if let Subject::Account { phone, .. } = &mut op.subject {
                *phone = "+1".to_owned();
            }
        }
    }),
    // Asked again after the load, the number gets another account.
    ("account", |events| {
        let (user, _) = asked_again(events).nth(2).unwrap();
        *user = Some(77);
    }),
    // It gets the same one, but as a new one.
    ("account", |events| {
        let (_, created) = asked_again(events).nth(2).unwrap();
        *created = Some(true);
    }),
    ("account", |events| {
        for op in events.iter_mut().filter_map(op_mut) {
            if op.class == Class::LogIn {
                op.outcome = Outcome::Failed;
                op.error = Some("NOT_FOUND".to_owned());
                return;
            }
        }
    }),
    ("consensus", |events| {
        groups(events, |node, _, group| group.leader |= node == "n2");
    }),
    ("consensus", |events| {
        groups(events, |node, at, group| {
            if node == "n3" && at > Nanos::from_millis(6000) && at < Nanos::from_millis(7000) {
                group.commit -= 3000;
            }
        });
    }),
    ("consensus", |events| {
        groups(events, |_, at, group| {
            if at > Nanos::from_millis(14_000) {
                group.commit = 5;
            }
        });
    }),
    ("consensus", |events| {
        groups(events, |node, _, group| {
            if node == "n3" && group.digest != 0 {
                group.digest += 1;
            }
        });
    }),
    ("stuck", |events| {
        for op in events.iter_mut().filter_map(op_mut) {
            if op.intended >= Nanos::from_millis(9400) && op.class == Class::Send {
                op.outcome = Outcome::Unknown;
            }
        }
    }),
    ("stuck", |events| {
        let item = events.iter().rev().find_map(send_ok).unwrap();
        unshow(events, item);
        not_drained(events);
    }),
    ("stuck", |events| {
        let item = events.iter().rev().find_map(send_ok).unwrap();
        unanswered(events, item);
        unshow(events, item);
        not_drained(events);
    }),
    ("node-exit", |events| {
        for event in events {
            if let Event::Process(process) = event {
                process.change = ProcessChange::Ended {
                    how: "signal 6".to_owned(),
                    asked_for: false,
                };
                process.at = Nanos::from_millis(8000);
                return;
            }
        }
    }),
];

/// Spoils that leave a promise open instead of breaking it.
const DOUBTS: &[Spoil] = &[
    ("unseen", |events| {
        let item = acked(events, 30);
        unshow(events, item);
        close_streams(events);
    }),
    ("unseen", |events| {
        let item = acked(events, 30);
        unanswered(events, item);
        unshow(events, item);
        close_streams(events);
    }),
    ("lost-acked", |events| {
        for event in events {
            if let Event::Read(read) = event {
                read.complete = false;
            }
        }
    }),
    // The drain's time was up, and the nodes say themselves that they still owe.
    ("lost-acked", |events| {
        let last: Vec<u64> = events.iter().rev().filter_map(send_ok).take(5).collect();
        for item in last {
            unshow(events, item);
        }
        backlog(events, 5);
    }),
    // Nobody was asked again.
    ("account", |events| {
        events.retain(
            |e| !matches!(e, Event::Op(op) if op.class == Class::SignUp && op.sent > Nanos::from_millis(13_000)),
        );
    }),
    ("stuck", |events| {
        gave_up(events, Nanos::from_millis(12_900), "reset");
        not_drained(events);
    }),
    ("phantom", |events| {
        events.iter_mut().filter_map(shown_mut).next().unwrap().item = Some(77_777_777);
        events.retain(|e| !matches!(e, Event::Phase(p) if p.phase == Phase::TearDown));
    }),
    ("assumptions", |events| {
        events.retain(|e| !matches!(e, Event::Phase(p) if p.phase == Phase::TearDown));
    }),
    ("assumptions", |events| {
        let op = events.iter_mut().filter_map(op_mut).nth(100).unwrap();
        op.sent = op.done.plus(Duration::from_millis(1));
    }),
    // Somebody was there before the run signed anybody up.
    ("assumptions", |events| {
        let first = events
            .iter_mut()
            .filter_map(op_mut)
            .find(|op| op.class == Class::SignUp);
        if let Subject::Account { created, .. } = &mut first.unwrap().subject {
            *created = Some(false);
        }
    }),
    // A log held something before the first that the run put there.
    ("assumptions", |events| {
        let read = events.iter_mut().find_map(|event| match event {
            Event::Read(read) if !read.items.is_empty() => Some(read),
            _ => None,
        });
        let items = &mut read.unwrap().items;
        for item in items.iter_mut() {
            item.position += 1;
        }
        let mut older = items[0].clone();
        (older.position, older.item) = (1, Some(88_888_888));
        items.insert(0, older);
    }),
    // A retry did not wait for the attempt before it.
    ("assumptions", |events| {
        let retry = events.iter_mut().filter_map(op_mut).find(|op| op.attempt == 2).unwrap();
        retry.sent = retry.intended;
    }),
    // A device had two streams at a time.
    ("assumptions", |events| {
        let opened = events.iter().find(|event| match event {
            Event::Session(session) => matches!(session.change, SessionChange::Connected { .. }),
            _ => false,
        });
        let Some(Event::Session(mut again)) = opened.cloned() else {
            panic!("a device opened a stream")
        };
        again.at = again.at.plus(Duration::from_millis(500));
        again.change = SessionChange::Connected {
            connection: 2,
            after: 0,
        };
        events.push(Event::Session(again));
    }),
    // One replica stays at another index than the others.
    ("consensus", |events| {
        groups(events, |node, at, group| {
            if node == "n3" && at > Nanos::from_millis(13_000) {
                (group.applied, group.digest) = (1, 8);
            }
        });
    }),
    // One node says nothing any more.
    ("consensus", |events| mute(events, "n3", Nanos::from_millis(13_000))),
    // Nobody was asked for a digest.
    ("consensus", |events| groups(events, |_, _, group| group.digest = 0)),
    // One node never said anything.
    ("consensus", |events| mute(events, "n3", Nanos(0))),
    ("coverage", |events| {
        for event in events {
            if let Event::Fault(fault) = event
                && matches!(fault.change, FaultChange::Installed { .. })
            {
                fault.change = FaultChange::Indeterminate {
                    reason: "no probe came back".to_owned(),
                };
                return;
            }
        }
    }),
];

#[test]
fn what_is_lost_on_one_replica_only_is_told_apart_from_what_is_lost_on_all() {
    let script = script();
    let witness = |odd: &str| {
        let mut events = script.events();
        let item = acked(&events, 100);
        unread(&mut events, item);
        for op in events.iter_mut().filter_map(op_mut) {
            op.needs = "shard:0".to_owned();
        }
        groups(&mut events, |node, _, group| {
            if node == odd && group.digest != 0 {
                group.digest += 1;
            }
        });
        let found = &findings(&script, events)["lost-acked"];
        assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
        found.witness.clone().unwrap_or_default()
    };
    let all = witness("nobody");
    assert!(all.contains("lost from the middle, on all replicas alike"), "{all}");
    let one = witness("n1");
    assert!(one.contains("on one replica only: n1, which answered"), "{one}");
    let others = witness("n3");
    assert!(others.contains("on more than one replica: n3 differs"), "{others}");
}

/// Exchanges what was shown by two neighbouring events that `same` allows, far enough apart that their sends did not
/// overlap.
fn swap_bodies(events: &mut [Event], same: fn(&Shown, &Shown) -> bool) {
    let shown: Vec<(usize, Shown)> = events
        .iter()
        .enumerate()
        .filter_map(|(n, e)| match e {
            Event::Shown(s) if s.at < Nanos::from_millis(4000) => Some((n, s.clone())),
            _ => None,
        })
        .collect();
    let apart = Duration::from_millis(30);
    let (a, b) = shown
        .iter()
        .enumerate()
        .find_map(|(n, (a, first))| {
            let later = &shown[n + 1..];
            let found = later
                .iter()
                .find(|(_, s)| same(first, s) && s.at.since(first.at) > apart);
            found.map(|(b, _)| (*a, *b))
        })
        .unwrap();
    let (first, second) = events.split_at_mut(b);
    let (first, second) = (shown_mut(&mut first[a]).unwrap(), shown_mut(&mut second[0]).unwrap());
    std::mem::swap(&mut first.item, &mut second.item);
    std::mem::swap(&mut first.hash, &mut second.hash);
    std::mem::swap(&mut first.position, &mut second.position);
}

fn last_shown(events: &mut [Event], user: u64, device: u32) -> Shown {
    let mine = events.iter_mut().filter_map(shown_mut);
    mine.filter(|s| s.user == user && s.device == device)
        .last()
        .unwrap()
        .clone()
}

/// The answers to the sign-ups after the load: the account, and whether it was made then.
fn asked_again(events: &mut [Event]) -> impl Iterator<Item = (&mut Option<u64>, &mut Option<bool>)> {
    let late = events
        .iter_mut()
        .filter_map(op_mut)
        .filter(|op| op.sent > Nanos::from_millis(13_000));
    late.filter_map(|op| match &mut op.subject {
        Subject::Account { user, created, .. } => Some((user, created)),
        _ => None,
    })
}

/// Device 1 of user 2 loses its stream.
fn gave_up(events: &mut Vec<Event>, at: Nanos, reason: &str) {
    let reason = reason.to_owned();
    push_session(events, at, SessionChange::Lost { reason });
}

fn push_session(events: &mut Vec<Event>, at: Nanos, change: SessionChange) {
    events.push(Event::Session(crate::history::SessionEvent {
        at,
        system: "main".to_owned(),
        session: 21,
        user: 2,
        device: 1,
        change,
    }));
}

/// `node` gives no answer from `from` on.
fn mute(events: &mut [Event], node: &str, from: Nanos) {
    for event in events {
        if let Event::Observed(observed) = event
            && observed.node == node
            && observed.at >= from
        {
            observed.status = None;
        }
    }
}

fn groups(events: &mut [Event], change: impl Fn(&str, Nanos, &mut crate::history::GroupStatus)) {
    for event in events {
        if let Event::Observed(observed) = event
            && let Some(status) = &mut observed.status
        {
            for group in &mut status.groups {
                change(&observed.node, observed.at, group);
            }
        }
    }
}

#[test]
fn every_spoilt_history_is_caught_by_its_promise() {
    let script = script();
    let good = script.events();
    let mut missed = Vec::new();
    for (number, (name, spoil)) in SPOILS.iter().enumerate() {
        let mut events = good.clone();
        spoil(&mut events);
        let found = &findings(&script, events)[name];
        let Some(witness) = found.witness.as_deref().filter(|_| found.verdict == Verdict::Fail) else {
            missed.push(format!("spoil {number} is for {name}: {found:?}"));
            continue;
        };
        assert!(
            witness.len() > 20 && witness.contains(char::is_numeric),
            "a witness names things: {witness}"
        );
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn what_can_not_be_told_is_unknown_and_not_a_failure() {
    let script = script();
    let good = script.events();
    let mut sure = Vec::new();
    for (number, (name, spoil)) in DOUBTS.iter().enumerate() {
        let mut events = good.clone();
        spoil(&mut events);
        let found = &findings(&script, events)[name];
        if found.verdict != Verdict::Unknown || found.reason.is_none() {
            sure.push(format!("doubt {number} is for {name}: {found:?}"));
        }
    }
    assert!(sure.is_empty(), "taken for certain: {sure:#?}");
}

#[test]
fn every_promise_has_a_history_that_makes_it_fail_or_doubt() {
    let mut covered: BTreeSet<&str> = SPOILS.iter().chain(DOUBTS).map(|(name, _)| *name).collect();
    covered.extend(groups::SPOILS.iter().map(|(name, _)| *name));
    covered.extend(contacts::COVERED);
    covered.extend(announced::COVERED);
    covered.extend(ownership::COVERED);
    covered.extend(home::SPOILS.iter().map(|(name, _)| *name));
    for promise in ALL {
        assert!(covered.contains(promise.name()), "nothing spoils {}", promise.name());
    }
}

#[test]
fn names_are_unique_and_kebab_case() {
    let names: BTreeSet<_> = ALL.iter().map(|p| p.name()).collect();
    assert_eq!(names.len(), ALL.len());
    for promise in ALL {
        assert!(promise.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        assert!(promise.about().len() > 20 && super::promise_named(promise.name()).is_some());
    }
}

/// Of two sign-ups of one number at a time the one that was sent later may be carried out first. Only an account that was
/// found before any of them was sent is a stranger's.
#[test]
fn sign_ups_at_one_time_find_each_others_account_and_not_a_strangers() {
    let script = script();
    for (later, verdict) in [(false, Verdict::Pass), (true, Verdict::Unknown)] {
        let mut events = script.events();
        let first = events
            .iter_mut()
            .filter_map(op_mut)
            .find(|op| op.class == Class::SignUp)
            .unwrap();
        let mut maker = first.clone();
        (maker.id, maker.session) = (900_001, 900_001);
        first.done = first.done.max(first.sent.plus(Duration::from_millis(2)));
        maker.sent = if later { first.done } else { first.sent }.plus(Duration::from_millis(1));
        (maker.intended, maker.done) = (maker.sent, maker.sent.plus(Duration::from_millis(5)));
        let Subject::Account { created, .. } = &mut first.subject else {
            panic!("a sign-up is of an account")
        };
        *created = Some(false);
        events.push(Event::Op(maker));
        let found = findings(&script, events);
        assert_eq!(found["assumptions"].verdict, verdict, "{:?}", found["assumptions"]);
    }
}

#[test]
fn an_unknown_send_that_nobody_saw_is_no_loss() {
    let script = script();
    let mut events = script.events();
    let item = acked(&events, 100);
    unread(&mut events, item);
    unshow(&mut events, item);
    close_streams(&mut events);
    for op in events.iter_mut().filter_map(op_mut) {
        if matches!(op.subject, Subject::Item { item: i, .. } if i == item) {
            op.outcome = Outcome::Unknown;
        }
    }
    let found = findings(&script, events);
    assert_eq!(found["lost-acked"].verdict, Verdict::Pass);
}

#[test]
fn under_a_key_a_later_write_replaces_an_earlier_one() {
    let script = Script { devices: 0, ..script() };
    let put = |keep: usize| {
        let mut events = script.events();
        for event in &mut events {
            match event {
                Event::Op(op) => {
                    if let Subject::Item { log, owed, .. } = &mut op.subject {
                        *log = log.replace("c:", "k:");
                        owed.clear();
                    }
                }
                Event::Read(read) => {
                    read.log = read.log.replace("c:", "k:");
                    let kept = read.items.remove(if keep == 0 { 0 } else { read.items.len() - keep });
                    read.items = vec![kept];
                }
                _ => {}
            }
        }
        findings(&script, events)["lost-acked"].clone()
    };
    assert_eq!(put(1).verdict, Verdict::Pass, "the last write is what is left");
    assert_eq!(put(0).verdict, Verdict::Fail, "the first write can not be what is left");
}

/// A load of which nothing succeeds once the service could have been disturbed.
fn never_again(keep: fn(Phase) -> bool) -> Finding {
    let script = Script {
        outages: Vec::new(),
        ..script()
    };
    let mut events = script.events();
    for op in events.iter_mut().filter_map(op_mut) {
        if op.class == Class::Send {
            op.outcome = Outcome::Failed;
        }
    }
    events.retain(|e| !matches!(e, Event::Phase(p) if !keep(p.phase)));
    findings(&script, events)["stuck"].clone()
}

#[test]
fn nobody_is_stuck_who_was_never_steady_or_was_not_asked_to_the_end() {
    assert_eq!(never_again(|_| true).verdict, Verdict::Fail);
    let never_steady = never_again(|phase| matches!(phase, Phase::Prepare | Phase::WarmUp | Phase::TearDown));
    assert_eq!(never_steady.verdict, Verdict::NotJudged, "{never_steady:?}");
    let interrupted = never_again(|phase| phase <= Phase::Settle || phase == Phase::TearDown);
    assert_eq!(interrupted.verdict, Verdict::NotJudged, "{interrupted:?}");
    assert!(interrupted.reason.is_some_and(|reason| reason.contains("ended before")));
}

#[test]
fn an_older_word_that_is_written_later_takes_nothing_back() {
    let script = Script::default();
    let told = |asked: u64| {
        let mut events = script.events();
        let mut word = events.iter().find_map(|event| match event {
            Event::Observed(seen) if seen.node == "n1" && seen.at > Nanos::from_millis(6000) => Some(seen.clone()),
            _ => None,
        });
        let word = word.as_mut().unwrap();
        let later = word.at.plus(Duration::from_millis(5));
        word.status.as_mut().unwrap().groups[0].commit -= 1;
        (word.at, word.asked) = (later, Some(later.minus(Duration::from_millis(asked))));
        events.push(Event::Observed(word.clone()));
        findings(&script, events)["consensus"].verdict
    };
    assert_eq!(told(10), Verdict::Pass, "it was asked before the other had answered");
    assert_eq!(told(1), Verdict::Fail);
}

#[test]
fn a_node_that_was_left_dead_is_named_as_the_reason_why_replicas_were_not_compared() {
    let script = script();
    let mut events = script.events();
    mute(&mut events, "n2", Nanos::from_millis(12_000));
    events.push(Event::Process(ProcessEvent {
        at: Nanos::from_millis(12_000),
        system: "main".to_owned(),
        node: "n2".to_owned(),
        pid: 7,
        change: ProcessChange::Ended {
            how: "signal 9".to_owned(),
            asked_for: true,
        },
    }));
    let found = &findings(&script, events)["consensus"];
    assert_eq!(found.verdict, Verdict::Unknown, "{found:?}");
    let reason = found.reason.as_deref().unwrap();
    assert!(reason.contains("n2 was ended on purpose (signal 9)"), "{reason}");
    assert!(reason.contains("n1 was at"), "{reason}");
}

#[test]
fn what_a_group_that_nobody_leads_owes_is_not_known() {
    let script = script();
    let mut events = script.events();
    let item = events.iter().rev().find_map(send_ok).unwrap();
    unshow(&mut events, item);
    groups(&mut events, |_, at, group| {
        group.leader &= at < Nanos::from_millis(13_000)
    });
    assert_eq!(findings(&script, events)["lost-acked"].verdict, Verdict::Unknown);
}

#[test]
fn a_drain_that_did_not_end_though_every_device_is_current_was_another_systems() {
    let script = script();
    let mut events = script.events();
    let ends: Vec<Event> = events
        .iter()
        .filter_map(|event| match event {
            Event::Session(s) if matches!(s.change, SessionChange::Current { .. }) => {
                let mut told = s.clone();
                told.at = Nanos::from_millis(15_000);
                told.change = SessionChange::Current {
                    sequence: 1_000_000,
                    incarnation: 1,
                };
                Some(Event::Session(told))
            }
            _ => None,
        })
        .collect();
    events.extend(ends);
    not_drained(&mut events);
    assert_eq!(findings(&script, events.clone())["stuck"].verdict, Verdict::Unknown);
    let other = Event::Process(ProcessEvent {
        at: Nanos(0),
        system: "other".to_owned(),
        node: "n1".to_owned(),
        pid: 8,
        change: ProcessChange::Started,
    });
    events.push(other);
    assert_eq!(findings(&script, events)["stuck"].verdict, Verdict::Pass);
}

#[test]
fn a_resumed_stream_may_begin_with_what_the_device_had_but_not_a_running_one() {
    let script = script();
    let good = script.events();
    let repeat = |connection: u32| {
        let mut events = good.clone();
        let last = last_shown(&mut events, 2, 1);
        for (n, sequence) in (1..).zip([last.sequence - 1, last.sequence]) {
            events.push(Event::Shown(Shown {
                at: last.at.plus(Duration::from_millis(n)),
                connection,
                sequence,
                item: None,
                repeated_on_wire: true,
                ..last.clone()
            }));
        }
        // What it carries is not looked at here.
        for event in &mut events {
            if let Event::Shown(shown) = event
                && shown.repeated_on_wire
            {
                shown.item = good.iter().find_map(|e| match e {
                    Event::Shown(s) if (s.user, s.device, s.sequence) == (2, 1, shown.sequence) => s.item,
                    _ => None,
                });
            }
        }
        findings(&script, events)["stream-regress"].verdict
    };
    assert_eq!(repeat(2), Verdict::Pass);
    assert_eq!(repeat(1), Verdict::Fail);
}

#[test]
fn of_a_read_in_mid_run_what_is_new_is_demanded_and_it_is_no_final_read() {
    let script = script();
    let good = script.events();
    let mut after = 0;
    let mut reads = Vec::new();
    for at_ms in [1500, 2500, 3900] {
        let read = mid_run(&good, at_ms, after);
        after = read.items.last().unwrap().position;
        reads.push(read);
    }
    let judged = |reads: &[ReadBack], whole: bool| {
        let mut events = good.clone();
        for event in &mut events {
            if let Event::Read(read) = event {
                read.complete = whole;
            }
        }
        events.extend(reads.iter().cloned().map(Event::Read));
        findings(&script, events)
    };
    let found = judged(&reads, true);
    let items: usize = reads.iter().map(|read| read.items.len()).sum();
    assert_eq!(found["stale"].verdict, Verdict::Pass, "{:?}", found["stale"]);
    assert_eq!(found["stale"].obligations, items as u64);
    // What one of them lacks that did not reach the end is not held against it.
    reads[1].items.pop();
    reads[1].complete = false;
    assert_eq!(judged(&reads, true)["stale"].verdict, Verdict::Pass);
    reads[1].complete = true;
    assert_eq!(judged(&reads, true)["stale"].verdict, Verdict::Fail);
    // Nor does any of them stand in for the final read.
    let found = judged(&reads, false);
    assert_eq!(
        found["lost-acked"].verdict,
        Verdict::Unknown,
        "{:?}",
        found["lost-acked"]
    );
    assert_ne!(found["vanished"].verdict, Verdict::Fail);
}

/// Anything at all may stand in a history that is read from a file.
fn arbitrary_spoil() -> impl Strategy<Value = Vec<(usize, u8, u64)>> {
    proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u64>()), 0..60)
}

fn disturb(events: &mut Vec<Event>, spoils: &[(usize, u8, u64)]) {
    for (place, how, value) in spoils {
        if events.is_empty() {
            return;
        }
        let place = place % events.len();
        let time = if value % 3 == 0 { Nanos(u64::MAX) } else { Nanos(*value) };
        match (how % 6, &mut events[place]) {
            (0, _) => {
                events.remove(place);
            }
            (1, Event::Shown(s)) => (s.at, s.sequence, s.position) = (time, *value, u64::MAX),
            (1, Event::Op(o)) => (o.done, o.sent) = (time, Nanos(u64::MAX - 1)),
            (1, Event::Fault(f)) => {
                f.change = FaultChange::Installed {
                    effective: time,
                    evidence: String::new(),
                }
            }
            (2, Event::Shown(s)) => (s.item, s.user, s.device) = (Some(*value), *value, u32::MAX),
            (2, Event::Op(o)) => (o.intended, o.outcome) = (time, Outcome::Unknown),
            (2, Event::Fault(f)) => {
                f.change = FaultChange::Healed {
                    healed: time,
                    evidence: String::new(),
                }
            }
            (3, Event::Session(s)) => {
                s.change = SessionChange::Connected {
                    connection: 9,
                    after: u64::MAX,
                }
            }
            (3, Event::Read(r)) => (r.began, r.ended) = (time, Nanos(0)),
            (3, Event::Phase(p)) => p.at = time,
            (4, _) => {
                let event = events[place].clone();
                events.insert((place * 7) % events.len(), event);
            }
            (_, Event::Observed(o)) => (o.at, o.status) = (time, None),
            _ => events.truncate(events.len() * 3 / 4),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_history_is_too_odd(spoils in arbitrary_spoil()) {
        let script = Script { load_end: Nanos::from_millis(9000), gap: Duration::from_millis(60), ..script() };
        let mut events = script.events();
        disturb(&mut events, &spoils);
        let history = History::new(script.header(), events);
        let found = judge(&history, ALL);
        prop_assert_eq!(found.len(), ALL.len());
        let rows = crate::recovery::rows(&history);
        prop_assert!(rows.iter().all(|row| row.bound_ms.is_finite()));
    }
}
