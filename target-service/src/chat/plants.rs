//! The deliberately wrong behaviours of the state machine. They count in the state, so that all replicas misbehave alike and
//! a run can be repeated.

use firedrill_proto::chat::v1::{ContactMatch, Delivery, subscribe_event::Event};

use super::{
    apply::Applier,
    error::ChatError,
    keys::{Key, Space, u64_at},
    records::{Account, ContactRecord, Conversation, Held, Member, Present},
    store,
};
use crate::plant::Plant;

/// Whether it plays with what goes into users' logs.
pub(super) const fn plays_with_deliveries(plant: Plant) -> bool {
    matches!(
        plant,
        Plant::Redeliver
            | Plant::Reorder
            | Plant::DropDelivery
            | Plant::Corrupt
            | Plant::CrossLeak
            | Plant::ForgetOwnDevices
    )
}

/// `forget-dedup`: whether a snapshot leaves a record out.
pub(super) fn left_out(plant: Option<Plant>, key: &[u8]) -> bool {
    let first = key.first().copied();
    let forgotten = [Space::Dedup, Space::DedupByTime].map(|space| Some(space as u8));
    plant == Some(Plant::ForgetDedup) && forgotten.contains(&first)
}

/// How often `redeliver` and `reorder` strike, in deliveries.
const OFTEN: u64 = 50;

/// How often `drop-delivery` and `corrupt` strike, in deliveries.
const SELDOM: u64 = 100;

/// How often the plants strike that only some messages give an occasion to.
const OFTENER: u64 = 10;

/// Log time after which a delivery held back is let go, in milliseconds, so that the last one is late and not lost.
const HELD_MS_MAX: u64 = 1000;

/// Most deliveries held back at a time.
const HELD_MAX: usize = 64;

impl Applier<'_> {
    /// A delivery as the plant does it.
    pub(super) fn deliver_planted(
        &mut self,
        plant: Plant,
        user: u64,
        account: &mut Account,
        mut delivery: Delivery,
    ) -> Result<(), ChatError> {
        let own = delivery.sender == user;
        if own != (plant == Plant::ForgetOwnDevices) {
            return self.append(user, account, Event::Delivery(delivery));
        }
        self.meta.plant_deliveries += 1;
        let n = self.meta.plant_deliveries;
        match plant {
            Plant::Redeliver if n.is_multiple_of(OFTEN) => {
                self.append(user, account, Event::Delivery(delivery.clone()))?;
                self.append(user, account, Event::Delivery(delivery))
            }
            Plant::DropDelivery if n.is_multiple_of(SELDOM) => Ok(()),
            Plant::Corrupt if n.is_multiple_of(SELDOM) => {
                let mut body = delivery.body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 0x20;
                }
                delivery.body = body.into();
                self.append(user, account, Event::Delivery(delivery))
            }
            Plant::ForgetOwnDevices if n.is_multiple_of(OFTENER) => Ok(()),
            Plant::CrossLeak if n.is_multiple_of(OFTENER) => {
                self.leak(user, &delivery)?;
                self.append(user, account, Event::Delivery(delivery))
            }
            Plant::Reorder => self.deliver_reordered(n, user, account, delivery),
            _ => self.append(user, account, Event::Delivery(delivery)),
        }
    }

    /// `cross-leak`: somebody else of this shard gets it too.
    fn leak(&mut self, user: u64, delivery: &Delivery) -> Result<(), ChatError> {
        let Some((other, mut account)) = self.somebody_but(&[user, delivery.sender])? else {
            return Ok(());
        };
        self.append(other, &mut account, Event::Delivery(delivery.clone()))?;
        store::put(&mut self.table, &Key::account(other), &account)
    }

    /// An account of this shard that is none of `users`.
    fn somebody_but(&self, users: &[u64]) -> Result<Option<(u64, Account)>, ChatError> {
        let accounts = Key::account(0)..=Key::account(u64::MAX);
        let found = store::scan::<Account>(&self.table, &accounts, users.len() + 1, usize::MAX)?;
        let mut found = found
            .into_iter()
            .filter_map(|(key, account)| Some((u64_at(&key, 1)?, account)));
        Ok(found.find(|(user, _)| !users.contains(user)))
    }

    /// The plants that play with whom a message in a group is for.
    pub(super) fn plant_members(&self, id: u64, sender: u64, members: &mut Vec<u64>) -> Result<(), ChatError> {
        match self.plant {
            Some(Plant::LeakMembership) => {
                let removed = Key::removed(id, 0)..=Key::removed(id, u64::MAX);
                let removed = store::scan::<Present>(&self.table, &removed, HELD_MAX, usize::MAX)?;
                members.extend(removed.iter().filter_map(|(key, _)| u64_at(key, 9)));
            }
            Some(Plant::MissJoined) => {
                let record: Conversation = store::get(&self.table, &Key::conversation(id))?.unwrap_or_default();
                let last = record.last_position;
                let mut kept = Vec::with_capacity(members.len());
                for &user in &*members {
                    let member: Member = store::get(&self.table, &Key::member(id, user))?.unwrap_or_default();
                    if user == sender || member.joined != last {
                        kept.push(user);
                    }
                }
                *members = kept;
            }
            Some(Plant::AcceptStrangers) if !members.contains(&sender) => members.push(sender),
            _ => {}
        }
        Ok(())
    }

    /// `phantom-contact`: somebody else of this shard gets the contact too.
    pub(super) fn plant_phantom(&mut self, found: &ContactMatch, record: &ContactRecord) -> Result<(), ChatError> {
        if self.plant != Some(Plant::PhantomContact) {
            return Ok(());
        }
        if let Some((other, _)) = self.somebody_but(&[found.owner, found.user])? {
            store::put(&mut self.table, &Key::contact(other, &found.phone), record)?;
        }
        Ok(())
    }

    fn deliver_reordered(
        &mut self,
        n: u64,
        user: u64,
        account: &mut Account,
        delivery: Delivery,
    ) -> Result<(), ChatError> {
        let key = Key::held(user);
        if let Some(held) = store::get::<Held>(&self.table, &key)?.and_then(|held| held.delivery) {
            store::remove(&mut self.table, &key)?;
            let swapped = held.conversation == delivery.conversation;
            let (first, second) = if swapped { (delivery, held) } else { (held, delivery) };
            self.append(user, account, Event::Delivery(first))?;
            return self.append(user, account, Event::Delivery(second));
        }
        let room = store::scan::<Held>(&self.table, &Key::all_held(), HELD_MAX, usize::MAX)?.len() < HELD_MAX;
        if n.is_multiple_of(OFTEN) && room {
            let held = Held {
                time_ms: self.meta.time_ms,
                delivery: Some(delivery),
            };
            return store::put(&mut self.table, &key, &held);
        }
        self.append(user, account, Event::Delivery(delivery))
    }

    /// Lets go what was held back for too long.
    pub(super) fn release_overdue(&mut self) -> Result<(), ChatError> {
        if self.plant != Some(Plant::Reorder) {
            return Ok(());
        }
        for (key, held) in store::scan::<Held>(&self.table, &Key::all_held(), HELD_MAX, usize::MAX)? {
            if held.time_ms + HELD_MS_MAX > self.meta.time_ms {
                continue;
            }
            let Some(user) = u64_at(&key, 1) else {
                return Err(store::damaged(&key, "too short"));
            };
            let account_key = Key::account(user);
            let account = store::get::<Account>(&self.table, &account_key)?;
            let (Some(mut account), Some(delivery)) = (account, held.delivery) else {
                return Err(store::damaged(&key, "held for nobody"));
            };
            store::remove(&mut self.table, &Key::held(user))?;
            self.append(user, &mut account, Event::Delivery(delivery))?;
            store::put(&mut self.table, &account_key, &account)?;
        }
        Ok(())
    }
}
