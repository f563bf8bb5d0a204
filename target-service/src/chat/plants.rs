//! Deliberately wrong behaviours, each of which a promise must catch. They count in the state, so that all replicas
//! misbehave alike and a run can be repeated.

use std::str::FromStr;

use firedrill_proto::chat::v1::Delivery;

use super::{
    apply::Applier,
    error::ChatError,
    keys::{Key, u32_at, u64_at},
    records::{Device, Held},
    store,
};

/// A wrong behaviour of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Every 50th delivery is appended to the device's stream twice, under two sequences.
    Redeliver,
    /// Every 50th delivery is held back until the next one of its conversation has gone to the device.
    Reorder,
    /// Every 100th delivery never happens.
    DropDelivery,
    /// A byte of every 100th delivery's body is flipped.
    Corrupt,
    /// Client ids are forgotten at once: a repeated send is stored again.
    DupStore,
}

impl Plant {
    /// Every plant, with its name.
    pub const ALL: &[(&str, Self)] = &[
        ("redeliver", Self::Redeliver),
        ("reorder", Self::Reorder),
        ("drop-delivery", Self::DropDelivery),
        ("corrupt", Self::Corrupt),
        ("dup-store", Self::DupStore),
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redeliver => "redeliver",
            Self::Reorder => "reorder",
            Self::DropDelivery => "drop-delivery",
            Self::Corrupt => "corrupt",
            Self::DupStore => "dup-store",
        }
    }
}

/// There is no plant of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no plant {0:?} in the state machine: redeliver, reorder, drop-delivery, corrupt and dup-store are known")]
pub struct UnknownPlant(String);

impl FromStr for Plant {
    type Err = UnknownPlant;

    fn from_str(name: &str) -> Result<Self, UnknownPlant> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, plant)| *plant)
            .ok_or_else(|| UnknownPlant(name.to_owned()))
    }
}

/// How often `redeliver` and `reorder` strike, in deliveries.
const OFTEN: u64 = 50;

/// How often `drop-delivery` and `corrupt` strike, in deliveries.
const SELDOM: u64 = 100;

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
        device: u32,
        record: &mut Device,
        mut delivery: Delivery,
    ) -> Result<(), ChatError> {
        self.meta.plant_deliveries += 1;
        let n = self.meta.plant_deliveries;
        match plant {
            Plant::Redeliver if n.is_multiple_of(OFTEN) => {
                self.append(user, device, record, delivery.clone())?;
                self.append(user, device, record, delivery)
            }
            Plant::DropDelivery if n.is_multiple_of(SELDOM) => Ok(()),
            Plant::Corrupt if n.is_multiple_of(SELDOM) => {
                let mut body = delivery.body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 0x20;
                }
                delivery.body = body.into();
                self.append(user, device, record, delivery)
            }
            Plant::Reorder => self.deliver_reordered(n, user, device, record, delivery),
            _ => self.append(user, device, record, delivery),
        }
    }

    fn deliver_reordered(
        &mut self,
        n: u64,
        user: u64,
        device: u32,
        record: &mut Device,
        delivery: Delivery,
    ) -> Result<(), ChatError> {
        let key = Key::held(user, device);
        if let Some(held) = store::get::<Held>(&self.table, &key)?.and_then(|held| held.delivery) {
            store::remove(&mut self.table, &key)?;
            let swapped = held.conversation == delivery.conversation;
            let (first, second) = if swapped { (delivery, held) } else { (held, delivery) };
            self.append(user, device, record, first)?;
            return self.append(user, device, record, second);
        }
        let room = store::scan::<Held>(&self.table, &Key::all_held(), HELD_MAX, usize::MAX)?.len() < HELD_MAX;
        if n.is_multiple_of(OFTEN) && room {
            let held = Held {
                time_ms: self.meta.time_ms,
                delivery: Some(delivery),
            };
            return store::put(&mut self.table, &key, &held);
        }
        self.append(user, device, record, delivery)
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
            let (Some(user), Some(device)) = (u64_at(&key, 1), u32_at(&key, 9)) else {
                return Err(store::damaged(&key, "too short"));
            };
            let device_key = Key::device(user, device);
            let record = store::get::<Device>(&self.table, &device_key)?;
            let (Some(mut record), Some(delivery)) = (record, held.delivery) else {
                return Err(store::damaged(&key, "held for nobody"));
            };
            store::remove(&mut self.table, &Key::held(user, device))?;
            self.append(user, device, &mut record, delivery)?;
            store::put(&mut self.table, &device_key, &record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plants_are_found_by_name_and_others_are_refused() {
        for (name, plant) in Plant::ALL {
            assert_eq!(name.parse(), Ok(*plant));
            assert_eq!(plant.name(), *name);
        }
        let error = "re-deliver".parse::<Plant>().unwrap_err().to_string();
        assert!(Plant::ALL.iter().all(|(name, _)| error.contains(name)), "{error}");
    }
}
