//! One shard at this node: its replica, its state machine, and everybody who waits for either.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, AcknowledgeCommand, AuditRequest, AuditResponse, Command, ConfState, ContactsRequest,
    ContactsResponse, HistoryRequest, HistoryResponse, MembersRequest, MembersResponse, OpenRequest, OpenResponse,
    OutboxAck, OutboxBatch, PresenceRequest, PresenceResponse, SubscribeRequest, TrimOutboxCommand,
    TrimOutboxesCommand, command, peer_message::Message,
};
use prost::Message as _;
use rand_chacha::ChaCha8Rng;

use super::{
    api::{Reason, Refusal, Subscription},
    catch_up::CatchUp,
    config::NodeConfig,
    failover::Failover,
    handover::HandOver,
    inbox::Reply as To,
    net::Net,
    outbox::{Intake, Intent, Outbox},
    streams::{DeviceKey, Streams},
    waiting::{Waiting, reason_of},
};
use crate::{
    chat::{self, Applied, ChatError, Machine, Refused, Reply, SnapshotBuild, validate},
    consensus::{Read, Replica},
};

/// When to come back to a shard that has too much on its hands.
pub(super) const RETRY_BUSY: Duration = Duration::from_millis(100);

/// Bytes of a state that are written down at a tick: a few milliseconds at most, and more than is sent meanwhile.
const SNAPSHOT_STEP_BYTES: usize = 512 << 10;

/// A proposal on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: u64,
    pub(super) waiting: Waiting,
    /// Open for as long as the proposal is on its way.
    _span: tracing::Span,
}

/// Who waits for a confirmed read.
#[derive(Debug)]
pub(super) enum ReadWait {
    History(HistoryRequest, To<HistoryResponse>),
    Subscribe(SubscribeRequest, To<Subscription>),
    Presence(PresenceRequest, To<PresenceResponse>),
    /// Until when it waits before it makes do with what there is.
    Open(OpenRequest, To<OpenResponse>, Duration),
    Sync(OpenRequest, To<OpenResponse>),
    Contacts(ContactsRequest, To<ContactsResponse>),
    Members(MembersRequest, To<MembersResponse>),
    Audit(AuditRequest, To<AuditResponse>),
    Beat(DeviceKey, u64),
}

impl ReadWait {
    fn is_gone(&self) -> bool {
        match self {
            Self::History(_, to) => to.is_closed(),
            Self::Subscribe(_, to) => to.is_closed(),
            Self::Open(_, to, _) => to.is_closed(),
            Self::Sync(_, to) => to.is_closed(),
            Self::Contacts(_, to) => to.is_closed(),
            Self::Members(_, to) => to.is_closed(),
            Self::Audit(_, to) => to.is_closed(),
            Self::Presence(_, to) => to.is_closed(),
            Self::Beat(..) => false,
        }
    }

    fn refuse(self, refusal: Refusal) {
        match self {
            Self::History(_, to) => drop(to.send(Err(refusal))),
            Self::Subscribe(_, to) => drop(to.send(Err(refusal))),
            Self::Open(_, to, _) => drop(to.send(Err(refusal))),
            Self::Sync(_, to) => drop(to.send(Err(refusal))),
            Self::Contacts(_, to) => drop(to.send(Err(refusal))),
            Self::Members(_, to) => drop(to.send(Err(refusal))),
            Self::Audit(_, to) => drop(to.send(Err(refusal))),
            Self::Presence(_, to) => drop(to.send(Err(refusal))),
            Self::Beat(..) => {}
        }
    }
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: u32,
    pub(super) replica: Replica,
    pub(super) machine: Machine,
    /// The term in which it leads, as far as everybody here was told.
    pub(super) led: Option<u64>,
    /// By the index that each will have if its term commits it.
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) hand_over: HandOver,
    reads_waiting: Vec<ReadWait>,
    reads_asked: BTreeMap<u64, Vec<ReadWait>>,
    reads_confirmed: VecDeque<(u64, Vec<ReadWait>)>,
    next_read: u64,
    pub(super) streams: Streams,
    pub(super) outbox: Outbox,
    intake: BTreeMap<u32, Intake>,
    pub(super) failover: Failover,
    /// The index of the last durable checkpoint.
    pub(super) checkpointed: u64,
    /// Bytes of the entries applied since then.
    pub(super) applied_bytes: u64,
    /// The state that is being written down for a follower, and who its members were when that began.
    building: Option<(SnapshotBuild, ConfState)>,
    /// Since when it has known no leader.
    pub(super) leaderless_since: Option<Duration>,
    /// Of a node that a replica moves to, while this node leads.
    pub(super) catch_up: Option<CatchUp>,
    pub(super) epoch: u64,
    shards: u32,
    #[cfg(feature = "plants")]
    pub(super) predicted: BTreeMap<u64, u64>,
}

impl Shard {
    pub(super) fn new(
        id: u32,
        replica: Replica,
        machine: Machine,
        config: &NodeConfig,
        epoch: u64,
        rng: ChaCha8Rng,
    ) -> Self {
        let heartbeat = Duration::from_millis(config.timing.stream_heartbeat_ms);
        let resend = Duration::from_millis(config.timing.outbox_resend_ms);
        let presence = Duration::from_millis(config.timing.presence_ms);
        let streams = Streams::new(config.bounds.stream_queue, heartbeat, presence, rng);
        #[cfg(feature = "plants")]
        let streams = streams.with_ghosts(config.plant == Some(crate::plant::Plant::GhostOnline));
        Self {
            id,
            checkpointed: machine.applied().0,
            replica,
            machine,
            led: None,
            building: None,
            pending: BTreeMap::new(),
            hand_over: HandOver::new(Duration::from_millis(config.timing.election_ms_max)),
            reads_waiting: Vec::new(),
            reads_asked: BTreeMap::new(),
            reads_confirmed: VecDeque::new(),
            next_read: 0,
            streams,
            outbox: Outbox::new(
                id,
                config.bounds.outbox_batch,
                config.protections.fanout.then_some(config.bounds.outbox_bytes),
                resend,
            ),
            intake: BTreeMap::new(),
            failover: Failover::default(),
            applied_bytes: 0,
            leaderless_since: Some(Duration::ZERO),
            catch_up: None,
            epoch,
            shards: config.shards,
            #[cfg(feature = "plants")]
            predicted: BTreeMap::new(),
        }
    }

    /// A refusal that says what this node knows of the shard.
    pub(super) fn refusal(&self, reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            shard: Some(self.id),
            leader: Some(self.replica.leader()).filter(|leader| *leader != 0),
            term: self.replica.term(),
            epoch: self.epoch,
            ..Refusal::new(reason, message)
        }
    }

    /// Proposes; the one who waits is told at once if that fails.
    pub(super) fn propose(&mut self, command: Command, waiting: Waiting) {
        let ticket = command.ticket;
        let span = tracing::info_span!("propose", shard = self.id, kind = waiting.kind(), ticket);
        match self.replica.propose(command.encode_to_vec().into()) {
            Some(index) => {
                let pending = Pending {
                    ticket,
                    waiting,
                    _span: span,
                };
                if let Some(earlier) = self.pending.insert(index, pending) {
                    // Of a term that is over: what it asked for at this index can't be committed any more.
                    let lost = self.refusal(Reason::Maybe, "another proposal took its place");
                    earlier.waiting.refuse(lost);
                }
            }
            None if !self.replica.is_leader() || self.replica.is_handing_over() => {
                if let Err(waiting) = self.hold(command, waiting) {
                    let refusal = self.refusal(Reason::NotLeader, "leadership is being handed over");
                    waiting.refuse(
                        Refusal {
                            leader: None,
                            ..refusal
                        }
                        .after(Duration::from_millis(20)),
                    );
                }
            }
            None => {
                let full = self.refusal(Reason::Overloaded, "too many bytes of proposals are not committed");
                waiting.refuse(full.after(RETRY_BUSY));
            }
        }
    }

    pub(super) fn read(&mut self, wait: ReadWait) {
        self.reads_waiting.push(wait);
    }

    /// Reads that wait for their confirmation, heartbeats of streams among them.
    pub(super) fn reads(&self) -> usize {
        self.reads_waiting.len() + self.reads_asked.values().map(Vec::len).sum::<usize>()
    }

    /// Whether there are reads to be asked for.
    pub(super) fn wants_read(&self) -> bool {
        !self.reads_waiting.is_empty() && self.replica.can_read()
    }

    /// Asks for all waiting reads at once: they share one round of heartbeats.
    pub(super) fn ask_reads(&mut self) {
        if self.wants_read() {
            self.next_read += 1;
            let waiting = std::mem::take(&mut self.reads_waiting);
            self.reads_asked.insert(self.next_read, waiting);
            self.replica.read_index(self.next_read);
        }
    }

    pub(super) fn confirmed(&mut self, read: Read) {
        if let Some(waiting) = self.reads_asked.remove(&read.context) {
            self.reads_confirmed.push_back((read.index, waiting));
        }
    }

    /// A follower needs the whole state: begins to write it down, unless that goes on already. A small one is written at once.
    pub(super) fn want_snapshot(&mut self) -> Result<(), ChatError> {
        if self.building.is_none() {
            self.building = Some((self.machine.begin_snapshot()?, self.replica.members_applied()));
            self.build_snapshot()?;
        }
        Ok(())
    }

    /// Goes on writing the state down, for a bounded time; offers it when it is whole.
    pub(super) fn build_snapshot(&mut self) -> Result<(), ChatError> {
        let Some((building, members)) = &mut self.building else {
            return Ok(());
        };
        if self.led.is_none() && !self.replica.is_leader() {
            // Nobody is sent anything by this replica any more.
            self.building = None;
            return Ok(());
        }
        let Some(data) = building.step(SNAPSHOT_STEP_BYTES)? else {
            return Ok(());
        };
        let ((index, term), members) = (building.as_of(), std::mem::take(members));
        self.building = None;
        if members == self.replica.members_applied() {
            tracing::info!(shard = self.id, index, bytes = data.len(), "offers a snapshot");
            self.replica.offer_snapshot(index, term, data);
        }
        // A state whose members have changed meanwhile would be told with others than its own: it is wanted again.
        Ok(())
    }

    /// The index of a state that is being written down.
    pub(super) fn building_index(&self) -> Option<u64> {
        self.building.as_ref().map(|(building, _)| building.as_of().0)
    }

    /// Forgets reads that nobody waits for any more.
    pub(super) fn sweep_reads(&mut self) {
        self.reads_waiting.retain(|wait| !wait.is_gone());
        for asked in self.reads_asked.values_mut() {
            asked.retain(|wait| !wait.is_gone());
        }
    }

    /// Serves confirmed reads whose index is applied.
    pub(super) fn serve_reads(&mut self, now: Duration) -> Result<(), ChatError> {
        let applied = self.machine.applied().0;
        while let Some((index, _)) = self.reads_confirmed.front()
            && *index <= applied
            && let Some((_, waiting)) = self.reads_confirmed.pop_front()
        {
            for wait in waiting {
                match wait {
                    ReadWait::History(request, to) => {
                        let (after, limit) = (request.after, request.limit as usize);
                        let limit = if limit == 0 { validate::QUERY_ITEMS_MAX } else { limit };
                        let page = self.machine.history_of(&HistoryRequest { after, ..request }, limit)?;
                        drop(to.send(self.granted(page)));
                    }
                    ReadWait::Subscribe(request, to) => drop(to.send(self.subscribe(&request, now)?)),
                    ReadWait::Open(request, to, _) | ReadWait::Sync(request, to) => {
                        let page = self
                            .threads(&request)?
                            .map(|page| OpenResponse { current: true, ..page });
                        drop(to.send(self.granted(page)));
                    }
                    ReadWait::Contacts(request, to) => {
                        let it = request.caller.unwrap_or_default();
                        let found = self.machine.contacts(it.user, it.device, it.session, &request.after)?;
                        let found = found.map(|contacts| ContactsResponse { contacts });
                        drop(to.send(self.granted(found)));
                    }
                    ReadWait::Members(request, to) => {
                        let it = request.caller.unwrap_or_default();
                        let found = self
                            .machine
                            .members_for(request.group, it.user, it.device, it.session)?;
                        let found = found.map(|members| MembersResponse { members });
                        drop(to.send(self.granted(found)));
                    }
                    ReadWait::Audit(request, to) => {
                        let limit = request.limit as usize;
                        let limit = if limit == 0 { validate::QUERY_ITEMS_MAX } else { limit };
                        let page = self.machine.audit(request.conversation, request.after, limit)?;
                        drop(to.send(Ok(page)));
                    }
                    ReadWait::Presence(request, to) => drop(to.send(self.presence(request.user, now)?)),
                    ReadWait::Beat(device, session) => self.streams.beat(device, session, &self.machine)?,
                }
            }
        }
        Ok(())
    }

    fn granted<T>(&self, answer: Result<T, Refused>) -> Result<T, Refusal> {
        answer.map_err(|refused| self.refusal(reason_of(&refused), refused.to_string()))
    }

    fn threads(&self, request: &OpenRequest) -> Result<Result<OpenResponse, Refused>, ChatError> {
        let it = request.caller.unwrap_or_default();
        self.machine.threads(it.user, it.device, it.session, request.after)
    }

    /// What this node has of a user's conversations, marked as not current. A session that was opened a moment ago may
    /// not have come here yet: then another node has to be asked.
    pub(super) fn open_stale(&self, request: &OpenRequest, to: To<OpenResponse>) {
        let page = match self.threads(request) {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(refused)) => {
                let message = format!("nobody leads here, and of what this node has: {refused}");
                Err(self.refusal(Reason::NotLeader, message))
            }
            Err(error) => Err(self.refusal(Reason::NotLeader, format!("failed to read the state: {error}"))),
        };
        drop(to.send(page));
    }

    /// Answers those who wanted to open and have waited long enough.
    pub(super) fn open_overdue(&mut self, now: Duration) {
        let overdue = |wait: &mut ReadWait| matches!(wait, ReadWait::Open(_, _, until) if *until <= now);
        let mut late: Vec<_> = self.reads_waiting.extract_if(.., overdue).collect();
        for asked in self.reads_asked.values_mut() {
            late.extend(asked.extract_if(.., overdue));
        }
        self.answer_stale(late);
    }

    fn answer_stale(&self, late: Vec<ReadWait>) {
        for wait in late {
            if let ReadWait::Open(request, to, _) = wait {
                self.open_stale(&request, to);
            }
        }
    }

    fn subscribe(
        &mut self,
        request: &SubscribeRequest,
        now: Duration,
    ) -> Result<Result<Subscription, Refusal>, ChatError> {
        let device = (request.user, request.device);
        let state = match self
            .machine
            .check_session(request.user, request.device, request.session)?
        {
            Ok(state) => state,
            Err(refused) => return Ok(Err(self.refusal(reason_of(&refused), refused.to_string()))),
        };
        if request.incarnation != 0 && request.incarnation != state.incarnation {
            let (theirs, ours) = (request.incarnation, state.incarnation);
            let message = format!("the cursor is of incarnation {theirs}, the stream of {ours}: fetch the state anew");
            return Ok(Err(self.refusal(Reason::Resync, message)));
        }
        if request.after < state.acknowledged {
            let (theirs, ours) = (request.after, state.acknowledged);
            let message =
                format!("the cursor is {theirs}, up to {ours} is acknowledged and gone: fetch the state anew");
            return Ok(Err(self.refusal(Reason::Resync, message)));
        }
        if request.after > state.last_sequence {
            let (theirs, ours) = (request.after, state.last_sequence);
            let message = format!("the cursor is {theirs}, the stream ends at {ours}: fetch the state anew");
            return Ok(Err(self.refusal(Reason::Resync, message)));
        }
        let replaced = self.refusal(Reason::SessionEnded, "a newer stream of this device took its place");
        let subscription = self.streams.open(device, request.session, request.after, replaced, now);
        self.streams.push(device, &self.machine)?;
        Ok(Ok(subscription))
    }

    /// Notes a device's sign of life. Gives what it has acknowledged, if `command` adds nothing to it.
    pub(super) fn alive(&mut self, command: &AcknowledgeCommand, now: Duration) -> Option<u64> {
        let session = self
            .machine
            .check_session(command.user, command.device, command.session);
        // A failing database shows when the command is applied.
        let state = session.ok()?.ok()?;
        self.streams.alive((command.user, command.device), now);
        (command.sequence <= state.acknowledged).then_some(state.acknowledged)
    }

    fn presence(&self, user: u64, now: Duration) -> Result<Result<PresenceResponse, Refusal>, ChatError> {
        let Some(devices) = self.machine.devices(user)? else {
            let refused = Refused::NoSuchUser { user };
            return Ok(Err(self.refusal(reason_of(&refused), refused.to_string())));
        };
        let devices = devices
            .into_iter()
            .map(|(device, state)| self.streams.presence((user, device), state, now));
        Ok(Ok(PresenceResponse {
            devices: devices.collect(),
        }))
    }

    /// Answers and wakes whom a batch of applied entries concerns.
    pub(super) fn after_apply(&mut self, applied: Applied, net: &mut Net, now: Duration) -> Result<(), ChatError> {
        if applied.made_room {
            self.intake.values_mut().for_each(Intake::room_was_made);
        }
        for outcome in applied.outcomes {
            let Some(pending) = self.pending.remove(&outcome.index) else {
                continue;
            };
            if outcome.proposer != net.me() || outcome.ticket != pending.ticket {
                // Another leader's entry took this index: ours can't be committed any more, but a copy of it may be.
                let lost = self.refusal(Reason::Maybe, "another leader's entry took its place");
                pending.waiting.refuse(lost);
                continue;
            }
            match (pending.waiting, outcome.reply) {
                (Waiting::Accept { from_shard, through }, reply) => {
                    self.accepted((from_shard, through), &reply, net, now)?;
                }
                (Waiting::Trim { to_shard }, reply) => {
                    let through = match reply {
                        Reply::Trimmed { through, .. } => Some(through),
                        _ => None,
                    };
                    self.outbox.trimmed(to_shard, through, now);
                }
                (Waiting::TrimAll { to_shards }, reply) => {
                    let trimmed = match reply {
                        Reply::TrimmedAll(trimmed) => trimmed,
                        _ => BTreeMap::new(),
                    };
                    for to_shard in to_shards {
                        self.outbox.trimmed(to_shard, trimmed.get(&to_shard).copied(), now);
                    }
                }
                (Waiting::Version, _) => {}
                (waiting, reply) => {
                    let template = self.refusal(Reason::Maybe, "");
                    waiting.answer(reply, |reason, message| Refusal {
                        reason,
                        message,
                        ..template
                    });
                }
            }
        }
        for session in applied.ended_sessions {
            let ended = self.refusal(
                Reason::SessionEnded,
                format!("session {session} has ended: open a new one"),
            );
            self.streams.end_session(session, ended);
        }
        for user in applied.delivered {
            self.streams.push_all(user, &self.machine)?;
        }
        Ok(())
    }

    /// A peer's batch of its outbox to this shard, which this node leads.
    pub(super) fn take_in(
        &mut self,
        from_node: u64,
        batch: OutboxBatch,
        make: impl FnOnce(command::Command) -> Command,
        net: &mut Net,
        now: Duration,
    ) -> Result<(), ChatError> {
        let from_shard = batch.from_shard;
        if validate::outbox(from_shard, batch.items.len(), self.shards).is_err() || batch.to_shard != self.id {
            return Ok(());
        }
        let accepted = self.machine.accepted_through(from_shard)?;
        let intake = self.intake.entry(from_shard).or_default();
        intake.origin = from_node;
        match intake.consider(batch.items, accepted, now) {
            Intent::Wait => {}
            Intent::Acknowledge => self.acknowledge(from_shard, accepted, net),
            Intent::Propose(items) => {
                let through = items.last().map_or(0, |item| item.outbox_sequence);
                let command = make(command::Command::AcceptOutbox(AcceptOutboxCommand {
                    from_shard,
                    items,
                }));
                let before = self.pending.len();
                self.propose(command, Waiting::Accept { from_shard, through });
                if self.pending.len() > before {
                    self.intake.entry(from_shard).or_default().proposed = through;
                }
            }
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        (from_shard, through): (u32, u64),
        reply: &Reply,
        net: &mut Net,
        now: Duration,
    ) -> Result<(), ChatError> {
        let accepted = match reply {
            Reply::Accepted { through, .. } => *through,
            _ => self.machine.accepted_through(from_shard)?,
        };
        let intake = self.intake.entry(from_shard).or_default();
        if accepted < through {
            intake.found_full(accepted, now);
        } else {
            intake.found_room();
        }
        self.acknowledge(from_shard, accepted, net);
        Ok(())
    }

    fn acknowledge(&mut self, from_shard: u32, through: u64, net: &mut Net) {
        let origin = self.intake.get(&from_shard).map_or(0, |intake| intake.origin);
        let ack = OutboxAck {
            from_shard,
            to_shard: self.id,
            through,
        };
        net.send(origin, from_shard, Message::OutboxAck(ack));
    }

    /// Proposes the trimming of outboxes that is due.
    pub(super) fn trim(&mut self, now: Duration, mut make: impl FnMut(command::Command) -> Command) {
        if self.led.is_none() {
            return;
        }
        let due = self.outbox.due_for_trim(now);
        if due.len() > 1 && self.machine.version() >= 2 {
            return self.trim_all(due, now, make);
        }
        for (to_shard, through) in due {
            let command = make(command::Command::TrimOutbox(TrimOutboxCommand { to_shard, through }));
            let before = self.pending.len();
            self.propose(command, Waiting::Trim { to_shard });
            if self.pending.len() == before {
                self.outbox.trimmed(to_shard, None, now);
            }
        }
    }

    /// Trims several outboxes by one entry: version 2 has it.
    fn trim_all(&mut self, due: Vec<(u32, u64)>, now: Duration, mut make: impl FnMut(command::Command) -> Command) {
        let to_shards: Vec<u32> = due.iter().map(|(to_shard, _)| *to_shard).collect();
        let outboxes = due
            .into_iter()
            .map(|(to_shard, through)| TrimOutboxCommand { to_shard, through });
        let command = make(command::Command::TrimOutboxes(TrimOutboxesCommand {
            outboxes: outboxes.collect(),
        }));
        let before = self.pending.len();
        let waiting = Waiting::TrimAll {
            to_shards: to_shards.clone(),
        };
        self.propose(command, waiting);
        if self.pending.len() == before {
            for to_shard in to_shards {
                self.outbox.trimmed(to_shard, None, now);
            }
        }
    }

    /// Notices that leadership came or went, and tells everybody whom it concerns. Returns whether it did.
    pub(super) fn observe(&mut self, now: Duration) -> Result<bool, ChatError> {
        if self.replica.leader() != 0 {
            self.leaderless_since = None;
        } else if self.leaderless_since.is_none() {
            self.leaderless_since = Some(now);
        }
        let leads = self.replica.is_leader().then(|| self.replica.term());
        if leads == self.led {
            if leads.is_some() {
                self.watch_hand_over();
            }
            self.after_hand_over(now);
            return Ok(false);
        }
        if let Some(term) = self.led.take() {
            tracing::info!(shard = self.id, term, now_term = self.replica.term(), "leadership lost");
            self.part_with_proposals(now);
            self.stop_leading();
        }
        self.after_hand_over(now);
        if let Some(term) = leads {
            self.watch_hand_over();
            tracing::info!(
                shard = self.id,
                term,
                index = self.replica.last_index(),
                "leadership won"
            );
            self.outbox.start(&self.machine, now)?;
            self.led = leads;
        }
        Ok(true)
    }

    /// Tells everybody who waits here to go elsewhere: the shard is held here no more.
    pub(super) fn step_down(&mut self) {
        self.refuse_proposals();
        self.end_hand_over();
        self.stop_leading();
    }

    /// What only a leader does ends.
    fn stop_leading(&mut self) {
        self.catch_up = None;
        let not_leader = self.refusal(Reason::NotLeader, "leadership was lost");
        let asked = std::mem::take(&mut self.reads_asked).into_values().flatten();
        for wait in std::mem::take(&mut self.reads_waiting).into_iter().chain(asked) {
            match wait {
                ReadWait::Open(request, to, _) => self.open_stale(&request, to),
                wait => wait.refuse(not_leader.clone()),
            }
        }
        self.streams.end_all(&not_leader);
        self.outbox.stop();
        self.intake.clear();
        #[cfg(feature = "plants")]
        self.predicted.clear();
    }

    /// The shard's settings as status shows them.
    pub(super) fn status(&self) -> firedrill_proto::chat::v1::ShardStatus {
        let counts: chat::Counts = self.machine.counts();
        firedrill_proto::chat::v1::ShardStatus {
            shard: self.id,
            role: self.replica.role().into(),
            term: self.replica.term(),
            leader: self.replica.leader(),
            commit: self.replica.commit(),
            applied: self.machine.applied().0,
            last_index: self.replica.last_index(),
            first_index: self.replica.first_index(),
            voters: self.replica.voters(),
            outbox_backlog: counts.outbox_backlog,
            delivery_backlog: counts.delivery_backlog,
            accounts: counts.accounts,
            messages: counts.messages,
            checkpoint: self.checkpointed,
            log_bytes: self.replica.log_bytes(),
            version: self.machine.version(),
        }
    }
}
