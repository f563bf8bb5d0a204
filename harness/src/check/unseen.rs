//! Unseen: acknowledged, or seen by somebody, and not shown when the run ended. Not yet lost, so never a failure by itself; but a run that
//! ends with something owed has not shown that it is kept.

use super::{Promise, Tally, words};
use crate::history::{Fate, History, SystemView};

pub(super) struct Unseen;

impl Promise for Unseen {
    fn name(&self) -> &'static str {
        "unseen"
    }

    fn about(&self) -> &'static str {
        "everything acknowledged, or seen by somebody, has been shown when the run ends"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing acknowledged was owed to a device");
        let mut missing = 0;
        let mut example = None;
        for delivery in system.deliveries.iter().filter(|d| d.fate == Fate::Must) {
            tally.oblige(1);
            if delivery.shown.is_none() {
                missing += 1;
                example = example.or(Some(delivery));
            }
        }
        if let Some(delivery) = example {
            let device = words::device(delivery.user, delivery.device);
            let message = words::message_by_number(system, delivery.item);
            tally.unsure(|| format!("{missing} deliveries were still owed at the end, such as {message} to {device}"));
        }
    }
}
