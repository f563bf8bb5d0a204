//! What clients and operators ask: checked against every bound before anything is proposed.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeCommand, DigestRequest, DigestResponse, FenceCommand, FenceRequest, OpenSessionCommand, QueueStatus,
    Route, RoutesResponse, SendCommand, SendRequest, SignUpCommand, StatusResponse, StorageStatus,
    TransferLeaderRequest, TransferLeaderResponse, command,
};

use super::{
    api::{Answer, Reason, Refusal},
    inbox::{Inbox, Queued, Request},
    recover::quorum_patience,
    run::Node,
    shard::{RETRY_BUSY, ReadWait, Shard},
    waiting::{Waiting, reason_of},
};
use crate::chat::{
    Refused, ids,
    validate::{self, SendShape},
};

/// Where and when a call wants to be carried out.
#[derive(Clone, Copy)]
struct Ask {
    shard: u32,
    epoch: u64,
    deadline: Option<Duration>,
}

impl Node {
    /// Takes a call: answers it, or has it wait for what it needs.
    pub(super) fn call(&mut self, queued: Queued, inbox: &Inbox) {
        let Queued {
            request,
            deadline,
            span,
        } = queued;
        let _entered = span.enter();
        let shards = self.routes.shards();
        match request {
            Request::SignUp(request, to) => {
                let waiting = Waiting::SignUp(to);
                let shard = match ids::phone_shard(&request.phone, shards) {
                    Ok(shard) => shard,
                    Err(refused) => return self.refuse(waiting, &refused),
                };
                let ask = Ask {
                    shard,
                    epoch: request.epoch,
                    deadline,
                };
                let command = SignUpCommand { phone: request.phone };
                self.propose(ask, command::Command::SignUp(command), waiting);
            }
            Request::OpenSession(request, to) => {
                let ask = Ask {
                    shard: self.routes.owner(request.user),
                    epoch: request.epoch,
                    deadline,
                };
                let waiting = Waiting::OpenSession(to);
                if let Err(refused) = validate::open_session(request.user, request.device, ask.shard, shards) {
                    return self.refuse(waiting, &refused);
                }
                // Only a log-in that would be proposed takes from the budget.
                if let Err(refusal) = self.admit(ask, true) {
                    return self.turn_away(waiting, refusal);
                }
                if let Err(delay) = self.logins.take(self.clock.now()) {
                    let limit = self.config.bounds.logins_per_second;
                    let message = format!("log-ins are limited to {limit} a second at this node");
                    let refusal = Refusal {
                        shard: Some(ask.shard),
                        epoch: self.config.epoch,
                        ..Refusal::new(Reason::Overloaded, message).after(delay)
                    };
                    return self.turn_away(waiting, refusal);
                }
                let command = OpenSessionCommand {
                    user: request.user,
                    device: request.device,
                    client_nonce: request.client_nonce,
                };
                self.propose(ask, command::Command::OpenSession(command), waiting);
            }
            Request::Send(request, to) => self.send(request, deadline, Waiting::Send(to)),
            Request::Acknowledge(request, to) => {
                let ask = Ask {
                    shard: self.routes.owner(request.user),
                    epoch: request.epoch,
                    deadline,
                };
                let waiting = Waiting::Acknowledge(to);
                if let Err(refused) = validate::own_device(request.user, request.device, ask.shard, shards) {
                    return self.refuse(waiting, &refused);
                }
                let command = AcknowledgeCommand {
                    user: request.user,
                    device: request.device,
                    session: request.session,
                    sequence: request.sequence,
                };
                self.propose(ask, command::Command::Acknowledge(command), waiting);
            }
            Request::Fence(request, to) => self.fence(request, deadline, Waiting::Fence(to)),
            Request::Subscribe(request, to) => {
                let ask = Ask {
                    shard: self.routes.owner(request.user),
                    epoch: request.epoch,
                    deadline,
                };
                let checked = validate::own_device(request.user, request.device, ask.shard, shards)
                    .map_err(|refused| self.refusal_of(&refused))
                    .and_then(|()| self.admit(ask, false))
                    .and_then(|()| self.room_for_a_stream());
                match checked {
                    Ok(()) => self.read(ask.shard, ReadWait::Subscribe(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Request::History(request, to) => {
                #[cfg(feature = "plants")]
                let Some((request, to)) = self.answer_stale(request, to) else {
                    return;
                };
                let ask = Ask {
                    shard: self.routes.owner(request.conversation),
                    epoch: request.epoch,
                    deadline,
                };
                match self.admit(ask, false) {
                    Ok(()) => self.read(ask.shard, ReadWait::History(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Request::Routes(to) => {
                let routes = self.routes_answer();
                self.answer(to, Ok(routes));
            }
            Request::Status(to) => {
                let status = self.status(inbox);
                self.answer(to, Ok(status));
            }
            Request::TransferLeader(request, to) => {
                let answer = self.transfer(&request);
                self.answer(to, answer);
            }
            Request::Digest(request, to) => {
                let answer = self.digest(&request);
                self.answer(to, answer);
            }
        }
    }

    fn answer<T>(&mut self, to: super::inbox::Reply<T>, answer: Answer<T>) {
        self.refused += u64::from(answer.is_err());
        // Whoever doesn't listen any more needs no answer.
        let _ = to.send(answer);
    }

    fn turn_away(&mut self, waiting: Waiting, refusal: Refusal) {
        self.refused += 1;
        waiting.refuse(refusal);
    }

    fn refusal_of(&self, refused: &Refused) -> Refusal {
        Refusal {
            epoch: self.config.epoch,
            ..Refusal::new(reason_of(refused), refused.to_string())
        }
    }

    fn refuse(&mut self, waiting: Waiting, refused: &Refused) {
        let refusal = self.refusal_of(refused);
        self.turn_away(waiting, refusal);
    }

    /// Whether a call may be taken on, as far as route, leadership, deadline and queues go.
    fn admit(&self, ask: Ask, proposes: bool) -> Answer<()> {
        let now = self.clock.now();
        let epoch = self.config.epoch;
        if ask.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refusal::new(Reason::Expired, "its deadline passed in the node's queue"));
        }
        if ask.epoch != 0 && ask.epoch != epoch {
            let message = format!("the route is of epoch {}, the map is of {epoch}", ask.epoch);
            return Err(Refusal {
                shard: Some(ask.shard),
                epoch,
                ..Refusal::new(Reason::StaleRoute, message)
            });
        }
        let Some(shard) = self.shards.get(&ask.shard) else {
            let message = format!("shard {} is not held by node {}", ask.shard, self.config.node);
            return Err(Refusal {
                shard: Some(ask.shard),
                epoch,
                ..Refusal::new(Reason::NotLeader, message)
            });
        };
        if shard.led.is_none() || self.is_stopping() {
            return Err(self.not_leader(shard, now));
        }
        let (bound, waiting, what) = match proposes {
            true => (self.config.bounds.proposals_per_shard, shard.pending.len(), "proposals"),
            false => (self.config.bounds.reads_per_shard, shard.reads(), "reads"),
        };
        if waiting >= bound {
            let message = format!("{waiting} {what} of shard {} wait already", ask.shard);
            return Err(shard.refusal(Reason::Overloaded, message).after(RETRY_BUSY));
        }
        Ok(())
    }

    fn not_leader(&self, shard: &Shard, now: Duration) -> Refusal {
        let timing = &self.config.timing;
        let soon = Duration::from_millis(timing.heartbeat_ms);
        let leader = shard.replica.leader();
        if leader == self.config.node {
            // It leads and is about to be told, or hands over because it stops.
            let refusal = shard.refusal(Reason::NotLeader, "leadership is changing hands");
            return Refusal {
                leader: None,
                ..refusal
            }
            .after(soon);
        }
        if leader != 0 {
            return shard.refusal(Reason::NotLeader, format!("node {leader} leads shard {}", shard.id));
        }
        let since = shard
            .leaderless_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if since < quorum_patience(timing) {
            return shard
                .refusal(Reason::NotLeader, format!("no leader of shard {} is known", shard.id))
                .after(soon);
        }
        let message = format!("no leader of shard {} for {since:?}: there is no majority", shard.id);
        shard
            .refusal(Reason::NoQuorum, message)
            .after(Duration::from_millis(timing.election_ms_min))
    }

    fn propose(&mut self, ask: Ask, command: command::Command, waiting: Waiting) {
        if waiting.is_gone() {
            return;
        }
        if let Err(refusal) = self.admit(ask, true) {
            return self.turn_away(waiting, refusal);
        }
        let command = Self::command(&mut self.ticket, self.config.node, &self.clock, command);
        if let Some(shard) = self.shards.get_mut(&ask.shard) {
            shard.propose(command, waiting);
        }
    }

    fn send(&mut self, request: SendRequest, deadline: Option<Duration>, waiting: Waiting) {
        let shards = self.routes.shards();
        let conversation = ids::conversation_id(request.sender, request.recipient);
        let ask = Ask {
            shard: self.routes.owner(conversation),
            epoch: request.epoch,
            deadline,
        };
        let shape = SendShape {
            sender: request.sender,
            device: request.device,
            session: request.session,
            recipient: request.recipient,
            body_bytes: request.body.len(),
        };
        if let Err(refused) = validate::send(&shape, ask.shard, shards) {
            return self.refuse(waiting, &refused);
        }
        let command = SendCommand {
            sender: request.sender,
            device: request.device,
            session: request.session,
            recipient: request.recipient,
            client_id: request.client_id,
            body: request.body,
        };
        #[cfg(feature = "plants")]
        let waiting = match self.admit(ask, true) {
            Ok(()) => self.answer_early(ask.shard, conversation, waiting),
            Err(_) => waiting,
        };
        self.propose(ask, command::Command::Send(command), waiting);
    }

    fn fence(&mut self, request: FenceRequest, deadline: Option<Duration>, waiting: Waiting) {
        if let Err(refused) = validate::fence(request.sessions.len()) {
            return self.refuse(waiting, &refused);
        }
        let ask = Ask {
            shard: request.shard,
            epoch: request.epoch,
            deadline,
        };
        let command = FenceCommand {
            sessions: request.sessions,
        };
        self.propose(ask, command::Command::Fence(command), waiting);
    }

    fn room_for_a_stream(&self) -> Answer<()> {
        let streams: usize = self.shards.values().map(|shard| shard.streams.len()).sum();
        if streams < self.config.bounds.streams {
            return Ok(());
        }
        let message = format!("{streams} streams are open at this node already");
        Err(Refusal::new(Reason::Overloaded, message).after(Duration::from_secs(1)))
    }

    fn read(&mut self, shard: u32, wait: ReadWait) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.read(wait);
        }
    }

    fn transfer(&mut self, request: &TransferLeaderRequest) -> Answer<TransferLeaderResponse> {
        let ask = Ask {
            shard: request.shard,
            epoch: 0,
            deadline: None,
        };
        self.admit(ask, false)?;
        let Some(shard) = self.shards.get_mut(&request.shard) else {
            return Err(Refusal::new(Reason::NotLeader, "the shard is not held here"));
        };
        if request.to == self.config.node {
            return Ok(TransferLeaderResponse { to: request.to });
        }
        match shard.replica.transfer(request.to) {
            Some(to) => Ok(TransferLeaderResponse { to }),
            None => {
                let voters = shard.replica.voters();
                let message = format!("node {} is no other voter of {voters:?}", request.to);
                Err(shard.refusal(Reason::Invalid, message))
            }
        }
    }

    fn digest(&self, request: &DigestRequest) -> Answer<DigestResponse> {
        let Some(shard) = self.shards.get(&request.shard) else {
            let message = format!("shard {} is not held by node {}", request.shard, self.config.node);
            return Err(Refusal::new(Reason::Invalid, message));
        };
        let (applied, term) = shard.machine.applied();
        let digest = shard.machine.digest();
        let digest =
            digest.map_err(|error| shard.refusal(Reason::Maybe, format!("failed to read the state: {error}")))?;
        Ok(DigestResponse { applied, digest, term })
    }

    fn routes_answer(&self) -> RoutesResponse {
        let leaders = self.leaders();
        let routes = (0..self.routes.shards()).map(|shard| Route {
            shard,
            nodes: self.routes.members(shard).to_vec(),
            leader: leaders.get(&shard).copied().unwrap_or_default(),
        });
        RoutesResponse {
            epoch: self.routes.epoch(),
            shards: self.routes.shards(),
            routes: routes.collect(),
        }
    }

    fn status(&self, inbox: &Inbox) -> StatusResponse {
        let log = self.log.stats();
        let proposals: usize = self.shards.values().map(|shard| shard.pending.len()).sum();
        let streams: usize = self.shards.values().map(|shard| shard.streams.len()).sum();
        let early = inbox.refused.load(std::sync::atomic::Ordering::Relaxed);
        StatusResponse {
            node: self.config.node,
            zone: self.config.zone.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plant: self.config.plant.map_or("", super::config::Plant::as_str).to_owned(),
            map_epoch: self.routes.epoch(),
            shards: self.shards.values().map(Shard::status).collect(),
            uptime_ms: u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX),
            queues: Some(QueueStatus {
                inbox: inbox.calls.len() as u64,
                inbox_max: inbox.calls_max as u64,
                proposals: proposals as u64,
                proposals_max: (self.config.bounds.proposals_per_shard * self.shards.len()) as u64,
                streams: streams as u64,
                streams_max: self.config.bounds.streams as u64,
                refused: self.refused + early,
            }),
            storage: Some(StorageStatus {
                log_bytes: log.bytes,
                log_segments: log.segments,
                syncs: log.syncs,
                sync_us_p50: self.sync_times.quantile_us(0.5),
                sync_us_p99: self.sync_times.quantile_us(0.99),
            }),
        }
    }
}
