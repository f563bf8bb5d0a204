//! The placement group's state machine: deterministic, small, and whole in memory.

use bytes::Bytes;
use firedrill_proto::chat::v1::{
    AdvanceOperation, BeginMove, FormerMember, OperationPhase, PlacementCommand, PlacementMap, PlacementOperation,
    PlacementSnapshot, ShardPlacement, placement_command::Command,
};
use prost::Message as _;

use super::step::{active, is_active};

/// Most operations that go on at a time.
pub const OPERATIONS_MAX: usize = 16;

/// Most operations that are remembered once they have ended.
const ENDED_MAX: usize = 32;

/// Bytes of the checksum behind a snapshot.
const CHECKSUM: usize = 4;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This operation goes on.
    Operation(PlacementOperation),
    /// It can't be done, ever.
    Invalid(String),
    /// It can't be done now.
    Busy(String),
    /// The operation was not in that phase any more.
    Nothing,
}

/// A snapshot that can't be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("placement snapshot of {bytes} bytes: {what}")]
pub struct SnapshotError {
    /// How long it is.
    pub bytes: usize,
    /// What is wrong.
    pub what: String,
}

/// The map that a configuration describes.
#[must_use]
pub fn founded(epoch: u64, members: impl IntoIterator<Item = Vec<u64>>) -> PlacementMap {
    let placed = |members: Vec<u64>| ShardPlacement {
        founders: members.clone(),
        members,
        since_epoch: epoch,
        former: Vec::new(),
    };
    PlacementMap {
        epoch,
        shards: members.into_iter().map(placed).collect(),
        ..PlacementMap::default()
    }
}

/// The state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    map: PlacementMap,
    applied: (u64, u64),
}

impl Machine {
    /// Begins with the map of the configuration.
    #[must_use]
    pub const fn new(map: PlacementMap) -> Self {
        Self { map, applied: (0, 0) }
    }

    /// The map.
    #[must_use]
    pub const fn map(&self) -> &PlacementMap {
        &self.map
    }

    /// The applied index and its term.
    #[must_use]
    pub const fn applied(&self) -> (u64, u64) {
        self.applied
    }

    /// Applies the entry at (`index`, `term`), which follows the applied one; `None` is one without a command.
    pub fn apply(&mut self, index: u64, term: u64, command: Option<PlacementCommand>) -> Reply {
        self.applied = (index, term);
        match command.and_then(|command| command.command) {
            Some(Command::Begin(begin)) => self.begin(&begin, index),
            Some(Command::Advance(advance)) => self.advance(&advance, index),
            Some(Command::Abort(abort)) => self.abort(abort.operation, abort.reason, index),
            None => Reply::Nothing,
        }
    }

    /// Whether a move could begin: gives the operation that is this move, if it goes on already.
    ///
    /// # Errors
    /// Says why it can't.
    pub fn check(&self, begin: &BeginMove) -> Result<Option<&PlacementOperation>, Reply> {
        let BeginMove { shard, from, to } = *begin;
        let Some(placed) = self.map.shards.get(shard as usize) else {
            return Err(Reply::Invalid(format!("there is no shard {shard}")));
        };
        if let Some(going) = active(&self.map, shard) {
            if (going.from, going.to) == (from, to) && going.phase() != OperationPhase::Aborting {
                return Ok(Some(going));
            }
            let message = format!(
                "operation {} moves shard {shard} from node {} to {}",
                going.id, going.from, going.to
            );
            return Err(Reply::Busy(message));
        }
        if !placed.members.contains(&from) || placed.members.contains(&to) || to == 0 {
            let members = &placed.members;
            let message = format!("shard {shard} is held by {members:?}: it can't move from node {from} to {to}");
            return Err(Reply::Invalid(message));
        }
        if self.map.operations.iter().filter(|it| is_active(it)).count() >= OPERATIONS_MAX {
            return Err(Reply::Busy(format!("{OPERATIONS_MAX} operations go on already")));
        }
        Ok(None)
    }

    fn begin(&mut self, begin: &BeginMove, index: u64) -> Reply {
        match self.check(begin) {
            Ok(Some(going)) => return Reply::Operation(going.clone()),
            Err(reply) => return reply,
            Ok(None) => {}
        }
        self.map.last_operation += 1;
        let operation = PlacementOperation {
            id: self.map.last_operation,
            shard: begin.shard,
            from: begin.from,
            to: begin.to,
            phase: OperationPhase::AddLearner.into(),
            began: index,
            reason: String::new(),
        };
        self.map.operations.push(operation.clone());
        self.map.version = index;
        self.forget_ended();
        Reply::Operation(operation)
    }

    fn forget_ended(&mut self) {
        let ended = self.map.operations.iter().filter(|it| !is_active(it)).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.map.operations.retain(|it| {
            let goes = surplus > 0 && !is_active(it);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn advance(&mut self, advance: &AdvanceOperation, index: u64) -> Reply {
        let mut operations = self.map.operations.iter_mut();
        let Some(operation) = operations.find(|it| it.id == advance.operation && it.phase == advance.from) else {
            return Reply::Nothing;
        };
        let next = match operation.phase() {
            OperationPhase::AddLearner => OperationPhase::CatchUp,
            OperationPhase::CatchUp => OperationPhase::EnterJoint,
            OperationPhase::EnterJoint => OperationPhase::LeaveJoint,
            OperationPhase::LeaveJoint => OperationPhase::Done,
            OperationPhase::Aborting => OperationPhase::Aborted,
            OperationPhase::Done | OperationPhase::Aborted | OperationPhase::Unspecified => return Reply::Nothing,
        };
        operation.phase = next.into();
        let operation = operation.clone();
        self.map.version = index;
        let Some(placed) = self.map.shards.get_mut(operation.shard as usize) else {
            return Reply::Nothing;
        };
        let mut gone = None;
        match next {
            // Before it can lead, so that clients know it by then.
            OperationPhase::EnterJoint => {
                self.map.epoch += 1;
                placed.members.push(operation.to);
                placed.members.sort_unstable();
            }
            OperationPhase::Done => {
                self.map.epoch += 1;
                placed.since_epoch = self.map.epoch;
                placed.members.retain(|node| *node != operation.from);
                placed.former.retain(|former| former.node != operation.to);
                gone = Some(operation.from);
            }
            OperationPhase::Aborted => gone = Some(operation.to),
            _ => {}
        }
        if let Some(node) = gone {
            placed.former.retain(|former| former.node != node);
            placed.former.push(FormerMember {
                node,
                term: advance.term,
            });
        }
        self.forget_ended();
        Reply::Operation(operation)
    }

    fn abort(&mut self, id: u64, reason: String, index: u64) -> Reply {
        let Some(operation) = self.map.operations.iter_mut().find(|it| it.id == id) else {
            return Reply::Invalid(format!("there is no operation {id}, or it ended long ago"));
        };
        match operation.phase() {
            OperationPhase::AddLearner | OperationPhase::CatchUp => {
                operation.phase = OperationPhase::Aborting.into();
                operation.began = index;
                operation.reason = reason;
                let operation = operation.clone();
                self.map.version = index;
                Reply::Operation(operation)
            }
            OperationPhase::Aborting | OperationPhase::Aborted => Reply::Operation(operation.clone()),
            phase => {
                let message = format!(
                    "operation {id} is in phase {}: the new replica votes already, and it ends soon; move it back then",
                    phase.as_str_name()
                );
                Reply::Invalid(message)
            }
        }
    }

    /// The whole state.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let snapshot = PlacementSnapshot {
            index: self.applied.0,
            term: self.applied.1,
            map: Some(self.map.clone()),
        };
        let mut bytes = snapshot.encode_to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.into()
    }

    /// The state in a snapshot.
    ///
    /// # Errors
    /// When it is damaged, or of another number of shards than `shards`.
    pub fn restored(data: &[u8], shards: usize) -> Result<Self, SnapshotError> {
        let bad = |what: String| SnapshotError {
            bytes: data.len(),
            what,
        };
        let Some((body, checksum)) = data.split_last_chunk::<CHECKSUM>() else {
            return Err(bad("too short".to_owned()));
        };
        if crc32c::crc32c(body).to_le_bytes() != *checksum {
            return Err(bad("the checksum does not match".to_owned()));
        }
        let snapshot = PlacementSnapshot::decode(body).map_err(|error| bad(error.to_string()))?;
        let map = snapshot.map.unwrap_or_default();
        if map.shards.len() != shards || map.shards.iter().any(|placed| placed.members.is_empty()) {
            return Err(bad(format!("it has {} shards, not {shards}", map.shards.len())));
        }
        Ok(Self {
            map,
            applied: (snapshot.index, snapshot.term),
        })
    }
}
