//! Deliveries, on the recipients' shard: what another shard's outbox brought goes into the users' logs.

use firedrill_proto::chat::v1::{
    AcceptOutboxCommand, Delivery, GroupChange, OutboxItem, Receipt, notice::What, subscribe_event::Event,
};

use super::{
    Applier, Step, granted,
    thread::{delivery, notice},
};
#[cfg(any(test, feature = "plants"))]
use crate::chat::plants::plays_with_deliveries;
use crate::chat::{
    error::ChatError,
    ids,
    keys::Key,
    records::{Account, Mark},
    reply::Reply,
    store, validate,
};

/// What an item gives to its recipients.
enum Content<'a> {
    Message,
    Change(&'a GroupChange),
    Receipt(&'a Receipt),
}

/// What became of one item.
#[derive(PartialEq, Eq)]
pub(super) enum Taken {
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

    /// Takes one item, of whatever kind.
    fn take(&mut self, item: &OutboxItem) -> Result<Taken, ChatError> {
        if let Some(probe) = &item.probe {
            return self.take_probe(probe);
        }
        if let Some(matches) = &item.matches {
            return self.take_matches(&matches.matches);
        }
        match &item.receipt {
            Some(receipt) if item.recipients.is_empty() => self.take_receipt_home(receipt),
            Some(receipt) => self.give(item, &Content::Receipt(receipt)),
            None => self.take_positioned(item),
        }
    }

    /// Takes what has a position in its conversation: a message, or a change of the group.
    fn take_positioned(&mut self, item: &OutboxItem) -> Result<Taken, ChatError> {
        let mark_key = Key::conversation_mark(item.conversation);
        let mark: Mark = store::get(&self.table, &mark_key)?.unwrap_or_default();
        // The outbox's sequence alone would do, until a conversation moves to another home and is sent from there.
        if item.position <= mark.through {
            return Ok(Taken::Yes);
        }
        let content = item.change.as_ref().map_or(Content::Message, Content::Change);
        if self.give(item, &content)? == Taken::NoRoom {
            return Ok(Taken::NoRoom);
        }
        store::put(&mut self.table, &mark_key, &Mark { through: item.position })?;
        Ok(Taken::Yes)
    }

    /// Gives something to all recipients of an item, or to none.
    fn give(&mut self, item: &OutboxItem, content: &Content<'_>) -> Result<Taken, ChatError> {
        let mut accounts = Vec::with_capacity(item.recipients.len());
        let mut unknown = Vec::new();
        for user in recipients(item) {
            let owned = ids::owner(user, self.meta.shards) == self.meta.shard;
            match store::get::<Account>(&self.table, &Key::account(user))?.filter(|_| owned) {
                None => unknown.push(user),
                Some(account) => accounts.push((user, account)),
            }
        }
        if !accounts.iter().all(|(_, account)| self.has_room(account)) {
            return Ok(Taken::NoRoom);
        }
        for recipient in unknown {
            self.bury(OutboxItem {
                recipient,
                recipients: Vec::new(),
                ..item.clone()
            })?;
        }
        for (user, mut account) in accounts {
            match content {
                Content::Message => {
                    self.note_message(user, item)?;
                    self.deliver(user, &mut account, delivery(item))?;
                }
                Content::Change(change) => self.note_change(user, &mut account, change)?,
                Content::Receipt(receipt) => {
                    self.append(user, &mut account, notice(What::Receipt(**receipt)))?;
                }
            }
            store::put(&mut self.table, &Key::account(user), &account)?;
        }
        Ok(Taken::Yes)
    }

    /// Gives a message to a user, or to the plant that plays with it.
    fn deliver(&mut self, user: u64, account: &mut Account, delivery: Delivery) -> Result<(), ChatError> {
        #[cfg(any(test, feature = "plants"))]
        if let Some(plant) = self.plant.filter(|plant| plays_with_deliveries(*plant)) {
            return self.deliver_planted(plant, user, account, delivery);
        }
        self.append(user, account, Event::Delivery(delivery))
    }

    /// Puts aside an item for an account that does not exist: nobody is owed it, but it is counted and can be looked at.
    fn bury(&mut self, item: OutboxItem) -> Result<(), ChatError> {
        self.meta.dead_letters += 1;
        let n = self.meta.dead_letters;
        store::put(&mut self.table, &Key::dead_letter(n), &item)?;
        if let Some(oldest) = n.checked_sub(self.settings.dead_letters_max) {
            store::remove(&mut self.table, &Key::dead_letter(oldest))?;
        }
        Ok(())
    }
}

/// For whom an item is.
fn recipients(item: &OutboxItem) -> Vec<u64> {
    if item.recipients.is_empty() {
        return vec![item.recipient];
    }
    item.recipients.clone()
}
