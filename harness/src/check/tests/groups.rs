//! What is promised of groups and of whose something is, on a town's story and on spoilt ones.

use super::town::{GROUP, LOAD_END, Town, header};
use super::*;
use crate::history::{Answer, ChangeKind, GroupChange, Notice, Told};

/// Numbers of messages in [`story`].
#[derive(Clone, Copy)]
pub(super) struct Said {
    before: u64,
    first: u64,
    away: u64,
    back: u64,
    direct: u64,
}

/// 1, 2 and 3 have a group; 4 joins and looks, 3 is removed and comes back, 2 leaves; 5 belongs to nothing.
fn story() -> (Vec<Event>, Said) {
    let mut town = Town::of(5);
    town.change(ChangeKind::Create, 1, &[2, 3]);
    let before = town.say(2);
    town.look(2);
    town.change(ChangeKind::Join, 4, &[]);
    let first = town.say(1);
    town.look(4);
    town.change(ChangeKind::Remove, 1, &[3]);
    let away = town.say(4);
    town.change(ChangeKind::Add, 2, &[3]);
    let back = town.say(3);
    town.look(3);
    town.change(ChangeKind::Leave, 2, &[]);
    town.say(1);
    let direct = town.write(1, 2);
    let said = Said {
        before,
        first,
        away,
        back,
        direct,
    };
    (town.end(), said)
}

fn judged(events: Vec<Event>) -> BTreeMap<&'static str, Finding> {
    let history = History::new(header(), events);
    judge(&history, ALL).into_iter().map(|f| (f.name, f)).collect()
}

/// A way of spoiling the story, and the promise that must catch it.
type Spoil = (&'static str, fn(&mut Vec<Event>, Said));

pub(super) const SPOILS: &[Spoil] = &[
    ("own-device-staleness", |events, said| {
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(said.first) && s.user == 1 && s.device == 2));
    }),
    ("cross-user-leak", |events, said| also_show(events, said.direct, 5)),
    ("membership-leak", |events, said| also_show(events, said.away, 3)),
    ("history-leak", |events, said| {
        let read = group_read(events);
        let before = read
            .items
            .iter()
            .find(|it| it.item == Some(said.before))
            .unwrap()
            .clone();
        if let Answer::Log { items, .. } = &mut told_mut(events, 4).answer {
            items.insert(0, before);
        }
    }),
    ("missed-after-join", |events, said| {
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(said.first) && s.user == 4 && s.device == 2));
    }),
    ("outsider-accepted", |events, said| {
        let read = group_read(events);
        read.items
            .iter_mut()
            .find(|it| it.item == Some(said.away))
            .unwrap()
            .author = 5;
    }),
];

fn spoilt(name: &str) -> BTreeMap<&'static str, String> {
    let (_, spoil) = SPOILS.iter().find(|(known, _)| *known == name).unwrap();
    broken(spoil)
}

/// The promises that are broken by a spoilt story.
fn broken(spoil: impl FnOnce(&mut Vec<Event>, Said)) -> BTreeMap<&'static str, String> {
    let (mut events, said) = story();
    spoil(&mut events, said);
    let found = judged(events).into_values();
    let failed = found.filter(|f| f.verdict == Verdict::Fail);
    failed.map(|f| (f.name, f.witness.unwrap_or_default())).collect()
}

/// Shows `item`, as somebody was shown it, on a device of `user` as the last of its stream.
fn also_show(events: &mut Vec<Event>, item: u64, user: u64) {
    let shown = events
        .iter_mut()
        .filter_map(shown_mut)
        .find(|s| s.item == Some(item))
        .unwrap()
        .clone();
    let next = events.iter().filter_map(|event| match event {
        Event::Shown(s) if (s.user, s.device) == (user, 1) => Some(s.sequence),
        Event::Noticed(n) if (n.user, n.device) == (user, 1) => Some(n.sequence),
        _ => None,
    });
    let sequence = next.max().unwrap_or(0) + 1;
    events.push(Event::Shown(Shown {
        at: Nanos::from_millis(LOAD_END - 1),
        session: town::session(user, 1),
        user,
        device: 1,
        sequence,
        ..shown
    }));
}

fn group_read(events: &mut [Event]) -> &mut ReadBack {
    let mut reads = events.iter_mut().filter_map(|event| match event {
        Event::Read(read) if read.log == GROUP => Some(read),
        _ => None,
    });
    reads.next().unwrap()
}

fn told_mut(events: &mut [Event], user: u64) -> &mut Told {
    let mut told = events.iter_mut().filter_map(|event| match event {
        Event::Told(told) if told.user == user => Some(told),
        _ => None,
    });
    told.next().unwrap()
}

#[test]
fn an_honest_town_breaks_nothing_and_exercises_everything_of_groups() {
    let found = judged(story().0);
    for finding in found.values() {
        assert!(
            finding.verdict != Verdict::Fail && finding.verdict != Verdict::Unknown,
            "{finding:?}"
        );
    }
    for (name, _) in SPOILS {
        assert_eq!(found[name].verdict, Verdict::Pass, "{name}");
    }
    // 4 and 3 came later and looked; 2 looked as well, but had been there from the start.
    assert_eq!(found["history-leak"].obligations, 2);
    // Three that had the group made for them, 4, and 3 again, on two devices each.
    assert_eq!(found["missed-after-join"].obligations, 10);
    // Three kinds of things stand in the group: its five messages, its five changes, and what was answered to those.
    assert_eq!(found["outsider-accepted"].obligations, 15);
}

#[test]
fn what_nobody_did_is_not_judged() {
    let mut town = Town::of(2);
    town.write(1, 2);
    let found = judged(town.events);
    assert_eq!(found["cross-user-leak"].verdict, Verdict::Pass);
    for (name, _) in &SPOILS[2..] {
        assert_eq!(found[name].verdict, Verdict::NotJudged, "{name}");
        assert!(found[name].reason.is_some());
    }
}

#[test]
fn a_group_that_was_not_read_to_its_end_leaves_its_promises_untold() {
    let (mut events, _) = story();
    group_read(&mut events).complete = false;
    let found = judged(events);
    for name in ["membership-leak", "history-leak", "lost-acked"] {
        assert_eq!(found[name].verdict, Verdict::Unknown, "{name}");
    }
    // Answers said how many members there are.
    assert_eq!(found["outsider-accepted"].verdict, Verdict::Pass);
}

#[test]
fn a_message_between_two_is_nobody_elses() {
    let broken = spoilt("cross-user-leak");
    assert!(
        broken["cross-user-leak"].contains("none of user 5's business"),
        "{broken:?}"
    );
    assert_eq!(broken.len(), 1, "{broken:?}");
}

#[test]
fn a_message_in_a_group_is_not_for_who_never_belonged_to_it() {
    let broken = broken(|events, said| also_show(events, said.back, 5));
    assert_eq!(broken.keys().collect::<Vec<_>>(), [&"cross-user-leak"], "{broken:?}");
}

#[test]
fn a_notice_of_a_group_is_not_for_who_never_belonged_to_it() {
    let broken = broken(|events, _| {
        let noticed = events.iter().find_map(|event| match event {
            Event::Noticed(noticed) if noticed.user == 2 => Some(noticed.clone()),
            _ => None,
        });
        let noticed = noticed.unwrap();
        events.push(Event::Noticed(crate::history::Noticed {
            user: 5,
            session: town::session(5, 1),
            ..noticed
        }));
    });
    assert!(broken["cross-user-leak"].contains("never belonged"), "{broken:?}");
}

#[test]
fn who_was_removed_is_given_nothing_until_it_is_back() {
    let broken = spoilt("membership-leak");
    assert!(
        broken["membership-leak"].contains("from 1 to 5 and from 7 on"),
        "{broken:?}"
    );
    assert!(!broken.contains_key("cross-user-leak"));
}

#[test]
fn who_left_hears_of_no_change_after_its_own_leaving() {
    let told = |position: u64| {
        broken(move |events, _| {
            let noticed = events.iter_mut().find_map(|event| match event {
                Event::Noticed(noticed) if noticed.user == 2 => Some(noticed),
                _ => None,
            });
            let log = GROUP.to_owned();
            let change = GroupChange {
                position,
                kind: ChangeKind::Join,
                actor: 4,
                client_id: 0,
                users: vec![4],
            };
            noticed.unwrap().notice = Notice::Change { log, change };
        })
    };
    assert!(told(12)["membership-leak"].contains("was told"));
    assert!(told(8).is_empty(), "while it belonged to it, it hears");
}

#[test]
fn who_does_not_belong_to_a_group_may_not_look_at_it() {
    let broken = broken(|events, _| {
        // 3, while it was removed.
        let told = told_mut(events, 3);
        let Answer::Log {
            last_position,
            items,
            changes,
            ..
        } = &mut told.answer
        else {
            return;
        };
        *last_position = 6;
        items.retain(|it| it.position <= 6);
        changes.retain(|it| it.position <= 6);
    });
    assert!(broken["membership-leak"].contains("user 3 read c:900"), "{broken:?}");
}

#[test]
fn a_member_does_not_read_what_was_said_before_it_came() {
    let broken = spoilt("history-leak");
    assert!(broken["history-leak"].contains("from position 2 on"), "{broken:?}");
    assert_eq!(broken.len(), 1, "{broken:?}");
}

#[test]
fn the_first_message_after_a_joining_is_owed() {
    let broken = spoilt("missed-after-join");
    assert!(
        broken["missed-after-join"].contains("lost from the middle"),
        "{broken:?}"
    );
    assert!(
        broken.contains_key("lost-acked"),
        "what is owed to a member is owed like anything else"
    );
}

#[test]
fn what_somebody_sent_is_owed_to_its_other_device_and_not_to_the_one_that_sent_it() {
    let other = spoilt("own-device-staleness");
    assert!(
        other["own-device-staleness"].contains("device 2 of user 1"),
        "{other:?}"
    );
    let own = broken(|events, said| {
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(said.first) && s.user == 1 && s.device == 1));
    });
    assert!(!own.contains_key("own-device-staleness"), "{own:?}");
    // 1 said something last: while a node still owes, that may be on its way.
    let (mut events, _) = story();
    let last = events
        .iter_mut()
        .filter_map(shown_mut)
        .filter(|s| s.user == 1 && s.device == 2)
        .map(|s| s.at)
        .max();
    events.retain(|e| !matches!(e, Event::Shown(s) if s.user == 1 && s.device == 2 && Some(s.at) == last));
    backlog(&mut events, 3);
    assert_eq!(judged(events)["own-device-staleness"].verdict, Verdict::Unknown);
}

#[test]
fn a_later_message_that_is_missing_is_lost_but_not_missed_after_joining() {
    let broken = broken(|events, said| {
        events.retain(|e| !matches!(e, Event::Shown(s) if s.item == Some(said.away) && s.user == 4));
    });
    assert!(broken.contains_key("lost-acked"), "{broken:?}");
    assert!(!broken.contains_key("missed-after-join"), "{broken:?}");
}

#[test]
fn what_may_still_be_on_its_way_is_not_missed_yet() {
    let (mut events, said) = story();
    // The last that 3 is owed after coming back, and what follows it.
    let from = events
        .iter_mut()
        .filter_map(shown_mut)
        .find(|s| s.item == Some(said.back))
        .unwrap()
        .at;
    events.retain(|e| !matches!(e, Event::Shown(s) if s.user == 3 && s.at >= from));
    backlog(&mut events, 3);
    assert_eq!(judged(events.clone())["missed-after-join"].verdict, Verdict::Unknown);
    backlog(&mut events, 0);
    assert_eq!(judged(events)["missed-after-join"].verdict, Verdict::Fail);
}

#[test]
fn a_strangers_message_is_not_taken() {
    let broken = spoilt("outsider-accepted");
    assert!(
        broken["outsider-accepted"].contains("belonged to the group never"),
        "{broken:?}"
    );
}

#[test]
fn a_group_has_at_most_200_members() {
    let crowd = |last: u64| {
        let mut town = Town::of(2);
        town.change(ChangeKind::Create, 1, &(2..=last).collect::<Vec<_>>());
        town.say(1);
        judged(town.end())["outsider-accepted"].clone()
    };
    assert_eq!(crowd(200).verdict, Verdict::Pass);
    let found = crowd(201);
    assert_eq!(
        (found.verdict, found.broken),
        (Verdict::Fail, 2),
        "in the log, and in the answer"
    );
    assert!(found.witness.unwrap().contains("201 members"));
}

#[test]
fn an_acknowledged_change_stands_where_it_was_said_to() {
    let lost = broken(|events, _| {
        group_read(events)
            .changes
            .retain(|change| change.kind != ChangeKind::Join);
    });
    // The position that was acknowledged is nobody's now.
    assert!(lost["lost-acked"].contains("joined (c:900)"), "{lost:?}");
    // One that left nothing to change named the last position, which is another's.
    let mut town = Town::of(2);
    town.change(ChangeKind::Create, 1, &[2]);
    town.say(1);
    let subject = Subject::Change {
        log: GROUP.to_owned(),
        change: ChangeKind::Join,
        actor: 2,
        users: Vec::new(),
        client_id: 77,
        position: Some(2),
        members: Some(2),
    };
    let moot = town.operation(Class::Group, 2, subject);
    town.events.push(Event::Op(moot));
    assert_eq!(judged(town.end())["lost-acked"].verdict, Verdict::Pass);
}
