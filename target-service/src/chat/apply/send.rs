//! Sends, on the home shard of their conversation: the position, the dedup table and the outboxes.

use firedrill_proto::chat::v1::{OutboxItem, SendCommand};
use xxhash_rust::xxh3::xxh3_64;

use super::{Applier, Step, granted};
use crate::chat::{
    error::ChatError,
    keys::{Key, u32_at, u64_at},
    records::{Conversation, Dedup, Present, Sender, StoredBody},
    refused::Refused,
    reply::Reply,
    store,
    validate::{self, SendShape},
};

/// Client ids forgotten with one send. More than the one it adds, so that the table shrinks whenever it can.
const FORGOTTEN_PER_SEND: usize = 16;

/// Who acts at a conversation's home, and under which number.
pub(super) struct Sending {
    pub(super) sender: u64,
    pub(super) device: u32,
    pub(super) session: u64,
    pub(super) client_id: u64,
}

impl Applier<'_> {
    /// Commits a message at the next position of its conversation, once for each client id.
    pub(super) fn send(&mut self, command: &SendCommand) -> Step<Reply> {
        let shape = SendShape {
            sender: command.sender,
            device: command.device,
            session: command.session,
            recipient: command.recipient,
            group: command.group,
            body_bytes: command.body.len(),
        };
        let id = granted!(validate::send(&shape, self.meta.shard, self.meta.shards));
        self.forget_old_client_ids()?;
        let body_hash = xxh3_64(&command.body);
        let sending = Sending {
            sender: command.sender,
            device: command.device,
            session: command.session,
            client_id: command.client_id,
        };
        if let Some(first) = self.first_answer(&sending)? {
            if first.conversation != id || first.body_hash != body_hash {
                return Ok(Err(Refused::ClientIdReused {
                    client_id: command.client_id,
                }));
            }
            return Ok(Ok(Reply::Sent {
                conversation: id,
                position: first.position,
                repeated: true,
            }));
        }
        granted!(self.may_send(&sending)?);
        let (mut record, recipients) = granted!(self.recipients(id, command)?);
        let to = self.by_shard(recipients);
        granted!(self.room_in_outboxes(to.keys().copied(), self.settings.outbox_max)?);
        record.last_position += 1;
        let position = record.last_position;
        store::put(&mut self.table, &Key::conversation(id), &record)?;
        self.store_message(id, position, command)?;
        self.remember(&sending, id, position, body_hash)?;
        let item = OutboxItem {
            conversation: id,
            position,
            sender: command.sender,
            sender_device: command.device,
            client_id: command.client_id,
            recipient: command.recipient,
            body: command.body.clone(),
            ..OutboxItem::default()
        };
        self.post(to, &item)?;
        Ok(Ok(Reply::Sent {
            conversation: id,
            position,
            repeated: false,
        }))
    }

    /// The conversation and whom a message in it is for, the sender's own devices included.
    fn recipients(&self, id: u64, command: &SendCommand) -> Step<(Conversation, Vec<u64>)> {
        let stored: Option<Conversation> = store::get(&self.table, &Key::conversation(id))?;
        let sender = command.sender;
        if command.group != 0 {
            let Some(record) = stored.filter(|record| record.group) else {
                return Ok(Err(Refused::NoSuchConversation { conversation: id }));
            };
            #[cfg_attr(
                not(any(test, feature = "plants")),
                expect(unused_mut, reason = "a plant changes it")
            )]
            let mut members = self.members(id)?;
            #[cfg(any(test, feature = "plants"))]
            self.plant_members(id, sender, &mut members)?;
            if !members.contains(&sender) {
                return Ok(Err(Refused::NotMember {
                    conversation: id,
                    user: sender,
                }));
            }
            return Ok(Ok((record, members)));
        }
        let (low, high) = (sender.min(command.recipient), sender.max(command.recipient));
        let record = stored.unwrap_or(Conversation {
            low,
            high,
            ..Conversation::default()
        });
        if record.group || (record.low, record.high) != (low, high) {
            return Ok(Err(Refused::ConversationTaken { conversation: id }));
        }
        Ok(Ok((record, vec![command.recipient, sender])))
    }

    pub(super) fn first_answer(&self, sending: &Sending) -> Result<Option<Dedup>, ChatError> {
        #[cfg(any(test, feature = "plants"))]
        if self.plant == Some(crate::chat::Plant::DupStore) {
            return Ok(None);
        }
        let key = Key::dedup(sending.sender, sending.device, sending.client_id);
        store::get(&self.table, &key)
    }

    /// Whether the session still acts here and the client id is one that would be remembered; notes the session.
    pub(super) fn may_send(&mut self, sending: &Sending) -> Step<()> {
        let key = Key::sender(sending.sender, sending.device);
        let mut sender: Sender = store::get(&self.table, &key)?.unwrap_or_default();
        let session = sending.session;
        if session < sender.session || self.is_fenced(session)? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        if sending.client_id < sender.floor || sender.floor == u64::MAX {
            return Ok(Err(Refused::ClientIdExpired {
                client_id: sending.client_id,
                floor: sender.floor - 1,
            }));
        }
        if session > sender.session {
            sender.session = session;
            store::put(&mut self.table, &key, &sender)?;
        }
        Ok(Ok(()))
    }

    fn store_message(&mut self, conversation: u64, position: u64, command: &SendCommand) -> Result<(), ChatError> {
        let message = StoredBody {
            sender: command.sender,
            device: command.device,
            client_id: command.client_id,
            recipient: command.recipient,
            body: command.body.clone(),
            time_ms: self.meta.time_ms,
            change: None,
        };
        self.meta.messages += 1;
        store::put(&mut self.table, &Key::message(conversation, position), &message)
    }

    /// Remembers what a client id was used for, so that a repeat gets the first answer again.
    pub(super) fn remember(
        &mut self,
        sending: &Sending,
        conversation: u64,
        position: u64,
        body_hash: u64,
    ) -> Result<(), ChatError> {
        let &Sending {
            sender,
            device,
            client_id,
            ..
        } = sending;
        let time_ms = self.meta.time_ms;
        let dedup = Dedup {
            conversation,
            position,
            body_hash,
            time_ms,
        };
        store::put(&mut self.table, &Key::dedup(sender, device, client_id), &dedup)?;
        let by_time = Key::dedup_by_time(time_ms, sender, device, client_id);
        store::put(&mut self.table, &by_time, &Present {})
    }

    /// Forgets client ids that are older than the settings say, and remembers up to where for each device: whether an id
    /// below that was used is not known from then on, and it is never used again.
    pub(super) fn forget_old_client_ids(&mut self) -> Result<(), ChatError> {
        let Some(until) = self.meta.time_ms.checked_sub(self.settings.dedup_ms) else {
            return Ok(());
        };
        let old = store::scan::<Present>(&self.table, &Key::dedup_until(until), FORGOTTEN_PER_SEND, usize::MAX)?;
        for (by_time, _) in old {
            let (Some(sender), Some(device), Some(client_id)) =
                (u64_at(&by_time, 9), u32_at(&by_time, 17), u64_at(&by_time, 21))
            else {
                return Err(store::damaged(&by_time, "too short"));
            };
            let time_ms = u64_at(&by_time, 1).unwrap_or_default();
            store::remove(&mut self.table, &Key::dedup_by_time(time_ms, sender, device, client_id))?;
            store::remove(&mut self.table, &Key::dedup(sender, device, client_id))?;
            let key = Key::sender(sender, device);
            let mut record: Sender = store::get(&self.table, &key)?.unwrap_or_default();
            record.floor = record.floor.max(client_id.saturating_add(1));
            store::put(&mut self.table, &key, &record)?;
        }
        Ok(())
    }
}
