//! The state machine against everything that may be asked of it, and the steps until an operation has ended.

use firedrill_proto::chat::v1::{
    AbortMove, AdvanceOperation, BeginMove, ConfState, MoveReport, OperationPhase, PlacementCommand,
    placement_command::Command,
};
use proptest::prelude::*;

use super::*;
use crate::consensus::Change;

const SHARDS: u32 = 3;

fn machine() -> Machine {
    Machine::new(founded(4, (0..SHARDS).map(|_| vec![1, 2, 3])))
}

fn command(command: Command) -> Option<PlacementCommand> {
    Some(PlacementCommand {
        proposer: 1,
        ticket: 1,
        command: Some(command),
    })
}

fn begin(shard: u32, from: u64, to: u64) -> Option<PlacementCommand> {
    command(Command::Begin(BeginMove { shard, from, to }))
}

fn abort(operation: u64) -> Option<PlacementCommand> {
    let reason = "asked for".to_owned();
    command(Command::Abort(AbortMove { operation, reason }))
}

fn advance(operation: u64, from: OperationPhase, term: u64) -> Option<PlacementCommand> {
    let from = from.into();
    command(Command::Advance(AdvanceOperation { operation, from, term }))
}

/// The members of a shard's group, changed as consensus would.
fn changed(members: &ConfState, change: Change, version: u64) -> ConfState {
    let mut next = members.clone();
    next.index += 1;
    next.version = version;
    match change {
        Change::AddLearner(node) => next.learners = vec![node],
        Change::RemoveLearner(node) => next.learners.retain(|learner| *learner != node),
        Change::EnterJoint(to, from) => {
            next.voters_outgoing = next.voters.clone();
            next.voters.retain(|voter| *voter != from);
            next.voters.push(to);
            next.voters.sort_unstable();
            next.learners.clear();
        }
        Change::LeaveJoint => next.voters_outgoing.clear(),
    }
    next
}

fn report(machine: &Machine, operation: u64, members: &ConfState) -> MoveReport {
    let it = machine.map().operations.iter().find(|it| it.id == operation).unwrap();
    MoveReport {
        operation,
        shard: it.shard,
        term: 5,
        members: Some(members.clone()),
        caught_up: it.phase() == OperationPhase::CatchUp,
        ..MoveReport::default()
    }
}

/// Carries an operation on, one step after the other; `abort_at` aborts it in that phase.
fn carry(machine: &mut Machine, operation: u64, members: &mut ConfState, abort_at: Option<OperationPhase>) -> Vec<u64> {
    let mut epochs = vec![machine.map().epoch];
    let mut index = machine.applied().0;
    for _ in 0..40 {
        let it = machine
            .map()
            .operations
            .iter()
            .find(|it| it.id == operation)
            .unwrap()
            .clone();
        if !is_active(&it) {
            break;
        }
        index += 1;
        if abort_at == Some(it.phase()) {
            machine.apply(index, 1, abort(operation));
            continue;
        }
        let placed = &machine.map().shards[it.shard as usize];
        let leader = if members.voters.contains(&it.from) && members.voters_outgoing.is_empty() {
            it.from
        } else {
            it.to
        };
        if let Step::Change(change) = next_step(placed, Some(&it), members, (leader, 6)) {
            *members = changed(members, change, machine.map().version);
        }
        let report = report(machine, operation, members);
        if reached(&it, &report) {
            machine.apply(index, 1, advance(operation, it.phase(), 5));
            epochs.push(machine.map().epoch);
        } else {
            machine.apply(index, 1, None);
        }
    }
    epochs.dedup();
    epochs
}

fn voters() -> ConfState {
    ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    }
}

#[test]
fn a_move_goes_through_its_phases_and_clients_hear_of_the_new_node_before_the_old_one_goes() {
    let mut machine = machine();
    let Reply::Operation(operation) = machine.apply(1, 1, begin(0, 3, 4)) else {
        panic!("it begins")
    };
    assert!(holds(machine.map(), 0, 4) && !holds(machine.map(), 1, 4));
    let mut members = voters();
    assert_eq!(carry(&mut machine, operation.id, &mut members, None), [4, 5, 6]);
    assert_eq!(
        (&members.voters[..], members.voters_outgoing.len()),
        (&[1, 2, 4][..], 0)
    );
    let placed = &machine.map().shards[0];
    assert_eq!((&placed.members[..], placed.since_epoch), (&[1, 2, 4][..], 6));
    assert_eq!(placed.founders, [1, 2, 3]);
    assert_eq!((placed.former[0].node, placed.former[0].term), (3, 5));
    assert_eq!(
        machine.map().shards[1].since_epoch,
        4,
        "others' routes are as good as before"
    );
    // It only comes back in a later term than it left in.
    let Reply::Operation(back) = machine.apply(90, 1, begin(0, 4, 3)) else {
        panic!("it begins")
    };
    let placed = &machine.map().shards[0];
    assert_eq!(next_step(placed, Some(&back), &members, (1, 5)), Step::HandOver);
    let step = next_step(placed, Some(&back), &members, (1, 6));
    assert_eq!(step, Step::Change(Change::AddLearner(3)));
}

#[test]
fn an_abort_leaves_everything_as_it_was_and_comes_too_late_once_the_new_one_votes() {
    for phase in [OperationPhase::AddLearner, OperationPhase::CatchUp] {
        let mut machine = machine();
        machine.apply(1, 1, begin(0, 3, 4));
        let mut members = voters();
        assert_eq!(carry(&mut machine, 1, &mut members, Some(phase)), [4], "{phase:?}");
        let operation = &machine.map().operations[0];
        assert_eq!(
            (operation.phase(), &*operation.reason),
            (OperationPhase::Aborted, "asked for")
        );
        assert_eq!((&members.voters[..], members.learners.len()), (&[1, 2, 3][..], 0));
        assert!(!holds(machine.map(), 0, 4));
    }
    let mut machine = machine();
    machine.apply(1, 1, begin(0, 3, 4));
    machine.apply(2, 1, advance(1, OperationPhase::AddLearner, 1));
    machine.apply(3, 1, advance(1, OperationPhase::CatchUp, 1));
    let Reply::Invalid(message) = machine.apply(4, 1, abort(1)) else {
        panic!("too late")
    };
    assert!(message.contains("ENTER_JOINT"), "{message}");
    assert!(matches!(machine.apply(5, 1, abort(9)), Reply::Invalid(_)));
}

#[test]
fn what_can_not_move_is_refused_and_a_repeated_request_is_one_operation() {
    let mut machine = machine();
    for (shard, from, to) in [(9, 3, 4), (0, 4, 5), (0, 1, 2), (0, 1, 0)] {
        assert!(
            matches!(machine.apply(1, 1, begin(shard, from, to)), Reply::Invalid(_)),
            "{shard} {from} {to}"
        );
    }
    let first = machine.apply(2, 1, begin(0, 3, 4));
    assert_eq!(machine.apply(3, 1, begin(0, 3, 4)), first);
    assert!(matches!(machine.apply(4, 1, begin(0, 2, 5)), Reply::Busy(_)));
    assert_eq!(machine.map().version, 2, "a refusal changes nothing");
    assert_eq!(
        machine.apply(5, 1, advance(1, OperationPhase::CatchUp, 1)),
        Reply::Nothing
    );
}

#[test]
fn news_from_before_an_operation_ends_none_of_its_phases() {
    let mut machine = machine();
    machine.apply(7, 1, begin(0, 3, 4));
    let operation = machine.map().operations[0].clone();
    // Node 4 was a learner once before: an old leader says so still.
    let mut stale = voters();
    stale.learners = vec![4];
    assert!(!reached(&operation, &report(&machine, 1, &stale)));
    assert_eq!(
        next_step(&machine.map().shards[0], Some(&operation), &stale, (1, 2)),
        Step::Change(Change::AddLearner(4))
    );
    stale.version = 7;
    assert!(reached(&operation, &report(&machine, 1, &stale)));
}

#[test]
fn without_an_operation_nobody_stays_behind() {
    let machine = machine();
    let placed = &machine.map().shards[0];
    assert_eq!(next_step(placed, None, &voters(), (1, 1)), Step::Nothing);
    let mut left = voters();
    left.learners = vec![4];
    assert_eq!(
        next_step(placed, None, &left, (1, 1)),
        Step::Change(Change::RemoveLearner(4))
    );
}

#[test]
fn a_snapshot_is_the_state_and_a_damaged_one_is_refused() {
    let mut machine = machine();
    machine.apply(7, 2, begin(0, 3, 4));
    let bytes = machine.snapshot();
    assert_eq!(Machine::restored(&bytes, SHARDS as usize).unwrap(), machine);
    assert!(
        Machine::restored(&bytes, 2)
            .unwrap_err()
            .to_string()
            .contains("3 shards")
    );
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 4;
        assert!(Machine::restored(&damaged, SHARDS as usize).is_err(), "byte {at}");
    }
    assert!(Machine::restored(&bytes[..3], SHARDS as usize).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is asked in whatever order: every shard keeps as many members as it had, or one more while a node moves;
    /// epochs and versions only rise; there is one operation a shard, and all that is kept is bounded.
    #[test]
    fn the_map_stays_sound(asked in proptest::collection::vec((0_u8..8, 0_u32..SHARDS, 1_u64..6, 1_u64..6), 1..120)) {
        let mut machine = machine();
        let mut twin = machine.clone();
        for (index, (kind, shard, from, to)) in (1..).zip(asked) {
            let going = active(machine.map(), shard).map_or((1, OperationPhase::AddLearner), |it| (it.id, it.phase()));
            let asked = match kind {
                0..=2 => begin(shard, from, to),
                3 => abort(going.0),
                4 => None,
                _ => advance(going.0, going.1, from),
            };
            let before = (machine.map().version, machine.map().epoch);
            machine.apply(index, 1, asked.clone());
            twin.apply(index, 1, asked);
            prop_assert_eq!(&machine, &twin);
            let map = machine.map();
            prop_assert!(map.version >= before.0 && map.epoch >= before.1 && map.version <= index);
            for shard in 0..SHARDS {
                let placed = &map.shards[shard as usize];
                let mut distinct = placed.members.clone();
                distinct.dedup();
                prop_assert_eq!(&distinct, &placed.members);
                let joint = active(map, shard).is_some_and(|it| {
                    matches!(it.phase(), OperationPhase::EnterJoint | OperationPhase::LeaveJoint)
                });
                prop_assert_eq!(placed.members.len(), 3 + usize::from(joint));
                prop_assert!(placed.since_epoch <= map.epoch);
                let on_shard = map.operations.iter().filter(|it| it.shard == shard && is_active(it));
                prop_assert!(on_shard.count() <= 1);
            }
            prop_assert!(map.operations.len() <= OPERATIONS_MAX + 33);
            let restored = Machine::restored(&machine.snapshot(), SHARDS as usize);
            prop_assert_eq!(restored.as_ref(), Ok(&machine));
        }
    }
}
