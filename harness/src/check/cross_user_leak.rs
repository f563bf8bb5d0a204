//! Cross-user leak: anything of some people's given to another. A message between two is theirs; one in a group is its
//! members', and whoever belonged to it at another time is `membership-leak`'s; a notice is for those whom its conversation
//! belongs to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, seen, words};
use crate::history::{History, Item, Notice, SystemView};

pub(super) struct CrossUserLeak;

/// Whose each conversation of two is, as those who write in it make it.
type Pairs<'a> = BTreeMap<&'a str, BTreeSet<u64>>;

impl Promise for CrossUserLeak {
    fn name(&self) -> &'static str {
        "cross-user-leak"
    }

    fn about(&self) -> &'static str {
        "nothing of some people's is given to anybody else"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was given a message that is meant for somebody");
        for seen in seen::all(system) {
            let (Some(user), Some(item)) = (seen.user, seen.item.and_then(|item| system.items.get(&item))) else {
                continue;
            };
            match is_of(system, item, user) {
                Some(true) => tally.oblige(1),
                Some(false) => {
                    tally.oblige(1);
                    tally.broken(seen.at, || {
                        format!(
                            "{} was {}, which is none of user {user}'s business",
                            words::message(item),
                            seen.place()
                        )
                    });
                }
                None => {}
            }
        }
        notices(system, tally);
    }
}

/// Whether a message is also `user`'s; none where nobody knows whose it is.
fn is_of(system: &SystemView, item: &Item, user: u64) -> Option<bool> {
    if item.group {
        return Some(system.groups.get(&item.log)?.knew(user));
    }
    (!item.owed.is_empty()).then(|| item.owed.contains(&user) || item.author == user)
}

fn notices(system: &SystemView, tally: &mut Tally) {
    let mut pairs = Pairs::new();
    for item in system
        .items
        .values()
        .filter(|item| !item.group && !item.owed.is_empty())
    {
        let pair = pairs.entry(&item.log).or_default();
        pair.insert(item.author);
        pair.extend(&item.owed);
    }
    for noticed in &system.noticed {
        let (Notice::Change { log, .. } | Notice::Receipt { log, .. }) = &noticed.notice else {
            continue;
        };
        let own = match (system.groups.get(log), pairs.get(log.as_str())) {
            (Some(group), _) => group.knew(noticed.user),
            (None, Some(pair)) => pair.contains(&noticed.user),
            (None, None) => continue,
        };
        tally.oblige(1);
        if !own {
            tally.broken(noticed.at, || {
                format!(
                    "{} was told of {log} at {}, to which user {} never belonged",
                    words::device(noticed.user, noticed.device),
                    words::at(noticed.at),
                    noticed.user
                )
            });
        }
    }
}
