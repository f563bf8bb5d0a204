//! Corrupted: the body that arrives is not the body that was sent. The body carries its identity and its hash.

use super::{Promise, Tally, seen, words};
use crate::history::{History, SystemView};

pub(super) struct Corrupted;

impl Promise for Corrupted {
    fn name(&self) -> &'static str {
        "corrupted"
    }

    fn about(&self) -> &'static str {
        "a body arrives as it was sent"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was seen");
        for seen in seen::all(system) {
            tally.oblige(1);
            match seen.item {
                None => tally.broken(seen.at, || {
                    format!("a body that could not be read was {}", seen.place())
                }),
                Some(item) => {
                    let Some(sent) = system.items.get(&item) else { continue };
                    if sent.hash != seen.hash {
                        tally.broken(seen.at, || {
                            let message = words::message(sent);
                            format!(
                                "{message} was {} with hash {:016x} instead of {:016x}",
                                seen.place(),
                                seen.hash,
                                sent.hash
                            )
                        });
                    }
                }
            }
        }
    }
}
