//! What is promised of who owns a part, on a town whose shard moves from n1 to n4.

use super::town::{LOAD_END, Town, header};
use super::*;
use crate::check::ownership::Ownership;
use crate::history::{Class, Move, MovePhase, NodeStatus, Observed, Operation, Outcome, Placement, Subject};

/// Promises that the stories here break.
pub(super) const COVERED: [&str; 1] = ["ownership"];

/// When a node first says that the move is done, in milliseconds.
const DONE: u64 = 20_000;

fn observed(node: &str, ms: u64, moves: Vec<Move>, leads: bool) -> Event {
    let group = crate::history::GroupStatus {
        group: "shard:0".to_owned(),
        leader: leads,
        term: 4,
        ..crate::history::GroupStatus::default()
    };
    Event::Observed(Observed {
        at: Nanos::from_millis(ms),
        asked: Some(Nanos::from_millis(ms - 1)),
        system: "main".to_owned(),
        node: node.to_owned(),
        status: Some(NodeStatus {
            groups: vec![group],
            placement: Some(Placement { epoch: 3, moves }),
            ..NodeStatus::default()
        }),
    })
}

fn moved(id: u64, from: &str, to: &str, phase: MovePhase) -> Move {
    Move {
        id,
        group: "shard:0".to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        phase,
    }
}

fn read(town: &mut Town, ms: u64, by: &str, outcome: Outcome) -> Operation {
    let sent = Nanos::from_millis(ms);
    Operation {
        intended: sent,
        sent,
        done: sent.plus(Duration::from_millis(3)),
        answered_by: Some(by.to_owned()),
        outcome,
        ..town.operation(Class::Read, 1, Subject::Nothing)
    }
}

/// The shard moves; `by` answers a read each second, in this manner after the move.
fn story(by: &str, outcome: Outcome) -> Vec<Event> {
    let mut town = Town::of(2);
    town.events.push(observed(
        "n2",
        DONE - 2000,
        vec![moved(1, "n1", "n4", MovePhase::UnderWay)],
        false,
    ));
    town.events
        .push(observed("n2", DONE, vec![moved(1, "n1", "n4", MovePhase::Done)], false));
    for second in 3..LOAD_END / 1000 - 1 {
        let ms = second * 1000;
        let op = if ms > DONE {
            read(&mut town, ms, by, outcome)
        } else {
            read(&mut town, ms, "n1", Outcome::Ok)
        };
        town.events.push(Event::Op(op));
    }
    town.end()
}

fn judged(events: Vec<Event>) -> Finding {
    let history = History::new(header(), events);
    judge(&history, &[&Ownership]).remove(0)
}

#[test]
fn whoever_holds_it_answers_and_who_held_it_before_may_until_it_is_done() {
    let found = judged(story("n4", Outcome::Ok));
    assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
    assert!(found.obligations > 30);
}

#[test]
fn an_answer_of_the_former_owner_is_found() {
    let found = judged(story("n1", Outcome::Ok));
    assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
    let witness = found.witness.unwrap_or_default();
    assert!(witness.contains("n1 answered a read of shard:0"), "{witness}");
    assert!(
        witness.contains("moved from n1 to n4 by 20.000 s (epoch 3)"),
        "{witness}"
    );
}

#[test]
fn a_refusal_of_the_former_owner_is_none_but_somebody_has_to_answer() {
    let found = judged(story("n1", Outcome::Failed));
    assert_eq!((found.verdict, found.broken), (Verdict::Fail, 1), "{found:?}");
    assert!(
        found
            .witness
            .is_some_and(|witness| witness.contains("nobody answered for shard:0"))
    );
}

#[test]
fn a_node_that_knows_better_does_not_say_that_it_leads() {
    let mut events = story("n4", Outcome::Ok);
    let done = || vec![moved(1, "n1", "n4", MovePhase::Done)];
    events.push(observed(
        "n1",
        DONE - 1000,
        vec![moved(1, "n1", "n4", MovePhase::UnderWay)],
        true,
    ));
    assert_eq!(judged(events.clone()).verdict, Verdict::Pass, "it led until then");
    events.push(observed("n1", DONE + 1000, done(), true));
    let found = judged(events);
    assert!(
        found
            .witness
            .is_some_and(|witness| witness.contains("n1 said at 21.000 s that it leads"))
    );
}

#[test]
fn what_comes_back_is_owned_again() {
    let mut events = story("n1", Outcome::Ok);
    // Under way back before the first read after the move.
    let moves = vec![
        moved(1, "n1", "n4", MovePhase::Done),
        moved(2, "n2", "n1", MovePhase::UnderWay),
    ];
    events.push(observed("n3", DONE + 500, moves, false));
    let found = judged(events);
    assert_ne!(found.verdict, Verdict::Fail, "{found:?}");
}

#[test]
fn without_a_move_that_ended_nothing_is_judged() {
    let mut events = story("n4", Outcome::Ok);
    events.retain(|event| !matches!(event, Event::Observed(it) if it.at == Nanos::from_millis(DONE)));
    assert_eq!(judged(events).verdict, Verdict::NotJudged);
}
