//! Calls that take a way of their own: sign-ups that wait for a code, signs of life, groups, and opening the app.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeCommand, AcknowledgeResponse, ChangeGroupRequest, GroupChangeKind, GroupCommand, IssueCodeCommand,
    OpenRequest, OpenResponse, command,
};

use super::{api::Reason, calls::Ask, inbox::Reply, run::Node, shard::ReadWait, waiting::Waiting};
use crate::chat::{ids, validate};

/// How long opening waits for a read that is current, before it makes do with what there is.
const OPEN_PATIENCE: Duration = Duration::from_millis(250);

impl Node {
    pub(super) fn change_group(&mut self, request: ChangeGroupRequest, deadline: Option<Duration>, waiting: Waiting) {
        let caller = request.caller.unwrap_or_default();
        let command = GroupCommand {
            actor: caller.user,
            device: caller.device,
            session: caller.session,
            client_id: request.client_id,
            kind: request.kind,
            conversation: request.group,
            users: request.users,
            open: request.open,
        };
        let id = match command.kind() {
            GroupChangeKind::GroupCreate => ids::group_id(caller.user, caller.device, request.client_id),
            _ => request.group,
        };
        let ask = self.ask_of_user(id, request.epoch, deadline);
        if let Err(refused) = validate::change_group(&command, ask.shard, self.routes.shards()) {
            return self.refuse(waiting, &refused);
        }
        self.propose(ask, command::Command::ChangeGroup(command), waiting);
    }

    /// Opening the app: current where a linearizable read can be had, and otherwise what this node has.
    pub(super) fn open_app(&mut self, request: OpenRequest, deadline: Option<Duration>, to: Reply<OpenResponse>) {
        let caller = request.caller.unwrap_or_default();
        let ask = self.ask_of_user(caller.user, request.epoch, deadline);
        match self.admit(ask, false) {
            Ok(()) => self.read(ask.shard, ReadWait::Open(request, to, self.clock.now() + OPEN_PATIENCE)),
            Err(refusal)
                if matches!(
                    refusal.reason,
                    Reason::NotLeader | Reason::NoQuorum | Reason::Overloaded
                ) =>
            {
                match self.shards.get(&ask.shard) {
                    Some(shard) => shard.open_stale(&request, to),
                    None => self.answer(to, Err(refusal)),
                }
            }
            Err(refusal) => self.answer(to, Err(refusal)),
        }
    }

    /// A device says how far it is, which is a sign of life too. One that has nothing new to say is answered at once:
    /// what was acknowledged once stays acknowledged, whoever leads meanwhile.
    pub(super) fn alive(
        &mut self,
        ask: Ask,
        command: &AcknowledgeCommand,
        to: Reply<AcknowledgeResponse>,
    ) -> Option<Waiting> {
        let now = self.clock.now();
        let known = match (self.admit(ask, true), self.shards.get_mut(&ask.shard)) {
            (Ok(()), Some(shard)) => shard.alive(command, now),
            _ => None,
        };
        match known {
            Some(acknowledged) => {
                self.answer(to, Ok(AcknowledgeResponse { acknowledged }));
                None
            }
            None => Some(Waiting::Acknowledge(to)),
        }
    }

    /// Proposes the codes that have been carried to their phones by now.
    pub(super) fn carried(&mut self) {
        let now = self.clock.now();
        while let Some((carried, code)) = self.courier.arrived(now) {
            let waiting = Waiting::RequestCode(carried.to);
            match ids::phone_shard(&carried.phone, self.routes.shards()) {
                Ok(shard) => {
                    let ask = Ask {
                        shard,
                        epoch: carried.epoch,
                        deadline: carried.deadline,
                    };
                    let command = IssueCodeCommand {
                        phone: carried.phone,
                        code,
                    };
                    self.propose(ask, command::Command::IssueCode(command), waiting);
                }
                Err(refused) => self.refuse(waiting, &refused),
            }
        }
    }
}
