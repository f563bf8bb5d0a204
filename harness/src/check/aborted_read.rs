//! Aborted read: sent, surely failed in every attempt, and seen nevertheless. (Adya's G1a.)

use super::{Promise, Tally, seen, words};
use crate::history::{Fate, History, SystemView};

pub(super) struct AbortedRead;

impl Promise for AbortedRead {
    fn name(&self) -> &'static str {
        "aborted-read"
    }

    fn about(&self) -> &'static str {
        "what surely failed is never seen"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no sending surely failed");
        tally.oblige(system.items.values().filter(|i| i.fate == Fate::Not).count() as u64);
        for seen in seen::all(system) {
            let item = seen.item.and_then(|item| system.items.get(&item));
            if let Some(item) = item.filter(|i| i.fate == Fate::Not) {
                tally.broken(seen.at, || {
                    format!(
                        "{} failed in all {} attempts, and was {}",
                        words::message(item),
                        item.attempts,
                        seen.place()
                    )
                });
            }
        }
    }
}
