//! The one border between the wire's replication types and `raft`'s.
//!
//! Bytes from outside are decoded by prost and checked here; only what `raft` wrote itself on this node (membership
//! changes) is ever parsed by its own codec.

use firedrill_proto::chat::v1 as wire;
use prost::Message as _;
use raft::eraftpb;

/// Indices and terms beyond this are noise: nothing counts that far.
const COUNT_MAX: u64 = 1 << 62;

/// Most members that a configuration may name.
const MEMBERS_MAX: usize = 64;

/// Bytes of one entry: more than any command has, and less than the log can write as one frame.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;
/// Bytes of what an entry may hold: its index, term and kind stand beside it.
pub const DATA_BYTES_MAX: usize = ENTRY_BYTES_MAX - 64;

/// A peer's message, an entry or a membership that can not be. It is refused before `raft` sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {value}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// The value that is.
    pub value: String,
}

fn malformed<T>(what: &'static str, value: impl ToString) -> Result<T, Malformed> {
    Err(Malformed {
        what,
        value: value.to_string(),
    })
}

/// An entry as the wire and the durable log hold it.
///
/// # Errors
/// When a membership change that `raft` wrote can't be read back.
pub fn entry_to_wire(entry: &eraftpb::Entry) -> Result<wire::LogEntry, Malformed> {
    use eraftpb::EntryType::{EntryConfChange, EntryConfChangeV2, EntryNormal};
    let (kind, data) = match entry.get_entry_type() {
        EntryNormal => (wire::EntryKind::Normal, entry.data.clone()),
        EntryConfChange => {
            let change: eraftpb::ConfChange = own(&entry.data)?;
            let steps = vec![step_to_wire(change.get_change_type(), change.node_id)];
            let change = wire::ConfigChange {
                transition: 0,
                steps,
                context: change.context,
            };
            (wire::EntryKind::ConfigChange, change.encode_to_vec().into())
        }
        EntryConfChangeV2 => {
            let change: eraftpb::ConfChangeV2 = own(&entry.data)?;
            let steps = change.changes.iter();
            let change = wire::ConfigChange {
                transition: change.transition as u32,
                steps: steps
                    .map(|one| step_to_wire(one.get_change_type(), one.node_id))
                    .collect(),
                context: change.context,
            };
            (wire::EntryKind::ConfigChangeV2, change.encode_to_vec().into())
        }
    };
    Ok(wire::LogEntry {
        kind: kind.into(),
        term: entry.term,
        index: entry.index,
        data,
        context: entry.context.clone(),
    })
}

/// An entry as `raft` holds it.
///
/// # Errors
/// When its kind is unknown, its numbers are impossible, or its membership change is.
pub fn entry_from_wire(entry: wire::LogEntry) -> Result<eraftpb::Entry, Malformed> {
    if entry.index == 0 || entry.index > COUNT_MAX || entry.term == 0 || entry.term > COUNT_MAX {
        return malformed("entry's (index, term)", format!("({}, {})", entry.index, entry.term));
    }
    let (kind, data) = match entry.kind() {
        wire::EntryKind::Normal => (eraftpb::EntryType::EntryNormal, entry.data),
        wire::EntryKind::ConfigChange => {
            let change = config_change(&entry.data)?;
            let [step] = &change.steps[..] else {
                return malformed("steps of a simple membership change", change.steps.len());
            };
            let change = eraftpb::ConfChange {
                change_type: step_from_wire(step)?,
                node_id: step.node,
                context: change.context,
                ..Default::default()
            };
            (eraftpb::EntryType::EntryConfChange, written(&change)?)
        }
        wire::EntryKind::ConfigChangeV2 => {
            let change = change_v2(config_change(&entry.data)?)?;
            (eraftpb::EntryType::EntryConfChangeV2, written(&change)?)
        }
        wire::EntryKind::Unspecified => return malformed("entry's kind", entry.kind),
    };
    Ok(eraftpb::Entry {
        entry_type: kind,
        term: entry.term,
        index: entry.index,
        data,
        context: entry.context,
        ..Default::default()
    })
}

/// The membership change that a committed entry holds, for `raft` to apply; `None` for a normal entry.
///
/// # Errors
/// When the change is impossible.
pub fn membership(entry: &wire::LogEntry) -> Result<Option<eraftpb::ConfChangeV2>, Malformed> {
    match entry.kind() {
        wire::EntryKind::ConfigChange | wire::EntryKind::ConfigChangeV2 => {
            Ok(Some(change_v2(config_change(&entry.data)?)?))
        }
        _ => Ok(None),
    }
}

fn config_change(data: &[u8]) -> Result<wire::ConfigChange, Malformed> {
    match wire::ConfigChange::decode(data) {
        Ok(change) if change.steps.len() <= MEMBERS_MAX => Ok(change),
        Ok(change) => malformed("steps of a membership change", change.steps.len()),
        Err(error) => malformed("membership change", error),
    }
}

fn change_v2(change: wire::ConfigChange) -> Result<eraftpb::ConfChangeV2, Malformed> {
    use eraftpb::ConfChangeTransition::{Auto, Explicit, Implicit};
    let transition = match change.transition {
        0 => Auto,
        1 => Implicit,
        2 => Explicit,
        other => return malformed("transition of a membership change", other),
    };
    let mut changes = Vec::with_capacity(change.steps.len());
    for step in &change.steps {
        changes.push(eraftpb::ConfChangeSingle {
            change_type: step_from_wire(step)?,
            node_id: step.node,
            ..Default::default()
        });
    }
    Ok(eraftpb::ConfChangeV2 {
        transition,
        changes: changes.into(),
        context: change.context,
        ..Default::default()
    })
}

fn step_to_wire(kind: eraftpb::ConfChangeType, node: u64) -> wire::ConfigChangeStep {
    wire::ConfigChangeStep {
        kind: kind as u32,
        node,
    }
}

fn step_from_wire(step: &wire::ConfigChangeStep) -> Result<eraftpb::ConfChangeType, Malformed> {
    use eraftpb::ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    if step.node == 0 {
        return malformed("node of a membership change", 0);
    }
    match step.kind {
        0 => Ok(AddNode),
        1 => Ok(RemoveNode),
        2 => Ok(AddLearnerNode),
        other => malformed("kind of a membership change", other),
    }
}

/// Parses what `raft` itself wrote on this node.
fn own<M: protobuf::Message>(data: &[u8]) -> Result<M, Malformed> {
    let mut message = M::new();
    match message.merge_from_bytes(data) {
        Ok(()) => Ok(message),
        Err(error) => malformed("membership change written here", error),
    }
}

fn written(change: &impl protobuf::Message) -> Result<bytes::Bytes, Malformed> {
    match change.write_to_bytes() {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => malformed("membership change", error),
    }
}

/// A hard state for the durable log.
#[must_use]
pub fn hard_state_to_wire(state: &eraftpb::HardState) -> wire::HardState {
    wire::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
}

/// A hard state from the durable log.
#[must_use]
pub fn hard_state_to_raft(state: &wire::HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
        ..Default::default()
    }
}

/// A membership for the wire and the durable log, each role in the order of ids: `raft`'s own order is that of a hash.
#[must_use]
pub fn conf_state_to_wire(state: &eraftpb::ConfState) -> wire::ConfState {
    let sorted = |nodes: &[u64]| {
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        nodes
    };
    wire::ConfState {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        voters_outgoing: sorted(&state.voters_outgoing),
        learners_next: sorted(&state.learners_next),
        auto_leave: state.auto_leave,
        // `raft` knows neither.
        index: 0,
        version: 0,
    }
}

/// A membership, in the order in which `raft` compares it.
///
/// # Errors
/// When it names node 0, one node twice in a role, nobody, or a role that contradicts another.
pub fn conf_state_from_wire(state: &wire::ConfState) -> Result<eraftpb::ConfState, Malformed> {
    let sorted = |role: &'static str, nodes: &[u64]| {
        let mut sorted = nodes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != nodes.len() || sorted.first() == Some(&0) || nodes.len() > MEMBERS_MAX {
            return malformed(role, format!("{nodes:?}"));
        }
        Ok(sorted)
    };
    let voters = sorted("voters", &state.voters)?;
    let learners = sorted("learners", &state.learners)?;
    let voters_outgoing = sorted("outgoing voters", &state.voters_outgoing)?;
    let learners_next = sorted("next learners", &state.learners_next)?;
    let joint = !voters_outgoing.is_empty();
    let contradiction = voters.is_empty()
        || learners
            .iter()
            .any(|id| voters.contains(id) || voters_outgoing.contains(id))
        || learners_next
            .iter()
            .any(|id| voters.contains(id) || !voters_outgoing.contains(id))
        || (!joint && state.auto_leave);
    if contradiction {
        return malformed("membership", format!("{state:?}"));
    }
    Ok(eraftpb::ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave: state.auto_leave,
        ..Default::default()
    })
}

/// A message for the wire; `None` for what stays on a node.
///
/// # Errors
/// When an entry in it can't be written.
pub fn message_to_wire(message: eraftpb::Message) -> Result<Option<wire::RaftMessage>, Malformed> {
    let Some(kind) = kind_to_wire(message.get_msg_type()) else {
        return Ok(None);
    };
    let snapshot = message.snapshot.as_ref().map(snapshot_to_wire);
    Ok(Some(wire::RaftMessage {
        kind: kind.into(),
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.iter().map(entry_to_wire).collect::<Result<_, _>>()?,
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    }))
}

const fn kind_to_wire(kind: eraftpb::MessageType) -> Option<wire::RaftMessageKind> {
    use eraftpb::MessageType as Raft;
    use wire::RaftMessageKind as Wire;
    Some(match kind {
        Raft::MsgAppend => Wire::Append,
        Raft::MsgAppendResponse => Wire::AppendResponse,
        Raft::MsgRequestVote => Wire::RequestVote,
        Raft::MsgRequestVoteResponse => Wire::RequestVoteResponse,
        Raft::MsgSnapshot => Wire::Snapshot,
        Raft::MsgHeartbeat => Wire::Heartbeat,
        Raft::MsgHeartbeatResponse => Wire::HeartbeatResponse,
        Raft::MsgTimeoutNow => Wire::TimeoutNow,
        Raft::MsgRequestPreVote => Wire::RequestPreVote,
        Raft::MsgRequestPreVoteResponse => Wire::RequestPreVoteResponse,
        // A replica proposes, reads and hands over only where it leads: these are never sent to a peer.
        Raft::MsgHup
        | Raft::MsgBeat
        | Raft::MsgPropose
        | Raft::MsgUnreachable
        | Raft::MsgSnapStatus
        | Raft::MsgCheckQuorum
        | Raft::MsgTransferLeader
        | Raft::MsgReadIndex
        | Raft::MsgReadIndexResp => return None,
    })
}

const fn kind_from_wire(kind: wire::RaftMessageKind) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as Raft;
    use wire::RaftMessageKind as Wire;
    Some(match kind {
        Wire::Append => Raft::MsgAppend,
        Wire::AppendResponse => Raft::MsgAppendResponse,
        Wire::RequestVote => Raft::MsgRequestVote,
        Wire::RequestVoteResponse => Raft::MsgRequestVoteResponse,
        Wire::Snapshot => Raft::MsgSnapshot,
        Wire::Heartbeat => Raft::MsgHeartbeat,
        Wire::HeartbeatResponse => Raft::MsgHeartbeatResponse,
        Wire::TimeoutNow => Raft::MsgTimeoutNow,
        Wire::RequestPreVote => Raft::MsgRequestPreVote,
        Wire::RequestPreVoteResponse => Raft::MsgRequestPreVoteResponse,
        Wire::Unspecified
        | Wire::TransferLeader
        | Wire::ReadIndex
        | Wire::ReadIndexResponse
        | Wire::Propose
        | Wire::Unreachable
        | Wire::SnapshotStatus => return None,
    })
}

/// A message from the peer `from` to `me`, for `raft`; checked as far as it can be without knowing the replica's state.
///
/// # Errors
/// Names what can't be.
pub fn message_from_wire(me: u64, from: u64, message: wire::RaftMessage) -> Result<eraftpb::Message, Malformed> {
    let Some(kind) = kind_from_wire(message.kind()) else {
        return malformed("kind of message", message.kind);
    };
    if message.to != me || message.from != from || from == me {
        return malformed("(from, to) of message", format!("({}, {})", message.from, message.to));
    }
    if message.term == 0 || message.term > COUNT_MAX {
        return malformed("term of message", message.term);
    }
    let counts = [message.index, message.commit, message.reject_hint];
    if let Some(count) = counts.into_iter().find(|count| *count > COUNT_MAX) {
        return malformed("index in message", count);
    }
    if message.log_term > message.term || message.commit_term > message.term {
        return malformed(
            "term of log beyond that of message",
            message.log_term.max(message.commit_term),
        );
    }
    // raft takes any index beyond its log for one of term 0.
    if kind == eraftpb::MessageType::MsgAppend && (message.index == 0) != (message.log_term == 0) {
        let value = format!("({}, {})", message.index, message.log_term);
        return malformed("(index, term) that entries follow", value);
    }
    if message.request_snapshot != 0 {
        return malformed("request for a snapshot", message.request_snapshot);
    }
    if kind != eraftpb::MessageType::MsgAppend && !message.entries.is_empty() {
        return malformed("entries in a message that takes none", message.entries.len());
    }
    let (mut index, mut term) = (message.index, message.log_term);
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        if entry.encoded_len() > ENTRY_BYTES_MAX {
            return malformed("bytes of an entry", entry.encoded_len());
        }
        let entry = entry_from_wire(entry)?;
        if entry.index != index + 1 || entry.term < term || entry.term > message.term {
            let value = format!("({}, {}) behind ({index}, {term})", entry.index, entry.term);
            return malformed("entry out of order", value);
        }
        (index, term) = (entry.index, entry.term);
        entries.push(entry);
    }
    let snapshot = match (kind, message.snapshot) {
        (eraftpb::MessageType::MsgSnapshot, Some(snapshot)) => Some(snapshot_from_wire(me, message.term, snapshot)?),
        (eraftpb::MessageType::MsgSnapshot, None) => return malformed("snapshot", "missing"),
        (_, Some(_)) => return malformed("snapshot", "in a message that takes none"),
        (_, None) => None,
    };
    Ok(eraftpb::Message {
        msg_type: kind,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.into(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: snapshot.into(),
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        ..Default::default()
    })
}

/// A snapshot for the wire; its data is shared, not copied.
#[must_use]
pub fn snapshot_to_wire(snapshot: &eraftpb::Snapshot) -> wire::Snapshot {
    let meta = snapshot.get_metadata();
    wire::Snapshot {
        index: meta.index,
        term: meta.term,
        conf_state: Some(conf_state_to_wire(meta.get_conf_state())),
        data: snapshot.data.clone(),
    }
}

fn snapshot_from_wire(me: u64, message_term: u64, snapshot: wire::Snapshot) -> Result<eraftpb::Snapshot, Malformed> {
    if snapshot.index == 0 || snapshot.index > COUNT_MAX || snapshot.term == 0 || snapshot.term > message_term {
        return malformed(
            "snapshot's (index, term)",
            format!("({}, {})", snapshot.index, snapshot.term),
        );
    }
    let members = conf_state_from_wire(&snapshot.conf_state.unwrap_or_default())?;
    let roles = [&members.voters, &members.learners, &members.voters_outgoing];
    if !roles.into_iter().any(|role| role.contains(&me)) {
        return malformed("members of a snapshot for this node", format!("{:?}", members.voters));
    }
    let mut to = eraftpb::Snapshot {
        data: snapshot.data,
        ..Default::default()
    };
    let meta = to.mut_metadata();
    meta.index = snapshot.index;
    meta.term = snapshot.term;
    meta.set_conf_state(members);
    Ok(to)
}
