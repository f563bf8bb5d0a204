//! What is promised of a status page, on a town whose people lose their sessions.

use super::town::{Town, header, session};
use super::*;
use crate::check::false_all_clear::FalseAllClear;
use crate::history::{Announced, SessionEvent, Statement, Word};

/// Promises that the stories here break.
pub(super) const COVERED: [&str; 1] = ["false-all-clear"];

/// When everybody loses the session, and when the last one is back, in milliseconds.
const LOST: u64 = 10_000;
const BACK: u64 = 24_000;

fn told(ms: u64, said: Option<Word>) -> Event {
    Event::Announced(Announced {
        asked: Nanos::from_millis(ms),
        at: Nanos::from_millis(ms + 3),
        system: "main".to_owned(),
        statement: said.map(|said| Statement {
            said,
            sessions: Some(8),
            sessions_before: 8,
            backlog: Some(0),
            reasons: Vec::new(),
        }),
    })
}

/// Everybody is away from [`LOST`] on and comes back one after the other; the page says what `says` says at each instant.
fn story(says: impl Fn(u64) -> Option<Word>) -> Vec<Event> {
    let mut town = Town::of(4);
    for user in 1..=4 {
        for device in 1..=2 {
            let change = |ms, change| {
                Event::Session(SessionEvent {
                    at: Nanos::from_millis(ms),
                    system: "main".to_owned(),
                    session: session(user, device),
                    user,
                    device,
                    change,
                })
            };
            let lost = SessionChange::Lost {
                reason: "closed".to_owned(),
            };
            let back = SessionChange::Connected {
                connection: 2,
                after: 0,
            };
            town.events.push(change(LOST, lost));
            let turn = (user - 1) * 2 + u64::from(device);
            town.events.push(change(BACK - (8 - turn) * 1000, back));
        }
    }
    let asked = (0..160).map(|n| n * 250);
    town.events.extend(asked.map(|ms| told(ms, says(ms))));
    town.end()
}

fn judged(says: impl Fn(u64) -> Option<Word>) -> Finding {
    let history = History::new(header(), story(says));
    judge(&history, &[&FalseAllClear]).remove(0)
}

/// An honest page: it takes three seconds to see it, and two to be sure.
fn honest(ms: u64) -> Option<Word> {
    Some(match ms {
        ms if !(LOST + 3000..BACK + 2000).contains(&ms) => Word::AllClear,
        ms if ms < BACK => Word::Degraded,
        _ => Word::Unknown,
    })
}

#[test]
fn a_page_that_waits_until_sessions_are_back_keeps_the_promise() {
    let found = judged(honest);
    assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    // Those between the time that it may take and the return.
    assert_eq!(found.obligations, (BACK - LOST - 4000) / 250);
}

#[test]
fn an_all_clear_before_the_last_is_back_is_false() {
    let found = judged(|ms| {
        if ms == BACK - 500 {
            Some(Word::AllClear)
        } else {
            honest(ms)
        }
    });
    assert_eq!((found.verdict, found.broken), (Verdict::Fail, 1), "{found:?}");
    let witness = found.witness.unwrap_or_default();
    assert!(witness.contains("said at 23.503 s that all is well"), "{witness}");
    assert!(
        witness.contains("from 10.000 s to 24.000 s: sessions were not back"),
        "{witness}"
    );
}

#[test]
fn a_page_that_shares_the_fate_is_caught_and_one_lost_answer_is_not_silence() {
    let silent = judged(|ms| (!(LOST..BACK).contains(&ms)).then_some(Word::AllClear));
    assert_eq!(silent.verdict, Verdict::Fail, "{silent:?}");
    assert!(
        silent
            .witness
            .is_some_and(|witness| witness.contains("said nothing from"))
    );
    let one = judged(|ms| (ms != LOST + 6000).then(|| honest(ms)).flatten());
    assert_eq!(one.verdict, Verdict::Pass, "{one:?}");
}

#[test]
fn a_service_that_was_always_well_proves_nothing_of_its_page() {
    let history = |events| History::new(header(), events);
    let town = Town::of(4);
    let mut events = town.end();
    let without = judge(&history(events.clone()), &[&FalseAllClear]).remove(0);
    assert_eq!(without.verdict, Verdict::NotJudged);
    assert!(without.reason.is_some_and(|reason| reason.contains("no status page")));
    events.extend((0..160).map(|n| told(n * 250, Some(Word::AllClear))));
    let well = judge(&history(events), &[&FalseAllClear]).remove(0);
    assert_eq!(well.verdict, Verdict::NotJudged, "{well:?}");
}

#[test]
fn what_was_acknowledged_and_not_shown_is_not_well_either() {
    let script = Script {
        outages: vec![Scripted::ms(4500, 5500, Effect::Stall)],
        ..script()
    };
    let mut events = script.events();
    events.extend((0..60).map(|n| told(n * 250, Some(Word::AllClear))));
    let history = History::new(script.header(), events);
    let found = judge(&history, &[&FalseAllClear]).remove(0);
    assert_eq!(
        found.verdict,
        Verdict::NotJudged,
        "its outage is shorter than the page may take: {found:?}"
    );
    let long = Script {
        outages: vec![Scripted::ms(4500, 12_000, Effect::Stall)],
        ..script
    };
    let mut events = long.events();
    events.extend((0..60).map(|n| told(n * 250, Some(Word::AllClear))));
    let history = History::new(long.header(), events);
    let found = judge(&history, &[&FalseAllClear]).remove(0);
    assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
    assert!(
        found
            .witness
            .is_some_and(|witness| witness.contains("no message was taken"))
    );
}
