//! Sends, on the home shard of their conversation: the position, the dedup table and the outbox.

use firedrill_proto::chat::v1::{OutboxItem, SendCommand};
use xxhash_rust::xxh3::xxh3_64;

use super::{Applier, Step, granted};
use crate::chat::{
    error::ChatError,
    ids,
    keys::{Key, u32_at, u64_at},
    records::{Conversation, Dedup, OutboxHead, Present, Sender, StoredBody},
    refused::Refused,
    reply::Reply,
    store,
    validate::{self, SendShape},
};

/// Client ids forgotten with one send. More than the one it adds, so that the table shrinks whenever it can.
const FORGOTTEN_PER_SEND: usize = 16;

impl Applier<'_> {
    /// Commits a message at the next position of its conversation, once for each client id.
    pub(super) fn send(&mut self, command: &SendCommand) -> Step<Reply> {
        let shape = SendShape {
            sender: command.sender,
            device: command.device,
            session: command.session,
            recipient: command.recipient,
            body_bytes: command.body.len(),
        };
        let id = granted!(validate::send(&shape, self.meta.shard, self.meta.shards));
        self.forget_old_client_ids()?;
        let body_hash = xxh3_64(&command.body);
        if let Some(first) = self.first_answer(command)? {
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
        granted!(self.may_send(command)?);
        let to_shard = ids::owner(command.recipient, self.meta.shards);
        let head_key = Key::outbox_head(to_shard);
        let mut head: OutboxHead = store::get(&self.table, &head_key)?.unwrap_or_default();
        if head.last_sequence - head.trimmed_through >= self.settings.outbox_max {
            return Ok(Err(Refused::Full {
                what: "the outbox to the recipient's shard",
                max: self.settings.outbox_max,
            }));
        }
        let position = granted!(self.next_position(id, command)?);
        self.store_message(id, position, body_hash, command)?;

        head.last_sequence += 1;
        let item = OutboxItem {
            outbox_sequence: head.last_sequence,
            conversation: id,
            position,
            sender: command.sender,
            sender_device: command.device,
            client_id: command.client_id,
            recipient: command.recipient,
            body: command.body.clone(),
        };
        store::put(&mut self.table, &Key::outbox(to_shard, head.last_sequence), &item)?;
        store::put(&mut self.table, &head_key, &head)?;
        self.meta.outbox_backlog += 1;
        self.applied.outboxes.insert(to_shard);
        Ok(Ok(Reply::Sent {
            conversation: id,
            position,
            repeated: false,
        }))
    }

    fn first_answer(&self, command: &SendCommand) -> Result<Option<Dedup>, ChatError> {
        #[cfg(any(test, feature = "plants"))]
        if self.plant == Some(crate::chat::Plant::DupStore) {
            return Ok(None);
        }
        let key = Key::dedup(command.sender, command.device, command.client_id);
        store::get(&self.table, &key)
    }

    /// Whether the session still acts here and the client id is one that would be remembered; notes the session.
    fn may_send(&mut self, command: &SendCommand) -> Step<()> {
        let key = Key::sender(command.sender, command.device);
        let mut sender: Sender = store::get(&self.table, &key)?.unwrap_or_default();
        let session = command.session;
        if session < sender.session || self.is_fenced(session)? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        if command.client_id <= sender.floor && sender.floor > 0 {
            return Ok(Err(Refused::ClientIdExpired {
                client_id: command.client_id,
                floor: sender.floor,
            }));
        }
        if session > sender.session {
            sender.session = session;
            store::put(&mut self.table, &key, &sender)?;
        }
        Ok(Ok(()))
    }

    fn next_position(&mut self, id: u64, command: &SendCommand) -> Step<u64> {
        let key = Key::conversation(id);
        let low = command.sender.min(command.recipient);
        let high = command.sender.max(command.recipient);
        let mut record = store::get(&self.table, &key)?.unwrap_or(Conversation {
            last_position: 0,
            low,
            high,
        });
        if (record.low, record.high) != (low, high) {
            return Ok(Err(Refused::ConversationTaken { conversation: id }));
        }
        record.last_position += 1;
        store::put(&mut self.table, &key, &record)?;
        Ok(Ok(record.last_position))
    }

    fn store_message(
        &mut self,
        conversation: u64,
        position: u64,
        body_hash: u64,
        command: &SendCommand,
    ) -> Result<(), ChatError> {
        let &SendCommand {
            sender,
            device,
            client_id,
            ..
        } = command;
        let time_ms = self.meta.time_ms;
        let message = StoredBody {
            sender,
            device,
            client_id,
            recipient: command.recipient,
            body: command.body.clone(),
            time_ms,
        };
        store::put(&mut self.table, &Key::message(conversation, position), &message)?;
        let dedup = Dedup {
            conversation,
            position,
            body_hash,
            time_ms,
        };
        store::put(&mut self.table, &Key::dedup(sender, device, client_id), &dedup)?;
        let by_time = Key::dedup_by_time(time_ms, sender, device, client_id);
        store::put(&mut self.table, &by_time, &Present {})?;
        self.meta.messages += 1;
        Ok(())
    }

    /// Forgets client ids that are older than the settings say, and remembers the highest forgotten of each device: an
    /// id at or below it is refused from then on, since nobody knows any more whether it was used.
    fn forget_old_client_ids(&mut self) -> Result<(), ChatError> {
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
            record.floor = record.floor.max(client_id);
            store::put(&mut self.table, &key, &record)?;
        }
        Ok(())
    }

    /// Forgets what the recipient shard has accepted.
    pub(super) fn trim_outbox(&mut self, to_shard: u32, through: u64) -> Step<Reply> {
        let key = Key::outbox_head(to_shard);
        let mut head: OutboxHead = store::get(&self.table, &key)?.unwrap_or_default();
        if through > head.last_sequence {
            return Ok(Err(Refused::Malformed {
                what: "it trims more of an outbox than was ever in it",
            }));
        }
        if through > head.trimmed_through {
            for sequence in head.trimmed_through + 1..=through {
                self.trim(&Key::outbox(to_shard, sequence))?;
                self.meta.outbox_backlog -= 1;
            }
            head.trimmed_through = through;
            store::put(&mut self.table, &key, &head)?;
        }
        Ok(Ok(Reply::Trimmed {
            to_shard,
            through: head.trimmed_through,
        }))
    }
}
