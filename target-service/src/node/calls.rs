//! What clients and operators ask: checked against every bound before anything is proposed.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeCommand, ImportContactsCommand, OpenSessionCommand, ReceiptCommand, SendCommand, SendRequest,
    SignUpCommand, command,
};

use super::{
    api::{Answer, Reason, Refusal},
    inbox::{Inbox, Queued},
    recover::quorum_patience,
    requests::Request,
    run::Node,
    shard::{RETRY_BUSY, ReadWait, Shard},
    verification::Carried,
    versions::Build,
    waiting::{Waiting, reason_of},
};
use crate::chat::{
    Refused, ids,
    validate::{self, SendShape},
};

/// Where and when a call wants to be carried out.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) shard: u32,
    pub(super) epoch: u64,
    pub(super) deadline: Option<Duration>,
}

impl Node {
    /// Takes a call: answers it, or has it wait for what it needs.
    pub(super) fn call(&mut self, queued: Queued, inbox: &Inbox) {
        let Queued {
            request,
            deadline,
            protocol,
            span,
        } = queued;
        let _entered = span.enter();
        let shards = self.routes.shards();
        match request {
            Request::Code(request, to) => {
                let waiting = Waiting::RequestCode(to);
                let ask = match ids::phone_shard(&request.phone, shards) {
                    Ok(shard) => Ask {
                        shard,
                        epoch: request.epoch,
                        deadline,
                    },
                    Err(refused) => return self.refuse(waiting, &refused),
                };
                if let Err(refusal) = self.admit(ask, true) {
                    return self.turn_away(waiting, refusal);
                }
                let Waiting::RequestCode(to) = waiting else { return };
                let carried = Carried {
                    phone: request.phone,
                    epoch: request.epoch,
                    deadline,
                    to,
                };
                self.courier.carry(carried, self.clock.now());
            }
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
                let command = SignUpCommand {
                    phone: request.phone,
                    verified: self.config.verification.required,
                    code: request.code,
                };
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
                let command = OpenSessionCommand {
                    user: request.user,
                    device: request.device,
                    client_nonce: request.client_nonce,
                };
                self.propose(ask, command::Command::OpenSession(command), waiting);
            }
            Request::Send(_, to) if protocol >= 2 && self.config.versions.build == Build::SecondBad => {
                let message = "this build of version 2 can't send: its way of sending is broken";
                self.answer(to, Err(Refusal::new(Reason::BrokenBuild, message)));
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
                if let Waiting::Acknowledge(to) = waiting
                    && let Some(waiting) = self.alive(ask, &command, to)
                {
                    self.propose(ask, command::Command::Acknowledge(command), waiting);
                }
            }
            Request::Presence(request, to) => {
                let ask = Ask {
                    shard: self.routes.owner(request.user),
                    epoch: request.epoch,
                    deadline,
                };
                match self.admit(ask, false) {
                    Ok(()) => self.read(ask.shard, ReadWait::Presence(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
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
            Request::Acquit(request, to) => {
                let waiting = Waiting::Acquit(to);
                let caller = request.caller.unwrap_or_default();
                let ask = self.ask_of_user(caller.user, request.epoch, deadline);
                if let Err(refused) = validate::own_device(caller.user, caller.device, ask.shard, shards) {
                    return self.refuse(waiting, &refused);
                }
                let command = ReceiptCommand {
                    user: caller.user,
                    device: caller.device,
                    session: caller.session,
                    conversation: request.conversation,
                    delivered: request.delivered,
                    read: request.read,
                };
                self.propose(ask, command::Command::Receipt(command), waiting);
            }
            Request::ImportContacts(request, to) => {
                let waiting = Waiting::ImportContacts(to);
                let caller = request.caller.unwrap_or_default();
                let ask = self.ask_of_user(caller.user, request.epoch, deadline);
                let checked = validate::own_device(caller.user, caller.device, ask.shard, shards)
                    .and_then(|()| validate::import(&request.phones));
                if let Err(refused) = checked {
                    return self.refuse(waiting, &refused);
                }
                let command = ImportContactsCommand {
                    user: caller.user,
                    device: caller.device,
                    session: caller.session,
                    phones: request.phones,
                };
                self.propose(ask, command::Command::ImportContacts(command), waiting);
            }
            Request::ChangeGroup(request, to) => self.change_group(request, deadline, Waiting::ChangeGroup(to)),
            Request::Open(request, to) => self.open_app(request, deadline, to),
            Request::Sync(request, to) => {
                let caller = request.caller.unwrap_or_default();
                let ask = self.ask_of_user(caller.user, request.epoch, deadline);
                let now = self.clock.now();
                let allowed = self.admit(ask, false).and_then(|()| {
                    let limit = self.config.bounds.syncs_per_second;
                    let message = format!("fetching the state anew is limited to {limit} a second at this node");
                    let taken = self.syncs.take(now);
                    taken.map_err(|delay| Refusal::new(Reason::Overloaded, message).after(delay))
                });
                match allowed {
                    Ok(()) => self.read(ask.shard, ReadWait::Sync(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Request::Contacts(request, to) => {
                let caller = request.caller.unwrap_or_default();
                let ask = self.ask_of_user(caller.user, request.epoch, deadline);
                match self.admit(ask, false) {
                    Ok(()) => self.read(ask.shard, ReadWait::Contacts(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Request::Members(request, to) => {
                let ask = self.ask_of_user(request.group, request.epoch, deadline);
                match self.admit(ask, false) {
                    Ok(()) => self.read(ask.shard, ReadWait::Members(request, to)),
                    Err(refusal) => self.answer(to, Err(refusal)),
                }
            }
            Request::Audit(request, to) => {
                let ask = self.ask_of_user(request.conversation, request.epoch, deadline);
                match self.admit(ask, false) {
                    Ok(()) => self.read(ask.shard, ReadWait::Audit(request, to)),
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
            Request::Routes(_, to) => {
                let routes = self.routes_answer();
                self.answer(to, Ok(routes));
            }
            Request::Status(_, to) => {
                let status = self.status(inbox);
                self.answer(to, Ok(status));
            }
            Request::TransferLeader(request, to) => {
                let answer = self.transfer(&request);
                self.answer(to, answer);
            }
            Request::SetVerification(request, to) => {
                let before = self.set_verification(&request);
                self.answer(to, Ok(before));
            }
            Request::MoveReplica(request, to) => self.move_replica(&request, to),
            Request::AbortOperation(request, to) => match &mut self.council {
                Some(council) => council.abort(request, to),
                None => {
                    let refusal = self.no_council();
                    self.answer(to, Err(refusal));
                }
            },
            Request::RampLogins(request, to) => {
                let before = self.ramp_logins(&request);
                self.answer(to, Ok(before));
            }
            Request::Digest(request, to) => {
                let answer = self.digest(&request);
                self.answer(to, answer);
            }
        }
    }

    pub(super) fn answer<T>(&mut self, to: super::inbox::Reply<T>, answer: Answer<T>) {
        self.refused += u64::from(answer.is_err());
        // Whoever doesn't listen any more needs no answer.
        let _ = to.send(answer);
    }

    pub(super) fn turn_away(&mut self, waiting: Waiting, refusal: Refusal) {
        self.refused += 1;
        waiting.refuse(refusal);
    }

    fn refusal_of(&self, refused: &Refused) -> Refusal {
        Refusal {
            epoch: self.routes.epoch(),
            ..Refusal::new(reason_of(refused), refused.to_string())
        }
    }

    pub(super) fn refuse(&mut self, waiting: Waiting, refused: &Refused) {
        let refusal = self.refusal_of(refused);
        self.turn_away(waiting, refusal);
    }

    /// Whether a call may be taken on, as far as route, leadership, deadline and queues go.
    pub(super) fn admit(&self, ask: Ask, proposes: bool) -> Answer<()> {
        let now = self.clock.now();
        let epoch = self.routes.epoch();
        if self.config.protections.deadlines && ask.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refusal::new(Reason::Expired, "its deadline passed in the node's queue"));
        }
        if self.routes.is_stale(ask.shard, ask.epoch) {
            // A caller that knows more than this node: it finds out what, at its next tick.
            self.asks_for_map.set(ask.epoch > epoch);
            let message = format!("the route is of epoch {}, the map is of {epoch}", ask.epoch);
            return Err(Refusal {
                shard: Some(ask.shard),
                epoch,
                ..Refusal::new(Reason::StaleRoute, message)
            });
        }
        let Some(shard) = self.shards.get(&ask.shard) else {
            let (reason, message) = if ask.shard < self.routes.shards() {
                (Reason::NotLeader, self.not_held(ask.shard))
            } else {
                (Reason::Invalid, format!("there is no shard {}", ask.shard))
            };
            return Err(Refusal {
                shard: Some(ask.shard),
                epoch,
                ..Refusal::new(reason, message)
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

    pub(super) fn propose(&mut self, ask: Ask, command: command::Command, waiting: Waiting) {
        if self.config.protections.deadlines && waiting.is_gone() {
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

    /// What concerns a user or a conversation: both name their shard alike.
    pub(super) fn ask_of_user(&self, id: u64, epoch: u64, deadline: Option<Duration>) -> Ask {
        Ask {
            shard: self.routes.owner(id),
            epoch,
            deadline,
        }
    }

    fn send(&mut self, request: SendRequest, deadline: Option<Duration>, waiting: Waiting) {
        let shards = self.routes.shards();
        let conversation = match request.group {
            0 => ids::conversation_id(request.sender, request.recipient),
            group => group,
        };
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
            group: request.group,
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
            group: request.group,
        };
        #[cfg(feature = "plants")]
        let waiting = match self.admit(ask, true) {
            Ok(()) => self.answer_early(ask.shard, conversation, waiting),
            Err(_) => waiting,
        };
        self.propose(ask, command::Command::Send(command), waiting);
    }

    fn room_for_a_stream(&self) -> Answer<()> {
        let streams: usize = self.shards.values().map(|shard| shard.streams.len()).sum();
        if streams < self.config.bounds.streams {
            return Ok(());
        }
        let message = format!("{streams} streams are open at this node already");
        Err(Refusal::new(Reason::Overloaded, message).after(Duration::from_secs(1)))
    }

    pub(super) fn read(&mut self, shard: u32, wait: ReadWait) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.read(wait);
        }
    }
}
