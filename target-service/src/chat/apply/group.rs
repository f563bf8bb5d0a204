//! Groups, on the home shard of their conversation: who belongs to one, and since when.
//!
//! A change of membership stands in the conversation's one order, at a position like a message's. Whoever is a member
//! when a message is committed is sent it, and nobody else is; so a member sees what comes from its own joining on, and
//! the last that it sees is its own leaving.

use firedrill_proto::chat::v1::{GroupChange, GroupChangeKind, GroupCommand, OutboxItem};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::{Applier, Step, granted, send::Sending};
use crate::chat::{
    error::ChatError,
    keys::{Key, u64_at},
    records::{Conversation, Member, Present, StoredBody},
    refused::Refused,
    reply::Reply,
    store,
    validate::{self, REMOVED_MAX},
};

impl Applier<'_> {
    /// Changes a group, once for each client id: all of the change, or none.
    pub(super) fn change_group(&mut self, command: &GroupCommand) -> Step<Reply> {
        let id = granted!(validate::change_group(command, self.meta.shard, self.meta.shards));
        self.forget_old_client_ids()?;
        let sending = Sending {
            sender: command.actor,
            device: command.device,
            session: command.session,
            client_id: command.client_id,
        };
        let hash = content_hash(command);
        if let Some(first) = self.first_answer(&sending)? {
            if first.conversation != id || first.body_hash != hash {
                return Ok(Err(Refused::ClientIdReused {
                    client_id: command.client_id,
                }));
            }
            return self.changed(id, first.position, true);
        }
        granted!(self.may_send(&sending)?);
        let (mut record, change) = granted!(self.decide(id, command)?);
        if change.users.is_empty() {
            // Nothing to do is an answer as well: a repeat that comes after somebody else's change must not undo it.
            self.remember(&sending, id, record.last_position, hash)?;
            return self.changed(id, record.last_position, false);
        }
        // Those who leave hear of it too.
        let mut concerned = self.members(id)?;
        concerned.extend(&change.users);
        concerned.sort_unstable();
        concerned.dedup();
        let to = self.by_shard(concerned);
        granted!(self.room_in_outboxes(to.keys().copied(), self.settings.outbox_max)?);
        record.last_position += 1;
        let change = GroupChange {
            position: record.last_position,
            ..change
        };
        self.carry_out(id, &mut record, &change)?;
        store::put(&mut self.table, &Key::conversation(id), &record)?;
        let stored = StoredBody {
            sender: command.actor,
            device: command.device,
            client_id: command.client_id,
            time_ms: self.meta.time_ms,
            change: Some(change.clone()),
            ..StoredBody::default()
        };
        store::put(&mut self.table, &Key::message(id, change.position), &stored)?;
        self.remember(&sending, id, change.position, hash)?;
        let item = OutboxItem {
            conversation: id,
            position: change.position,
            sender: command.actor,
            sender_device: command.device,
            client_id: command.client_id,
            change: Some(change.clone()),
            ..OutboxItem::default()
        };
        self.post(to, &item)?;
        self.changed(id, change.position, false)
    }

    fn changed(&self, id: u64, position: u64, repeated: bool) -> Step<Reply> {
        let record: Conversation = store::get(&self.table, &Key::conversation(id))?.unwrap_or_default();
        Ok(Ok(Reply::GroupChanged {
            conversation: id,
            position,
            members: record.members,
            repeated,
        }))
    }

    /// Whether the actor may do this, and whom it really concerns.
    fn decide(&self, id: u64, command: &GroupCommand) -> Step<(Conversation, GroupChange)> {
        use GroupChangeKind::{GroupAdd, GroupCreate, GroupJoin, GroupLeave, GroupRemove};
        let actor = command.actor;
        let stored: Option<Conversation> = store::get(&self.table, &Key::conversation(id))?;
        let kind = command.kind();
        let mut record = match (stored, kind) {
            (None, GroupCreate) => Conversation {
                group: true,
                creator: actor,
                open: command.open,
                ..Conversation::default()
            },
            (Some(_), GroupCreate) => return Ok(Err(Refused::ConversationTaken { conversation: id })),
            (Some(record), _) if record.group => record,
            _ => return Ok(Err(Refused::NoSuchConversation { conversation: id })),
        };
        let own = store::get::<Member>(&self.table, &Key::member(id, actor))?;
        let not_allowed = Refused::NotMember {
            conversation: id,
            user: actor,
        };
        let allowed = match kind {
            GroupCreate => true,
            GroupAdd => own.is_some(),
            // Whoever was removed comes back only when a member says so.
            GroupJoin => own.is_some() || (record.open && !store::has(&self.table, &Key::removed(id, actor))?),
            GroupLeave => own.is_some(),
            GroupRemove => own.is_some() && record.creator == actor,
            GroupChangeKind::Unspecified => false,
        };
        if !allowed {
            return Ok(Err(not_allowed));
        }
        let mut users = match kind {
            GroupCreate => [&[actor], &command.users[..]].concat(),
            GroupJoin | GroupLeave => vec![actor],
            _ => command.users.clone(),
        };
        users.sort_unstable();
        users.dedup();
        let comes = matches!(kind, GroupCreate | GroupAdd | GroupJoin);
        let mut concerned = Vec::with_capacity(users.len());
        for user in users {
            if store::has(&self.table, &Key::member(id, user))? != comes {
                concerned.push(user);
            }
        }
        let count = concerned.len() as u64;
        if comes {
            record.members += count;
            if record.members > self.group_max() {
                return Ok(Err(Refused::GroupFull {
                    conversation: id,
                    max: self.settings.group_max,
                }));
            }
        } else {
            record.members -= count;
        }
        let change = GroupChange {
            conversation: id,
            position: 0,
            kind: command.kind,
            actor,
            users: concerned,
        };
        Ok(Ok((record, change)))
    }

    const fn group_max(&self) -> u64 {
        #[cfg(any(test, feature = "plants"))]
        if matches!(self.plant, Some(crate::chat::Plant::NoLimit)) {
            return u64::MAX;
        }
        self.settings.group_max
    }

    fn carry_out(&mut self, id: u64, record: &mut Conversation, change: &GroupChange) -> Result<(), ChatError> {
        use GroupChangeKind::{GroupAdd, GroupCreate, GroupJoin, GroupRemove};
        let comes = matches!(change.kind(), GroupCreate | GroupAdd | GroupJoin);
        for &user in &change.users {
            if comes {
                let member = Member {
                    joined: change.position,
                    ..Member::default()
                };
                store::put(&mut self.table, &Key::member(id, user), &member)?;
                if store::remove(&mut self.table, &Key::removed(id, user))? {
                    record.removed -= 1;
                }
                continue;
            }
            store::remove(&mut self.table, &Key::member(id, user))?;
            if change.kind() == GroupRemove && record.open {
                store::put(&mut self.table, &Key::removed(id, user), &Present {})?;
                record.removed += 1;
                // A list that is full can't keep anybody out any more: from here on members let members in.
                record.open = record.removed < REMOVED_MAX;
            }
        }
        Ok(())
    }

    /// The members of a group, by id.
    pub(super) fn members(&self, id: u64) -> Result<Vec<u64>, ChatError> {
        let found = store::scan::<Member>(&self.table, &Key::members(id), usize::MAX, usize::MAX)?;
        found
            .into_iter()
            .map(|(key, _)| u64_at(&key, 9).ok_or_else(|| store::damaged(&key, "too short")))
            .collect()
    }
}

/// What a client id stands for: whoever repeats it must mean the same.
fn content_hash(command: &GroupCommand) -> u64 {
    let content = GroupCommand {
        session: 0,
        ..command.clone()
    };
    xxh3_64(&content.encode_to_vec())
}
