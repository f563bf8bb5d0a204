//! Parsers under seeded mutants of a corpus, few enough for every test run. `fuzz/README.md` says how to read a failure.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use std::sync::Arc;

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, AcknowledgeCommand, AcknowledgeRequest, Command, ConfState, FenceCommand, GroupChangeKind,
    GroupCommand, HardState, HistoryRequest, ImportContactsCommand, IssueCodeCommand, LogEntry, OpenSessionCommand,
    OpenSessionRequest, ReceiptCommand, SendCommand, SendRequest, SignUpCommand, SignUpRequest, SubscribeRequest,
    TrimOutboxCommand, command::Command as Kind,
};
use prost::Message as _;
use target_service::{
    chat::{Committed, Machine, Reply, fuzz_calls, ids},
    consensus::rig::{Rig, fuzz_step},
    env::{Disk, SimDisk},
    storage::log::{Log, LogOptions, WriteBatch, fuzz_open, fuzz_open_sealed},
};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    mutate::files(&mutate::corpus_of(target))
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect()
}

#[test]
fn log() {
    mutate::hold_corpus("log", &segments());
    mutate::smoke("log", &corpus("log"), |bytes| {
        fuzz_open(bytes);
        fuzz_open_sealed(bytes);
    });
}

#[test]
fn wire() {
    mutate::hold_corpus(
        "wire",
        &[("raft", raft()), ("commands", commands()), ("requests", requests())],
    );
    mutate::smoke("wire", &corpus("wire"), |bytes| {
        fuzz_step(bytes);
        fuzz_calls(bytes);
    });
}

/// Segments as a node writes them.
fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let entry = |index, data: &'static [u8]| LogEntry {
        kind: 1,
        term: 3,
        index,
        data: data.into(),
        ..LogEntry::default()
    };
    let members = ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    };
    let state = |commit| HardState {
        term: 3,
        vote: 2,
        commit,
    };
    let written = |batches: Vec<WriteBatch>| {
        let disk = SimDisk::new();
        let held: Arc<dyn Disk> = Arc::new(disk.attach());
        let mut log = Log::open(held, "log", LogOptions::default()).expect("an empty disk");
        for batch in batches {
            log.append(batch).expect("what follows");
            log.sync().expect("a disk without faults");
        }
        let names = disk.list("log").expect("a folder");
        let file = disk.open(&format!("log/{}", names[0])).expect("a segment");
        let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("a small one")];
        file.read_at(0, &mut bytes).expect("its bytes");
        bytes
    };
    let mut born = WriteBatch::default();
    born.conf_state(0, members.clone());
    let mut grown = WriteBatch::default();
    grown.entries(0, vec![entry(1, b""), entry(2, b"hello"), entry(3, b"again")]);
    grown.hard_state(0, state(2));
    let mut other = WriteBatch::default();
    other.entries(1, vec![entry(1, b"another shard")]);
    let mut replaced = WriteBatch::default();
    replaced.entries(0, vec![entry(3, b"instead")]);
    let mut caught_up = WriteBatch::default();
    caught_up.snapshot(1, 40, 3, members);
    caught_up.hard_state(1, state(40));
    vec![
        ("empty.wal", written(Vec::new())),
        ("entries.wal", written(vec![born, grown, other, replaced])),
        ("snapshot.wal", written(vec![caught_up])),
    ]
}

/// Pieces, each behind its length in one byte.
fn framed(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces.into_iter().filter(|piece| piece.len() < 256) {
        out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        out.extend(piece);
    }
    out
}

/// What a new replica hears until it has followed some entries: an election, appends, heartbeats.
fn raft() -> Vec<u8> {
    let mut rigs = [1, 2, 3].map(|node| Rig::new(node, &[1, 2, 3]));
    let mut heard = Vec::new();
    for _ in 0..60 {
        rigs[1].replica.tick();
        if rigs[1].replica.is_leader() && rigs[1].replica.last_index() < 4 {
            let _ = rigs[1].replica.propose(bytes::Bytes::from_static(b"entry"));
        }
        let sent: Vec<_> = rigs.iter_mut().flat_map(Rig::turn).collect();
        for message in sent {
            if message.to == 1 {
                heard.push(message.encode_to_vec());
            }
            let to = usize::try_from(message.to - 1).expect("a peer's number");
            rigs[to]
                .replica
                .step(message.from, message)
                .expect("a peer's honest message");
        }
    }
    assert!(heard.len() > 8, "an election and some heartbeats");
    heard.truncate(32);
    // Mode 0: the replica that hears them is new.
    let mut out = vec![0];
    out.extend(framed(heard));
    out
}

fn machine() -> Machine {
    let db = redb::Database::builder().create_with_backend(redb::backends::InMemoryBackend::new());
    Machine::open(db.expect("a database in memory"), 0, 2).expect("an empty shard")
}

/// A small life of one shard of two: accounts, a session, a message, its delivery and the end.
fn commands() -> Vec<u8> {
    let (mut machine, mut log) = (machine(), Vec::new());
    let mut run = |kind: Kind| {
        let command = Command {
            time_ms: 1000,
            proposer: 1,
            ticket: 7,
            command: Some(kind),
        };
        log.push(command.encode_to_vec());
        let entry = Committed {
            index: machine.applied().0 + 1,
            term: 1,
            command: Some(command),
        };
        let applied = machine.apply(&[entry]).expect("it is applied");
        (
            applied.outcomes[0].reply.clone(),
            machine.outbox_pending(0, 0, 10).expect("an outbox"),
        )
    };
    let home = |phone: &String| ids::phone_shard(phone, 2).is_ok_and(|shard| shard == 0);
    let phones: Vec<String> = (0..40)
        .map(|n| format!("+15550001{n:02}"))
        .filter(home)
        .take(4)
        .collect();
    let mut users = Vec::new();
    for phone in phones {
        let (reply, _) = run(Kind::SignUp(SignUpCommand {
            phone,
            ..SignUpCommand::default()
        }));
        let Reply::SignedUp { user, .. } = reply else {
            panic!("{reply:?}");
        };
        users.push(user);
    }
    let mut pairs = users.iter().flat_map(|a| users.iter().map(move |b| (*a, *b)));
    let here = |(a, b): &(u64, u64)| a != b && ids::owner(ids::conversation_id(*a, *b), 2) == 0;
    let (sender, recipient) = pairs.find(here).expect("a conversation of this shard");
    let open = |user| OpenSessionCommand {
        user,
        device: 1,
        client_nonce: 5,
    };
    run(Kind::OpenSession(open(recipient)));
    let (reply, _) = run(Kind::OpenSession(open(sender)));
    let Reply::Opened { session, .. } = reply else {
        panic!("{reply:?}");
    };
    let (_, items) = run(Kind::Send(SendCommand {
        sender,
        device: 1,
        session,
        recipient,
        client_id: 1,
        body: "hello".into(),
        group: 0,
    }));
    assert_eq!(items.len(), 1, "the message waits for its delivery");
    let through = items[0].outbox_sequence;
    run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard: 0, items }));
    run(Kind::TrimOutbox(TrimOutboxCommand { to_shard: 0, through }));
    let client_id = (2..).find(|id| ids::owner(ids::group_id(sender, 1, *id), 2) == 0);
    let (_, items) = run(Kind::ChangeGroup(GroupCommand {
        actor: sender,
        device: 1,
        session,
        client_id: client_id.expect("a group of this shard"),
        kind: GroupChangeKind::GroupCreate.into(),
        conversation: 0,
        users: vec![recipient],
        open: true,
    }));
    run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard: 0, items }));
    run(Kind::IssueCode(IssueCodeCommand {
        phone: "1555000100".to_owned(),
        code: "123456".to_owned(),
    }));
    run(Kind::ImportContacts(ImportContactsCommand {
        user: sender,
        device: 1,
        session,
        phones: vec!["1555000100".to_owned()],
    }));
    run(Kind::Receipt(ReceiptCommand {
        user: sender,
        device: 1,
        session,
        conversation: ids::conversation_id(sender, recipient),
        delivered: 1,
        read: 1,
    }));
    run(Kind::Acknowledge(AcknowledgeCommand {
        user: sender,
        device: 1,
        session,
        sequence: 0,
    }));
    run(Kind::Fence(FenceCommand {
        sessions: vec![session],
    }));
    framed(log)
}

/// One of each request that clients make.
fn requests() -> Vec<u8> {
    let sign_up = SignUpRequest {
        phone: "+1 555 000 100".to_owned(),
        epoch: 1,
        code: "123456".to_owned(),
    };
    let open = OpenSessionRequest {
        user: 2,
        device: 1,
        epoch: 1,
        client_nonce: 9,
    };
    let send = SendRequest {
        sender: 2,
        device: 1,
        session: 4,
        recipient: 6,
        client_id: 1,
        body: "hello".into(),
        epoch: 1,
        timeout_ms: 2000,
        group: 0,
    };
    let subscribe = SubscribeRequest {
        user: 2,
        device: 1,
        session: 4,
        after: 7,
        incarnation: 1,
        epoch: 1,
    };
    let acknowledge = AcknowledgeRequest {
        user: 2,
        device: 1,
        session: 4,
        sequence: 8,
        epoch: 1,
    };
    let history = HistoryRequest {
        conversation: 12,
        after: 0,
        limit: 500,
        epoch: 1,
        caller: None,
    };
    framed([
        sign_up.encode_to_vec(),
        open.encode_to_vec(),
        send.encode_to_vec(),
        subscribe.encode_to_vec(),
        acknowledge.encode_to_vec(),
        history.encode_to_vec(),
    ])
}
