//! Deliveries, on the recipient's shard: what another shard's outbox brought goes into the devices' streams.

use firedrill_proto::chat::v1::{AcceptOutboxCommand, Delivery, OutboxItem};

use super::{Applier, Step, granted};
use crate::chat::{
    error::ChatError,
    ids,
    keys::{Key, u32_at},
    records::{Account, Device, Mark},
    reply::Reply,
    store,
    validate::{self, DEVICES_MAX},
};

/// What became of one item.
#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    /// No room: the outbox waits at this item.
    NoRoom,
}

impl Applier<'_> {
    /// Takes a batch in the outbox's order, each item once: what was taken before is skipped, nothing is taken past a
    /// gap or past an item for which there is no room.
    pub(super) fn accept_outbox(&mut self, command: &AcceptOutboxCommand) -> Step<Reply> {
        let from_shard = command.from_shard;
        granted!(validate::outbox(from_shard, command.items.len(), self.meta.shards));
        let key = Key::inbox(from_shard);
        let before: Mark = store::get(&self.table, &key)?.unwrap_or_default();
        let mut mark = before;
        for item in &command.items {
            if item.outbox_sequence <= mark.through {
                continue;
            }
            if item.outbox_sequence > mark.through + 1 || self.take(item)? == Taken::NoRoom {
                break;
            }
            mark.through = item.outbox_sequence;
        }
        if mark != before {
            store::put(&mut self.table, &key, &mark)?;
        }
        Ok(Ok(Reply::Accepted {
            from_shard,
            through: mark.through,
        }))
    }

    fn take(&mut self, item: &OutboxItem) -> Result<Taken, ChatError> {
        let mark_key = Key::conversation_mark(item.conversation);
        let mark: Mark = store::get(&self.table, &mark_key)?.unwrap_or_default();
        // The outbox's sequence alone would do, until a conversation moves to another home and is sent from there.
        if item.position <= mark.through {
            return Ok(Taken::Yes);
        }
        let user = item.recipient;
        let account_key = Key::account(user);
        let owned = ids::owner(user, self.meta.shards) == self.meta.shard;
        match store::get::<Account>(&self.table, &account_key)?.filter(|_| owned) {
            None => self.bury(item)?,
            Some(mut account) => {
                let mut devices = self.devices(user)?;
                if devices.is_empty() {
                    if account.pending >= self.settings.pending_max {
                        return Ok(Taken::NoRoom);
                    }
                    account.pending += 1;
                    self.meta.pending += 1;
                    store::put(&mut self.table, &Key::pending(user, account.pending), item)?;
                    store::put(&mut self.table, &account_key, &account)?;
                } else {
                    let max = self.settings.stream_max;
                    if devices.iter().any(|(_, d)| d.last_sequence - d.acknowledged >= max) {
                        return Ok(Taken::NoRoom);
                    }
                    for (device, record) in &mut devices {
                        self.deliver(user, *device, record, delivery(item))?;
                        store::put(&mut self.table, &Key::device(user, *device), record)?;
                    }
                }
            }
        }
        store::put(&mut self.table, &mark_key, &Mark { through: item.position })?;
        Ok(Taken::Yes)
    }

    /// Gives a delivery to a device, or to the plant that plays with it.
    fn deliver(&mut self, user: u64, device: u32, record: &mut Device, delivery: Delivery) -> Result<(), ChatError> {
        #[cfg(any(test, feature = "plants"))]
        if let Some(plant) = self.plant {
            return self.deliver_planted(plant, user, device, record, delivery);
        }
        self.append(user, device, record, delivery)
    }

    /// Appends to a device's stream, under its next sequence. The caller stores `record`.
    pub(in crate::chat) fn append(
        &mut self,
        user: u64,
        device: u32,
        record: &mut Device,
        mut delivery: Delivery,
    ) -> Result<(), ChatError> {
        record.last_sequence += 1;
        delivery.sequence = record.last_sequence;
        let key = Key::stream(user, device, record.last_sequence);
        store::put(&mut self.table, &key, &delivery)?;
        self.meta.delivery_backlog += 1;
        self.meta.delivered += 1;
        self.applied.delivered.insert((user, device));
        Ok(())
    }

    fn devices(&self, user: u64) -> Result<Vec<(u32, Device)>, ChatError> {
        let found = store::scan::<Device>(&self.table, &Key::devices(user), DEVICES_MAX as usize, usize::MAX)?;
        found
            .into_iter()
            .map(|(key, record)| match u32_at(&key, 9) {
                Some(device) => Ok((device, record)),
                None => Err(store::damaged(&key, "too short")),
            })
            .collect()
    }

    /// Gives a new device what was kept while the account had none. Only the first device finds anything.
    pub(super) fn hand_over_pending(
        &mut self,
        user: u64,
        device: u32,
        mut account: Account,
        record: &mut Device,
    ) -> Result<(), ChatError> {
        if account.pending == 0 {
            return Ok(());
        }
        for n in 1..=account.pending {
            let key = Key::pending(user, n);
            let Some(item) = store::get::<OutboxItem>(&self.table, &key)? else {
                return Err(store::damaged(key.bytes(), "missing in a sequence without gaps"));
            };
            store::remove(&mut self.table, &key)?;
            self.deliver(user, device, record, delivery(&item))?;
        }
        self.meta.pending -= account.pending;
        account.pending = 0;
        store::put(&mut self.table, &Key::account(user), &account)
    }

    /// Puts aside an item for an account that does not exist: nobody is owed it, but it is counted and can be looked at.
    fn bury(&mut self, item: &OutboxItem) -> Result<(), ChatError> {
        self.meta.dead_letters += 1;
        let n = self.meta.dead_letters;
        store::put(&mut self.table, &Key::dead_letter(n), item)?;
        if let Some(oldest) = n.checked_sub(self.settings.dead_letters_max) {
            store::remove(&mut self.table, &Key::dead_letter(oldest))?;
        }
        Ok(())
    }
}

/// An item as a device gets it; the sequence is the device's own and comes later.
fn delivery(item: &OutboxItem) -> Delivery {
    Delivery {
        sequence: 0,
        conversation: item.conversation,
        position: item.position,
        sender: item.sender,
        sender_device: item.sender_device,
        client_id: item.client_id,
        body: item.body.clone(),
    }
}
