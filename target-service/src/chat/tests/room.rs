//! Users without room: what is theirs waits for no one else's, and nobody else's for theirs.

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, GroupChangeKind, GroupCommand, OutboxItem, SendCommand, SetVersionCommand,
    command::Command as Kind,
};

use super::support::{Shard, acknowledge, open, send};
use crate::chat::{Refused, Reply, Settings};

type Person = (u64, u32, u64);

/// A shard of version 2 whose users' logs hold `stream_max` entries, and people with a device each.
fn shard<const N: usize>(stream_max: u64) -> (Shard, [Person; N]) {
    let settings = Settings {
        stream_max,
        pending_max: 2,
        ..Settings::default()
    };
    let mut shard = Shard::with(0, 1, settings);
    shard.run(Kind::SetVersion(SetVersionCommand { version: 2 }));
    let people = std::array::from_fn(|n| {
        let user = shard.user(&format!("555000{n}"));
        (user, 1, shard.session(user, 1, 1))
    });
    (shard, people)
}

fn full(user: Person) -> Reply {
    Reply::Refused(Refused::RecipientFull { user: user.0 })
}

fn group(actor: Person, client_id: u64, kind: GroupChangeKind, group: u64, users: &[u64]) -> Kind {
    Kind::ChangeGroup(GroupCommand {
        actor: actor.0,
        device: actor.1,
        session: actor.2,
        client_id,
        kind: kind.into(),
        conversation: group,
        users: users.to_vec(),
        open: true,
    })
}

#[test]
fn a_full_recipient_stops_what_is_for_it_and_nothing_else() {
    let (mut shard, [ann, bob, cem]) = shard(4);
    // Two too many were acknowledged before anybody knew, and one for Cem behind them.
    for client_id in 1..=6 {
        shard.run(send(ann, bob.0, client_id, "b"));
    }
    shard.run(send(ann, cem.0, 7, "c"));
    assert!(matches!(shard.pump(), Reply::Accepted { through: 7, .. }));
    assert_eq!(shard.shown(bob.0, 1).len(), 6, "what was acknowledged comes");
    assert_eq!(
        shard.shown(cem.0, 1),
        [(1, 7, b"c".to_vec())],
        "and so does what is behind it"
    );
    // The shard hears of both without room: Ann is shown what she sends.
    shard.pump();
    assert_eq!(shard.run(send(cem, bob.0, 1, "b")), full(bob));
    shard.run(acknowledge(ann, 7));
    shard.pump();
    assert_eq!(shard.run(send(ann, bob.0, 8, "b")), full(bob));
    let to_cem = shard.run(send(ann, cem.0, 9, "c"));
    assert!(matches!(to_cem, Reply::Sent { repeated: false, .. }), "{to_cem:?}");
    let again = shard.run(send(ann, bob.0, 3, "b"));
    assert!(
        matches!(again, Reply::Sent { repeated: true, .. }),
        "its first answer: {again:?}"
    );
    // A quarter of it has to be free before it is told.
    shard.run(acknowledge(bob, 2));
    shard.pump();
    assert_eq!(shard.run(send(ann, bob.0, 8, "b")), full(bob));
    shard.run(acknowledge(bob, 3));
    shard.pump();
    let room = shard.run(send(ann, bob.0, 8, "b"));
    assert!(matches!(room, Reply::Sent { repeated: false, .. }), "{room:?}");
}

#[test]
fn a_group_waits_for_its_full_member_or_lets_it_go() {
    let (mut shard, [ann, bob, cem]) = shard(4);
    let Reply::GroupChanged { conversation, .. } =
        shard.run(group(ann, 1, GroupChangeKind::GroupCreate, 0, &[bob.0, cem.0]))
    else {
        panic!("no group");
    };
    let say = |client_id| {
        Kind::Send(SendCommand {
            sender: ann.0,
            device: 1,
            session: ann.2,
            client_id,
            group: conversation,
            ..SendCommand::default()
        })
    };
    for client_id in 2..=4 {
        shard.run(say(client_id));
    }
    for _ in 0..2 {
        shard.pump();
    }
    for device in [ann, cem] {
        shard.run(acknowledge(device, 4));
    }
    shard.pump();
    assert_eq!(shard.run(say(5)), full(bob));
    let let_in = group(ann, 6, GroupChangeKind::GroupAdd, conversation, &[99]);
    assert_eq!(shard.run(let_in), full(bob), "it would be told of it");
    let let_go = shard.run(group(ann, 7, GroupChangeKind::GroupRemove, conversation, &[bob.0]));
    assert!(matches!(let_go, Reply::GroupChanged { members: 2, .. }), "{let_go:?}");
    let said = shard.run(say(8));
    assert!(matches!(said, Reply::Sent { .. }), "{said:?}");
}

#[test]
fn an_account_without_devices_has_little_room_until_its_first_comes() {
    let (mut shard, [ann]) = shard(100);
    let bob = shard.user("5550009");
    for client_id in 1..=3 {
        shard.run(send(ann, bob, client_id, "b"));
    }
    shard.pump();
    shard.pump();
    assert_eq!(shard.run(send(ann, bob, 4, "b")), full((bob, 0, 0)));
    let opened = shard.run(open(bob, 1, 1));
    assert!(matches!(opened, Reply::Opened { last_sequence: 3, .. }), "{opened:?}");
    shard.pump();
    let room = shard.run(send(ann, bob, 4, "b"));
    assert!(matches!(room, Reply::Sent { .. }), "{room:?}");
}

#[test]
fn a_shard_that_did_not_understand_is_told_again_when_the_log_is_as_much_longer() {
    let (mut shard, [_, bob]) = shard(2);
    let told = |shard: &mut Shard, sequence: u64| {
        let item = OutboxItem {
            outbox_sequence: sequence,
            conversation: 77,
            position: sequence,
            sender: 5,
            recipients: vec![bob.0],
            ..OutboxItem::default()
        };
        let accept = AcceptOutboxCommand {
            from_shard: 0,
            items: vec![item],
        };
        let before = shard.machine.counts().outbox_backlog;
        shard.run(Kind::AcceptOutbox(accept));
        shard.machine.counts().outbox_backlog - before
    };
    let words: Vec<u64> = (1..=6).map(|sequence| told(&mut shard, sequence)).collect();
    assert_eq!(words, [0, 1, 0, 1, 0, 1]);
    let all = shard.machine.counts().outbox_backlog;
    shard.run(acknowledge(bob, 6));
    assert_eq!(
        shard.machine.counts().outbox_backlog,
        all + 1,
        "and once that there is room"
    );
}
