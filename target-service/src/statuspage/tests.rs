//! The board alone, and the promise over an outage that comes and goes.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn names(prefix: &str, many: u32) -> BTreeSet<String> {
    (1..=many).map(|i| format!("{prefix}{i}")).collect()
}

fn board(rule: Rule) -> Board {
    let options = BoardOptions {
        rule,
        backlog_calm: 5,
        ..BoardOptions::default()
    };
    Board::new(names("n", 3), names("gw", 2), names("shard", 2), options)
}

fn answers<T: Clone>(is: bool, value: T) -> Result<T, String> {
    if is {
        Ok(value)
    } else {
        Err("no answer within 300 ms".to_owned())
    }
}

/// What there is to see at one time.
#[derive(Clone, Copy, Debug)]
struct World {
    nodes: bool,
    gateways: bool,
    ways: bool,
    sessions: u64,
    backlog: u64,
}

const WELL: World = World {
    nodes: true,
    gateways: true,
    ways: true,
    sessions: 100,
    backlog: 2,
};

fn look(board: &mut Board, world: World, now: Duration) {
    for node in 1..=3 {
        let owes = if node == 1 { world.backlog } else { 0 };
        board.node(&format!("n{node}"), answers(world.nodes, owes), now);
    }
    let half = world.sessions / 2;
    board.gateway("gw1", answers(world.gateways, half), now);
    board.gateway("gw2", answers(world.gateways, world.sessions - half), now);
    for part in 1..=2 {
        board.way(&format!("shard{part}"), answers(world.ways, ()), now);
    }
}

fn see(board: &mut Board, world: World, now: Duration) -> Statement {
    look(board, world, now);
    board.say(now)
}

/// A board that has said that all is well, for the last time at 4 s.
fn calm(rule: Rule) -> Board {
    let mut board = board(rule);
    for second in 0..5 {
        see(&mut board, WELL, at(second * 1000));
    }
    board
}

#[test]
fn all_is_well_only_once_it_was_seen_and_has_lasted() {
    let mut board = board(Rule::Whole);
    assert_eq!(board.say(at(0)).said, Said::Unknown, "nothing was seen yet");
    let first = see(&mut board, WELL, at(0));
    assert_eq!(first.said, Said::Unknown);
    assert!(first.reasons[0].contains("not for 2000"), "{first:?}");
    assert_eq!(see(&mut board, WELL, at(1999)).said, Said::Unknown);
    let clear = see(&mut board, WELL, at(2000));
    assert_eq!(
        (clear.said, clear.sessions, clear.backlog),
        (Said::AllClear, Some(100), Some(2))
    );
    assert!(clear.reasons.is_empty());
}

#[test]
fn each_part_that_is_wrong_takes_the_all_clear_away_and_says_so() {
    let wrong = [
        (World { nodes: false, ..WELL }, Said::Degraded, "node n1"),
        (
            World {
                gateways: false,
                ..WELL
            },
            Said::Degraded,
            "gateway gw1",
        ),
        (World { ways: false, ..WELL }, Said::Down, "part shard1"),
        (
            World { sessions: 98, ..WELL },
            Said::Degraded,
            "98 sessions are there, of 100",
        ),
        (World { backlog: 6, ..WELL }, Said::Degraded, "6 entries"),
    ];
    for (world, said, words) in wrong {
        let mut board = calm(Rule::Whole);
        let statement = see(&mut board, world, at(5000));
        assert_eq!(statement.said, said, "{statement:?}");
        assert!(
            statement.reasons.iter().any(|reason| reason.contains(words)),
            "{statement:?}"
        );
        // And it doesn't come back before it has lasted.
        assert_eq!(see(&mut board, WELL, at(5100)).said, Said::Unknown);
        assert_eq!(see(&mut board, WELL, at(7100)).said, Said::AllClear);
    }
}

#[test]
fn what_was_seen_long_ago_is_not_known_any_more() {
    let mut board = calm(Rule::Whole);
    assert_eq!(board.say(at(7000)).said, Said::AllClear);
    let blind = board.say(at(7001));
    assert_eq!((blind.said, blind.as_of), (Said::Unknown, Some(at(4000))));
    assert_eq!((blind.sessions, blind.backlog), (None, None));
    // Half of it wrong and half of it unknown is wrong.
    board.way("shard1", Err("x".to_owned()), at(7002));
    assert_eq!(board.say(at(7003)).said, Said::Degraded);
}

#[test]
fn a_board_without_anything_to_look_at_says_nothing_good() {
    let mut blind = Board::new(names("n", 0), names("g", 0), names("s", 0), BoardOptions::default());
    assert!((0..10).all(|second| blind.say(at(second * 1000)).said == Said::Unknown));
    // Strangers don't make it see, nor grow.
    blind.node("n1", Ok(0), at(9000));
    assert_eq!(blind.say(at(9000)).as_of, None);
}

#[test]
fn sessions_may_dwindle_but_not_vanish_and_an_operator_may_say_that_they_are_gone_for_good() {
    let mut board = calm(Rule::Whole);
    let slowly = World { sessions: 99, ..WELL };
    assert_eq!(see(&mut board, slowly, at(5000)).said, Said::AllClear);
    let gone = World { sessions: 50, ..WELL };
    for second in 6..100 {
        assert_eq!(see(&mut board, gone, at(second * 1000)).said, Said::Degraded);
    }
    board.rebase(at(99_000));
    assert_eq!(see(&mut board, gone, at(99_500)).said, Said::Unknown);
    assert_eq!(see(&mut board, gone, at(101_500)).said, Said::AllClear);
}

/// Ten minutes with an outage as in 2014: the back-end plane goes away; processes answer all the time; when it is back,
/// sessions come back slowly, and what was undelivered lasts longer still.
fn outage(rule: Rule) -> (Vec<Truth>, Vec<Heard>) {
    let mut board = board(rule);
    let (mut truth, mut heard) = (Vec::new(), Vec::new());
    for tick in 0..1200_u64 {
        let now = at(tick * 500);
        let second = tick / 2;
        let cut = (60..180).contains(&second);
        let world = World {
            ways: !cut,
            sessions: if cut {
                0
            } else if second < 180 {
                100
            } else {
                (second - 180).min(100)
            },
            backlog: match second {
                0..60 => 2,
                60..180 => (second - 60) * 10,
                _ => 1200_u64.saturating_sub((second - 180) * 6).max(2),
            },
            ..WELL
        };
        let well = world.ways && world.sessions >= 99 && world.backlog <= 5;
        truth.push(Truth { at: now, well });
        heard.push(Heard {
            at: now,
            said: Some(see(&mut board, world, now).said),
        });
    }
    (truth, heard)
}

#[test]
fn an_honest_page_says_when_it_begins_and_not_too_early_when_it_ends() {
    let (truth, mut heard) = outage(Rule::Whole);
    assert_eq!(false_all_clear(&truth, &heard, Duration::ZERO), None);
    let clear = |heard: &&Heard| heard.said == Some(Said::AllClear);
    assert!(heard.iter().filter(clear).count() > 500, "it does say so when it is so");
    assert!(heard.iter().any(|heard| heard.said == Some(Said::Down)));
    // And being silent in the midst of it is a breach as well.
    heard[200].said = None;
    let silent = Breach::Silent {
        at: at(100_000),
        since: at(60_000),
    };
    assert_eq!(false_all_clear(&truth, &heard, at(1000)), Some(silent));
}

#[test]
fn a_page_that_only_looks_at_processes_is_caught() {
    let (truth, heard) = outage(Rule::Processes);
    let breach = false_all_clear(&truth, &heard, at(5000)).expect("a false all-clear");
    assert_eq!(
        breach,
        Breach::FalseAllClear {
            at: at(180_000),
            since: at(60_000)
        }
    );
}

#[test]
fn a_false_all_clear_is_seen_wherever_it_stands() {
    let truth = [(0, true), (1000, false), (2000, false), (9000, true)].map(|(ms, well)| Truth { at: at(ms), well });
    let heard = |ms, said| {
        [Heard {
            at: at(ms),
            said: Some(said),
        }]
    };
    let grace = at(500);
    let breach = Some(Breach::FalseAllClear {
        at: at(8999),
        since: at(1000),
    });
    assert_eq!(false_all_clear(&truth, &heard(8999, Said::AllClear), grace), breach);
    for (ms, said) in [
        (999, Said::AllClear),
        (1500, Said::AllClear),
        (9000, Said::AllClear),
        (5000, Said::Unknown),
    ] {
        assert_eq!(false_all_clear(&truth, &heard(ms, said), grace), None, "{said} at {ms}");
    }
    assert_eq!(
        false_all_clear(&[], &heard(1, Said::AllClear), grace),
        None,
        "nothing is known"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the world does and however seldom it is looked at: what the page saw last and lately was all well, or it
    /// doesn't say so.
    #[test]
    fn an_all_clear_rests_on_what_was_seen_lately(
        steps in proptest::collection::vec((1_u64..2500, any::<bool>(), 0_u8..12, 90_u64..101, 0_u64..8), 1..80),
    ) {
        let mut board = board(Rule::Whole);
        let (mut now, mut seen): (Duration, Option<(Duration, World)>) = (Duration::ZERO, None);
        for (later, looks, broken, sessions, backlog) in steps {
            now += at(later);
            let world = World { nodes: broken != 0, gateways: broken != 1, ways: broken != 2, sessions, backlog };
            if looks {
                look(&mut board, world, now);
                seen = Some((now, world));
            }
            let before = board.say(now);
            if before.said == Said::AllClear {
                let (when, world) = seen.expect("something was seen");
                prop_assert!(now - when <= at(3000));
                prop_assert!(world.nodes && world.gateways && world.ways && world.backlog <= 5, "{world:?}");
                prop_assert!(world.sessions >= before.sessions_before * 99 / 100);
            }
            prop_assert!(before.said == Said::AllClear || !before.reasons.is_empty());
        }
    }
}
