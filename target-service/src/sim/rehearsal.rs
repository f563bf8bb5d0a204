//! One operation of the placement of shards, hit in one of its phases: a cell of the matrix of operations, phases and hits.
//!
//! People use the cluster while it goes on. Whatever the hit, the operation has to end, done or aborted, once the hit is
//! over; and everything that any schedule promises is judged as ever.

use std::{rc::Rc, time::Duration};

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AddNodes, DrainNodes, DrainZone, Migration, MigrationGoal, MoveLeader, MoveReplicaRequest,
    MoveShards, OperationPhase, Place, PlacementMap, PlacementOperation, RemoveNodes, ReturnZone, SpreadLeaders,
    StartOperationRequest, Throttle, migration_goal::Goal, start_operation_request::Operation,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tokio::time::timeout;

use super::{
    client::World,
    cluster::Cluster,
    nemesis::{Act, Victim},
};
use crate::{
    node::{Call, ClientApi as _, PLACEMENT},
    placement,
};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One replica moves.
    MoveReplica,
    /// A shard moves with all its replicas.
    MoveShards,
    /// A node comes to hold nothing.
    DrainNodes,
    /// So does a zone.
    DrainZone,
    /// A zone comes back in two stages.
    ReturnZone,
    /// A spare gets its share.
    AddNodes,
    /// It leaves again, for good.
    RemoveNodes,
    /// Leaderships are spread.
    SpreadLeaders,
    /// One leadership moves.
    MoveLeader,
    /// An operation is aborted, and the abort is hit.
    Abort,
}

/// What hits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Kills the node that gives.
    KillSource,
    /// Kills the node that takes.
    KillTarget,
    /// Kills the leader of the placement group.
    KillPlacementLeader,
    /// Cuts source and target off from each other.
    Partition,
}

impl Hit {
    const ALL: [Self; 4] = [
        Self::KillSource,
        Self::KillTarget,
        Self::KillPlacementLeader,
        Self::Partition,
    ];
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What is done.
    pub verb: Verb,
    /// In which phase of it, or of one of its moves, it is hit.
    pub at: OperationPhase,
    /// What hits it.
    pub hit: Hit,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in {} hit by {:?}", self.verb, self.at.as_str_name(), self.hit)
    }
}

/// What became of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Whether it was in the cell's phase when it was hit.
    pub hit: bool,
    /// How it ended; `None` is not yet.
    pub ended: Option<OperationPhase>,
}

/// All cells, in a fixed order.
#[must_use]
pub fn cells() -> Vec<Cell> {
    use OperationPhase::{Aborting, AddLearner, CatchUp, EnterJoint, HandOver, LeaveJoint, MoveLeaders};
    const MOVE: &[OperationPhase] = &[AddLearner, CatchUp, EnterJoint, LeaveJoint];
    const DRAIN: &[OperationPhase] = &[HandOver, AddLearner, CatchUp, EnterJoint, LeaveJoint];
    const RETURN: &[OperationPhase] = &[AddLearner, CatchUp, EnterJoint, LeaveJoint, MoveLeaders];
    let verbs: [(Verb, &[OperationPhase]); 10] = [
        (Verb::MoveReplica, MOVE),
        (Verb::MoveShards, MOVE),
        (Verb::DrainNodes, DRAIN),
        (Verb::DrainZone, DRAIN),
        (Verb::ReturnZone, RETURN),
        (Verb::AddNodes, MOVE),
        (Verb::RemoveNodes, DRAIN),
        (Verb::SpreadLeaders, &[MoveLeaders]),
        (Verb::MoveLeader, &[MoveLeaders]),
        (Verb::Abort, &[Aborting]),
    ];
    let mut cells = Vec::new();
    for (verb, phases) in verbs {
        for &at in phases {
            cells.extend(Hit::ALL.map(|hit| Cell { verb, at, hit }));
        }
    }
    cells
}

/// Nodes of the cluster, two in each of three zones; the last is a spare.
pub(super) const NODES: u64 = 6;
pub(super) const FOUNDERS: u64 = 5;
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Where a node stands.
pub(super) fn zone(node: u64) -> &'static str {
    ZONES[usize::try_from((node - 1) % 3).unwrap_or(0)]
}

/// Before the operation, and after the hit.
const WARM_UP: Duration = Duration::from_millis(700);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long an operation may take to be taken, to come to the phase, and to end.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
const PHASE_WITHIN: Duration = Duration::from_secs(20);
const ENDED_WITHIN: Duration = Duration::from_secs(120);

/// The operation of a verb.
fn operation(verb: Verb, map: &PlacementMap) -> Operation {
    let zone = || "c".to_owned();
    let goal = match verb {
        Verb::MoveReplica | Verb::Abort => {
            let members = &map.shards[0].members;
            let to = (1..=FOUNDERS).find(|node| !members.contains(node)).unwrap_or(FOUNDERS);
            return Operation::MoveReplica(MoveReplicaRequest {
                shard: 0,
                from: members[0],
                to,
                dry_run: false,
            });
        }
        Verb::MoveShards => Goal::MoveShards(MoveShards {
            shards: vec![0],
            from: None,
            to: Some(Place {
                nodes: vec![4, 5, 6],
                zone: String::new(),
            }),
        }),
        Verb::DrainNodes => Goal::DrainNodes(DrainNodes {
            nodes: vec![3],
            any_zone: false,
        }),
        Verb::DrainZone => Goal::DrainZone(DrainZone {
            zone: zone(),
            any_zone: false,
        }),
        Verb::ReturnZone => Goal::ReturnZone(ReturnZone {
            zone: zone(),
            stages: 2,
            pause_ms: 200,
        }),
        Verb::AddNodes => Goal::AddNodes(AddNodes { nodes: vec![6] }),
        Verb::RemoveNodes => Goal::RemoveNodes(RemoveNodes {
            nodes: vec![6],
            any_zone: false,
        }),
        Verb::SpreadLeaders => Goal::SpreadLeaders(SpreadLeaders {}),
        Verb::MoveLeader => {
            let to = map.shards[0].members[2];
            Goal::MoveLeader(MoveLeader { shard: 0, to })
        }
    };
    Operation::Migration(MigrationGoal { goal: Some(goal) })
}

/// What has to be done before, so that there is something to do.
fn before(verb: Verb, map: &PlacementMap) -> Vec<Operation> {
    let goal = |goal| Operation::Migration(MigrationGoal { goal: Some(goal) });
    match verb {
        Verb::ReturnZone => vec![operation(Verb::DrainZone, map)],
        Verb::RemoveNodes => vec![operation(Verb::AddNodes, map)],
        Verb::MoveLeader => vec![goal(Goal::MoveLeader(MoveLeader {
            shard: 0,
            to: map.shards[0].members[0],
        }))],
        // All of a zone: so that there is something to spread.
        Verb::SpreadLeaders => (0..map.shards.len())
            .filter_map(|shard| {
                let to = map.shards[shard]
                    .members
                    .iter()
                    .copied()
                    .find(|node| zone(*node) == "c")?;
                let shard = u32::try_from(shard).ok()?;
                Some(goal(Goal::MoveLeader(MoveLeader { shard, to })))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Carries a cell out. Ends once the operation has, or its time is up.
pub(super) async fn rehearse(cell: Cell, world: &World, cluster: &Cluster, rng: &mut ChaCha8Rng) -> Rehearsed {
    let clock = &world.clock;
    clock.sleep(WARM_UP).await;
    let nothing = Rehearsed {
        hit: false,
        ended: None,
    };
    for operation in before(cell.verb, &map(world)) {
        let Ok(id) = timeout(TAKEN_WITHIN, start(world, operation)).await else {
            return nothing;
        };
        if timeout(ENDED_WITHIN, until_ended(world, id)).await.is_err() {
            return nothing;
        }
    }
    let Ok(id) = timeout(TAKEN_WITHIN, start(world, operation(cell.verb, &map(world)))).await else {
        return nothing;
    };
    if cell.verb == Verb::Abort {
        let caught_up = until_phase(world, id, OperationPhase::CatchUp);
        if timeout(PHASE_WITHIN, caught_up).await.is_err() {
            return nothing;
        }
        abort(world, id).await;
    }
    let ends = timeout(PHASE_WITHIN, until_phase(world, id, cell.at)).await;
    let hit = ends.is_ok();
    let (source, target) = ends.unwrap_or((1, 2));
    world.trace.event(format_args!(
        "{cell}: source {source}, target {target}, in its phase: {hit}"
    ));
    let mut kill = |node| match rng.random_bool(0.5) {
        true => Act::PowerLoss(Victim::Node(node)),
        false => Act::Crash(Victim::Node(node)),
    };
    match cell.hit {
        Hit::KillSource => cluster.act(&kill(source)),
        Hit::KillTarget => cluster.act(&kill(target)),
        Hit::KillPlacementLeader => {
            let leader = world.net.ledger(|ledger| ledger.leader(PLACEMENT)).unwrap_or(1);
            cluster.act(&kill(leader));
        }
        Hit::Partition => {
            cluster.act(&Act::CutOneWay(source, target));
            cluster.act(&Act::CutOneWay(target, source));
        }
    }
    let over = Duration::from_millis(rng.random_range(50..2500));
    clock.sleep(over).await;
    cluster.act(&Act::Heal);
    cluster.act(&Act::Restart);
    let ended = timeout(ENDED_WITHIN, until_ended(world, id)).await.ok();
    Rehearsed { hit, ended }
}

fn map(world: &World) -> Rc<PlacementMap> {
    Rc::new(world.net.owners(|owners| owners.map().clone()))
}

/// Asks every node until the leader of the placement group has taken it.
async fn start(world: &World, operation: Operation) -> u64 {
    let request = StartOperationRequest {
        operation: Some(operation),
        throttle: Some(Throttle {
            bytes_per_second: 200_000,
            moves_max: 2,
        }),
        dry_run: false,
    };
    loop {
        for node in 1..=NODES {
            let Some(handle) = world.net.handle(node) else { continue };
            let call = Call::within(Duration::from_millis(500));
            match handle.start_operation(request.clone(), call).await {
                Ok(taken) => return taken.operation,
                Err(refusal) => world.trace.event(format_args!("node {node} refuses: {refusal}")),
            }
        }
        world.clock.sleep(Duration::from_millis(50)).await;
    }
}

async fn abort(world: &World, operation: u64) {
    for node in 1..=NODES {
        let Some(handle) = world.net.handle(node) else { continue };
        let call = Call::within(Duration::from_millis(500));
        // Refused by all but one.
        let _ = handle.abort_operation(AbortOperationRequest { operation }, call).await;
    }
}

fn migration(map: &PlacementMap, id: u64) -> Option<&Migration> {
    map.migrations.iter().find(|it| it.id == id)
}

/// Waits until the operation, or a move of it, is in the phase. Gives who gives and who takes then.
async fn until_phase(world: &World, id: u64, phase: OperationPhase) -> (u64, u64) {
    loop {
        let map = map(world);
        let mut operations = map.operations.iter();
        let ends = |it: &PlacementOperation| (it.from, it.to);
        let own = operations.find(|it| (it.id == id || it.migration == id) && it.phase() == phase);
        if let Some(found) = own {
            return ends(found);
        }
        let found = migration(&map, id).filter(|it| it.phase() == phase);
        match (found, phase) {
            (Some(it), OperationPhase::MoveLeaders) => {
                if let Some(wish) = it.wishes.first() {
                    let leader = world.net.ledger(|ledger| ledger.leader(wish.shard));
                    return (leader.unwrap_or(1), wish.to);
                }
            }
            (Some(it), _) => {
                let source = it.nodes.first().copied().unwrap_or(1);
                return (source, source % FOUNDERS + 1);
            }
            (None, _) => {}
        }
        world.clock.sleep(LOOK_EVERY).await;
    }
}

async fn until_ended(world: &World, id: u64) -> OperationPhase {
    loop {
        let map = map(world);
        let operation = map.operations.iter().find(|it| it.id == id);
        if let Some(it) = operation.filter(|it| !placement::is_active(it)) {
            return it.phase();
        }
        if let Some(it) = migration(&map, id).filter(|it| !placement::goes_on(it)) {
            return it.phase();
        }
        world.clock.sleep(LOOK_EVERY * 20).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_hit_in_each_of_its_phases_by_everything() {
        let cells = cells();
        assert_eq!(cells.len(), 4 * (3 * 4 + 3 * 5 + 5 + 1 + 1 + 1));
        for (at, cell) in cells.iter().enumerate() {
            assert!(!cells[at + 1..].contains(cell), "{cell}");
        }
    }
}
