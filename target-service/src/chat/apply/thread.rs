//! A user's conversations, on the account's shard: where each stands, what of it is unread, and what goes into the
//! user's log.

use firedrill_proto::chat::v1::{
    Delivery, GroupChange, GroupChangeKind, Notice, OutboxItem, notice::What, subscribe_event::Event,
};

use super::Applier;
use crate::chat::{
    error::ChatError,
    keys::{Key, u64_at},
    records::{Account, Present, Thread},
    store,
    validate::{HEAD_BYTES_MAX, UNREAD_MAX},
};

impl Applier<'_> {
    /// Notes a message in a user's conversation. Only one of somebody else's is unread.
    pub(super) fn note_message(&mut self, user: u64, item: &OutboxItem) -> Result<(), ChatError> {
        let key = Key::thread(user, item.conversation);
        let mut thread: Thread = match store::get(&self.table, &key)? {
            Some(thread) => thread,
            None => Thread {
                peer: if item.sender == user {
                    item.recipient
                } else {
                    item.sender
                },
                ..Thread::default()
            },
        };
        thread.last_position = item.position;
        thread.last_sender = item.sender;
        thread.last_ms = self.meta.time_ms;
        thread.head = item.body.slice(..item.body.len().min(HEAD_BYTES_MAX));
        if item.sender != user && self.counts_as_unread() {
            self.add_unread(user, item.conversation, item.position, &mut thread)?;
        }
        store::put(&mut self.table, &key, &thread)
    }

    #[cfg(any(test, feature = "plants"))]
    fn counts_as_unread(&mut self) -> bool {
        if self.plant != Some(crate::chat::Plant::MiscountUnread) {
            return true;
        }
        self.meta.plant_deliveries += 1;
        !self.meta.plant_deliveries.is_multiple_of(10)
    }

    #[cfg(not(any(test, feature = "plants")))]
    #[expect(clippy::unused_self, reason = "a plant needs it")]
    const fn counts_as_unread(&self) -> bool {
        true
    }

    /// Adds to what is unread. Beyond the bound the oldest is forgotten, so that the count stands for that many or more.
    fn add_unread(
        &mut self,
        user: u64,
        conversation: u64,
        position: u64,
        thread: &mut Thread,
    ) -> Result<(), ChatError> {
        if thread.unread >= UNREAD_MAX {
            let range = Key::unread(user, conversation, 0)..=Key::unread(user, conversation, u64::MAX);
            if let Some((oldest, _)) = store::scan::<Present>(&self.table, &range, 1, usize::MAX)?.pop() {
                let oldest = u64_at(&oldest, 17).unwrap_or_default();
                store::remove(&mut self.table, &Key::unread(user, conversation, oldest))?;
                thread.unread -= 1;
            }
        }
        store::put(&mut self.table, &Key::unread(user, conversation, position), &Present {})?;
        thread.unread += 1;
        Ok(())
    }

    /// Everything up to `position` counts as read.
    pub(super) fn clear_unread(
        &mut self,
        user: u64,
        conversation: u64,
        position: u64,
        thread: &mut Thread,
    ) -> Result<(), ChatError> {
        let range = Key::unread(user, conversation, 0)..=Key::unread(user, conversation, position);
        let bound = usize::try_from(UNREAD_MAX).unwrap_or(usize::MAX);
        for (key, _) in store::scan::<Present>(&self.table, &range, bound, usize::MAX)? {
            let read = u64_at(&key, 17).unwrap_or_default();
            store::remove(&mut self.table, &Key::unread(user, conversation, read))?;
            thread.unread -= 1;
        }
        Ok(())
    }

    /// Notes a change of a group, and tells the user.
    pub(super) fn note_change(
        &mut self,
        user: u64,
        account: &mut Account,
        change: &GroupChange,
    ) -> Result<(), ChatError> {
        let key = Key::thread(user, change.conversation);
        let mut thread: Thread = store::get(&self.table, &key)?.unwrap_or_default();
        thread.group = true;
        thread.last_position = change.position;
        thread.last_ms = self.meta.time_ms;
        if change.users.contains(&user) {
            // Whatever was unread of an earlier membership is no longer to be read.
            self.clear_unread(user, change.conversation, u64::MAX, &mut thread)?;
            let gone = matches!(
                change.kind(),
                GroupChangeKind::GroupLeave | GroupChangeKind::GroupRemove
            );
            if gone {
                thread.left = change.position;
            } else {
                thread.joined = change.position;
                thread.left = 0;
            }
        }
        store::put(&mut self.table, &key, &thread)?;
        self.append(user, account, notice(What::Change(change.clone())))
    }
}

/// An entry that is no message.
pub(super) const fn notice(what: What) -> Event {
    Event::Notice(Notice {
        sequence: 0,
        what: Some(what),
    })
}

/// A message as a device gets it; the sequence is the device's own and comes later.
pub(super) fn delivery(item: &OutboxItem) -> Delivery {
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
