//! What the leader of the placement group does for migrations: it compares the map with their goals, and proposes what is
//! missing. All that it remembers for itself is who was heard when; whoever leads next begins with that anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AbortMove, AdvanceMigration, BeginMigration, BeginMove, FulfilWish, LeaderWish, Migration, MigrationGoal,
    NoteNodes, OperationPhase, PlacementMap, PlacementNode, PlacementReport, StartOperationRequest,
    StartOperationResponse, migration_goal::Goal, placement_command::Command, start_operation_request::Operation,
};

use super::{
    api::{Answer, Reason},
    council::{Council, Waiting},
    inbox::Reply as To,
};
use crate::placement::{self, Layout, Next, Obstacle, Reply};

/// How long a node that was heard counts as up. Each says something several times in it.
const UP_FOR: Duration = Duration::from_secs(3);

/// How long a new leader listens before it believes that who wasn't heard is down.
const LISTENS_FOR: Duration = Duration::from_millis(500);

/// How long nodes may take to hand over what they lead, before their replicas move all the same.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);

/// How long a leadership may take to move before that is given up.
const WISH_MAX: Duration = Duration::from_secs(5);

/// How long a migration may have nothing that it can do before it is aborted.
const STUCK_MAX: Duration = Duration::from_secs(60);

/// Fewest bytes a second that a throttle may allow: with less, a snapshot would take as long as nobody waits.
const THROTTLE_MIN: u64 = 1024;

/// What a node said last.
#[derive(Debug)]
struct Said {
    at: Duration,
    version: u64,
    led: BTreeMap<u32, u64>,
}

/// What the leader of the placement group knows beside the map.
#[derive(Debug, Default)]
pub(super) struct Watch {
    since: Duration,
    said: BTreeMap<u64, Said>,
    /// Zones that nodes said and the map doesn't know.
    zones: BTreeMap<u64, String>,
    /// When each migration entered the phase and stage that it is in, or last did something.
    entered: BTreeMap<u64, (u64, Duration)>,
    moved: BTreeMap<u64, Duration>,
    /// Since when each leadership is wished for.
    wished: BTreeMap<(u32, u64), Duration>,
    /// What each migration waits for.
    pub(super) waits: BTreeMap<u64, String>,
}

impl Watch {
    pub(super) fn began(now: Duration) -> Self {
        Self {
            since: now,
            ..Self::default()
        }
    }

    pub(super) fn hear(&mut self, map: &PlacementMap, report: &PlacementReport, now: Duration) {
        let said = Said {
            at: now,
            version: report.version,
            led: report.led.iter().map(|it| (it.shard, it.term)).collect(),
        };
        self.said.insert(report.node, said);
        match report.zone.is_empty() || placement::zone(map, report.node) == report.zone {
            true => drop(self.zones.remove(&report.node)),
            false => drop(self.zones.insert(report.node, report.zone.clone())),
        }
    }

    fn up(&self, node: u64, now: Duration) -> bool {
        self.said
            .get(&node)
            .is_some_and(|said| now.saturating_sub(said.at) < UP_FOR)
    }

    fn knows(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= LISTENS_FOR
    }

    /// Who leads each shard, as those said that are up: of two the one of the later term.
    fn leaders(&self, now: Duration) -> BTreeMap<u32, u64> {
        let mut best = BTreeMap::<u32, (u64, u64)>::new();
        for (node, said) in self.said.iter().filter(|(node, _)| self.up(**node, now)) {
            for (shard, term) in &said.led {
                let known = best.entry(*shard).or_default();
                *known = (*known).max((*term, *node));
            }
        }
        best.into_iter().map(|(shard, (_, node))| (shard, node)).collect()
    }

    /// Whether `node` leads nothing, as it said after version `since` of the map, or can't as it is down.
    fn leads_nothing(&self, node: u64, since: u64, now: Duration) -> bool {
        let said = self.said.get(&node);
        !self.up(node, now) || said.is_some_and(|said| said.version >= since && said.led.is_empty())
    }

    /// How long a migration has been in its phase and stage.
    fn in_phase(&mut self, migration: &Migration, now: Duration) -> Duration {
        let entered = self.entered.entry(migration.id).or_insert((0, now));
        if entered.0 != migration.began {
            *entered = (migration.began, now);
            self.moved.insert(migration.id, now);
        }
        now.saturating_sub(entered.1)
    }

    fn forget(&mut self, map: &PlacementMap) {
        let going: BTreeSet<u64> = map
            .migrations
            .iter()
            .filter(|it| placement::goes_on(it))
            .map(|it| it.id)
            .collect();
        self.entered.retain(|id, _| going.contains(id));
        self.moved.retain(|id, _| going.contains(id));
        self.waits.retain(|id, _| going.contains(id));
        self.wished
            .retain(|(shard, to), _| placement::wished(map, *shard) == Some(*to));
    }
}

/// The nodes that a goal names.
fn named(goal: &Goal) -> Vec<u64> {
    match goal {
        Goal::MoveShards(it) => {
            let places = it.to.iter().chain(&it.from);
            places.flat_map(|place| place.nodes.clone()).collect()
        }
        Goal::DrainNodes(it) => it.nodes.clone(),
        Goal::AddNodes(it) => it.nodes.clone(),
        Goal::RemoveNodes(it) => it.nodes.clone(),
        Goal::MoveLeader(it) => vec![it.to],
        _ => Vec::new(),
    }
}

impl Council {
    /// Starts an operation, or says what it would do.
    pub(super) fn start(&mut self, request: StartOperationRequest, now: Duration, to: To<StartOperationResponse>) {
        let dry_run = request.dry_run;
        let throttle = request.throttle.unwrap_or_default();
        let begun = match request.operation {
            _ if (1..THROTTLE_MIN).contains(&throttle.bytes_per_second) => {
                let asked = throttle.bytes_per_second;
                let message = format!("{asked} bytes a second is too few: at least {THROTTLE_MIN}, or 0 for no limit");
                Err(self.refusal(Reason::Invalid, message))
            }
            Some(Operation::MoveReplica(asked)) => {
                let begin = BeginMove {
                    shard: asked.shard,
                    from: asked.from,
                    to: asked.to,
                    migration: 0,
                    bytes_per_second: throttle.bytes_per_second,
                };
                self.start_move(&begin, dry_run || asked.dry_run)
            }
            Some(Operation::Migration(goal)) => self.start_migration(goal, throttle, dry_run, now),
            None => Err(self.refusal(Reason::Invalid, "it names no operation")),
        };
        match begun {
            Ok(Ok(command)) => self.propose(command, Waiting::Start(to)),
            Ok(Err(answer)) => drop(to.send(Ok(answer))),
            Err(refusal) => drop(to.send(Err(refusal))),
        }
    }

    fn start_move(&self, begin: &BeginMove, dry_run: bool) -> Answer<Result<Command, StartOperationResponse>> {
        self.admit()?;
        let going = self.machine.check(begin).map_err(|reply| self.refused(reply))?;
        let step = firedrill_proto::chat::v1::PlannedStep {
            shard: begin.shard,
            from: begin.from,
            to: begin.to,
            leadership: false,
        };
        Ok(match going {
            None if !dry_run => Ok(Command::Begin(*begin)),
            going => Err(StartOperationResponse {
                operation: going.map_or(0, |it| it.id),
                steps: vec![step],
            }),
        })
    }

    fn start_migration(
        &self,
        asked: MigrationGoal,
        throttle: firedrill_proto::chat::v1::Throttle,
        dry_run: bool,
        now: Duration,
    ) -> Answer<Result<Command, StartOperationResponse>> {
        self.admit()?;
        let invalid = |message: String| Err(self.refusal(Reason::Invalid, message));
        if !self.watch.knows(now) {
            let message = "this node leads the placement group since just now, and listens who is up";
            return Err(self.refusal(Reason::Overloaded, message).after(LISTENS_FOR));
        }
        let nodes = match self.machine.check_migration(&asked) {
            Ok(Ok(going)) => {
                return Ok(Err(StartOperationResponse {
                    operation: going.id,
                    steps: Vec::new(),
                }));
            }
            Ok(Err(nodes)) => nodes,
            Err(reply) => return Err(self.refused(reply)),
        };
        let Some(goal) = &asked.goal else {
            return invalid("it names no goal".to_owned());
        };
        if let Some(stranger) = named(goal).iter().find(|node| !self.peers.contains(node)) {
            return invalid(format!("node {stranger} is no node of this cluster"));
        }
        if let (Goal::RemoveNodes(_), Some(member)) = (goal, nodes.iter().find(|node| self.members.contains(node))) {
            let members = &self.members;
            return invalid(format!(
                "node {member} holds the placement group, which would lose one of its {} votes: {members:?} stay",
                members.len()
            ));
        }
        if let (Goal::AddNodes(_), Some(silent)) = (goal, nodes.iter().find(|node| !self.watch.up(**node, now))) {
            return invalid(format!("node {silent} was not heard lately: start it first"));
        }
        let steps = self
            .rehearse(&asked, goal, &nodes, now)
            .map_err(|obstacle| self.refusal(Reason::Invalid, obstacle.to_string()))?;
        if steps.is_empty() && matches!(goal, Goal::MoveShards(_)) {
            return invalid("all is where it is to be: there is nothing to move".to_owned());
        }
        let replicas = steps.iter().filter(|step| !step.leadership).count();
        let first = match goal {
            Goal::SpreadLeaders(_) | Goal::MoveLeader(_) => steps.len(),
            _ => replicas,
        };
        Ok(match dry_run {
            true => Err(StartOperationResponse { operation: 0, steps }),
            false => Ok(Command::BeginMigration(BeginMigration {
                goal: Some(asked),
                throttle: Some(throttle),
                items_total: first as u64,
            })),
        })
    }

    fn rehearse(
        &self,
        asked: &MigrationGoal,
        goal: &Goal,
        nodes: &[u64],
        now: Duration,
    ) -> Result<Vec<firedrill_proto::chat::v1::PlannedStep>, Obstacle> {
        let mut trial = self.machine.clone();
        let begin = BeginMigration {
            goal: Some(asked.clone()),
            ..BeginMigration::default()
        };
        let command = firedrill_proto::chat::v1::PlacementCommand {
            command: Some(Command::BeginMigration(begin)),
            ..Default::default()
        };
        let (index, term) = trial.applied();
        trial.apply(index + 1, term, Some(command));
        let up = |node: u64| self.watch.up(node, now);
        placement::rehearse(trial.map(), goal, nodes, &self.watch.leaders(now), &up)
    }

    /// Proposes what the migrations lack: at most one command for each at a time.
    pub(super) fn drive(&mut self, now: Duration) {
        if self.admit().is_err() || !self.watch.knows(now) {
            return;
        }
        let zones = std::mem::take(&mut self.watch.zones);
        if !zones.is_empty() {
            let node = |(node, zone)| PlacementNode { node, zone, state: 0 };
            let nodes = zones.into_iter().map(node).collect();
            self.propose(Command::Note(NoteNodes { nodes }), Waiting::Advance(0));
        }
        self.watch.forget(self.machine.map());
        let migrations = self.machine.map().migrations.iter();
        let going: Vec<Migration> = migrations.filter(|it| placement::goes_on(it)).cloned().collect();
        for migration in going {
            if self.is_busy(migration.id) || self.admit().is_err() {
                continue;
            }
            let idle = self.watch.in_phase(&migration, now);
            match self.missing(&migration, idle, now) {
                Ok(Some(command)) => {
                    self.watch.waits.remove(&migration.id);
                    self.watch.moved.insert(migration.id, now);
                    self.propose(command, Waiting::Advance(migration.id));
                }
                Ok(None) => {}
                Err(obstacle) => {
                    let since = *self.watch.moved.entry(migration.id).or_insert(now);
                    let reason = obstacle.to_string();
                    if now.saturating_sub(since) >= STUCK_MAX {
                        let abort = AbortMove {
                            operation: migration.id,
                            reason: format!("it could do nothing for {STUCK_MAX:?}: {reason}"),
                        };
                        self.propose(Command::Abort(abort), Waiting::Advance(migration.id));
                    }
                    self.watch.waits.insert(migration.id, reason);
                }
            }
        }
    }

    /// What a migration lacks now; an error is what it waits for, and can't wait for without end.
    fn missing(&mut self, migration: &Migration, idle: Duration, now: Duration) -> Result<Option<Command>, Obstacle> {
        let (id, phase) = (migration.id, migration.phase());
        let Some(goal) = placement::goal(migration) else {
            return Ok(None);
        };
        if migration.failures > placement::FAILURES_MAX && phase != OperationPhase::Aborting {
            let aborted = self.machine.map().operations.iter().rev();
            let last = aborted.filter(|it| it.migration == id && !it.reason.is_empty());
            let last = last
                .map(|it| it.reason.as_str())
                .next()
                .unwrap_or("a leadership did not move");
            return Ok(Some(Command::Abort(AbortMove {
                operation: id,
                reason: format!("{} of its moves were aborted, the last: {last}", migration.failures),
            })));
        }
        let advance = |items_more: usize| {
            Ok(Some(Command::AdvanceMigration(AdvanceMigration {
                migration: id,
                from: phase.into(),
                stage: migration.stage,
                items_more: items_more as u64,
            })))
        };
        match phase {
            OperationPhase::HandOver => {
                let mut nodes = migration.nodes.iter();
                let quiet = nodes.all(|node| self.watch.leads_nothing(*node, migration.began, now));
                match quiet || idle >= HAND_OVER_MAX {
                    true => advance(0),
                    false => Ok(None),
                }
            }
            OperationPhase::MoveReplicas => {
                let going = placement::children(self.machine.map(), id).count();
                let up = |node: u64| self.watch.up(node, now);
                if going >= placement::moves_max(migration) as usize {
                    return Ok(None);
                }
                let stages = u64::from(placement::stages(migration));
                let quota = migration.items_total.div_ceil(stages) * u64::from(migration.stage);
                let last = u64::from(migration.stage) == stages;
                if !last && migration.items_done + going as u64 >= quota {
                    let pause = match goal {
                        Goal::ReturnZone(it) => Duration::from_millis(it.pause_ms),
                        _ => Duration::ZERO,
                    };
                    let moved = self.watch.moved.get(&id).copied().unwrap_or(now);
                    let rested = now.saturating_sub(moved) >= pause;
                    return if going == 0 && rested { advance(0) } else { Ok(None) };
                }
                let layout = Layout::of(self.machine.map());
                match placement::next_relocation(self.machine.map(), &layout, goal, &migration.nodes, &up)? {
                    Next::Move(it) => Ok(Some(Command::Begin(BeginMove {
                        shard: it.shard,
                        from: it.from,
                        to: it.to,
                        migration: id,
                        bytes_per_second: placement::bytes_per_second(migration),
                    }))),
                    Next::Wait => Ok(None),
                    Next::Nothing if going > 0 => Ok(None),
                    Next::Nothing => advance(0),
                }
            }
            OperationPhase::MoveLeaders => self.missing_leader(migration, goal, now),
            OperationPhase::Aborting => {
                let mut children = placement::children(self.machine.map(), id);
                let early = |phase| matches!(phase, OperationPhase::AddLearner | OperationPhase::CatchUp);
                match children.find(|it| early(it.phase())) {
                    Some(child) => Ok(Some(Command::Abort(AbortMove {
                        operation: child.id,
                        reason: format!("operation {id} was aborted: {}", migration.reason),
                    }))),
                    None if placement::children(self.machine.map(), id).next().is_some() => Ok(None),
                    None => advance(0),
                }
            }
            _ => Ok(None),
        }
    }

    fn missing_leader(
        &mut self,
        migration: &Migration,
        goal: &Goal,
        now: Duration,
    ) -> Result<Option<Command>, Obstacle> {
        let id = migration.id;
        let leaders = self.watch.leaders(now);
        for wish in &migration.wishes {
            let since = *self.watch.wished.entry((wish.shard, wish.to)).or_insert(now);
            let came_true = leaders.get(&wish.shard) == Some(&wish.to);
            if came_true || now.saturating_sub(since) >= WISH_MAX {
                return Ok(Some(Command::Fulfil(FulfilWish {
                    migration: id,
                    wish: Some(*wish),
                    given_up: !came_true,
                })));
            }
        }
        let more = match goal {
            Goal::MoveLeader(it) => (leaders.get(&it.shard) != Some(&it.to)).then_some(LeaderWish {
                shard: it.shard,
                to: it.to,
            }),
            _ => {
                // Those that are under way count as there.
                let mut soon = leaders;
                soon.extend(migration.wishes.iter().map(|wish| (wish.shard, wish.to)));
                let up = |node: u64| self.watch.up(node, now);
                placement::next_leader(self.machine.map(), &soon, &up)
            }
        };
        let more = more.filter(|wish| placement::wished(self.machine.map(), wish.shard).is_none());
        // Elections move leaderships as well: what isn't even in so many moves won't be.
        let bound = 4 * self.machine.map().shards.len() as u64 + migration.items_total;
        let wish = more.filter(|_| migration.items_done < bound);
        Ok(match wish {
            Some(wish) if migration.wishes.len() < placement::moves_max(migration) as usize => {
                Some(Command::Wish(firedrill_proto::chat::v1::WishLeader {
                    migration: id,
                    wish: Some(wish),
                }))
            }
            None if migration.wishes.is_empty() => Some(Command::AdvanceMigration(AdvanceMigration {
                migration: id,
                from: OperationPhase::MoveLeaders.into(),
                stage: migration.stage,
                items_more: 0,
            })),
            _ => None,
        })
    }

    /// Answers who asked for a start.
    pub(super) fn started(&self, to: To<StartOperationResponse>, reply: Reply) {
        let operation = match reply {
            Reply::Operation(it) => it.id,
            Reply::Migration(it) => it.id,
            reply => return drop(to.send(Err(self.refused(reply)))),
        };
        let steps = Vec::new();
        drop(to.send(Ok(StartOperationResponse { operation, steps })));
    }
}
