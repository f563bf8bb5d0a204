//! Who belonged to a group at each position of its log, from the changes that stand in the log itself.
//!
//! Whoever is a member when a message takes its position is owed it, and nobody else is. So everything that is promised
//! of groups follows from this.

use std::collections::BTreeMap;

use super::GroupChange;

/// One stay of a member: from the position of its coming to that of its going, both of which it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Where it came.
    pub joined: u64,
    /// Where it went; none for who is still there.
    pub left: Option<u64>,
}

impl Stay {
    /// Whether what takes `position` is for this member: behind its coming, before its going.
    #[must_use]
    pub const fn holds(&self, position: u64) -> bool {
        self.joined < position && self.is_open_at(position)
    }

    /// Whether the member has come by the time at which the log ends with `position`, and not gone.
    #[must_use]
    pub const fn reads(&self, position: u64) -> bool {
        self.joined <= position && self.is_open_at(position)
    }

    const fn is_open_at(&self, position: u64) -> bool {
        match self.left {
            Some(left) => position < left,
            None => true,
        }
    }
}

/// A group's members over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    stays: BTreeMap<u64, Vec<Stay>>,
    /// Members behind each change, by its position.
    counts: BTreeMap<u64, u64>,
}

impl Membership {
    /// Replays changes, in the order of their positions. One that changes nothing is passed over.
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a GroupChange>) -> Self {
        let mut changes: Vec<&GroupChange> = changes.into_iter().collect();
        changes.sort_by_key(|change| change.position);
        let mut membership = Self::default();
        let mut count = 0;
        for change in changes {
            for user in &change.users {
                let stays = membership.stays.entry(*user).or_default();
                let inside = stays.last().is_some_and(|stay| stay.left.is_none());
                if change.kind.lets_in() && !inside {
                    count += 1;
                    stays.push(Stay {
                        joined: change.position,
                        left: None,
                    });
                } else if !change.kind.lets_in()
                    && let Some(stay) = stays.last_mut().filter(|stay| stay.left.is_none())
                {
                    count -= 1;
                    stay.left = Some(change.position);
                }
            }
            membership.counts.insert(change.position, count);
        }
        membership
    }

    /// The stay of `user` that a message at `position` belongs to.
    #[must_use]
    pub fn stay(&self, user: u64, position: u64) -> Option<Stay> {
        self.find(user, |stay| stay.holds(position))
    }

    /// The stay during which `user` may read the log while it ends with `last_position`.
    #[must_use]
    pub fn reading(&self, user: u64, last_position: u64) -> Option<Stay> {
        self.find(user, |stay| stay.reads(last_position))
    }

    fn find(&self, user: u64, fits: impl Fn(&Stay) -> bool) -> Option<Stay> {
        self.stays.get(&user)?.iter().copied().find(fits)
    }

    /// Whether `user` ever belonged to it.
    #[must_use]
    pub fn knew(&self, user: u64) -> bool {
        self.stays.contains_key(&user)
    }

    /// Every stay of `user`, in order.
    #[must_use]
    pub fn stays(&self, user: u64) -> &[Stay] {
        self.stays.get(&user).map_or(&[], Vec::as_slice)
    }

    /// Who a message at `position` is for, in the order of their ids.
    pub fn members_at(&self, position: u64) -> impl Iterator<Item = u64> {
        let stays = self.stays.iter();
        stays.filter_map(move |(user, stays)| stays.iter().any(|stay| stay.holds(position)).then_some(*user))
    }

    /// How many belonged to it behind each change, by the change's position.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().map(|(position, count)| (*position, *count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::ChangeKind;

    fn change(position: u64, kind: ChangeKind, users: &[u64]) -> GroupChange {
        GroupChange {
            position,
            kind,
            actor: 1,
            client_id: position,
            users: users.to_vec(),
        }
    }

    fn story() -> Membership {
        Membership::of(&[
            change(6, ChangeKind::Add, &[2]),
            change(1, ChangeKind::Create, &[1, 2]),
            change(3, ChangeKind::Leave, &[2]),
        ])
    }

    #[test]
    fn a_stay_holds_what_is_between_its_coming_and_its_going() {
        let group = story();
        let held: Vec<u64> = (0..9).filter(|at| group.stay(2, *at).is_some()).collect();
        assert_eq!(held, [2, 7, 8]);
        assert_eq!(group.members_at(4).collect::<Vec<_>>(), [1]);
        assert_eq!(group.counts().collect::<Vec<_>>(), [(1, 2), (3, 1), (6, 2)]);
        assert!(group.knew(2) && !group.knew(3));
    }

    #[test]
    fn who_may_read_may_from_its_coming_on_until_it_goes() {
        let group = story();
        let may: Vec<u64> = (0..9).filter(|last| group.reading(2, *last).is_some()).collect();
        assert_eq!(may, [1, 2, 6, 7, 8], "from 3 to 5 it had gone");
        assert_eq!(group.reading(2, 8), Some(Stay { joined: 6, left: None }));
    }

    #[test]
    fn what_changes_nothing_is_passed_over() {
        let twice = Membership::of(&[
            change(1, ChangeKind::Create, &[1]),
            change(2, ChangeKind::Add, &[1]),
            change(3, ChangeKind::Leave, &[9]),
        ]);
        assert_eq!(twice.stays(1), [Stay { joined: 1, left: None }]);
        assert_eq!(twice.counts().last(), Some((3, 1)));
    }

    proptest! {
        /// It agrees with a plain set that is changed step by step.
        #[test]
        fn it_agrees_with_a_plain_set(steps in proptest::collection::vec((0..6u64, any::<bool>()), 0..60)) {
            let mut plain = std::collections::BTreeSet::new();
            let mut changes = Vec::new();
            let mut expected = Vec::new();
            for (at, (user, comes)) in (1u64..).map(|n| n * 2).zip(steps) {
                let kind = if comes { ChangeKind::Join } else { ChangeKind::Leave };
                changes.push(change(at, kind, &[user]));
                if comes { plain.insert(user); } else { plain.remove(&user); }
                expected.push((at + 1, plain.iter().copied().collect::<Vec<u64>>()));
            }
            let group = Membership::of(&changes);
            for (at, members) in expected {
                prop_assert_eq!(group.members_at(at).collect::<Vec<_>>(), members.clone());
                prop_assert_eq!(group.counts().find(|(position, _)| *position == at - 1).map(|(_, count)| count), Some(members.len() as u64));
            }
        }
    }
}
