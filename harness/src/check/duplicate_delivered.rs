//! Shown twice on one device. What a device drops as a repetition on the wire is not shown.

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::history::{History, SystemView};

pub(super) struct DuplicateDelivered;

impl Promise for DuplicateDelivered {
    fn name(&self) -> &'static str {
        "duplicate-delivered"
    }

    fn about(&self) -> &'static str {
        "a device shows a message once"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was shown");
        let mut first = BTreeMap::new();
        for shown in system.shown.iter().filter(|s| !s.repeated_on_wire) {
            let Some(item) = shown.item else { continue };
            tally.oblige(1);
            if let Some((at, sequence)) = first.insert((item, shown.user, shown.device), (shown.at, shown.sequence)) {
                tally.broken(shown.at, || {
                    let device = words::device(shown.user, shown.device);
                    let message = words::message_by_number(system, item);
                    format!(
                        "{message} was shown on {device} at {} (sequence {sequence}) and again at {} (sequence {})",
                        words::at(at),
                        words::at(shown.at),
                        shown.sequence
                    )
                });
            }
        }
    }
}
