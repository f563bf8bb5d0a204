//! Groups, receipts and what a user's list of conversations says.

use firedrill_proto::chat::v1::{
    Caller, GroupChangeKind, GroupCommand, HistoryRequest, Notice, ReceiptCommand, SendCommand, Thread,
    command::Command as Kind, notice::What, subscribe_event::Event,
};

use super::support::{Shard, fence};
use crate::chat::{Plant, Refused, Reply, Settings, ids, validate::GROUP_MEMBERS_MAX};

type Person = (u64, u32, u64);

fn people<const N: usize>(shard: &mut Shard) -> [Person; N] {
    std::array::from_fn(|n| {
        let user = shard.user(&format!("555000{n}"));
        (user, 1, shard.session(user, 1, 1))
    })
}

fn change(actor: Person, client_id: u64, kind: GroupChangeKind, group: u64, users: &[u64]) -> GroupCommand {
    GroupCommand {
        actor: actor.0,
        device: actor.1,
        session: actor.2,
        client_id,
        kind: kind.into(),
        conversation: group,
        users: users.to_vec(),
        open: true,
    }
}

fn run(shard: &mut Shard, command: GroupCommand) -> Reply {
    shard.run(Kind::ChangeGroup(command))
}

fn made(shard: &mut Shard, by: Person, users: &[u64]) -> u64 {
    match run(shard, change(by, 1, GroupChangeKind::GroupCreate, 0, users)) {
        Reply::GroupChanged {
            conversation,
            position: 1,
            repeated: false,
            ..
        } => conversation,
        other => panic!("{other:?}"),
    }
}

fn say(from: Person, group: u64, client_id: u64, body: &str) -> Kind {
    Kind::Send(SendCommand {
        sender: from.0,
        device: from.1,
        session: from.2,
        recipient: 0,
        client_id,
        body: body.as_bytes().to_vec().into(),
        group,
    })
}

fn receipt(of: Person, conversation: u64, delivered: u64, read: u64) -> Kind {
    Kind::Receipt(ReceiptCommand {
        user: of.0,
        device: of.1,
        session: of.2,
        conversation,
        delivered,
        read,
    })
}

fn thread(shard: &Shard, of: Person, conversation: u64) -> Thread {
    let page = shard.machine.threads(of.0, of.1, of.2, 0).unwrap().unwrap();
    let found = page.threads.into_iter().find(|it| it.conversation == conversation);
    found.expect("the conversation is in the list")
}

/// What a device is shown, as words.
fn words(shard: &Shard, of: Person) -> Vec<String> {
    let entries = shard.machine.entries(of.0, of.1, 0, 1000).unwrap();
    let sequences: Vec<u64> = entries.iter().map(|it| it.0).collect();
    assert_eq!(sequences, (1..=entries.len() as u64).collect::<Vec<_>>());
    let word = |event| match event {
        Event::Delivery(it) => format!("{}:{}", it.position, String::from_utf8(it.body.to_vec()).unwrap()),
        Event::Notice(Notice { what: Some(what), .. }) => match what {
            What::Change(it) => format!("{}:{:?}", it.position, it.kind()),
            What::Receipt(it) => format!("{}/{} of {}", it.delivered, it.read, it.user),
            What::Contact(it) => format!("contact {}", it.phone),
        },
        other => panic!("{other:?}"),
    };
    entries.into_iter().map(|(_, event)| word(event)).collect()
}

fn history(shard: &Shard, of: Person, group: u64) -> Result<Vec<u64>, Refused> {
    let request = HistoryRequest {
        conversation: group,
        caller: Some(Caller {
            user: of.0,
            device: of.1,
            session: of.2,
        }),
        ..HistoryRequest::default()
    };
    let page = shard.machine.history_of(&request, 100).unwrap()?;
    Ok(page.messages.iter().map(|it| it.position).collect())
}

#[test]
fn a_member_sees_what_comes_from_its_own_joining_on_until_it_goes() {
    let mut shard = Shard::alone();
    let [ann, bob, carl, stranger] = people(&mut shard);
    let group = made(&mut shard, ann, &[bob.0]);
    assert_eq!(group, ids::group_id(ann.0, 1, 1));
    shard.run(say(ann, group, 2, "before"));
    run(&mut shard, change(carl, 1, GroupChangeKind::GroupJoin, group, &[]));
    shard.run(say(bob, group, 1, "among us"));
    let removed = run(
        &mut shard,
        change(ann, 3, GroupChangeKind::GroupRemove, group, &[carl.0]),
    );
    assert!(matches!(removed, Reply::GroupChanged { members: 2, .. }), "{removed:?}");
    shard.run(say(ann, group, 4, "after"));
    let no_member = |user| Refused::NotMember {
        conversation: group,
        user,
    };
    assert_eq!(history(&shard, carl, group), Err(no_member(carl.0)));
    let back = run(&mut shard, change(carl, 2, GroupChangeKind::GroupJoin, group, &[]));
    assert_eq!(
        back,
        Reply::Refused(no_member(carl.0)),
        "who was removed doesn't come back alone"
    );
    run(&mut shard, change(bob, 2, GroupChangeKind::GroupAdd, group, &[carl.0]));
    shard.run(say(carl, group, 3, "again"));
    assert_eq!(history(&shard, carl, group), Ok(vec![7, 8]));
    assert_eq!(history(&shard, ann, group), Ok((1..=8).collect()));
    for (kind, whom) in [
        (GroupChangeKind::GroupAdd, vec![bob.0]),
        (GroupChangeKind::GroupRemove, vec![bob.0]),
        (GroupChangeKind::GroupLeave, vec![]),
    ] {
        let reply = run(&mut shard, change(stranger, 9, kind, group, &whom));
        assert_eq!(reply, Reply::Refused(no_member(stranger.0)));
    }
    assert_eq!(
        shard.run(say(stranger, group, 10, "x")),
        Reply::Refused(no_member(stranger.0))
    );
    let byte = Reply::Refused(no_member(bob.0));
    let reply = run(
        &mut shard,
        change(bob, 9, GroupChangeKind::GroupRemove, group, &[ann.0]),
    );
    assert_eq!(reply, byte, "only who made it removes others");
    shard.pump();
    assert_eq!(
        words(&shard, carl),
        ["3:GroupJoin", "4:among us", "5:GroupRemove", "7:GroupAdd", "8:again"]
    );
    assert_eq!(words(&shard, ann).len(), 8);
    assert!(words(&shard, stranger).is_empty());
    let seen = thread(&shard, carl, group);
    assert_eq!((seen.group, seen.joined, seen.left, seen.unread), (true, 7, 0, 0));
    run(&mut shard, change(carl, 4, GroupChangeKind::GroupLeave, group, &[]));
    shard.pump();
    assert_eq!(thread(&shard, carl, group).left, 9);
    assert_eq!(history(&shard, stranger, group), Err(no_member(stranger.0)));
    let anonymous = HistoryRequest {
        conversation: group,
        ..HistoryRequest::default()
    };
    assert!(shard.machine.history_of(&anonymous, 9).unwrap().is_err());
}

#[test]
fn a_conversation_of_two_is_read_by_the_two_and_nobody_else() {
    let mut shard = Shard::alone();
    let [ann, bob, stranger] = people(&mut shard);
    let conversation = ids::conversation_id(ann.0, bob.0);
    let mut said = say(ann, 0, 1, "between us");
    if let Kind::Send(send) = &mut said {
        send.recipient = bob.0;
    }
    shard.run(said);
    let no_member = |user| Err(Refused::NotMember { conversation, user });
    assert_eq!(history(&shard, ann, conversation), Ok(vec![1]));
    assert_eq!(history(&shard, bob, conversation), Ok(vec![1]));
    assert_eq!(history(&shard, stranger, conversation), no_member(stranger.0));
    let anonymous = HistoryRequest {
        conversation,
        ..HistoryRequest::default()
    };
    let refused = shard.machine.history_of(&anonymous, 9).unwrap().unwrap_err();
    assert_eq!(Err(refused), no_member(0));
    let ended = (ann.0, ann.1, ann.2 - 1);
    let refused = history(&shard, ended, conversation).unwrap_err();
    assert!(matches!(refused, Refused::SessionEnded { .. }), "{refused:?}");
}

#[test]
fn a_change_is_made_once_and_a_group_is_never_larger_than_it_may_be() {
    let mut shard = Shard::alone();
    let [ann, bob, carl] = people(&mut shard);
    let fill: Vec<u64> = (1..GROUP_MEMBERS_MAX - 1).map(|n| ids::user_id(1, 1000 + n)).collect();
    let group = made(&mut shard, ann, &fill);
    let add = change(ann, 2, GroupChangeKind::GroupAdd, group, &[bob.0]);
    let full = Reply::GroupChanged {
        conversation: group,
        position: 2,
        members: GROUP_MEMBERS_MAX,
        repeated: false,
    };
    assert_eq!(run(&mut shard, add.clone()), full);
    assert!(matches!(
        run(&mut shard, add.clone()),
        Reply::GroupChanged {
            position: 2,
            repeated: true,
            ..
        }
    ));
    let other = GroupCommand {
        users: vec![carl.0],
        ..add
    };
    assert_eq!(
        run(&mut shard, other),
        Reply::Refused(Refused::ClientIdReused { client_id: 2 })
    );
    let before = shard.machine.audit(group, 0, 10).unwrap();
    let too_many = Refused::GroupFull {
        conversation: group,
        max: GROUP_MEMBERS_MAX,
    };
    let join = run(&mut shard, change(carl, 1, GroupChangeKind::GroupJoin, group, &[]));
    assert_eq!(join, Reply::Refused(too_many));
    let leave_one_add_two = change(ann, 5, GroupChangeKind::GroupAdd, group, &[carl.0, ids::user_id(1, 9)]);
    run(&mut shard, change(bob, 1, GroupChangeKind::GroupLeave, group, &[]));
    assert_eq!(
        run(&mut shard, leave_one_add_two),
        Reply::Refused(too_many),
        "all of it, or none"
    );
    let after = shard.machine.audit(group, 0, 10).unwrap();
    assert_eq!(after.members.len() + 1, before.members.len());
    assert!(after.members.iter().all(|it| it.user != carl.0));
    let large = run(
        &mut shard,
        change(ann, 6, GroupChangeKind::GroupAdd, group, &vec![1; 201]),
    );
    assert!(matches!(large, Reply::Refused(Refused::TooMany { .. })));
    let nothing = run(&mut shard, change(ann, 7, GroupChangeKind::GroupAdd, group, &[ann.0]));
    assert!(
        matches!(
            nothing,
            Reply::GroupChanged {
                position: 3,
                repeated: false,
                ..
            }
        ),
        "{nothing:?}"
    );
    // A repeat of what changed nothing changes nothing either, whatever came in between.
    let again = change(ann, 12, GroupChangeKind::GroupAdd, group, &[fill[0]]);
    run(&mut shard, again.clone());
    run(
        &mut shard,
        change(ann, 13, GroupChangeKind::GroupRemove, group, &[fill[0]]),
    );
    assert!(matches!(
        run(&mut shard, again),
        Reply::GroupChanged { repeated: true, .. }
    ));
    let now = shard.machine.audit(group, 0, 10).unwrap().members;
    assert!(now.iter().all(|it| it.user != fill[0]), "it was removed, and stays so");
    let none = run(&mut shard, change(ann, 8, GroupChangeKind::GroupAdd, 77, &[bob.0]));
    assert_eq!(none, Reply::Refused(Refused::NoSuchConversation { conversation: 77 }));
    shard.run(fence(&[ann.2]));
    let fenced = run(&mut shard, change(ann, 9, GroupChangeKind::GroupLeave, group, &[]));
    assert_eq!(fenced, Reply::Refused(Refused::SessionEnded { session: ann.2 }));
}

#[test]
fn one_item_for_each_shard_carries_a_message_to_all_members_there() {
    let shards = 3;
    let mut homes: Vec<Shard> = (0..shards)
        .map(|n| Shard::with(n, shards, Settings::default()))
        .collect();
    let mut users = Vec::new();
    for n in 0..30 {
        let phone = format!("7000{n:03}");
        let home = &mut homes[ids::phone_shard(&phone, shards).unwrap() as usize];
        let user = home.user(&phone);
        users.push((user, 1, home.session(user, 1, 1)));
        home.session(user, 2, 1);
    }
    let all: Vec<u64> = users.iter().map(|it| it.0).collect();
    let group = ids::group_id(all[0], 1, 1);
    let home = ids::owner(group, shards) as usize;
    made(&mut homes[home], users[0], &all);
    assert!(matches!(
        homes[home].run(say(users[0], group, 2, "hello")),
        Reply::Sent { position: 2, .. }
    ));
    assert_eq!(homes[home].machine.counts().outbox_backlog, 2 * u64::from(shards));
    for to in 0..shards {
        let items = homes[home].machine.outbox_pending(to, 0, 100).unwrap();
        homes[to as usize].run(Kind::AcceptOutbox(firedrill_proto::chat::v1::AcceptOutboxCommand {
            from_shard: home as u32,
            items,
        }));
    }
    for user in &users {
        let shard = &homes[ids::owner(user.0, shards) as usize];
        assert_eq!(words(shard, *user), ["1:GroupCreate", "2:hello"]);
        assert_eq!(words(shard, (user.0, 2, 0)), ["1:GroupCreate", "2:hello"]);
    }
}

#[test]
fn receipts_go_forward_never_beyond_what_was_delivered_and_tell_the_others() {
    let mut shard = Shard::alone();
    let [ann, bob] = people(&mut shard);
    let conversation = ids::conversation_id(ann.0, bob.0);
    let unknown = shard.run(receipt(bob, conversation, 1, 1));
    assert_eq!(unknown, Reply::Refused(Refused::NoSuchConversation { conversation }));
    for n in 1..=3 {
        shard.run(super::support::send(ann, bob.0, n, "x"));
    }
    shard.run(super::support::send(bob, ann.0, 1, "y"));
    shard.pump();
    assert_eq!(thread(&shard, bob, conversation).unread, 3);
    assert_eq!(thread(&shard, ann, conversation).unread, 1);
    let first = Reply::Receipted {
        delivered: 4,
        read: 2,
        unread: 1,
    };
    assert_eq!(shard.run(receipt(bob, conversation, 99, 2)), first);
    assert_eq!(shard.run(receipt(bob, conversation, 1, 1)), first, "never back");
    shard.pump();
    let read_and_told = |user: u64| format!("4/2 of {user}");
    assert_eq!(
        words(&shard, bob).last(),
        Some(&read_and_told(bob.0)),
        "the own devices"
    );
    shard.pump();
    assert_eq!(words(&shard, ann).last(), Some(&read_and_told(bob.0)), "and the sender");
    assert_eq!(words(&shard, bob).len(), 5, "once");
    let stranger = (ids::user_id(4, 4), 1, 1);
    assert!(matches!(
        shard.run(receipt(stranger, conversation, 1, 1)),
        Reply::Refused(_)
    ));
    let audit = shard.machine.audit(conversation, 0, 1).unwrap();
    let marks: Vec<_> = audit
        .members
        .iter()
        .map(|it| (it.user, it.delivered, it.read))
        .collect();
    assert_eq!(marks, [(bob.0, 4, 2)]);
}

#[test]
fn large_groups_keep_receipts_where_they_are_asked_for() {
    let mut shard = Shard::alone();
    let [ann, bob] = people(&mut shard);
    let mut users: Vec<u64> = (1..20).map(|n| ids::user_id(1, 1000 + n)).collect();
    users.push(bob.0);
    let group = made(&mut shard, ann, &users);
    shard.run(say(ann, group, 2, "x"));
    shard.pump();
    shard.run(receipt(bob, group, 2, 2));
    shard.pump();
    shard.pump();
    assert_eq!(words(&shard, ann).len(), 2, "nobody was told");
    let members = shard.machine.members_for(group, ann.0, ann.1, ann.2).unwrap().unwrap();
    let of_bob = members.iter().find(|it| it.user == bob.0).unwrap();
    assert_eq!((of_bob.delivered, of_bob.read), (2, 2));
}

/// What the honest machine refuses or does right, and the planted one doesn't.
#[test]
fn each_plant_of_groups_and_receipts_does_what_it_says() {
    let story = |plant: Option<Plant>| {
        let mut shard = Shard::with(
            0,
            1,
            Settings {
                group_max: 3,
                ..Settings::default()
            },
        );
        let [ann, bob, carl, dora] = people(&mut shard);
        shard.machine.set_plant(plant);
        let group = made(&mut shard, ann, &[bob.0]);
        run(&mut shard, change(carl, 1, GroupChangeKind::GroupJoin, group, &[]));
        shard.run(say(ann, group, 2, "one"));
        let fourth = run(&mut shard, change(dora, 1, GroupChangeKind::GroupJoin, group, &[]));
        run(
            &mut shard,
            change(ann, 3, GroupChangeKind::GroupRemove, group, &[bob.0]),
        );
        for n in 4..=23 {
            shard.run(say(ann, group, n, "more"));
        }
        let stranger = shard.run(say(bob, group, 1, "let me in"));
        let seen_by_carl = history(&shard, carl, group).unwrap();
        shard.pump();
        let early = shard.run(receipt(carl, group, 999, 999));
        (
            matches!(fourth, Reply::Refused(_)),
            matches!(stranger, Reply::Refused(_)),
            words(&shard, bob).len(),
            words(&shard, carl).len(),
            words(&shard, ann).len(),
            seen_by_carl[0],
            matches!(early, Reply::Receipted { read: 24, .. }),
        )
    };
    let honest = story(None);
    assert_eq!(honest, (true, true, 4, 24, 24, 2, true));
    assert!(!story(Some(Plant::NoLimit)).0);
    assert!(!story(Some(Plant::AcceptStrangers)).1);
    assert!(story(Some(Plant::LeakMembership)).2 > honest.2);
    assert!(story(Some(Plant::MissJoined)).3 < honest.3);
    assert!(story(Some(Plant::ForgetOwnDevices)).4 < honest.4);
    assert_eq!(story(Some(Plant::LeakHistory)).5, 1);
    assert!(!story(Some(Plant::EarlyReceipt)).6);
}
