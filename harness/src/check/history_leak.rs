//! History leak: a member reads what was said before it came. An answer says where the log ended when it was read, which
//! tells whose stay it was read in; it may begin with that stay's coming, and not before.

use std::collections::BTreeSet;

use super::{Promise, Tally, membership_leak::stays, words};
use crate::history::{Answer, History, SystemView};

pub(super) struct HistoryLeak;

impl Promise for HistoryLeak {
    fn name(&self) -> &'static str {
        "history-leak"
    }

    fn about(&self) -> &'static str {
        "a member of a group reads only what came from its joining on"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody who came to a group later looked at what was said in it");
        let groups: BTreeSet<&str> = system
            .items
            .values()
            .filter(|it| it.group)
            .map(|it| it.log.as_str())
            .collect();
        for told in &system.told {
            let Answer::Log { log, last_position, .. } = &told.answer else {
                continue;
            };
            // Of a group that was never made there is nothing to be told.
            if told.answer.span().is_none() {
                continue;
            }
            let Some(group) = system.groups.get(log) else {
                // A conversation of two has no comings.
                if groups.contains(log.as_str()) {
                    tally.unsure(|| format!("who belonged to {log} isn't known: it was not read to its end"));
                }
                continue;
            };
            let stay = group.reading(told.user, *last_position);
            let (Some(stay), Some((first, _))) = (stay, told.answer.span()) else {
                continue;
            };
            // Nothing stands before the making of the group.
            if stay.joined <= 1 {
                continue;
            }
            tally.oblige(1);
            if first < stay.joined {
                tally.broken(told.ended, || {
                    format!(
                        "user {} read {log} at {} from position {first} on, and belonged to the group {}",
                        told.user,
                        words::at(told.ended),
                        stays(group, told.user)
                    )
                });
            }
        }
    }
}
