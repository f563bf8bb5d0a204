//! Receipts: how far a user has been given and has read a conversation.
//!
//! One starts on the account's shard, which knows what stands in the user's log, so that nothing can be read before it
//! was delivered. From there it goes to the conversation's home, and from there to the other members.

use firedrill_proto::chat::v1::{OutboxItem, Receipt, ReceiptCommand, notice::What};

use super::{Applier, Step, delivery::Taken, granted, thread::notice};
use crate::chat::{
    error::ChatError,
    ids,
    keys::Key,
    records::{Account, Conversation, Device, Member, Thread},
    refused::Refused,
    reply::Reply,
    store,
    validate::{self, RECEIPT_MEMBERS_MAX},
};

impl Applier<'_> {
    /// Moves a user's own marks forward, never beyond what is in the user's log.
    pub(super) fn receipt(&mut self, command: &ReceiptCommand) -> Step<Reply> {
        let (user, conversation) = (command.user, command.conversation);
        granted!(validate::own_device(
            user,
            command.device,
            self.meta.shard,
            self.meta.shards
        ));
        granted!(self.acts(user, command.device, command.session)?);
        let key = Key::thread(user, conversation);
        let Some(mut thread) = store::get::<Thread>(&self.table, &key)? else {
            return Ok(Err(Refused::NoSuchConversation { conversation }));
        };
        let read = command.read.min(self.furthest(&thread)).max(thread.read);
        let delivered = command
            .delivered
            .min(thread.last_position)
            .max(thread.delivered)
            .max(read);
        if (delivered, read) != (thread.delivered, thread.read) {
            let home = ids::owner(conversation, self.meta.shards);
            granted!(self.room_in_outboxes([home], self.settings.outbox_max)?);
            if read > thread.read {
                let account_key = Key::account(user);
                let Some(mut account) = store::get::<Account>(&self.table, &account_key)? else {
                    return Ok(Err(Refused::NoSuchUser { user }));
                };
                if !self.has_room(&account) {
                    return Ok(Err(Refused::Full {
                        what: "the user's log",
                        max: self.settings.stream_max,
                    }));
                }
                self.clear_unread(user, conversation, read, &mut thread)?;
                // The user's other devices show it as read.
                let own = Receipt {
                    conversation,
                    user,
                    delivered,
                    read,
                    unread: thread.unread,
                };
                self.append(user, &mut account, notice(What::Receipt(own)))?;
                store::put(&mut self.table, &account_key, &account)?;
            }
            (thread.delivered, thread.read) = (delivered, read);
            store::put(&mut self.table, &key, &thread)?;
            let item = OutboxItem {
                conversation,
                sender: user,
                receipt: Some(Receipt {
                    conversation,
                    user,
                    delivered,
                    read,
                    unread: 0,
                }),
                ..OutboxItem::default()
            };
            self.post_one(home, item)?;
        }
        Ok(Ok(Reply::Receipted {
            delivered,
            read,
            unread: thread.unread,
        }))
    }

    fn furthest(&self, thread: &Thread) -> u64 {
        #[cfg(any(test, feature = "plants"))]
        if self.plant == Some(crate::chat::Plant::EarlyReceipt) {
            return u64::MAX;
        }
        thread.last_position
    }

    /// Whether `session` is the device's session today.
    pub(super) fn acts(&self, user: u64, device: u32, session: u64) -> Step<()> {
        let Some(record) = store::get::<Device>(&self.table, &Key::device(user, device))? else {
            return Ok(Err(Refused::NoSuchDevice { user, device }));
        };
        if session != record.session || self.is_fenced(session)? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        Ok(Ok(()))
    }

    /// At the conversation's home: notes a member's marks, and tells the others if there are few enough.
    pub(super) fn take_receipt_home(&mut self, receipt: &Receipt) -> Result<Taken, ChatError> {
        let (id, user) = (receipt.conversation, receipt.user);
        let Some(record) = store::get::<Conversation>(&self.table, &Key::conversation(id))? else {
            return Ok(Taken::Yes);
        };
        let key = Key::member(id, user);
        let belongs = !record.group && [record.low, record.high].contains(&user);
        let member = store::get::<Member>(&self.table, &key)?.or_else(|| belongs.then(Member::default));
        let Some(mut member) = member else {
            return Ok(Taken::Yes);
        };
        let marks = (member.delivered.max(receipt.delivered), member.read.max(receipt.read));
        if marks == (member.delivered, member.read) {
            return Ok(Taken::Yes);
        }
        let others = if record.group {
            self.members(id)?
        } else {
            vec![record.low, record.high]
        };
        if others.len() <= RECEIPT_MEMBERS_MAX {
            let to = self.by_shard(others.into_iter().filter(|other| *other != user));
            // Twice the bound: what follows from other shards' items must not wait for what starts here.
            if self
                .room_in_outboxes(to.keys().copied(), 2 * self.settings.outbox_max)?
                .is_err()
            {
                return Ok(Taken::NoRoom);
            }
            let item = OutboxItem {
                conversation: id,
                sender: user,
                receipt: Some(Receipt {
                    delivered: marks.0,
                    read: marks.1,
                    ..*receipt
                }),
                ..OutboxItem::default()
            };
            self.post(to, &item)?;
        }
        (member.delivered, member.read) = marks;
        store::put(&mut self.table, &key, &member)?;
        Ok(Taken::Yes)
    }
}
