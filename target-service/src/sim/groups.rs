//! Who belonged to a group at each position, from the group's own history: the rest of what is judged follows from it.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::{GroupChangeKind, StoredMessage};

use super::{
    Violation,
    judge::Histories,
    records::{Finals, MessageKey, Records, stored_key},
    report,
};

/// One stay of a member: from its joining's position to its leaving's, both of which it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) joined: u64,
    /// `None` for a member of today.
    pub(crate) left: Option<u64>,
}

/// A group's members over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    stays: BTreeMap<u64, Vec<Stay>>,
}

impl Membership {
    /// Replays a group's history, and reports what can't be.
    pub(crate) fn of(group: u64, messages: &[StoredMessage], max: u64, violations: &mut Vec<Violation>) -> Self {
        let mut membership = Self::default();
        let mut count = 0;
        for message in messages {
            let Some(change) = &message.change else {
                if !membership.belongs(message.sender, message.position) {
                    let what = format!(
                        "{} spoke at {} of group {group:x}, to which it didn't belong",
                        message.sender, message.position
                    );
                    report(violations, "strangers stay outside", what);
                }
                continue;
            };
            let comes = matches!(
                change.kind(),
                GroupChangeKind::GroupCreate | GroupChangeKind::GroupAdd | GroupChangeKind::GroupJoin
            );
            for &user in &change.users {
                let stays = membership.stays.entry(user).or_default();
                let inside = stays.last().is_some_and(|stay| stay.left.is_none());
                if inside == comes {
                    let what = format!("at {} of group {group:x}: {change:?}, of {stays:?}", change.position);
                    report(violations, "members come and go", what);
                } else if comes {
                    count += 1;
                    stays.push(Stay {
                        joined: change.position,
                        left: None,
                    });
                } else if let Some(stay) = stays.last_mut() {
                    count -= 1;
                    stay.left = Some(change.position);
                }
            }
            if count > max {
                let what = format!(
                    "{count} members at {} of group {group:x}, at most {max}",
                    change.position
                );
                report(violations, "groups have a limit", what);
            }
        }
        membership
    }

    /// The stay of `user` that holds a position: behind its joining and before its leaving.
    pub(crate) fn stay(&self, user: u64, position: u64) -> Option<Stay> {
        let stays = self.stays.get(&user)?.iter().copied();
        let mut stays = stays.filter(|stay| stay.joined < position && stay.left.is_none_or(|left| position < left));
        stays.next()
    }

    /// Whether `user` was a member when `position` was committed.
    pub(crate) fn belongs(&self, user: u64, position: u64) -> bool {
        self.stay(user, position).is_some()
    }

    /// The stay of a member of today.
    pub(crate) fn today(&self, user: u64) -> Option<Stay> {
        self.stays
            .get(&user)?
            .last()
            .copied()
            .filter(|stay| stay.left.is_none())
    }
}

/// All groups' members over time.
pub(crate) type Memberships = BTreeMap<u64, Membership>;

/// Replays all groups.
pub(crate) fn memberships(records: &Records, histories: &Histories, violations: &mut Vec<Violation>) -> Memberships {
    let groups = records.groups();
    let replayed = groups.into_iter().filter_map(|group| {
        let messages = histories.get(&group)?;
        Some((group, Membership::of(group, messages, records.group_max, violations)))
    });
    replayed.collect()
}

/// Acknowledged changes stand where they were said to; what stands there was asked for.
pub(crate) fn changes(records: &Records, histories: &Histories, violations: &mut Vec<Violation>) {
    for (key, change) in &records.changes {
        let messages = histories.get(&change.group).map_or(&[][..], Vec::as_slice);
        let Some(position) = change.position else { continue };
        let found = messages.iter().find(|it| it.position == position);
        // One that changed nothing names the last position, which was somebody else's.
        let own = found.is_some_and(|it| stored_key(it) == *key);
        let moot = found.is_some_and(|it| it.position > 0) && !messages.iter().any(|it| stored_key(it) == *key);
        if !own && !moot {
            let what = format!("{key:?}, {change:?}: {position} holds {:?}", found.map(stored_key));
            report(violations, "nothing acknowledged is lost", what);
        }
    }
    for group in records.groups() {
        let mut seen: BTreeSet<MessageKey> = BTreeSet::new();
        for message in histories.get(&group).into_iter().flatten() {
            let Some(stored) = &message.change else { continue };
            let key = stored_key(message);
            let asked = records.changes.get(&key);
            if !asked.is_some_and(|asked| asked.group == group && asked.kind == stored.kind()) {
                let what = format!("{stored:?} by {key:?}, which asked for {asked:?}");
                report(violations, "nothing invented", what);
            }
            if !seen.insert(key) {
                report(
                    violations,
                    "exactly once",
                    format!("{key:?} changed group {group:x} again"),
                );
            }
        }
    }
}

/// What each user's lists say in the end: unread counts, marks, contacts, and histories as members may see them.
pub(crate) fn lists(
    records: &Records,
    histories: &Histories,
    memberships: &Memberships,
    violations: &mut Vec<Violation>,
) {
    for (&user, finals) in &records.finals {
        for thread in &finals.threads {
            let id = thread.conversation;
            let messages = histories.get(&id).map_or(&[][..], Vec::as_slice);
            let stay = memberships.get(&id).map(|membership| membership.today(user));
            let from = match stay {
                None => Some(thread.read),
                Some(today) => today.map(|stay| stay.joined.max(thread.read)),
            };
            let unread = messages
                .iter()
                .filter(|it| it.change.is_none() && it.sender != user && from.is_some_and(|from| it.position > from))
                .count() as u64;
            if thread.unread != unread {
                let what = format!("{user} has {unread} unread in {id:x}, its list says {thread:?}");
                report(violations, "unread is what was not read", what);
            }
            let last = messages.last().map_or(0, |it| it.position);
            if thread.read > last || thread.delivered > last {
                let what = format!("{user} in {id:x}, which ends at {last}: {thread:?}");
                report(violations, "no receipt before its delivery", what);
            }
            let acknowledged = records.acquitted.get(&(id, user)).copied().unwrap_or_default();
            if thread.read < acknowledged.1 || thread.delivered < acknowledged.0 {
                let what = format!("{user} in {id:x} was told {acknowledged:?}, its list says {thread:?}");
                report(violations, "receipts go forward", what);
            }
        }
        contacts(records, user, finals, violations);
        for (&group, seen) in &finals.histories {
            group_history(user, group, seen.as_deref(), histories, memberships, violations);
        }
    }
}

fn contacts(records: &Records, user: u64, finals: &Finals, violations: &mut Vec<Violation>) {
    let own_phone = records.phone_of(user).unwrap_or_default();
    for contact in &finals.contacts {
        let imported = records
            .importing
            .get(&user)
            .is_some_and(|book| book.contains(&contact.phone));
        let by_other = records
            .importing
            .get(&contact.user)
            .is_some_and(|book| book.contains(own_phone));
        let of_number = contact.user == 0 || records.phone_of(contact.user) == Some(contact.phone.as_str());
        let traced = (!contact.imported || imported) && (!contact.matched || by_other);
        let right = traced && of_number && (contact.imported || contact.matched);
        if !right {
            let what = format!("{user} has {contact:?}");
            report(violations, "no phantom contact", what);
        }
    }
    for phone in records.missing_contacts(user, &finals.contacts) {
        let what = format!("{user} imported {phone}, which has an account, and doesn't find it");
        report(violations, "contacts are found", what);
    }
}

fn group_history(
    user: u64,
    group: u64,
    seen: Option<&[u64]>,
    histories: &Histories,
    memberships: &Memberships,
    violations: &mut Vec<Violation>,
) {
    let today = memberships.get(&group).and_then(|membership| membership.today(user));
    let last = histories
        .get(&group)
        .and_then(|it| it.last())
        .map_or(0, |it| it.position);
    match (today, seen) {
        (None, None) => {}
        (Some(stay), Some(seen)) => {
            let (first, expected) = (seen.first().copied(), (stay.joined..=last).collect::<Vec<_>>());
            if first.is_some_and(|first| first < stay.joined) {
                let what = format!("{user}, who came to {group:x} at {}, reads from {first:?}", stay.joined);
                report(violations, "history begins with the joining", what);
            } else if seen != expected {
                let what = format!(
                    "{user}, who came to {group:x} at {}, reads {seen:?} of {last}",
                    stay.joined
                );
                report(violations, "whole histories", what);
            }
        }
        (today, seen) => {
            let what = format!("{user} in {group:x}: {today:?}, and reads {seen:?}");
            report(violations, "only members read", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{Contact, GroupChange, Thread};

    use super::*;

    fn changed(position: u64, kind: GroupChangeKind, users: &[u64]) -> StoredMessage {
        StoredMessage {
            position,
            change: Some(GroupChange {
                conversation: 9,
                position,
                kind: kind.into(),
                actor: 1,
                users: users.to_vec(),
            }),
            ..StoredMessage::default()
        }
    }

    fn said(position: u64, sender: u64) -> StoredMessage {
        StoredMessage {
            position,
            sender,
            ..StoredMessage::default()
        }
    }

    fn replayed(messages: &[StoredMessage]) -> (Membership, Vec<&'static str>) {
        let mut violations = Vec::new();
        let membership = Membership::of(9, messages, 2, &mut violations);
        (membership, violations.into_iter().map(|v| v.promise).collect())
    }

    #[test]
    fn a_stay_is_from_the_joining_to_the_leaving() {
        use GroupChangeKind::{GroupAdd, GroupCreate, GroupLeave};
        let story = [
            changed(1, GroupCreate, &[1, 2]),
            said(2, 2),
            changed(3, GroupLeave, &[2]),
            said(4, 1),
            changed(5, GroupAdd, &[2]),
            said(6, 1),
        ];
        let (membership, wrong) = replayed(&story);
        assert!(wrong.is_empty(), "{wrong:?}");
        let of_two: Vec<bool> = [2, 4, 6].map(|at| membership.belongs(2, at)).to_vec();
        assert_eq!(of_two, [true, false, true]);
        assert_eq!(membership.today(2), Some(Stay { joined: 5, left: None }));
    }

    #[test]
    fn what_can_not_be_in_a_group_is_seen() {
        use GroupChangeKind::{GroupAdd, GroupCreate, GroupJoin, GroupLeave};
        let first = changed(1, GroupCreate, &[1]);
        assert_eq!(replayed(&[first.clone(), said(2, 7)]).1, ["strangers stay outside"]);
        let twice = [first.clone(), changed(2, GroupAdd, &[1])];
        assert_eq!(replayed(&twice).1, ["members come and go"]);
        let gone = [first.clone(), changed(2, GroupLeave, &[7])];
        assert_eq!(replayed(&gone).1, ["members come and go"]);
        let many = [first, changed(2, GroupJoin, &[2]), changed(3, GroupJoin, &[3])];
        assert_eq!(replayed(&many).1, ["groups have a limit"]);
    }

    /// User 2 came at 3; `spoil` makes its lists wrong.
    fn listed(spoil: impl FnOnce(&mut Records, &mut Finals)) -> Vec<&'static str> {
        use GroupChangeKind::{GroupAdd, GroupCreate};
        let story = vec![
            changed(1, GroupCreate, &[1]),
            said(2, 1),
            changed(3, GroupAdd, &[2]),
            said(4, 1),
            said(5, 1),
        ];
        let mut records = Records::new(2);
        records.signed_up("111", 1);
        records.signed_up("222", 2);
        records.importing(2, &["111".to_owned()]);
        records.imported(2, &["111".to_owned()]);
        let mut finals = Finals {
            threads: vec![Thread {
                conversation: 9,
                group: true,
                last_position: 5,
                unread: 1,
                read: 4,
                delivered: 4,
                ..Thread::default()
            }],
            contacts: vec![Contact {
                phone: "111".to_owned(),
                user: 1,
                imported: true,
                matched: false,
            }],
            histories: BTreeMap::from([(9, Some(vec![3, 4, 5]))]),
        };
        records.acquitted(9, 2, 4, 4);
        spoil(&mut records, &mut finals);
        records.finals.insert(2, finals);
        let histories = Histories::from([(9, story)]);
        let mut violations = Vec::new();
        let group = Membership::of(9, &histories[&9], 2, &mut violations);
        lists(&records, &histories, &Memberships::from([(9, group)]), &mut violations);
        violations.into_iter().map(|v| v.promise).collect()
    }

    #[test]
    fn every_promise_about_lists_can_be_broken() {
        let honest = listed(|_, _| {});
        assert!(honest.is_empty(), "{honest:?}");
        assert_eq!(listed(|_, f| f.threads[0].unread = 2), ["unread is what was not read"]);
        assert_eq!(
            listed(|_, f| f.threads[0].delivered = 6),
            ["no receipt before its delivery"]
        );
        assert_eq!(listed(|_, f| f.threads[0].delivered = 3), ["receipts go forward"]);
        assert_eq!(
            listed(|_, f| f.histories = BTreeMap::from([(9, Some(vec![2, 3, 4, 5]))])),
            ["history begins with the joining"]
        );
        let short = listed(|_, f| f.histories = BTreeMap::from([(9, Some(vec![3, 5]))]));
        assert_eq!(short, ["whole histories"]);
        assert_eq!(
            listed(|_, f| f.histories = BTreeMap::from([(9, None)])),
            ["only members read"]
        );
        let phantom = Contact {
            phone: "333".to_owned(),
            user: 3,
            imported: true,
            matched: false,
        };
        assert_eq!(listed(|_, f| f.contacts.push(phantom)), ["no phantom contact"]);
        assert_eq!(listed(|_, f| f.contacts[0].matched = true), ["no phantom contact"]);
        assert_eq!(listed(|_, f| f.contacts.clear()), ["contacts are found"]);
    }
}
