//! Misattributed: seen under another sender, or in another log. Who may see it is `cross-user-leak`'s.

use super::{Promise, Tally, seen, words};
use crate::history::{History, SystemView};

pub(super) struct Misattributed;

impl Promise for Misattributed {
    fn name(&self) -> &'static str {
        "misattributed"
    }

    fn about(&self) -> &'static str {
        "a message keeps its sender and its conversation"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was seen");
        for seen in seen::all(system) {
            let Some(sent) = seen.item.and_then(|item| system.items.get(&item)) else {
                continue;
            };
            tally.oblige(1);
            let wrong = if sent.author != seen.author {
                format!("as if user {} had sent it", seen.author)
            } else if sent.log != seen.log {
                format!("in {} instead of {}", seen.log, sent.log)
            } else {
                continue;
            };
            tally.broken(seen.at, || {
                format!("{} was {}, {wrong}", words::message(sent), seen.place())
            });
        }
    }
}
