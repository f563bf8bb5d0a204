//! Membership leak: somebody who belongs to a group at another time, but not at a message's position, is given it all the
//! same; or looks at a group and is answered while it doesn't belong. Who belonged when is taken from the group's own log,
//! where coming and going stand in one order with the messages.

use super::{Promise, Tally, words};
use crate::history::{Answer, History, Membership, Notice, SystemView};

pub(super) struct MembershipLeak;

impl Promise for MembershipLeak {
    fn name(&self) -> &'static str {
        "membership-leak"
    }

    fn about(&self) -> &'static str {
        "who doesn't belong to a group any more, or not yet, is given nothing of it"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was given anything of a group that was read to its end");
        messages(system, tally);
        notices(system, tally);
        looks(system, tally);
    }
}

fn messages(system: &SystemView, tally: &mut Tally) {
    for shown in &system.shown {
        let item = shown.item.and_then(|item| system.items.get(&item));
        let Some(item) = item.filter(|item| item.group) else {
            continue;
        };
        let Some(group) = system.groups.get(&item.log) else {
            tally.unsure(|| format!("who belonged to {} isn't known: it was not read to its end", item.log));
            continue;
        };
        // Whoever never belonged to it is another promise's.
        if !group.knew(shown.user) {
            continue;
        }
        tally.oblige(1);
        // As the log has it: what a stream says of positions may be part of what is wrong.
        let position = item.position.unwrap_or(shown.position);
        if group.stay(shown.user, position).is_none() {
            tally.broken(shown.at, || {
                format!(
                    "{} at position {position} was shown on {} at {}, and user {} belonged to the group {}",
                    words::message(item),
                    words::device(shown.user, shown.device),
                    words::at(shown.at),
                    shown.user,
                    stays(group, shown.user)
                )
            });
        }
    }
}

/// Whoever belongs to a group hears of a change, and whomever it concerns.
fn notices(system: &SystemView, tally: &mut Tally) {
    for noticed in &system.noticed {
        let Notice::Change { log, change } = &noticed.notice else {
            continue;
        };
        let Some(group) = system.groups.get(log).filter(|group| group.knew(noticed.user)) else {
            continue;
        };
        tally.oblige(1);
        if group.stay(noticed.user, change.position).is_none() && !change.users.contains(&noticed.user) {
            tally.broken(noticed.at, || {
                format!(
                    "{} was told at {} that user {} {} {log} at position {}, and user {} belonged to the group {}",
                    words::device(noticed.user, noticed.device),
                    words::at(noticed.at),
                    change.actor,
                    change.kind.words(),
                    change.position,
                    noticed.user,
                    stays(group, noticed.user)
                )
            });
        }
    }
}

/// An answer says where the log ended when it was read: whoever belonged to the group then may read it.
fn looks(system: &SystemView, tally: &mut Tally) {
    for told in &system.told {
        let Answer::Log { log, last_position, .. } = &told.answer else {
            continue;
        };
        let Some(group) = system.groups.get(log) else { continue };
        tally.oblige(1);
        if group.reading(told.user, *last_position).is_none() {
            tally.broken(told.ended, || {
                format!(
                    "user {} read {log} at {}, while it ended at position {last_position}, and belonged to the group {}",
                    told.user,
                    words::at(told.ended),
                    stays(group, told.user)
                )
            });
        }
    }
}

/// When somebody belonged to a group, in words.
pub(super) fn stays(group: &Membership, user: u64) -> String {
    let stays: Vec<String> = group
        .stays(user)
        .iter()
        .map(|stay| match stay.left {
            Some(left) => format!("from {} to {left}", stay.joined),
            None => format!("from {} on", stay.joined),
        })
        .collect();
    if stays.is_empty() {
        "never".to_owned()
    } else {
        stays.join(" and ")
    }
}
