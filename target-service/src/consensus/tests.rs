//! Replicas among themselves, and against peers that make no sense.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use firedrill_proto::chat::v1::{
    ConfState, ConfigChange, EntryKind, LogEntry, RaftMessage, RaftMessageKind, Role, Snapshot,
};
use proptest::prelude::*;
use prost::Message as _;

use super::{
    Change, NoTransfer, changes_members, convert,
    rig::{Rig, prepared},
};

/// A group whose messages all arrive, but for those to and from nodes that are cut off.
struct Group {
    rigs: BTreeMap<u64, Rig>,
    cut: Vec<u64>,
}

impl Group {
    fn new(nodes: u64) -> Self {
        let voters: Vec<u64> = (1..=nodes).collect();
        let rigs = voters.iter().map(|node| (*node, Rig::new(*node, &voters))).collect();
        Self { rigs, cut: Vec::new() }
    }

    /// Lets messages go round until there are none; the bound is far beyond what any exchange takes.
    fn settle(&mut self) {
        for _ in 0..200 {
            let sent: Vec<RaftMessage> = self.rigs.values_mut().flat_map(Rig::turn).collect();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                let (from, to) = (message.from, message.to);
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                if let Some(rig) = self.rigs.get_mut(&to) {
                    rig.replica.step(from, message).unwrap();
                }
            }
        }
        panic!("the messages never end");
    }

    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.rigs.values_mut().for_each(|rig| rig.replica.tick());
            self.settle();
        }
    }

    fn leader(&mut self) -> u64 {
        for _ in 0..200 {
            let leading = |(id, rig): (&u64, &Rig)| (rig.replica.is_leader() && !self.cut.contains(id)).then_some(*id);
            if let Some(leader) = self.rigs.iter().find_map(leading) {
                return leader;
            }
            self.tick(1);
        }
        panic!("no leader");
    }

    fn propose(&mut self, count: u8) {
        let leader = self.leader();
        for one in 0..count {
            self.rig(leader).replica.propose(Bytes::from(vec![one])).unwrap();
            self.settle();
        }
    }

    fn rig(&mut self, node: u64) -> &mut Rig {
        self.rigs.get_mut(&node).unwrap()
    }

    fn commands(&self, node: u64) -> Vec<u8> {
        self.rigs[&node]
            .applied
            .iter()
            .flat_map(|entry| entry.data.to_vec())
            .collect()
    }
}

#[test]
fn the_same_seed_elects_the_same_leader_in_the_same_term() {
    let run = || {
        let mut group = Group::new(5);
        let leader = group.leader();
        (
            leader,
            group.rig(leader).replica.term(),
            group.rig(leader).replica.last_index(),
        )
    };
    let first = run();
    assert!((0..5).all(|_| run() == first));
}

#[test]
fn entries_reach_everybody_and_a_read_is_confirmed_at_its_index() {
    let mut group = Group::new(3);
    group.propose(5);
    group.tick(4);
    for node in 1..=3 {
        assert_eq!(group.commands(node), [0, 1, 2, 3, 4]);
    }
    let leader = group.leader();
    let commit = group.rig(leader).replica.commit();
    group.rig(leader).replica.read_index(77);
    group.settle();
    let read = group.rig(leader).reads[0];
    assert_eq!((read.context, read.index), (77, commit));
}

#[test]
fn a_read_is_never_confirmed_without_a_majority() {
    let mut group = Group::new(3);
    group.propose(1);
    let leader = group.leader();
    group.cut = (1..=3).filter(|node| *node != leader).collect();
    group.rig(leader).replica.read_index(1);
    group.tick(5);
    assert!(group.rig(leader).reads.is_empty());
    group.tick(40);
    assert!(!group.rig(leader).replica.is_leader(), "it gave leadership up");
}

#[test]
fn a_fast_campaign_needs_no_timeout_and_ignores_the_lease() {
    let mut group = Group::new(3);
    group.propose(3);
    let old = group.leader();
    group.cut = vec![old];
    let heir = 1 + old % 3;
    assert!(group.rig(heir).replica.campaign_fast());
    group.settle();
    assert!(group.rig(heir).replica.is_leader(), "without a single tick");
    assert_eq!(group.commands(heir), [0, 1, 2]);
    group.cut.clear();
    group.tick(3);
    assert_eq!(group.rig(old).replica.role(), Role::Follower);
    assert!(
        !group.rig(heir).replica.campaign_fast(),
        "a leader has nothing to campaign for"
    );
}

#[test]
fn leadership_goes_where_it_is_asked_to() {
    let mut group = Group::new(3);
    let none = BTreeSet::new();
    group.propose(1);
    let old = group.leader();
    let to = 1 + old % 3;
    assert_eq!(group.rig(to).replica.transfer(old, &none), Err(NoTransfer::NotLeader));
    assert_eq!(group.rig(old).replica.transfer(9, &none), Err(NoTransfer::NoVoter));
    assert_eq!(group.rig(old).replica.transfer(to, &none), Ok(to));
    group.settle();
    assert!(group.rig(to).replica.is_leader());
}

#[test]
fn leadership_is_not_handed_to_who_could_not_take_it_soon() {
    let none = BTreeSet::new();
    let mut group = Group::new(3);
    group.propose(1);
    let leader = group.leader();
    let (away, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    group.cut = vec![away];
    group.propose(150);
    let behind = group.rig(leader).replica.transfer(away, &none);
    assert!(
        matches!(behind, Err(NoTransfer::Behind { entries: 129.. })),
        "{behind:?}"
    );
    group.tick(12);
    assert_eq!(group.rig(leader).replica.transfer(away, &none), Err(NoTransfer::Silent));
    let avoid = BTreeSet::from([other]);
    assert_eq!(
        group.rig(leader).replica.transfer(other, &avoid),
        Err(NoTransfer::Stopping)
    );
    // Whoever has to go asks one that lags rather than nobody.
    assert_eq!(group.rig(leader).replica.transfer(0, &avoid), Ok(away));
    group.rig(leader).replica.stop_handing_over();
    assert_eq!(group.rig(leader).replica.transfer(0, &none), Ok(other));
    group.settle();
    assert!(group.rig(other).replica.is_leader());
}

#[test]
fn a_lagging_follower_is_given_a_snapshot_even_if_the_first_is_lost() {
    let mut group = Group::new(3);
    group.propose(2);
    let leader = group.leader();
    let away = 1 + leader % 3;
    group.cut = vec![away];
    group.propose(20);
    let index = group.rig(leader).index;
    group.rig(leader).compact(index - 2);
    // The leader learns that it lags; then the way is cut again before the snapshot gets through.
    group.cut.clear();
    let mut lost = 0;
    for _ in 0..400 {
        group.rigs.values_mut().for_each(|rig| rig.replica.tick());
        let sent: Vec<RaftMessage> = group.rigs.values_mut().flat_map(Rig::turn).collect();
        for message in sent {
            if message.kind() == RaftMessageKind::Snapshot && lost == 0 {
                lost += 1;
                continue;
            }
            let from = message.from;
            group.rig(message.to).replica.step(from, message).unwrap();
        }
    }
    group.settle();
    assert_eq!(lost, 1);
    assert_eq!(group.rig(away).installed.len(), 1, "the second one arrived");
    assert_eq!(group.rigs[&away].index, group.rigs[&leader].index);
    group.propose(1);
    group.tick(4);
    assert_eq!(group.rigs[&away].applied.last(), group.rigs[&leader].applied.last());
}

#[test]
fn membership_changes_go_through_the_log_in_our_own_words() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.settle();
    let removed = 1 + leader % 3;
    for (version, change) in [(5, Change::AddLearner(9)), (6, Change::EnterJoint(9, removed))] {
        assert!(group.rig(leader).replica.propose_change(change, version));
        assert!(
            !group.rig(leader).replica.propose_change(Change::LeaveJoint, version),
            "one at a time"
        );
        group.tick(6);
    }
    let left: Vec<u64> = (1..=3).filter(|node| *node != removed).collect();
    let rig = group.rig(leader);
    assert_eq!(rig.replica.members().voters_outgoing, [1, 2, 3]);
    // Node 9 isn't there, and both halves have their majority without it.
    assert!(rig.replica.propose_change(Change::LeaveJoint, 7));
    group.tick(6);
    let rig = group.rig(leader);
    let with_new: Vec<u64> = left.iter().copied().chain([9]).collect();
    assert_eq!(rig.replica.voters(), with_new);
    let (_, members) = rig.log.shard(0).initial_state();
    assert_eq!((&members, members.version), (rig.replica.members(), 7));
    assert_eq!((&members.voters, members.voters_outgoing.len()), (&with_new, 0));
    let last = rig
        .applied
        .iter()
        .rfind(|entry| changes_members(entry))
        .unwrap()
        .clone();
    assert_eq!(members.index, last.index);
    assert!(
        rig.replica.apply_membership(&last).unwrap().is_none(),
        "an entry that the members follow from changes them no more"
    );
    let logged: Vec<_> = rig
        .applied
        .iter()
        .filter(|entry| entry.kind() == EntryKind::ConfigChangeV2)
        .collect();
    assert!(!logged.is_empty() && ConfigChange::decode(logged[0].data.clone()).is_ok());
}

#[test]
fn impossible_memberships_are_refused() {
    let state = |voters: &[u64], learners: &[u64], outgoing: &[u64]| ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        voters_outgoing: outgoing.to_vec(),
        ..Default::default()
    };
    for bad in [
        state(&[], &[], &[]),
        state(&[0], &[], &[]),
        state(&[1, 1], &[], &[]),
        state(&[1], &[1], &[]),
        state(&[1], &[2], &[2]),
        ConfState {
            auto_leave: true,
            ..state(&[1], &[], &[])
        },
        ConfState {
            learners_next: vec![2],
            ..state(&[1], &[], &[])
        },
    ] {
        assert!(convert::conf_state_from_wire(&bad).is_err(), "{bad:?}");
    }
    let good = convert::conf_state_from_wire(&state(&[3, 1, 2], &[5], &[4, 1])).unwrap();
    assert_eq!(good.voters, [1, 2, 3]);
}

#[test]
fn what_raft_would_panic_over_is_refused() {
    let mut follower = prepared(2);
    let (term, last) = (follower.replica.term(), follower.replica.last_index());
    let message = |kind: RaftMessageKind| RaftMessage {
        kind: kind.into(),
        to: 1,
        from: 2,
        term,
        ..Default::default()
    };
    let beyond = RaftMessage {
        commit: last + 1,
        ..message(RaftMessageKind::Heartbeat)
    };
    assert!(follower.replica.step(2, beyond).is_err());
    let nothing = message(RaftMessageKind::Snapshot);
    assert!(follower.replica.step(2, nothing).is_err());
    let not_for_us = RaftMessage {
        snapshot: Some(Snapshot {
            index: 50,
            term,
            conf_state: Some(ConfState {
                voters: vec![2, 3],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..message(RaftMessageKind::Snapshot)
    };
    assert!(follower.replica.step(2, not_for_us).is_err());
    let entry = |index| LogEntry {
        kind: EntryKind::Normal.into(),
        term,
        index,
        ..Default::default()
    };
    let gap = RaftMessage {
        index: last,
        log_term: term,
        entries: vec![entry(last + 1), entry(last + 3)],
        ..message(RaftMessageKind::Append)
    };
    assert!(follower.replica.step(2, gap).is_err());
    let mut leader = prepared(1);
    let rival = RaftMessage {
        term: leader.replica.term(),
        ..message(RaftMessageKind::Heartbeat)
    };
    assert!(leader.replica.is_leader() && leader.replica.step(2, rival).is_err());
}

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..12_u64, 1 => any::<u64>()]
}

prop_compose! {
    fn entry()(kind in -1..5, term in small(), index in small(), data in prop::collection::vec(any::<u8>(), 0..6)) -> LogEntry {
        LogEntry { kind, term, index, data: data.into(), context: Bytes::new() }
    }
}

prop_compose! {
    fn members()(voters in prop::collection::vec(0..5_u64, 0..4), learners in prop::collection::vec(0..5_u64, 0..2),
        voters_outgoing in prop::collection::vec(0..5_u64, 0..2), auto_leave: bool) -> ConfState {
        ConfState { voters, learners, voters_outgoing, learners_next: Vec::new(), auto_leave, index: 0, version: 0 }
    }
}

prop_compose! {
    fn message()(kind in 0..18, term in small(), log_term in small(), index in small(), commit in small(), commit_term in small(),
        reject: bool, reject_hint in small(), transfer: bool, from in 2..4_u64, contiguous: bool,
        mut entries in prop::collection::vec(entry(), 0..3),
        snapshot in prop::option::of((small(), small(), members()))) -> RaftMessage {
        if contiguous {
            // Such as an honest peer's: these get through to raft.
            for (at, entry) in entries.iter_mut().enumerate() {
                entry.kind = EntryKind::Normal.into();
                entry.index = index.wrapping_add(1 + at as u64);
                entry.term = log_term.max(1);
            }
        }
        if kind != RaftMessageKind::Append as i32 {
            entries.clear();
        }
        let snapshot = snapshot.filter(|_| kind == RaftMessageKind::Snapshot as i32);
        RaftMessage {
            kind, to: 1, from, term, log_term, index, entries, commit, commit_term, reject, reject_hint,
            context: if transfer { Bytes::from_static(b"CampaignTransfer") } else { Bytes::new() },
            snapshot: snapshot.map(|(index, term, members)| Snapshot {
                index, term, conf_state: Some(members), data: Bytes::new(),
            }),
            ..Default::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A peer may be wrong, old, or from another history: the replica refuses or ignores it, and never panics.
    #[test]
    fn no_message_panics(mode in 0..3_u8, messages in prop::collection::vec((message(), 0..3_u8), 1..40)) {
        let mut rig = prepared(mode);
        for (message, ticks) in messages {
            let _ = rig.replica.step(message.from, message);
            rig.turn();
            for _ in 0..ticks {
                rig.replica.tick();
                rig.turn();
            }
        }
    }

    #[test]
    fn what_gets_through_comes_back_the_same(message in message()) {
        let mut expected = message.clone();
        if let Ok(converted) = convert::message_from_wire(1, message.from, message) {
            let back = convert::message_to_wire(converted).unwrap().unwrap();
            if let Some(members) = expected.snapshot.as_mut().and_then(|snapshot| snapshot.conf_state.as_mut()) {
                members.voters.sort_unstable();
                members.learners.sort_unstable();
                members.voters_outgoing.sort_unstable();
            }
            for (was, is) in expected.entries.iter().zip(&back.entries) {
                prop_assert_eq!((was.index, was.term, was.kind), (is.index, is.term, is.kind));
            }
            let normal = |entry: &LogEntry| entry.kind() == EntryKind::Normal;
            if expected.entries.iter().all(normal) {
                prop_assert_eq!(back, expected);
            }
        }
    }
}
