//! One replica of one shard: `raft`'s state machine, told what happens and asked what follows.
//!
//! A turn is: any number of [`tick`](Replica::tick), [`step`](Replica::step), [`propose`](Replica::propose) and the like;
//! then [`ready`](Replica::ready), whose [`Effects`] the driver makes durable; then [`persisted`](Replica::persisted),
//! and, once all that is committed has been applied, [`applied`](Replica::applied).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;
use firedrill_proto::chat::v1::{
    ConfState, HardState, LogEntry, RaftMessage, RaftMessageKind, Snapshot as WireSnapshot,
};
use raft::{
    ProgressState, RaftState, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole,
    eraftpb::{self, MessageType},
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{
    convert::{self, Malformed},
    logger::logger,
    members::Members,
    store::Store,
};
use crate::storage::log::ShardLog;

/// Ticks and bounds of a replica.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks of silence before an election: drawn from this range, anew for each term and role.
    pub election_ticks: Range<usize>,
    /// Messages in flight to one follower.
    pub inflight_messages: usize,
    /// Bytes of entries in one message.
    pub message_bytes: u64,
    /// Bytes of proposals that are not committed.
    pub uncommitted_bytes: u64,
    /// Ticks after which a snapshot that was sent, and has come no further, counts as lost.
    pub snapshot_ticks: u64,
}

/// Bytes of committed entries that one turn hands out at most.
const COMMITTED_BYTES_MAX: u64 = 4 << 20;

/// Entries that a voter may be behind and still be handed leadership on request.
const TRANSFER_BEHIND_MAX: u64 = 128;

/// What a replica starts from.
#[derive(Debug)]
pub struct Start {
    /// The node's id.
    pub node: u64,
    /// The shard's log, as recovered.
    pub log: ShardLog,
    /// The membership to begin with, when the log names none.
    pub members: ConfState,
    /// The index that the state machine has applied.
    pub applied: u64,
    /// Where election timeouts come from.
    pub rng: ChaCha8Rng,
}

/// A replica that can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// `raft` refused its state.
    #[error("raft refused {what}: {cause}")]
    Raft {
        /// What it was doing.
        what: &'static str,
        /// Its words.
        cause: raft::Error,
    },
    /// The log holds, or `raft` made, what can't be.
    #[error("consensus: {0}")]
    Malformed(#[from] Malformed),
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTransfer {
    /// This replica has none to hand over.
    #[error("this node doesn't lead the shard")]
    NotLeader,
    /// There is no other voter, or none of that id.
    #[error("it is no other voter of the shard")]
    NoVoter,
    /// It is about to stop.
    #[error("it is about to stop")]
    Stopping,
    /// It was not heard for an election timeout.
    #[error("it was not heard lately")]
    Silent,
    /// It would have to catch up first.
    #[error("it is {entries} entries behind, over {TRANSFER_BEHIND_MAX}")]
    Behind {
        /// How far.
        entries: u64,
    },
}

/// A confirmed read: what was asked under `context` may be read once `index` is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// As given to [`Replica::read_index`].
    pub context: u64,
    /// The index.
    pub index: u64,
}

/// What follows from what happened. To be carried out in the order of the fields.
#[derive(Debug, Default)]
pub struct Effects {
    /// A leader's messages: they may go before the log is synced.
    pub messages: Vec<RaftMessage>,
    /// Takes the place of the whole state and log, before `entries`.
    pub snapshot: Option<WireSnapshot>,
    /// To be appended to the log.
    pub entries: Vec<LogEntry>,
    /// To be written with them.
    pub hard_state: Option<HardState>,
    /// Whether all that has to be synced before going on.
    pub must_sync: bool,
    /// Messages that promise what was synced: only to be sent after it.
    pub promises: Vec<RaftMessage>,
    /// To be applied.
    pub committed: Vec<LogEntry>,
    /// Reads that were confirmed.
    pub reads: Vec<Read>,
}

/// What follows from having persisted [`Effects`].
#[derive(Debug, Default)]
pub struct LateEffects {
    /// Messages of a leader, and its new commit index.
    pub messages: Vec<RaftMessage>,
    /// To be written, but not waited for.
    pub hard_state: Option<HardState>,
    /// To be applied, behind those of the effects.
    pub committed: Vec<LogEntry>,
}

/// One replica.
pub struct Replica {
    pub(super) raw: RawNode<Store>,
    rng: ChaCha8Rng,
    election_ticks: Range<usize>,
    pub(super) snapshot_ticks: u64,
    /// For which (term, role) the election timeout was drawn.
    drawn_for: (u64, StateRole),
    /// Handed out by `ready`, not yet persisted.
    outstanding: Option<Ready>,
    pub(super) ticks: u64,
    /// When each peer was last heard, in ticks. `raft`'s own mark of it is wiped at each check of the quorum.
    heard: BTreeMap<u64, u64>,
    /// Followers that were sent a snapshot, and when it counts as lost, in ticks.
    pub(super) snapshots_out: BTreeMap<u64, u64>,
    pub(super) members: Members,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("node", &self.raw.raft.id)
            .field("term", &self.term())
            .field("role", &self.role())
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Starts a replica from its recovered log.
    ///
    /// # Errors
    /// When the log contradicts itself.
    pub fn new(start: Start, tuning: &Tuning) -> Result<Self, ReplicaError> {
        let (hard, logged_members) = start.log.initial_state();
        let members = match logged_members.voters.is_empty() {
            true => &start.members,
            false => &logged_members,
        };
        let mut hard = convert::hard_state_to_raft(&hard);
        // The commit index is written without being waited for; what was applied from a checkpoint was committed.
        hard.commit = hard
            .commit
            .clamp(start.applied, start.log.last_index().max(start.applied));
        let last_term = start.log.term(start.log.last_index()).unwrap_or_default();
        hard.term = hard.term.max(last_term);
        let initial = RaftState::new(hard, convert::conf_state_from_wire(members)?);
        let config = raft::Config {
            id: start.node,
            applied: start.applied,
            election_tick: tuning.election_ticks.start,
            min_election_tick: tuning.election_ticks.start,
            max_election_tick: tuning.election_ticks.end,
            heartbeat_tick: tuning.heartbeat_ticks,
            max_size_per_msg: tuning.message_bytes,
            max_inflight_msgs: tuning.inflight_messages,
            max_uncommitted_size: tuning.uncommitted_bytes,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            // Never the lease: a campaign on a closed connection ignores it.
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            skip_bcast_commit: true,
            ..Default::default()
        };
        let raw =
            RawNode::new(&config, Store::new(start.log, initial), &logger()).map_err(|cause| ReplicaError::Raft {
                what: "the recovered state",
                cause,
            })?;
        let members = Members::new(members.clone());
        let mut replica = Self {
            members,
            drawn_for: (raw.raft.term, raw.raft.state),
            raw,
            rng: start.rng,
            election_ticks: tuning.election_ticks.clone(),
            snapshot_ticks: tuning.snapshot_ticks,
            outstanding: None,
            ticks: 0,
            heard: BTreeMap::new(),
            snapshots_out: BTreeMap::new(),
        };
        replica.draw_timeout();
        Ok(replica)
    }

    /// `raft` draws from thread randomness; what it drew is replaced before it can matter.
    fn draw_timeout(&mut self) {
        let drawn = self.rng.random_range(self.election_ticks.clone());
        self.raw.raft.set_randomized_election_timeout(drawn);
        self.drawn_for = (self.raw.raft.term, self.raw.raft.state);
    }

    pub(super) fn settle(&mut self) {
        if self.drawn_for != (self.raw.raft.term, self.raw.raft.state) {
            self.draw_timeout();
        }
    }

    /// One tick of time.
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.raw.tick();
        self.settle();
        self.expire_snapshots();
    }

    /// A snapshot can be lost like any message, and `raft` would wait for its answer for ever.
    fn expire_snapshots(&mut self) {
        let now = self.ticks;
        let lost: Vec<u64> = self
            .snapshots_out
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(to, _)| *to)
            .collect();
        for follower in lost {
            self.snapshots_out.remove(&follower);
            let waiting = self
                .raw
                .raft
                .prs()
                .get(follower)
                .is_some_and(|p| p.state == ProgressState::Snapshot);
            if waiting {
                self.raw.report_snapshot(follower, SnapshotStatus::Failure);
                self.settle();
            }
        }
    }

    /// Takes a peer's message.
    ///
    /// # Errors
    /// When it can't be. It was ignored then.
    pub fn step(&mut self, from: u64, message: RaftMessage) -> Result<(), Malformed> {
        let snapshot = message.snapshot.as_ref();
        let version = snapshot.map(|it| (it.index, it.conf_state.as_ref().map_or(0, |members| members.version)));
        let message = convert::message_from_wire(self.raw.raft.id, from, message)?;
        self.check(&message)?;
        self.members.announced(version);
        self.heard.insert(from, self.ticks);
        // Errors are answers to peers that are no members (any more): nothing follows from them.
        let _ = self.raw.step(message);
        self.settle();
        Ok(())
    }

    /// What `raft` takes for granted and would panic over.
    fn check(&self, message: &eraftpb::Message) -> Result<(), Malformed> {
        let (term, last) = (self.raw.raft.term, self.raw.raft.raft_log.last_index());
        let beyond = |what, index: u64| {
            Err(Malformed {
                what,
                value: format!("{index}, the log ends at {last}"),
            })
        };
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.term >= term && message.commit > last => {
                beyond("commit index of a heartbeat", message.commit)
            }
            MessageType::MsgAppendResponse if message.term == term && self.is_leader() => {
                match message.index.max(message.reject_hint) {
                    index if index > last => beyond("index of an answer", index),
                    _ => Ok(()),
                }
            }
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
                if message.term == term && self.is_leader() =>
            {
                Err(Malformed {
                    what: "second leader of the same term",
                    value: format!("node {} in term {term}", message.from),
                })
            }
            MessageType::MsgSnapshot if message.term >= term => {
                let meta = message.get_snapshot().get_metadata();
                let (index, said) = (meta.index, meta.term);
                match self.raw.raft.raft_log.term(index) {
                    Ok(ours) if index == self.raw.raft.raft_log.committed && ours != said => Err(Malformed {
                        what: "term of a snapshot at a committed entry",
                        value: format!("{said} at {index}, where {ours} is committed"),
                    }),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Proposes an entry; returns the index that it will have if this term commits it. `None` when this replica doesn't
    /// lead, is handing over, or has too much that is not committed, and when the data is over
    /// [`DATA_BYTES_MAX`](convert::DATA_BYTES_MAX).
    pub fn propose(&mut self, data: Bytes) -> Option<u64> {
        if !self.is_leader() || data.len() > convert::DATA_BYTES_MAX {
            return None;
        }
        let entry = eraftpb::Entry {
            data,
            ..Default::default()
        };
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(vec![entry].into());
        self.raw.raft.step(message).ok()?;
        Some(self.raw.raft.raft_log.last_index())
    }

    /// Whether a read can be asked for: this replica leads, and has committed in its term.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.is_leader() && self.raw.raft.commit_to_current_term()
    }

    /// Asks a majority to confirm that this replica still leads; answered by a [`Read`] with the same context, or never.
    /// Each context is used once. Ignored unless [`Replica::can_read`].
    pub fn read_index(&mut self, context: u64) {
        if self.can_read() {
            self.raw.read_index(context.to_be_bytes().to_vec());
        }
    }

    /// Starts handing leadership over: to `to`, or, when `to` is 0, to the voter that is furthest; never to one of `avoid`.
    /// Returns whom it asked.
    ///
    /// # Errors
    /// When there is nobody to hand over to, or `to` could not lead soon: until it has caught up, nobody would.
    pub fn transfer(&mut self, to: u64, avoid: &BTreeSet<u64>) -> Result<u64, NoTransfer> {
        let me = self.raw.raft.id;
        if !self.is_leader() {
            return Err(NoTransfer::NotLeader);
        }
        let last = self.last_index();
        let progress = self.raw.raft.prs();
        let voters = progress.conf().voters().ids();
        let mut candidates: Vec<(Option<NoTransfer>, u64, u64)> = voters
            .iter()
            .filter(|id| *id != me && !avoid.contains(id) && (to == 0 || *id == to))
            .filter_map(|id| {
                progress
                    .get(id)
                    .map(|p| (self.unfit(id, last - p.matched.min(last)), p.matched, id))
            })
            .collect();
        // The order of ids decides ties, so that the same history hands over to the same node.
        candidates.sort_by_key(|(unfit, matched, id)| (unfit.is_some(), u64::MAX - matched, *id));
        let chosen = match candidates.first() {
            None if avoid.contains(&to) => return Err(NoTransfer::Stopping),
            None => return Err(NoTransfer::NoVoter),
            Some((Some(unfit), ..)) if to != 0 => return Err(*unfit),
            Some((_, _, chosen)) => *chosen,
        };
        self.raw.transfer_leader(chosen);
        self.settle();
        Ok(chosen)
    }

    /// Why a voter that is `behind` entries behind could not lead soon.
    fn unfit(&self, voter: u64, behind: u64) -> Option<NoTransfer> {
        let heard = self.heard.get(&voter);
        if heard.is_none_or(|heard| self.ticks - heard > self.election_ticks.start as u64) {
            Some(NoTransfer::Silent)
        } else if behind > TRANSFER_BEHIND_MAX {
            Some(NoTransfer::Behind { entries: behind })
        } else {
            None
        }
    }

    /// Gives up handing over to a voter that turned out not to want it.
    pub fn stop_handing_over(&mut self) {
        self.raw.raft.abort_leader_transfer();
    }

    /// Campaigns at once, without asking whether others would vote and whatever they last heard from the leader: for when
    /// the leader is known to be gone. `false` when this replica is no follower that may.
    pub fn campaign_fast(&mut self) -> bool {
        if self.raw.raft.state != StateRole::Follower || !self.raw.raft.promotable() {
            return false;
        }
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgTimeoutNow);
        message.to = self.raw.raft.id;
        message.from = self.raw.raft.leader_id;
        message.term = self.raw.raft.term;
        let campaigned = self.raw.raft.step(message).is_ok();
        self.settle();
        campaigned
    }

    /// A peer can't be reached: what was on its way is probably lost.
    pub fn unreachable(&mut self, peer: u64) {
        if self.is_leader() {
            self.raw.report_unreachable(peer);
            self.settle();
        }
    }

    /// Whether [`Replica::ready`] has anything to hand out.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.outstanding.is_none() && self.raw.has_ready()
    }

    /// What follows from what happened. [`Replica::persisted`] must follow before anything else is told to this replica.
    ///
    /// # Errors
    /// When `raft` made what can't be written.
    pub fn ready(&mut self) -> Result<Effects, ReplicaError> {
        let mut ready = self.raw.ready();
        let mut effects = Effects {
            messages: self.outgoing(ready.take_messages())?,
            must_sync: ready.must_sync(),
            hard_state: ready.hs().map(convert::hard_state_to_wire),
            ..Effects::default()
        };
        if !ready.snapshot().is_empty() {
            let mut snapshot = convert::snapshot_to_wire(ready.snapshot());
            snapshot.conf_state = Some(self.members.installed(&snapshot));
            effects.snapshot = Some(snapshot);
        }
        effects.entries = entries_to_wire(&ready.take_entries())?;
        effects.promises = self.outgoing(ready.take_persisted_messages())?;
        effects.committed = entries_to_wire(&ready.take_committed_entries())?;
        for state in ready.take_read_states() {
            if let Ok(context) = state.request_ctx[..].try_into() {
                let context = u64::from_be_bytes(context);
                effects.reads.push(Read {
                    context,
                    index: state.index,
                });
            }
        }
        self.outstanding = Some(ready);
        Ok(effects)
    }

    /// Says that the effects handed out last are in the log, and synced if they had to be.
    ///
    /// # Errors
    /// When `raft` made what can't be written.
    pub fn persisted(&mut self) -> Result<LateEffects, ReplicaError> {
        let Some(ready) = self.outstanding.take() else {
            return Ok(LateEffects::default());
        };
        let mut light = self.raw.advance_append(ready);
        let late = LateEffects {
            messages: self.outgoing(light.take_messages())?,
            hard_state: light
                .commit_index()
                .map(|_| convert::hard_state_to_wire(&self.raw.raft.hard_state())),
            committed: entries_to_wire(&light.take_committed_entries())?,
        };
        self.settle();
        Ok(late)
    }

    /// Says that everything committed up to `index` is applied.
    pub fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
        self.settle();
    }

    /// Whether a follower needs a snapshot that isn't on offer.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        self.raw.store().take_wanted()
    }

    /// The members of now, with the entry that made them.
    #[must_use]
    pub fn members_applied(&self) -> ConfState {
        self.members.applied().clone()
    }

    /// Offers the state as of (`index`, `term`), an applied one whose members are still those of now, to followers that need it.
    pub fn offer_snapshot(&mut self, index: u64, term: u64, data: Bytes) {
        let mut snapshot = eraftpb::Snapshot {
            data,
            ..Default::default()
        };
        let members = self.raw.raft.prs().conf().to_conf_state();
        self.members.offered();
        let meta = snapshot.mut_metadata();
        meta.index = index;
        meta.term = term;
        meta.set_conf_state(members);
        self.raw.mut_store().offer(Some(snapshot));
    }

    /// Gives the memory of a snapshot back that nobody waits for.
    pub fn retire_snapshot(&mut self) {
        let needed = self
            .snapshots_out
            .is_empty()
            .then(|| self.raw.store().offered())
            .flatten();
        if needed.is_some() {
            self.raw.mut_store().offer(None);
        }
    }

    fn outgoing(&mut self, messages: Vec<eraftpb::Message>) -> Result<Vec<RaftMessage>, Malformed> {
        let mut out = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(mut message) = convert::message_to_wire(message)? {
                self.members.sending(&mut message);
                if message.kind() == RaftMessageKind::Snapshot {
                    self.snapshots_out.insert(message.to, self.ticks + self.snapshot_ticks);
                }
                out.push(message);
            }
        }
        Ok(out)
    }
}

pub(super) fn entries_to_wire(entries: &[eraftpb::Entry]) -> Result<Vec<LogEntry>, Malformed> {
    entries.iter().map(convert::entry_to_wire).collect()
}
