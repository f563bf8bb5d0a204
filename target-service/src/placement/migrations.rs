//! Migrations in the placement group's state machine: how they begin, go from phase to phase, and end.

use firedrill_proto::chat::v1::{
    AdvanceMigration, BeginMigration, FulfilWish, LeaderWish, Migration, MigrationGoal, NodeState, NoteNodes,
    OperationPhase, PhaseMark, PlacementMap, PlacementOperation, WishLeader, migration_goal::Goal,
};

use super::{
    is_active,
    machine::{Machine, Reply},
    nodes::{Layout, entry, in_zone, is_used, of_place, state},
};

/// Most moves of a migration at a time.
pub(super) const MOVES_MAX: u32 = 8;

/// Most stages of one.
pub(super) const STAGES_MAX: u32 = 100;

/// Migrations that are remembered once they have ended.
const ENDED_MAX: usize = 16;

/// Moves that may be aborted by themselves before a migration is.
pub const FAILURES_MAX: u32 = 3;

/// Whether a migration goes on.
#[must_use]
pub fn goes_on(migration: &Migration) -> bool {
    !matches!(migration.phase(), OperationPhase::Done | OperationPhase::Aborted)
}

/// What a migration is for.
#[must_use]
pub fn goal(migration: &Migration) -> Option<&Goal> {
    migration.goal.as_ref().and_then(|it| it.goal.as_ref())
}

/// What a goal is called.
#[must_use]
pub const fn goal_name(goal: &Goal) -> &'static str {
    match goal {
        Goal::MoveShards(_) => "move_shards",
        Goal::DrainNodes(_) => "drain_nodes",
        Goal::DrainZone(_) => "drain_zone",
        Goal::ReturnZone(_) => "return_zone",
        Goal::AddNodes(_) => "add_nodes",
        Goal::RemoveNodes(_) => "remove_nodes",
        Goal::Rebalance(_) => "rebalance",
        Goal::SpreadLeaders(_) => "spread_leaders",
        Goal::MoveLeader(_) => "move_leader",
    }
}

const fn moves_replicas(goal: &Goal) -> bool {
    !matches!(goal, Goal::SpreadLeaders(_) | Goal::MoveLeader(_))
}

/// A migration's moves that go on.
pub fn children(map: &PlacementMap, migration: u64) -> impl Iterator<Item = &PlacementOperation> {
    let operations = map.operations.iter();
    operations.filter(move |it| it.migration == migration && is_active(it))
}

/// How many moves of a migration may go on at a time.
#[must_use]
pub fn moves_max(migration: &Migration) -> u32 {
    migration
        .throttle
        .map_or(1, |throttle| throttle.moves_max)
        .clamp(1, MOVES_MAX)
}

/// Bytes a second that one of its moves may take; 0 is no limit of its own.
#[must_use]
pub fn bytes_per_second(migration: &Migration) -> u64 {
    match migration.throttle.map_or(0, |throttle| throttle.bytes_per_second) {
        0 => 0,
        all => (all / u64::from(moves_max(migration))).max(1),
    }
}

/// The stages that a migration has.
#[must_use]
pub fn stages(migration: &Migration) -> u32 {
    match goal(migration) {
        Some(Goal::ReturnZone(it)) => it.stages.clamp(1, STAGES_MAX),
        _ => 1,
    }
}

/// Who is to lead a shard, by the migrations that go on.
#[must_use]
pub fn wished(map: &PlacementMap, shard: u32) -> Option<u64> {
    let wishes = map.migrations.iter().filter(|it| goes_on(it)).flat_map(|it| &it.wishes);
    wishes.filter(|wish| wish.shard == shard).map(|wish| wish.to).next()
}

const fn first_phase(goal: &Goal) -> OperationPhase {
    match goal {
        Goal::DrainNodes(_) | Goal::DrainZone(_) | Goal::RemoveNodes(_) => OperationPhase::HandOver,
        Goal::MoveShards(_) | Goal::ReturnZone(_) | Goal::AddNodes(_) | Goal::Rebalance(_) => {
            OperationPhase::MoveReplicas
        }
        Goal::SpreadLeaders(_) | Goal::MoveLeader(_) => OperationPhase::MoveLeaders,
    }
}

const fn next_phase(goal: &Goal, phase: OperationPhase) -> Option<OperationPhase> {
    match (phase, goal) {
        (OperationPhase::HandOver, _) => Some(OperationPhase::MoveReplicas),
        (OperationPhase::MoveReplicas, Goal::ReturnZone(_) | Goal::AddNodes(_)) => Some(OperationPhase::MoveLeaders),
        (OperationPhase::MoveReplicas | OperationPhase::MoveLeaders, _) => Some(OperationPhase::Done),
        (OperationPhase::Aborting, _) => Some(OperationPhase::Aborted),
        _ => None,
    }
}

/// The nodes whose state a migration with this goal changes; refused where it can't.
fn concerned(map: &PlacementMap, goal: &Goal) -> Result<Vec<u64>, String> {
    let mut nodes = match goal {
        Goal::DrainNodes(it) => it.nodes.clone(),
        Goal::RemoveNodes(it) => it.nodes.clone(),
        Goal::AddNodes(it) => it.nodes.clone(),
        Goal::DrainZone(it) => in_zone(map, &it.zone)
            .into_iter()
            .filter(|node| state(map, *node) != NodeState::Drained)
            .collect(),
        Goal::ReturnZone(it) => in_zone(map, &it.zone)
            .into_iter()
            .filter(|node| state(map, *node) == NodeState::Drained)
            .collect(),
        Goal::MoveShards(_) | Goal::Rebalance(_) | Goal::SpreadLeaders(_) | Goal::MoveLeader(_) => {
            return Ok(Vec::new());
        }
    };
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Err(match goal {
            Goal::DrainZone(it) => format!("no node of zone {:?} is known that is not drained", it.zone),
            Goal::ReturnZone(it) => format!("no drained node of zone {:?} is known", it.zone),
            _ => "it names no node".to_owned(),
        });
    }
    for &node in &nodes {
        let is = state(map, node);
        let fits = match goal {
            Goal::AddNodes(_) => matches!(is, NodeState::Spare | NodeState::Drained),
            Goal::RemoveNodes(_) => !matches!(is, NodeState::Removed | NodeState::Draining),
            Goal::DrainNodes(_) => matches!(is, NodeState::Placeable | NodeState::Spare),
            _ => true,
        };
        if node == 0 || !fits {
            let is = is.as_str_name().to_ascii_lowercase();
            return Err(match is.as_str() {
                "removed" => format!("node {node} was removed: its id is never used again"),
                _ => format!("node {node} is {is}"),
            });
        }
    }
    Ok(nodes)
}

impl Machine {
    /// Whether a migration could begin: gives the one that goes on with this goal already, or the nodes that it changes.
    ///
    /// # Errors
    /// Says why it can't.
    pub fn check_migration(&self, asked: &MigrationGoal) -> Result<Result<&Migration, Vec<u64>>, Reply> {
        let Some(wanted) = &asked.goal else {
            return Err(Reply::Invalid("it names no goal".to_owned()));
        };
        let map = self.map();
        let shards = u32::try_from(map.shards.len()).unwrap_or(u32::MAX);
        let named: &[u32] = match wanted {
            Goal::MoveShards(it) => &it.shards,
            Goal::MoveLeader(it) => &[it.shard],
            _ => &[],
        };
        if let Some(unknown) = named.iter().find(|shard| **shard >= shards) {
            return Err(Reply::Invalid(format!("there is no shard {unknown}")));
        }
        let going = map.migrations.iter().filter(|it| goes_on(it));
        for it in going {
            if it.goal.as_ref() == Some(asked) && it.phase() != OperationPhase::Aborting {
                return Ok(Ok(it));
            }
            let Some(other) = goal(it) else { continue };
            if moves_replicas(other) == moves_replicas(wanted) {
                return Err(Reply::Busy(format!(
                    "operation {} ({}) goes on",
                    it.id,
                    goal_name(other)
                )));
            }
        }
        match wanted {
            Goal::MoveShards(it) => {
                let to = it.to.as_ref().map(|place| of_place(map, place)).unwrap_or_default();
                if to.is_empty() {
                    return Err(Reply::Invalid(
                        "it names no node and no known zone to move to".to_owned(),
                    ));
                }
                if let Some(gone) = to.iter().find(|node| super::nodes::leaves(map, **node)) {
                    let is = state(map, *gone).as_str_name().to_ascii_lowercase();
                    return Err(Reply::Invalid(format!("node {gone} is {is}: nothing moves there")));
                }
            }
            Goal::MoveLeader(it) => {
                let members = &map.shards[it.shard as usize].members;
                if !members.contains(&it.to) {
                    let message = format!("shard {} is held by {members:?}, not by node {}", it.shard, it.to);
                    return Err(Reply::Invalid(message));
                }
            }
            _ => {}
        }
        concerned(map, wanted).map(Err).map_err(Reply::Invalid)
    }

    pub(super) fn begin_migration(&mut self, begin: BeginMigration, index: u64) -> Reply {
        let asked = begin.goal.unwrap_or_default();
        let nodes = match self.check_migration(&asked) {
            Ok(Ok(going)) => return Reply::Migration(Box::new(going.clone())),
            Ok(Err(nodes)) => nodes,
            Err(reply) => return reply,
        };
        let Some(wanted) = &asked.goal else {
            return Reply::Nothing;
        };
        let becomes = match wanted {
            Goal::DrainNodes(_) | Goal::DrainZone(_) | Goal::RemoveNodes(_) => NodeState::Draining,
            _ => NodeState::Placeable,
        };
        let phase = first_phase(wanted);
        let map = self.map_mut();
        for node in &nodes {
            entry(map, *node).state = becomes.into();
        }
        map.last_operation += 1;
        let mut migration = Migration {
            id: map.last_operation,
            goal: Some(asked),
            throttle: begin.throttle,
            items_total: begin.items_total,
            nodes,
            stage: 1,
            ..Migration::default()
        };
        enter(&mut migration, phase, index, map.time_ms);
        map.migrations.push(migration.clone());
        map.version = index;
        self.forget_migrations();
        Reply::Migration(Box::new(migration))
    }

    fn forget_migrations(&mut self) {
        let map = self.map_mut();
        let ended = map.migrations.iter().filter(|it| !goes_on(it)).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        map.migrations.retain(|it| {
            let goes = surplus > 0 && !goes_on(it);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn going(&mut self, id: u64) -> Option<&mut Migration> {
        self.map_mut()
            .migrations
            .iter_mut()
            .find(|it| it.id == id && goes_on(it))
    }

    pub(super) fn advance_migration(&mut self, advance: &AdvanceMigration, index: u64) -> Reply {
        let (id, from, stage) = (advance.migration, advance.from(), advance.stage);
        let time_ms = self.map().time_ms;
        let busy = children(self.map(), id).next().is_some();
        let layout = Layout::of(self.map());
        let Some(migration) = self.going(id).filter(|it| (it.phase(), it.stage) == (from, stage)) else {
            return Reply::Nothing;
        };
        let Some(wanted) = goal(migration).cloned() else {
            return Reply::Nothing;
        };
        if busy || (from == OperationPhase::MoveLeaders && !migration.wishes.is_empty()) {
            return Reply::Nothing;
        }
        if from == OperationPhase::MoveReplicas && stage < stages(migration) {
            migration.stage += 1;
            enter(migration, from, index, time_ms);
            let migration = migration.clone();
            self.map_mut().version = index;
            return Reply::Migration(Box::new(migration));
        }
        let Some(next) = next_phase(&wanted, from) else {
            return Reply::Nothing;
        };
        let drained = matches!(wanted, Goal::DrainNodes(_) | Goal::DrainZone(_) | Goal::RemoveNodes(_));
        if next == OperationPhase::Done && drained && migration.nodes.iter().any(|node| layout.holds_any(*node)) {
            return Reply::Nothing;
        }
        migration.items_total += advance.items_more;
        enter(migration, next, index, time_ms);
        let migration = migration.clone();
        let map = self.map_mut();
        map.version = index;
        for &node in &migration.nodes {
            let becomes = match (next, &wanted) {
                (OperationPhase::Done, Goal::RemoveNodes(_)) => NodeState::Removed,
                (OperationPhase::Done, Goal::DrainNodes(_) | Goal::DrainZone(_)) => NodeState::Drained,
                (OperationPhase::Aborted, _) => as_before(map, &wanted, node),
                _ => continue,
            };
            entry(map, node).state = becomes.into();
        }
        self.forget_migrations();
        Reply::Migration(Box::new(migration))
    }

    pub(super) fn abort_migration(&mut self, id: u64, reason: String, index: u64) -> Option<Reply> {
        let time_ms = self.map().time_ms;
        let migration = self.map_mut().migrations.iter_mut().find(|it| it.id == id)?;
        match migration.phase() {
            OperationPhase::Done => {
                return Some(Reply::Invalid(format!("operation {id} is done: nothing of it goes on")));
            }
            OperationPhase::Aborting | OperationPhase::Aborted => {}
            _ => {
                migration.reason = reason;
                migration.wishes.clear();
                enter(migration, OperationPhase::Aborting, index, time_ms);
            }
        }
        let migration = migration.clone();
        self.map_mut().version = index;
        Some(Reply::Migration(Box::new(migration)))
    }

    /// Whether a move of a migration may still begin.
    pub(super) fn wants_move(&self, migration: u64) -> bool {
        let mut migrations = self.map().migrations.iter();
        let found = migrations.find(|it| it.id == migration);
        found.is_some_and(|it| {
            it.phase() == OperationPhase::MoveReplicas
                && children(self.map(), migration).count() < moves_max(it) as usize
        })
    }

    /// One of a migration's moves has ended.
    pub(super) fn child_ended(&mut self, operation: &PlacementOperation) {
        let bytes = operation.phases.last().map_or(0, |mark| mark.bytes);
        let Some(migration) = self.going(operation.migration) else {
            return;
        };
        migration.bytes += bytes;
        if operation.phase() == OperationPhase::Done {
            migration.items_done += 1;
        } else if migration.phase() != OperationPhase::Aborting {
            migration.failures += 1;
        }
    }

    pub(super) fn wish(&mut self, asked: &WishLeader, index: u64) -> Reply {
        let Some(wish) = asked.wish else {
            return Reply::Nothing;
        };
        let taken = wished(self.map(), wish.shard).is_some();
        let held = self.map().shards.get(wish.shard as usize);
        let held = held.is_some_and(|placed| placed.members.contains(&wish.to));
        let Some(migration) = self.going(asked.migration) else {
            return Reply::Nothing;
        };
        let room = migration.wishes.len() < moves_max(migration) as usize;
        if taken || !held || !room || migration.phase() != OperationPhase::MoveLeaders {
            return Reply::Nothing;
        }
        migration.wishes.push(wish);
        let migration = migration.clone();
        self.map_mut().version = index;
        Reply::Migration(Box::new(migration))
    }

    pub(super) fn fulfil(&mut self, told: &FulfilWish, index: u64) -> Reply {
        let (wish, given_up) = (told.wish.unwrap_or_default(), told.given_up);
        let Some(migration) = self.going(told.migration) else {
            return Reply::Nothing;
        };
        let before = migration.wishes.len();
        migration.wishes.retain(|it: &LeaderWish| *it != wish);
        if migration.wishes.len() == before {
            return Reply::Nothing;
        }
        match given_up {
            true => migration.failures += 1,
            false => migration.items_done += 1,
        }
        let migration = migration.clone();
        self.map_mut().version = index;
        Reply::Migration(Box::new(migration))
    }

    pub(super) fn note(&mut self, noted: &NoteNodes, index: u64) -> Reply {
        for it in &noted.nodes {
            entry(self.map_mut(), it.node).zone.clone_from(&it.zone);
        }
        self.map_mut().version = index;
        Reply::Nothing
    }
}

/// What becomes of a node whose migration was aborted: what it holds it keeps, and where it was to hold nothing it may.
fn as_before(map: &PlacementMap, wanted: &Goal, node: u64) -> NodeState {
    match wanted {
        Goal::AddNodes(_) if !is_used(map, node) => NodeState::Spare,
        Goal::ReturnZone(_) if !is_used(map, node) => NodeState::Drained,
        _ => NodeState::Placeable,
    }
}

fn enter(migration: &mut Migration, phase: OperationPhase, index: u64, at_ms: u64) {
    migration.phase = phase.into();
    migration.began = index;
    migration.phases.push(PhaseMark {
        phase: phase.into(),
        at_ms,
        bytes: migration.bytes,
        items: migration.items_done,
        stage: migration.stage,
    });
}
