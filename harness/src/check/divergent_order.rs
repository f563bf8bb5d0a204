//! Divergent order: two observers order one conversation differently. (Total order broadcast: Hadzilacos and Toueg,
//! 1994.) Every device is held against one reference: the complete read, else the device that was shown most.

use std::collections::BTreeMap;

use super::{
    Promise, Tally,
    order::{self, Order},
    words,
};
use crate::history::{History, SystemView};

pub(super) struct DivergentOrder;

impl Promise for DivergentOrder {
    fn name(&self) -> &'static str {
        "divergent-order"
    }

    fn about(&self) -> &'static str {
        "everybody sees a conversation in one order"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no log was seen by two observers");
        let devices = order::on_devices(system);
        let mut references: BTreeMap<&str, Order<'_>> = system
            .final_reads()
            .into_iter()
            .map(|(log, read)| (log, order::of_read(log, read)))
            .collect();
        for device in &devices {
            let read = references
                .get(device.log)
                .is_some_and(|r| r.observer.starts_with("the read"));
            let shorter = references
                .get(device.log)
                .is_none_or(|r| r.items.len() < device.items.len());
            if !read && shorter {
                references.insert(
                    device.log,
                    Order {
                        log: device.log,
                        observer: device.observer.clone(),
                        items: device.items.clone(),
                    },
                );
            }
        }
        let places: BTreeMap<&str, BTreeMap<u64, usize>> = references
            .iter()
            .map(|(log, order)| {
                (
                    *log,
                    order.items.iter().zip(0..).map(|((item, _), n)| (*item, n)).collect(),
                )
            })
            .collect();
        for device in &devices {
            let Some((places, reference)) = places.get(device.log).zip(references.get(device.log)) else {
                continue;
            };
            if reference.observer == device.observer {
                continue;
            }
            let mut furthest: Option<(usize, u64)> = None;
            for (item, at) in &device.items {
                let Some(place) = places.get(item) else { continue };
                tally.oblige(1);
                if let Some((_, before)) = furthest.filter(|(far, _)| place < far) {
                    tally.broken(*at, || {
                        let (earlier, later) = (
                            words::message_by_number(system, before),
                            words::message_by_number(system, *item),
                        );
                        format!(
                            "{} was shown {earlier} before {later} at {}; {} has them the other way round",
                            device.observer,
                            words::at(*at),
                            reference.observer
                        )
                    });
                } else {
                    furthest = Some((*place, *item));
                }
            }
        }
    }
}
