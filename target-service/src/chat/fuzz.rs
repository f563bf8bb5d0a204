//! The chat as a target of fuzzing: any bytes for what clients ask, and for what was put into a log for them.

use std::fmt::Debug;

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, Command, FenceRequest, GroupCommand, HistoryRequest, ImportContactsRequest, OpenSessionRequest,
    SendRequest, SignUpRequest, SubscribeRequest,
};
use prost::Message;
use redb::{Database, backends::InMemoryBackend};

use super::{
    Committed, Machine,
    validate::{self, SendShape},
};

/// Most messages that one input holds.
const MESSAGES_MAX: usize = 32;
/// How many shards there are; the machine is the first.
const SHARDS: u32 = 2;

/// Takes what `bytes` holds, each behind its length in one byte, for requests of clients and for commands of a log. For
/// fuzzing: nothing may panic, a request that was read must be written as it was, no command may fail rather than be
/// refused, and two replicas must come to the same state.
pub fn fuzz_calls(bytes: &[u8]) {
    let mut replicas = [machine(), machine()];
    let mut rest = bytes;
    for index in 1..=MESSAGES_MAX as u64 {
        let Some((len, behind)) = rest.split_first() else {
            break;
        };
        let (one, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        requests(one);
        let entry = Committed {
            index,
            term: 1,
            command: Command::decode(one).ok(),
        };
        for replica in &mut replicas {
            let applied = replica.apply(std::slice::from_ref(&entry));
            assert!(applied.is_ok(), "{entry:?}: {applied:?}");
        }
    }
    let [one, other] = replicas.map(|replica| replica.digest().expect("a sound state"));
    assert_eq!(one, other, "the same log gives the same state");
}

fn machine() -> Machine {
    let db = Database::builder().create_with_backend(InMemoryBackend::new());
    Machine::open(db.expect("a database in memory"), 0, SHARDS).expect("an empty shard")
}

/// As the front and the node's loop look at them. A refusal is the right answer to most.
fn requests(bytes: &[u8]) {
    if let Some(it) = read::<SignUpRequest>(bytes) {
        let _ = validate::sign_up(&it.phone, 0, SHARDS);
    }
    if let Some(it) = read::<OpenSessionRequest>(bytes) {
        let _ = validate::open_session(it.user, it.device, 0, SHARDS);
    }
    if let Some(it) = read::<SendRequest>(bytes) {
        let shape = SendShape {
            sender: it.sender,
            device: it.device,
            session: it.session,
            recipient: it.recipient,
            group: it.group,
            body_bytes: it.body.len(),
        };
        let _ = validate::send(&shape, 0, SHARDS);
    }
    if let Some(it) = read::<AcknowledgeRequest>(bytes) {
        let _ = validate::own_device(it.user, it.device, 0, SHARDS);
    }
    if let Some(it) = read::<SubscribeRequest>(bytes) {
        let _ = validate::own_device(it.user, it.device, 0, SHARDS);
    }
    if let Some(it) = read::<HistoryRequest>(bytes) {
        let _ = validate::history(it.conversation, 0, SHARDS);
    }
    if let Some(it) = read::<GroupCommand>(bytes) {
        let _ = validate::change_group(&it, 0, SHARDS);
    }
    if let Some(it) = read::<ImportContactsRequest>(bytes) {
        let _ = validate::import(&it.phones);
    }
    if let Some(it) = read::<FenceRequest>(bytes) {
        let _ = validate::fence(it.sessions.len());
    }
}

fn read<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message), "what was read is written as it was");
    Some(message)
}
