//! This node's part of the placement group: its replica, its state machine, and what its leader is told by the others.

use std::{collections::BTreeMap, time::Duration};

use firedrill_proto::chat::v1::{
    AbortMove, AbortOperationRequest, AbortOperationResponse, AdvanceOperation, BeginMove, LogEntry,
    MoveReplicaRequest, MoveReplicaResponse, MoveReport, PlacementCommand, PlacementReport, placement_command::Command,
};
use prost::Message as _;

use super::{
    api::{Answer, Reason, Refusal},
    failover::Failover,
    inbox::Reply as To,
    routes::PLACEMENT,
    shard::RETRY_BUSY,
};
use crate::{
    consensus::{Replica, ReplicaError, changes_members},
    placement::{self, Machine, Reply},
};

/// Proposals of the placement group that are not decided, at most.
const PENDING_MAX: usize = 64;

/// Who waits for the outcome of a command.
#[derive(Debug)]
enum Waiting {
    Move(To<MoveReplicaResponse>),
    Abort(To<AbortOperationResponse>),
    /// The leader itself, carrying an operation on.
    Advance(u64),
}

impl Waiting {
    fn refuse(self, refusal: Refusal) {
        // Whoever doesn't listen any more needs no answer: here and below.
        match self {
            Self::Move(to) => drop(to.send(Err(refusal))),
            Self::Abort(to) => drop(to.send(Err(refusal))),
            Self::Advance(_) => {}
        }
    }
}

/// The placement group at this node.
#[derive(Debug)]
pub(super) struct Council {
    node: u64,
    pub(super) replica: Replica,
    pub(super) machine: Machine,
    pub(super) failover: Failover,
    /// The index of the last durable state.
    pub(super) checkpointed: u64,
    /// The term in which it leads, as far as everybody here was told.
    pub(super) led: Option<u64>,
    ticket: u64,
    pending: BTreeMap<u64, (u64, Waiting)>,
    /// The versions that the nodes said they know.
    known: BTreeMap<u64, u64>,
    /// The last report on each operation that goes on.
    progress: BTreeMap<u64, MoveReport>,
}

impl Council {
    pub(super) fn new(node: u64, replica: Replica, machine: Machine) -> Self {
        Self {
            node,
            checkpointed: machine.applied().0,
            replica,
            machine,
            failover: Failover::default(),
            led: None,
            ticket: 0,
            pending: BTreeMap::new(),
            known: BTreeMap::new(),
            progress: BTreeMap::new(),
        }
    }

    fn refusal(&self, reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            leader: Some(self.replica.leader()).filter(|leader| *leader != 0 && *leader != self.node),
            term: self.replica.term(),
            epoch: self.machine.map().epoch,
            ..Refusal::new(reason, message)
        }
    }

    fn refused(&self, reply: Reply) -> Refusal {
        match reply {
            Reply::Invalid(message) => self.refusal(Reason::Invalid, message),
            Reply::Busy(message) => self.refusal(Reason::Overloaded, message).after(Duration::from_secs(1)),
            Reply::Operation(_) | Reply::Nothing => self.refusal(Reason::Maybe, "the outcome is not known"),
        }
    }

    /// Whether a command may be proposed.
    fn admit(&self) -> Answer<()> {
        if self.led.is_none() || self.replica.is_handing_over() {
            let message = "this node doesn't lead the placement group";
            return Err(self.refusal(Reason::NotLeader, message));
        }
        if self.pending.len() >= PENDING_MAX {
            let message = format!("{PENDING_MAX} commands of the placement group wait already");
            return Err(self.refusal(Reason::Overloaded, message).after(RETRY_BUSY));
        }
        Ok(())
    }

    fn propose(&mut self, command: Command, waiting: Waiting) {
        self.ticket += 1;
        let command = PlacementCommand {
            proposer: self.node,
            ticket: self.ticket,
            command: Some(command),
        };
        match self.replica.propose(command.encode_to_vec().into()) {
            Some(index) => drop(self.pending.insert(index, (self.ticket, waiting))),
            None => waiting.refuse(
                self.refusal(Reason::NotLeader, "leadership is changing hands")
                    .after(RETRY_BUSY),
            ),
        }
    }

    /// Starts a move, or says whether it could start.
    pub(super) fn move_replica(&mut self, request: &MoveReplicaRequest, to: To<MoveReplicaResponse>) {
        let begin = BeginMove {
            shard: request.shard,
            from: request.from,
            to: request.to,
        };
        let checked = self.admit().and_then(|()| match self.machine.check(&begin) {
            Ok(going) => Ok(going.map_or(0, |operation| operation.id)),
            Err(reply) => Err(self.refused(reply)),
        });
        match checked {
            Ok(0) if !request.dry_run => self.propose(Command::Begin(begin), Waiting::Move(to)),
            Ok(operation) => drop(to.send(Ok(MoveReplicaResponse { operation }))),
            Err(refusal) => drop(to.send(Err(refusal))),
        }
    }

    /// Aborts an operation.
    pub(super) fn abort(&mut self, request: AbortOperationRequest, to: To<AbortOperationResponse>) {
        match self.admit() {
            Ok(()) => {
                let abort = AbortMove {
                    operation: request.operation,
                    reason: "an operator asked for it".to_owned(),
                };
                self.propose(Command::Abort(abort), Waiting::Abort(to));
            }
            Err(refusal) => drop(to.send(Err(refusal))),
        }
    }

    /// What a node says. Gives whether it has to be told the map, or, on a member that doesn't lead, who has to be told
    /// what the node said.
    pub(super) fn hear(&mut self, report: &PlacementReport) -> Heard {
        if self.led.is_none() {
            let leader = self.replica.leader();
            return match report.version < self.machine.map().version {
                true => Heard::Behind,
                false if leader != 0 && leader != self.node => Heard::PassOn(leader),
                false => Heard::Well,
            };
        }
        let known = self.known.entry(report.node).or_default();
        *known = report.version.max(*known);
        for moved in &report.moves {
            self.hear_move(moved);
        }
        match report.version < self.machine.map().version {
            true => Heard::Behind,
            false => Heard::Well,
        }
    }

    fn hear_move(&mut self, report: &MoveReport) {
        let mut operations = self.machine.map().operations.iter();
        let Some(operation) = operations.find(|it| it.id == report.operation) else {
            return;
        };
        if !placement::is_active(operation) {
            return;
        }
        let before = self.progress.get(&operation.id).map_or(0, |before| before.term);
        if report.term < before {
            return;
        }
        let (id, from) = (operation.id, operation.phase);
        let reached = placement::reached(operation, report);
        let catching_up = operation.phase() == firedrill_proto::chat::v1::OperationPhase::CatchUp;
        self.progress.insert(id, report.clone());
        let busy = self
            .pending
            .values()
            .any(|(_, waiting)| matches!(waiting, Waiting::Advance(it) if *it == id));
        if busy || self.admit().is_err() {
            return;
        }
        if reached {
            let advance = AdvanceOperation {
                operation: id,
                from,
                term: report.term,
            };
            self.propose(Command::Advance(advance), Waiting::Advance(id));
        } else if catching_up && !report.failed.is_empty() {
            let abort = AbortMove {
                operation: id,
                reason: report.failed.clone(),
            };
            self.propose(Command::Abort(abort), Waiting::Advance(id));
        }
    }

    /// The nodes among `others` that are not known to have the newest map.
    pub(super) fn behind(&self, others: impl Iterator<Item = u64>) -> Vec<u64> {
        let version = self.machine.map().version;
        others
            .filter(|node| self.known.get(node).is_none_or(|known| *known < version))
            .collect()
    }

    /// What the shard's leader said last of an operation.
    pub(super) fn progress(&self, operation: u64) -> Option<MoveReport> {
        self.progress.get(&operation).filter(|_| self.led.is_some()).cloned()
    }

    /// Applies committed entries and answers who waits for them.
    pub(super) fn apply(&mut self, entries: &[LogEntry]) -> Result<(), ReplicaError> {
        for entry in entries {
            self.replica.apply_membership(entry)?;
            // An empty entry begins a term. What doesn't parse was not written by this version: it is the same nothing at
            // every node of it.
            let command = match entry.data.is_empty() || changes_members(entry) {
                true => None,
                false => PlacementCommand::decode(entry.data.clone()).ok(),
            };
            let ours = command.as_ref().map(|command| (command.proposer, command.ticket));
            let reply = self.machine.apply(entry.index, entry.term, command);
            if let Some((ticket, waiting)) = self.pending.remove(&entry.index) {
                match ours == Some((self.node, ticket)) {
                    true => self.answer(waiting, reply),
                    false => waiting.refuse(self.refusal(Reason::Maybe, "another leader's entry took its place")),
                }
            }
        }
        let going: Vec<u64> = self
            .machine
            .map()
            .operations
            .iter()
            .filter(|it| placement::is_active(it))
            .map(|it| it.id)
            .collect();
        self.progress.retain(|operation, _| going.contains(operation));
        Ok(())
    }

    fn answer(&self, waiting: Waiting, reply: Reply) {
        match (waiting, reply) {
            (Waiting::Move(to), Reply::Operation(it)) => drop(to.send(Ok(MoveReplicaResponse { operation: it.id }))),
            (Waiting::Abort(to), Reply::Operation(it)) => drop(to.send(Ok(AbortOperationResponse { phase: it.phase }))),
            (Waiting::Advance(_), _) => {}
            (waiting, reply) => waiting.refuse(self.refused(reply)),
        }
    }

    /// Notices that leadership came or went. Returns whether it did.
    pub(super) fn observe(&mut self) -> bool {
        let leads = self.replica.is_leader().then(|| self.replica.term());
        if leads == self.led {
            return false;
        }
        self.known.clear();
        self.progress.clear();
        let maybe = self.refusal(Reason::Maybe, "leadership was lost before the outcome was known");
        for (_, (_, waiting)) in std::mem::take(&mut self.pending) {
            waiting.refuse(maybe.clone());
        }
        self.led = leads;
        if let Some(term) = leads {
            tracing::info!(shard = PLACEMENT, term, "leads the placement group");
        }
        true
    }
}

/// What follows from what a node said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Well,
    /// It doesn't know the newest map.
    Behind,
    /// The leader has to hear it.
    PassOn(u64),
}
