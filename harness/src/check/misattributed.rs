//! Misattributed: seen under another sender, in another log, or by somebody it was not meant for.

use super::{Promise, Tally, seen, words};
use crate::history::{History, SystemView};

pub(super) struct Misattributed;

impl Promise for Misattributed {
    fn name(&self) -> &'static str {
        "misattributed"
    }

    fn about(&self) -> &'static str {
        "a message keeps its sender, its conversation and its recipient"
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
            } else if let Some(user) = seen.user.filter(|u| !sent.owed.is_empty() && !sent.owed.contains(u)) {
                format!("though it was not meant for user {user}")
            } else {
                continue;
            };
            tally.broken(seen.at, || {
                format!("{} was {}, {wrong}", words::message(sent), seen.place())
            });
        }
    }
}
