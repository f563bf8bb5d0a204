//! The machine's rules, one example each.

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, IssueCodeCommand, OutboxItem, SignUpCommand, command::Command as Kind,
};

use super::support::{Shard, acknowledge, at, fence, memory, open, send, sign_up, trim};
use crate::chat::{ChatError, Committed, Machine, Refused, Reply, Settings, ids};

const ANN: &str = "+49 30 11111";
const BOB: &str = "+49 30 22222";

/// Ann with one device, Bob with one device: (shard, ann, bob) as (user, device, session).
fn pair(settings: Settings) -> (Shard, (u64, u32, u64), (u64, u32, u64)) {
    let mut shard = Shard::with(0, 1, settings);
    let ann = shard.user(ANN);
    let bob = shard.user(BOB);
    let ann = (ann, 1, shard.session(ann, 1, 1));
    let bob = (bob, 1, shard.session(bob, 1, 1));
    (shard, ann, bob)
}

#[test]
fn one_account_for_each_phone_however_it_is_spelt() {
    let mut shard = Shard::alone();
    let user = shard.user(ANN);
    assert_eq!(
        shard.run(sign_up("493011111")),
        Reply::SignedUp { user, created: false }
    );
    assert_ne!(shard.user(BOB), user);
    assert_eq!(shard.machine.counts().accounts, 2);
    assert_eq!(shard.machine.account_of("493011111").unwrap(), Some(user));
    assert_eq!(ids::bucket(user), ids::phone_bucket("493011111"));
    assert_eq!(shard.run(sign_up("x")), Reply::Refused(Refused::PhoneInvalid));
}

#[test]
fn a_verified_sign_up_needs_the_code_that_was_carried() {
    let settings = Settings {
        code_ms: 1000,
        ..Settings::default()
    };
    let mut shard = Shard::with(0, 1, settings);
    let sign_up = |code: &str| {
        Kind::SignUp(SignUpCommand {
            phone: ANN.into(),
            verified: true,
            code: code.into(),
        })
    };
    let issue = |phone: &str, code: &str| {
        Kind::IssueCode(IssueCodeCommand {
            phone: phone.into(),
            code: code.into(),
        })
    };
    let wrong = Reply::Refused(Refused::WrongCode);
    assert_eq!(shard.run(sign_up("")), wrong);
    assert_eq!(shard.run(issue(ANN, "12345")), wrong, "too short to be one");
    shard.run(issue(ANN, "111111"));
    shard.run(issue(ANN, "222222"));
    assert_eq!(shard.run(sign_up("111111")), wrong, "the newer one counts");
    assert_eq!(shard.machine.counts().accounts, 0);
    let Reply::SignedUp { user, created: true } = shard.run(sign_up("222222")) else {
        panic!("the right code was refused");
    };
    let again = Reply::SignedUp { user, created: false };
    assert_eq!(
        shard.run(sign_up("222222")),
        again,
        "a repeat is answered like the first"
    );
    for _ in 0..4 {
        assert_eq!(shard.run(sign_up("000000")), wrong);
    }
    assert_eq!(shard.run(sign_up("222222")), wrong, "guessed at too often");
    shard.run(issue(ANN, "333333"));
    shard.time_ms += 1000;
    assert_eq!(shard.run(sign_up("333333")), again);
    shard.time_ms += 1;
    assert_eq!(shard.run(sign_up("333333")), wrong, "too old");
    let before = shard.machine.snapshot().unwrap().len();
    shard.run(issue(BOB, "444444"));
    assert!(
        shard.machine.snapshot().unwrap().len() <= before,
        "old codes are forgotten"
    );
}

#[test]
fn a_nonce_names_a_session_and_a_new_one_replaces_it() {
    let (mut shard, ann, _) = pair(Settings::default());
    assert_eq!(shard.session(ann.0, 1, 1), ann.2, "repeated");
    let applied = shard.apply(open(ann.0, 1, 2));
    let Reply::Opened { session: newer, .. } = applied.outcomes[0].reply else {
        panic!("{applied:?}");
    };
    assert!(newer > ann.2);
    assert_eq!(applied.ended_sessions, [ann.2].into());
    assert_eq!(
        shard.run(open(ann.0, 1, 1)),
        Reply::Refused(Refused::SessionEnded { session: newer }),
        "a late repeat must not replace the newer session"
    );
    assert_eq!(shard.session(ann.0, 1, 2), newer);
    assert_eq!(
        shard.run(acknowledge(ann, 0)),
        Reply::Refused(Refused::SessionEnded { session: ann.2 })
    );
    assert!(shard.machine.check_session(ann.0, 1, newer).unwrap().is_ok());
    assert!(shard.machine.check_session(ann.0, 1, ann.2).unwrap().is_err());
    let stranger = ids::user_id(3, 99);
    assert_eq!(
        shard.run(open(stranger, 1, 1)),
        Reply::Refused(Refused::NoSuchUser { user: stranger })
    );
    assert_eq!(
        shard.run(open(ann.0, 11, 1)),
        Reply::Refused(Refused::DeviceInvalid { device: 11 })
    );
}

#[test]
fn a_send_is_stored_once_and_its_first_answer_is_given_again() {
    let (mut shard, ann, bob) = pair(Settings::default());
    let conversation = ids::conversation_id(ann.0, bob.0);
    let answer = |position, repeated| Reply::Sent {
        conversation,
        position,
        repeated,
    };
    assert_eq!(shard.run(send(ann, bob.0, 5, "hi")), answer(1, false));
    assert_eq!(shard.run(send(bob, ann.0, 5, "hello")), answer(2, false));
    assert_eq!(shard.run(send(ann, bob.0, 5, "hi")), answer(1, true));
    assert_eq!(
        shard.run(send(ann, bob.0, 5, "other")),
        Reply::Refused(Refused::ClientIdReused { client_id: 5 })
    );
    let carl = shard.user("5555555");
    assert_eq!(
        shard.run(send(ann, carl, 5, "hi")),
        Reply::Refused(Refused::ClientIdReused { client_id: 5 })
    );
    let history = shard.machine.history(conversation, 0, 10).unwrap();
    assert_eq!(history.last_position, 2);
    let seen: Vec<_> = history
        .messages
        .iter()
        .map(|m| (m.position, m.sender, m.recipient, m.client_id, m.body.as_ref()))
        .collect();
    assert_eq!(
        seen,
        [(1, ann.0, bob.0, 5, &b"hi"[..]), (2, bob.0, ann.0, 5, &b"hello"[..])]
    );
    assert_eq!(shard.machine.history(conversation, 1, 10).unwrap().messages.len(), 1);
    assert_eq!(shard.machine.history(conversation, 0, 1).unwrap().messages.len(), 1);
    assert_eq!(shard.machine.history(conversation, u64::MAX, 9).unwrap().messages, []);
    assert_eq!(shard.machine.history(77, 0, 9).unwrap().last_position, 0);
    assert_eq!(shard.machine.counts().messages, 2);
}

#[test]
fn a_fenced_or_replaced_session_sends_no_more_but_learns_what_it_did() {
    let (mut shard, ann, bob) = pair(Settings::default());
    shard.run(send(ann, bob.0, 1, "a"));
    assert_eq!(shard.run(fence(&[ann.2, ann.2])), Reply::Fenced { sessions: 1 });
    let ended = Reply::Refused(Refused::SessionEnded { session: ann.2 });
    assert_eq!(shard.run(send(ann, bob.0, 2, "b")), ended);
    assert!(matches!(
        shard.run(send(ann, bob.0, 1, "a")),
        Reply::Sent {
            repeated: true,
            position: 1,
            ..
        }
    ));
    assert!(shard.machine.is_fenced(ann.2).unwrap());
    // The same nonce after a fence gets a session that can act, and it shuts out the older one by being seen.
    let again = (ann.0, 1, shard.session(ann.0, 1, 1));
    assert_ne!(again.2, ann.2);
    assert!(matches!(
        shard.run(send(again, bob.0, 2, "b")),
        Reply::Sent { position: 2, .. }
    ));
    let newest = (ann.0, 1, shard.session(ann.0, 1, 9));
    assert!(matches!(
        shard.run(send(newest, bob.0, 3, "c")),
        Reply::Sent { position: 3, .. }
    ));
    assert_eq!(
        shard.run(send(again, bob.0, 4, "d")),
        Reply::Refused(Refused::SessionEnded { session: again.2 })
    );
}

#[test]
fn client_ids_are_forgotten_by_log_time_and_never_taken_again() {
    let (mut shard, ann, bob) = pair(Settings {
        dedup_ms: 1000,
        ..Settings::default()
    });
    shard.run(send(ann, bob.0, 10, "a"));
    shard.time_ms += 999;
    assert!(matches!(
        shard.run(send(ann, bob.0, 10, "a")),
        Reply::Sent { repeated: true, .. }
    ));
    shard.time_ms += 1;
    let forgotten = |client_id| Reply::Refused(Refused::ClientIdExpired { client_id, floor: 10 });
    assert_eq!(shard.run(send(ann, bob.0, 10, "a")), forgotten(10));
    assert_eq!(shard.run(send(ann, bob.0, 9, "z")), forgotten(9));
    assert!(matches!(
        shard.run(send(ann, bob.0, 11, "b")),
        Reply::Sent { position: 2, .. }
    ));
    // Other devices have their own floor, and time never goes back.
    assert!(matches!(
        shard.run(send(bob, ann.0, 9, "c")),
        Reply::Sent { position: 3, .. }
    ));
    shard.time_ms = 0;
    assert_eq!(shard.run(send(ann, bob.0, 10, "a")), forgotten(10));
    assert_eq!(shard.machine.counts().time_ms, 2000);
}

#[test]
fn the_lowest_and_the_highest_client_id_are_taken_once_too() {
    for id in [0, u64::MAX] {
        let (mut shard, ann, bob) = pair(Settings {
            dedup_ms: 1000,
            ..Settings::default()
        });
        shard.run(send(ann, bob.0, id, "a"));
        shard.time_ms += 1000;
        let again = shard.run(send(ann, bob.0, id, "a"));
        assert!(
            matches!(again, Reply::Refused(Refused::ClientIdExpired { client_id, .. }) if client_id == id),
            "{again:?}"
        );
        assert_eq!(shard.machine.counts().messages, 1);
    }
}

#[test]
fn one_wrong_clock_does_not_make_a_shard_forget_everything() {
    let (mut shard, ann, bob) = pair(Settings::default());
    shard.run(send(ann, bob.0, 1, "a"));
    let before = shard.machine.counts().time_ms;
    shard.time_ms += 10 * 24 * 60 * 60 * 1000;
    shard.run(send(ann, bob.0, 2, "b"));
    assert_eq!(shard.machine.counts().time_ms, before + 600_000);
    shard.time_ms = before;
    assert!(matches!(
        shard.run(send(ann, bob.0, 1, "a")),
        Reply::Sent { repeated: true, .. }
    ));
}

#[test]
fn a_backlog_is_acknowledged_in_steps() {
    let (mut shard, ann, bob) = pair(Settings::default());
    for id in 1..=5000 {
        shard.run(send(ann, bob.0, id, "a"));
        if id % 1000 == 0 {
            shard.pump();
        }
    }
    assert_eq!(
        shard.machine.counts().delivery_backlog,
        10_000,
        "the sender's device has its own"
    );
    assert_eq!(
        shard.run(acknowledge(bob, 5000)),
        Reply::Acknowledged { acknowledged: 4096 }
    );
    assert_eq!(shard.machine.counts().delivery_backlog, 5904);
    assert_eq!(
        shard.run(acknowledge(bob, 5000)),
        Reply::Acknowledged { acknowledged: 5000 }
    );
    assert_eq!(shard.machine.counts().delivery_backlog, 5000);
}

#[test]
fn each_device_gets_its_own_sequence_from_its_registration_on() {
    let (mut shard, ann, bob) = pair(Settings::default());
    shard.run(send(ann, bob.0, 1, "a"));
    shard.pump();
    shard.session(bob.0, 2, 1);
    shard.run(send(ann, bob.0, 2, "b"));
    let carl = shard.user("5555555");
    let carl = (carl, 1, shard.session(carl, 1, 1));
    shard.run(send(carl, bob.0, 1, "c"));
    assert_eq!(shard.machine.counts().outbox_backlog, 2);
    shard.pump();
    let first = [(1, 1, b"a".to_vec()), (2, 2, b"b".to_vec()), (3, 1, b"c".to_vec())];
    assert_eq!(shard.shown(bob.0, 1), first);
    assert_eq!(shard.shown(bob.0, 2), [(1, 2, b"b".to_vec()), (2, 1, b"c".to_vec())]);
    let own = [(1, 1, b"a".to_vec()), (2, 2, b"b".to_vec())];
    assert_eq!(shard.shown(ann.0, 1), own, "the sender's own devices get it too");
    assert_eq!(shard.machine.counts().outbox_backlog, 0);
    assert_eq!(shard.machine.counts().delivery_backlog, 8);

    assert_eq!(shard.run(acknowledge(bob, 2)), Reply::Acknowledged { acknowledged: 2 });
    assert_eq!(shard.run(acknowledge(bob, 1)), Reply::Acknowledged { acknowledged: 2 });
    assert_eq!(shard.shown(bob.0, 1), first[2..]);
    assert_eq!(shard.run(acknowledge(bob, 99)), Reply::Acknowledged { acknowledged: 3 });
    assert_eq!(shard.machine.counts().delivery_backlog, 5);
    assert_eq!(shard.shown(bob.0, 2).len(), 2, "kept for the device that lags");
    let state = shard.machine.device_state(bob.0, 1).unwrap().unwrap();
    assert_eq!((state.acknowledged, state.last_sequence, state.incarnation), (3, 3, 1));
    assert_eq!(shard.machine.device_state(bob.0, 3).unwrap(), None);
}

#[test]
fn an_account_without_devices_keeps_its_messages_for_the_first() {
    let mut shard = Shard::with(
        0,
        1,
        Settings {
            pending_max: 2,
            ..Settings::default()
        },
    );
    let ann = shard.user(ANN);
    let bob = shard.user(BOB);
    let ann = (ann, 1, shard.session(ann, 1, 1));
    for (client_id, body) in [(1, "a"), (2, "b"), (3, "c")] {
        shard.run(send(ann, bob, client_id, body));
    }
    let stuck = Reply::Accepted {
        from_shard: 0,
        through: 2,
    };
    assert_eq!(
        shard.pump(),
        stuck,
        "a full account stops the outbox, nothing is dropped"
    );
    assert_eq!(shard.pump(), stuck);
    assert_eq!(
        (shard.machine.counts().pending, shard.machine.counts().outbox_backlog),
        (2, 1)
    );
    let opened = shard.apply(open(bob, 4, 1));
    assert!(matches!(
        opened.outcomes[0].reply,
        Reply::Opened { last_sequence: 2, .. }
    ));
    assert_eq!(opened.delivered, [bob].into());
    shard.pump();
    let all = [(1, 1, b"a".to_vec()), (2, 2, b"b".to_vec()), (3, 3, b"c".to_vec())];
    assert_eq!(shard.shown(bob, 4), all);
    shard.session(bob, 5, 1);
    assert_eq!(shard.shown(bob, 5), []);
    assert_eq!(shard.machine.counts().pending, 0);
}

#[test]
fn a_full_log_stops_its_outbox_until_the_devices_acknowledge() {
    let (mut shard, ann, bob) = pair(Settings {
        stream_max: 1,
        ..Settings::default()
    });
    shard.run(send(ann, bob.0, 1, "a"));
    shard.run(send(ann, bob.0, 2, "b"));
    assert!(matches!(shard.pump(), Reply::Accepted { through: 1, .. }));
    shard.run(acknowledge(bob, 1));
    assert!(matches!(shard.pump(), Reply::Accepted { through: 1, .. }));
    shard.run(acknowledge(ann, 1));
    assert!(matches!(shard.pump(), Reply::Accepted { through: 2, .. }));
    assert_eq!(shard.shown(bob.0, 1), [(2, 2, b"b".to_vec())]);
}

#[test]
fn a_full_outbox_refuses_sends() {
    let (mut shard, ann, bob) = pair(Settings {
        outbox_max: 1,
        ..Settings::default()
    });
    shard.run(send(ann, bob.0, 1, "a"));
    assert!(matches!(
        shard.run(send(ann, bob.0, 2, "b")),
        Reply::Refused(Refused::Full { max: 1, .. })
    ));
    shard.pump();
    assert!(matches!(
        shard.run(send(ann, bob.0, 2, "b")),
        Reply::Sent { position: 2, .. }
    ));
}

#[test]
fn letters_to_nobody_are_counted_and_stop_nothing() {
    let (mut shard, ann, bob) = pair(Settings {
        dead_letters_max: 1,
        ..Settings::default()
    });
    let nobody = ids::user_id(1, 4242);
    shard.run(send(ann, nobody, 1, "a"));
    shard.run(send(ann, nobody, 2, "b"));
    shard.run(send(ann, bob.0, 3, "c"));
    assert!(matches!(shard.pump(), Reply::Accepted { through: 3, .. }));
    assert_eq!(shard.machine.counts().dead_letters, 2);
    assert_eq!(shard.shown(bob.0, 1), [(1, 3, b"c".to_vec())]);
}

fn item(outbox_sequence: u64, from: u64, to: u64, position: u64) -> OutboxItem {
    OutboxItem {
        outbox_sequence,
        conversation: ids::conversation_id(from, to),
        position,
        sender: from,
        sender_device: 1,
        client_id: outbox_sequence,
        recipient: to,
        body: b"x".to_vec().into(),
        ..OutboxItem::default()
    }
}

#[test]
fn an_outbox_is_taken_in_order_once_and_never_past_a_gap() {
    let (mut shard, ann, bob) = pair(Settings::default());
    let mut accept = |from_shard, sequences: &[u64]| {
        let items = sequences.iter().map(|&n| item(n, ann.0, bob.0, n)).collect();
        shard.run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard, items }))
    };
    let through = |through| Reply::Accepted { from_shard: 0, through };
    assert_eq!(accept(0, &[2, 3]), through(0));
    assert_eq!(accept(0, &[1, 2]), through(2));
    assert_eq!(accept(0, &[1, 2, 3, 5]), through(3));
    assert_eq!(accept(0, &[]), through(3));
    assert!(matches!(accept(1, &[1]), Reply::Refused(Refused::Malformed { .. })));
    let sequences: Vec<u64> = shard.shown(bob.0, 1).iter().map(|it| it.1).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(shard.machine.accepted_through(0).unwrap(), 3);
}

#[test]
fn a_sequence_that_was_taken_is_taken_whatever_it_carries_now() {
    let (mut shard, ann, bob) = pair(Settings::default());
    for position in [1, 2] {
        let items = vec![item(1, ann.0, bob.0, position)];
        shard.run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard: 0, items }));
    }
    assert_eq!(shard.shown(bob.0, 1).len(), 1);
}

#[test]
fn queries_start_behind_what_is_known_and_end_at_their_bounds() {
    let (mut shard, ann, bob) = pair(Settings::default());
    let large = "x".repeat(crate::chat::validate::BODY_BYTES_MAX);
    for n in 1..=20 {
        shard.run(send(ann, bob.0, n, &large));
    }
    let conversation = ids::conversation_id(ann.0, bob.0);
    let items = shard.machine.outbox_pending(0, 17, 2).unwrap();
    assert_eq!(items.iter().map(|it| it.outbox_sequence).collect::<Vec<_>>(), [18, 19]);
    let all = shard.machine.outbox_pending(0, 0, 1000).unwrap().len();
    assert!((1..20).contains(&all), "a megabyte bounds it: {all}");
    let mut after = 0;
    while after < 20 {
        let page = shard.machine.history(conversation, after, 1000).unwrap();
        assert!((1..20).contains(&page.messages.len()));
        assert_eq!(page.messages[0].position, after + 1);
        assert_eq!(page.last_position, 20);
        after = page.messages.last().unwrap().position;
    }
    for _ in 0..3 {
        shard.pump();
    }
    assert_eq!(shard.machine.accepted_through(0).unwrap(), 20);
    let page = shard.machine.deliveries(bob.0, 1, 3, 2).unwrap();
    assert_eq!(page.iter().map(|it| it.sequence).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(shard.machine.deliveries(bob.0, 1, u64::MAX, 2).unwrap(), []);
    assert_eq!(shard.machine.deliveries(bob.0, 1, 0, 0).unwrap(), []);
}

#[test]
fn a_message_is_delivered_once_whichever_shard_sends_it() {
    let shards = 2;
    let mut shard = Shard::with(0, shards, Settings::default());
    let phones: Vec<String> = (0..40)
        .map(|n| format!("1000{n:04}"))
        .filter(|phone| ids::phone_shard(phone, shards) == Ok(0))
        .take(2)
        .collect();
    let ann = shard.user(&phones[0]);
    let bob = shard.user(&phones[1]);
    shard.session(bob, 1, 1);
    for from_shard in [0, 1] {
        let items = vec![item(1, ann, bob, 1)];
        let reply = shard.run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard, items }));
        assert_eq!(reply, Reply::Accepted { from_shard, through: 1 });
    }
    assert_eq!(
        shard.shown(bob, 1).len(),
        1,
        "the conversation has moved, the message has not"
    );
}

#[test]
fn outboxes_of_several_shards_are_kept_apart() {
    let shards = 4;
    let mut homes: Vec<Shard> = (0..shards)
        .map(|s| Shard::with(s, shards, Settings::default()))
        .collect();
    let users: Vec<u64> = (0..12)
        .map(|n| {
            let phone = format!("2000{n:04}");
            let home = ids::phone_shard(&phone, shards).unwrap() as usize;
            homes[home].user(&phone)
        })
        .collect();
    let sender = users[0];
    let session = homes[ids::owner(sender, shards) as usize].session(sender, 1, 1);
    for (n, &to) in users.iter().enumerate().skip(1) {
        let home = ids::owner(ids::conversation_id(sender, to), shards) as usize;
        let reply = homes[home].run(send((sender, 1, session), to, n as u64, "x"));
        assert!(matches!(reply, Reply::Sent { position: 1, .. }), "{reply:?}");
        let wrong = (home + 1) % shards as usize;
        let reply = homes[wrong].run(send((sender, 1, session), to, n as u64, "x"));
        assert_eq!(reply, Reply::Refused(Refused::Misrouted { owner: home as u32 }));
    }
    let mut waiting = 0;
    for home in &homes {
        for outbox in home.machine.outbox_shards().unwrap() {
            let items = home.machine.outbox_pending(outbox.to_shard, 0, 100).unwrap();
            assert!(
                items
                    .iter()
                    .flat_map(|it| &it.recipients)
                    .all(|user| ids::owner(*user, shards) == outbox.to_shard)
            );
            let numbers: Vec<u64> = items.iter().map(|it| it.outbox_sequence).collect();
            assert_eq!(numbers, (1..=outbox.last_sequence).collect::<Vec<_>>());
            waiting += items.iter().map(|it| it.recipients.len()).sum::<usize>();
        }
    }
    assert_eq!(
        waiting,
        2 * (users.len() - 1),
        "each recipient, and the sender's own devices"
    );
}

#[test]
fn an_outbox_is_trimmed_only_as_far_as_it_goes() {
    let (mut shard, ann, bob) = pair(Settings::default());
    shard.run(send(ann, bob.0, 1, "a"));
    assert!(matches!(
        shard.run(trim(0, 2)),
        Reply::Refused(Refused::Malformed { .. })
    ));
    let done = Reply::Trimmed {
        to_shard: 0,
        through: 1,
    };
    assert_eq!(shard.run(trim(0, 1)), done);
    assert_eq!(shard.run(trim(0, 0)), done);
    assert_eq!(shard.machine.outbox_pending(0, 0, 9).unwrap(), []);
}

#[test]
fn entries_follow_each_other_and_a_bad_batch_changes_nothing() {
    let mut shard = Shard::alone();
    let before = shard.machine.digest().unwrap();
    let good = Committed {
        index: 1,
        term: 1,
        command: Some(at(1, sign_up(ANN))),
    };
    let error = shard
        .machine
        .apply(&[good.clone(), Committed::empty(3, 1)])
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChatError::NotNext {
                index: 3,
                applied: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(shard.machine.digest().unwrap(), before);
    assert_eq!(shard.machine.applied(), (0, 0));
    let applied = shard.machine.apply(&[good.clone(), Committed::empty(2, 4)]).unwrap();
    assert_eq!(applied.outcomes.len(), 1);
    assert_eq!(shard.machine.applied(), (2, 4));
    assert!(
        shard.machine.apply(std::slice::from_ref(&good)).is_err(),
        "no entry twice"
    );
    assert!(shard.machine.apply(&[Committed::empty(3, 3)]).is_err(), "no older term");
}

#[test]
fn what_is_no_command_is_told_apart_from_an_empty_one() {
    assert_eq!(Committed::decode(4, 2, &[]).unwrap(), Committed::empty(4, 2));
    let error = Committed::decode(4, 2, &[0xff; 3]).unwrap_err();
    assert!(matches!(error, ChatError::Undecodable { index: 4, .. }), "{error}");
    let mut shard = Shard::alone();
    let unknown = Committed {
        index: 1,
        term: 1,
        command: Some(Default::default()),
    };
    let applied = shard.machine.apply(&[unknown]).unwrap();
    assert!(matches!(
        applied.outcomes[0].reply,
        Reply::Refused(Refused::Malformed { .. })
    ));
}

#[test]
fn a_shard_number_that_can_not_be_is_refused() {
    for (shard, shards) in [(0, 0), (2, 2), (0, ids::SHARDS_MAX + 1)] {
        assert!(matches!(
            Machine::open(memory(), shard, shards),
            Err(ChatError::Foreign { .. })
        ));
    }
}
