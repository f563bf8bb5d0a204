//! A user's log, on the account's shard: everything that the user's devices are shown is an entry of it, stored once.
//!
//! Each device counts the entries from where it came in, so that its own sequence starts at 1 and has no gaps. An entry
//! is forgotten once every device has acknowledged it; a log without room stops the outboxes that feed it.

use firedrill_proto::chat::v1::{SubscribeEvent, subscribe_event::Event};

use super::Applier;
use crate::chat::{
    error::ChatError,
    keys::Key,
    records::{Account, Device},
    store,
    validate::DEVICES_MAX,
};

impl Applier<'_> {
    /// Whether the log of `account` takes another entry.
    pub(super) const fn has_room(&self, account: &Account) -> bool {
        let max = if account.devices == 0 {
            self.settings.pending_max
        } else {
            self.settings.stream_max
        };
        account.last_entry - account.trimmed < max
    }

    /// Appends to a user's log. The caller stores `account`.
    pub(in crate::chat) fn append(&mut self, user: u64, account: &mut Account, event: Event) -> Result<(), ChatError> {
        account.last_entry += 1;
        let entry = SubscribeEvent { event: Some(event) };
        store::put(&mut self.table, &Key::entry(user, account.last_entry), &entry)?;
        let devices = u64::from(account.devices.count_ones());
        self.meta.delivery_backlog += devices;
        self.meta.delivered += devices;
        self.meta.pending += u64::from(devices == 0);
        self.applied.delivered.insert(user);
        Ok(())
    }

    /// A device that was never seen before. The first finds everything that was kept for it, another one what comes from
    /// now on. The caller stores `account` and the device.
    pub(super) fn register(&mut self, user: u64, device: u32, account: &mut Account) -> Device {
        let mut fresh = Device {
            incarnation: FIRST_INCARNATION,
            ..Device::default()
        };
        if account.devices == 0 {
            let kept = account.last_entry - account.trimmed;
            self.meta.pending -= kept;
            self.meta.delivery_backlog += kept;
            self.meta.delivered += kept;
            fresh.base = account.trimmed;
            if kept > 0 {
                self.applied.delivered.insert(user);
            }
        } else {
            fresh.base = account.last_entry;
        }
        account.devices |= 1 << device;
        fresh
    }

    /// Forgets the entries that every device has acknowledged.
    pub(super) fn trim_log(&mut self, user: u64, account: &mut Account) -> Result<(), ChatError> {
        let devices = store::scan::<Device>(&self.table, &Key::devices(user), DEVICES_MAX as usize, usize::MAX)?;
        let shown = devices.iter().map(|(_, device)| device.base + device.acknowledged);
        let Some(through) = shown.min() else { return Ok(()) };
        for number in account.trimmed + 1..=through {
            self.trim(&Key::entry(user, number))?;
        }
        account.trimmed = account.trimmed.max(through);
        Ok(())
    }

    /// Removes what must be there.
    pub(super) fn trim(&mut self, key: &Key) -> Result<(), ChatError> {
        if store::remove(&mut self.table, key)? {
            return Ok(());
        }
        Err(store::damaged(key.bytes(), "missing in a sequence without gaps"))
    }
}

/// The incarnation of a log until a restore sets another.
const FIRST_INCARNATION: u64 = 1;
