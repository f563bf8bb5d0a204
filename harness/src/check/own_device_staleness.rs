//! Own-device staleness: what somebody sent is missing on another device of its own. The sender's account is owed its
//! messages like a recipient's, so that all of its devices show one history.

use super::{
    Promise, Tally,
    owing::{Owed, Owing},
    words,
};
use crate::history::{Fate, History, SystemView};

pub(super) struct OwnDeviceStaleness;

impl Promise for OwnDeviceStaleness {
    fn name(&self) -> &'static str {
        "own-device-staleness"
    }

    fn about(&self) -> &'static str {
        "a sender's other devices show what it sent"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody who sent anything has another device");
        let owed = Owed::of(history, system);
        for delivery in system.deliveries.iter().filter(|it| it.fate == Fate::Must) {
            let item = system.items.get(&delivery.item);
            // The sending device has it from where it was written.
            let Some(item) = item.filter(|it| it.author == delivery.user && it.session != delivery.session) else {
                continue;
            };
            tally.oblige(1);
            let owing = owed.of_delivery(delivery, item);
            let words = || {
                format!(
                    "{} was never shown on {}, which is the sender's own",
                    words::message(item),
                    words::device(delivery.user, delivery.device)
                )
            };
            if owing.is_missing() {
                tally.broken(item.certain(), || format!("{}: {}", words(), owing.words()));
            } else if owing == Owing::Untold {
                tally.unsure(|| format!("{}, and not every node says that it owes nothing", words()));
            }
        }
    }
}
