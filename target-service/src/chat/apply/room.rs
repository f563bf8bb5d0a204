//! Room in users' logs, and who is told that there is none.
//!
//! What was acknowledged to its sender is taken, whether its recipient's log has room or not: a recipient that takes no more
//! must not stop what is for others behind it in the same outbox. Instead the shards that fill the log are told, through the
//! outbox to them, and refuse what would be for that user, before anything is acknowledged, until they are told that there is
//! room again. So a log is bounded by its limit and what was on its way: at most what the outboxes to its shard hold. Changes
//! that take members out of a group go through even then: each takes back one that put somebody in, and those are refused.
//!
//! From version 2 on. The first version stops the whole outbox at an item for which there is no room.

use firedrill_proto::chat::v1::{OutboxItem, RecipientRoom};

use super::{Applier, Step, delivery::Taken};
use crate::chat::{
    error::ChatError,
    ids::SHARDS_MAX,
    keys::{Key, u32_at},
    records::{Account, Mark, Present},
    refused::Refused,
    store,
};

/// The version that tells senders.
const TELLS_SENDERS: u32 = 2;

impl Applier<'_> {
    /// Whether an item without room stops the outbox that it comes in.
    pub(super) const fn stops_without_room(&self) -> bool {
        self.meta.version < TELLS_SENDERS
    }

    /// Most entries of the log of `account`.
    pub(super) const fn log_max(&self, account: &Account) -> u64 {
        let max = if account.devices == 0 {
            self.settings.pending_max
        } else {
            self.settings.stream_max
        };
        if max == 0 { 1 } else { max }
    }

    /// The log of a user has grown by something from `from_shard`, which is told if there is no more room: once, and again
    /// whenever the log is as much longer, in case it didn't understand. The caller stores `account`.
    pub(super) fn tell_full(&mut self, from_shard: u32, user: u64, account: &mut Account) -> Result<(), ChatError> {
        let kept = account.last_entry - account.trimmed;
        let level = kept / self.log_max(account);
        if level == 0 || self.stops_without_room() {
            return Ok(());
        }
        let key = Key::told(user, from_shard);
        let told: Option<Mark> = store::get(&self.table, &key)?;
        if told.is_some_and(|told| told.through >= level) {
            return Ok(());
        }
        account.told += u64::from(told.is_none());
        store::put(&mut self.table, &key, &Mark { through: level })?;
        self.post_room(from_shard, user, true)
    }

    /// Some of a user's log is gone: whoever was told that it is full is told once a quarter of it is free. The caller
    /// stores `account`.
    pub(super) fn tell_room(&mut self, user: u64, account: &mut Account) -> Result<(), ChatError> {
        let kept = account.last_entry - account.trimmed;
        if account.told == 0 || kept > self.log_max(account) * 3 / 4 {
            return Ok(());
        }
        for (key, _) in store::scan::<Mark>(&self.table, &Key::all_told(user), SHARDS_MAX as usize, usize::MAX)? {
            let shard = u32_at(&key, 9).ok_or_else(|| store::damaged(&key, "too short"))?;
            store::remove(&mut self.table, &Key::told(user, shard))?;
            self.post_room(shard, user, false)?;
        }
        account.told = 0;
        Ok(())
    }

    fn post_room(&mut self, to_shard: u32, user: u64, full: bool) -> Result<(), ChatError> {
        let item = OutboxItem {
            room: Some(RecipientRoom { user, full }),
            ..OutboxItem::default()
        };
        self.post_one(to_shard, item)
    }

    /// At a conversations' home: a user has no more room, or has some again.
    pub(super) fn take_room(&mut self, room: &RecipientRoom) -> Result<Taken, ChatError> {
        if self.stops_without_room() {
            return Ok(Taken::Yes);
        }
        let key = Key::full(room.user);
        if store::has(&self.table, &key)? != room.full {
            if room.full {
                store::put(&mut self.table, &key, &Present {})?;
                self.meta.full_users += 1;
            } else {
                store::remove(&mut self.table, &key)?;
                self.meta.full_users -= 1;
            }
        }
        Ok(Taken::Yes)
    }

    /// Whether all of `users` take more, or what is for them is refused.
    pub(super) fn room_in_logs(&self, users: &[u64]) -> Step<()> {
        if self.meta.full_users > 0 {
            for &user in users {
                if store::has(&self.table, &Key::full(user))? {
                    return Ok(Err(Refused::RecipientFull { user }));
                }
            }
        }
        Ok(Ok(()))
    }
}
