//! Phantom: seen, and never sent by anybody. (Adya's G1b and "garbage reads" of Jepsen's Elle.)

use super::{Promise, Tally, seen};
use crate::history::{History, Phase, SystemView};

pub(super) struct Phantom;

impl Promise for Phantom {
    fn name(&self) -> &'static str {
        "phantom"
    }

    fn about(&self) -> &'static str {
        "only what was sent is seen"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was seen");
        // A send is written down when it is over: where the history breaks off, what was under way is missing from it.
        let whole = history.phases.start(Phase::TearDown).is_some();
        for seen in seen::all(system) {
            let Some(item) = seen.item else { continue };
            tally.oblige(1);
            if system.items.contains_key(&item) {
                continue;
            }
            if whole {
                tally.broken(seen.at, || {
                    format!("message {item} was {}, and nobody sent it", seen.place())
                });
            } else {
                tally.unsure(|| {
                    format!(
                        "message {item} was {}; the history breaks off and may lack its sending",
                        seen.place()
                    )
                });
            }
        }
    }
}
