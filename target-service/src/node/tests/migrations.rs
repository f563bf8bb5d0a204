//! Migrations: many moves with one goal, while people write, and nodes die.

use std::{collections::BTreeSet, time::Duration};

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AddNodes, DrainNodes, DrainZone, Migration, MigrationGoal, MoveLeader, MoveShards,
    NodeState, OperationPhase, Place, PlacementStatus, PlannedStep, Rebalance, RemoveNodes, ReturnZone, RoutesRequest,
    SendRequest, SpreadLeaders, StartOperationRequest, StartOperationResponse, StatusRequest, Throttle,
    migration_goal::Goal, start_operation_request::Operation,
};

use super::{
    super::{Answer, ClientApi as _, NodeConfig, Reason},
    cluster::{Cluster, Person, patient},
};
use crate::chat::ids;

/// Every shard on three nodes, two nodes in each of the zones a, b and c.
fn zoned(config: &mut NodeConfig) {
    config.everywhere_up_to = 0;
    let zones = ["a", "b", "c"];
    config.zone = zones[usize::try_from((config.node - 1) % 3).unwrap()].to_owned();
}

/// The same, with nodes 1, 2 and 3 as founders: the others are spares.
fn with_spares(config: &mut NodeConfig) {
    zoned(config);
    config.founders = vec![1, 2, 3];
    config.bootstrap = config.node <= 3;
}

async fn ask(cluster: &Cluster, goal: Goal, throttle: Throttle, dry_run: bool) -> Answer<StartOperationResponse> {
    let request = StartOperationRequest {
        operation: Some(Operation::Migration(MigrationGoal { goal: Some(goal) })),
        throttle: Some(throttle),
        dry_run,
    };
    cluster
        .until("a decision", async || {
            for node in cluster.nodes() {
                match cluster.handle(node).start_operation(request.clone(), patient()).await {
                    Err(refusal) if matches!(refusal.reason, Reason::NotLeader | Reason::Overloaded) => {}
                    answer => return Some(answer),
                }
            }
            None
        })
        .await
}

async fn start(cluster: &Cluster, goal: Goal) -> u64 {
    ask(cluster, goal, Throttle::default(), false).await.unwrap().operation
}

async fn dry(cluster: &Cluster, goal: Goal) -> Answer<Vec<PlannedStep>> {
    let answer = ask(cluster, goal, Throttle::default(), true).await?;
    assert_eq!(answer.operation, 0);
    Ok(answer.steps)
}

/// What the node that knows most says of the placement of shards.
async fn placement(cluster: &Cluster) -> PlacementStatus {
    let mut newest = PlacementStatus::default();
    for node in cluster.nodes() {
        let Ok(status) = cluster.handle(node).status(StatusRequest {}, patient()).await else {
            continue;
        };
        let said = status.placement.unwrap();
        if said.version >= newest.version {
            newest = said;
        }
    }
    newest
}

async fn migration(cluster: &Cluster, id: u64) -> Option<Migration> {
    let migrations = placement(cluster).await.migrations.into_iter();
    migrations.filter_map(|it| it.migration).find(|it| it.id == id)
}

async fn ended(cluster: &Cluster, id: u64) -> Migration {
    cluster
        .until("end of the migration", async || {
            let found = migration(cluster, id).await?;
            matches!(found.phase(), OperationPhase::Done | OperationPhase::Aborted).then_some(found)
        })
        .await
}

async fn done(cluster: &Cluster, id: u64) -> Migration {
    let ended = ended(cluster, id).await;
    assert_eq!(ended.phase(), OperationPhase::Done, "{}", ended.reason);
    ended
}

async fn state(cluster: &Cluster, node: u64) -> NodeState {
    let nodes = placement(cluster).await.nodes;
    nodes
        .iter()
        .find(|it| it.node == node)
        .map_or(NodeState::Spare, |it| it.state())
}

/// The shards that a node has a replica of, and those that it leads.
async fn of(cluster: &Cluster, node: u64) -> (BTreeSet<u32>, usize) {
    let status = cluster.handle(node).status(StatusRequest {}, patient()).await.unwrap();
    let led = status.shards.iter().filter(|shard| shard.leader == node).count();
    (status.shards.iter().map(|shard| shard.shard).collect(), led)
}

/// The zones of the nodes that hold each shard, by the map.
async fn zones(cluster: &Cluster) -> Vec<BTreeSet<String>> {
    let nodes = placement(cluster).await.nodes;
    let routes = cluster
        .call(async |node| node.routes(RoutesRequest {}, patient()).await)
        .await;
    let zone = |id: &u64| nodes.iter().find(|it| it.node == *id).unwrap().zone.clone();
    routes
        .routes
        .iter()
        .map(|route| route.nodes.iter().map(zone).collect())
        .collect()
}

fn drain(nodes: &[u64]) -> Goal {
    Goal::DrainNodes(DrainNodes {
        nodes: nodes.to_vec(),
        any_zone: false,
    })
}

/// One conversation on each shard.
async fn talkers(cluster: &Cluster, shards: u32) -> Vec<(Person, Person)> {
    let mut people = Vec::new();
    for number in 0..8 {
        people.push(cluster.person(&format!("1666000{number:04}")).await);
    }
    let mut pairs: Vec<Option<(usize, usize)>> = vec![None; shards as usize];
    for a in 0..people.len() {
        for b in 0..a {
            let home = ids::owner(ids::conversation_id(people[a].user, people[b].user), shards);
            pairs[home as usize].get_or_insert((a, b));
        }
    }
    let person = |at: usize| Person {
        epoch: 1,
        user: people[at].user,
        sessions: people[at].sessions.clone(),
    };
    pairs
        .into_iter()
        .flatten()
        .map(|(a, b)| (person(a), person(b)))
        .collect()
}

/// Sends once on each conversation, following the map as clients do. Nothing may be unknown, and nothing fail.
async fn send_all(cluster: &Cluster, epoch: &mut u64, pairs: &[(Person, Person)], id: u64) {
    for (a, b) in pairs {
        let position = cluster
            .until("a place for the message", async || {
                for node in cluster.nodes() {
                    let request = SendRequest {
                        epoch: *epoch,
                        ..a.message(b, id)
                    };
                    match cluster.handle(node).send(request, patient()).await {
                        Ok(sent) => return Some(sent.position),
                        Err(refusal) if refusal.reason == Reason::StaleRoute => {
                            *epoch = refusal.epoch.max(*epoch);
                        }
                        Err(refusal) => assert_eq!(refusal.reason, Reason::NotLeader, "{refusal}"),
                    }
                }
                None
            })
            .await;
        assert_eq!(position, id, "once, and in order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_holds_and_leads_nothing_and_nobody_noticed() {
    let cluster = Cluster::start(6, 4, zoned);
    let pairs = talkers(&cluster, 4).await;
    let mut epoch = 0;
    send_all(&cluster, &mut epoch, &pairs, 1).await;
    let planned = dry(&cluster, drain(&[2])).await.unwrap();
    assert!(
        planned
            .iter()
            .all(|step| step.from == 2 && step.to != 2 && !step.leadership)
    );
    assert_eq!(state(&cluster, 2).await, NodeState::Placeable, "a dry run does nothing");
    let id = start(&cluster, drain(&[2])).await;
    assert_eq!(start(&cluster, drain(&[2])).await, id, "asked again");
    let mut n = 1;
    while migration(&cluster, id)
        .await
        .is_none_or(|it| it.phase() != OperationPhase::Done)
    {
        n += 1;
        send_all(&cluster, &mut epoch, &pairs, n).await;
        cluster.clock.sleep(Duration::from_millis(5)).await;
        assert!(n < 2000, "{:?}", migration(&cluster, id).await);
    }
    let ended = done(&cluster, id).await;
    assert_eq!(ended.items_done, planned.len() as u64);
    assert_eq!(ended.items_total, ended.items_done);
    let phases: Vec<_> = ended.phases.iter().map(|mark| mark.phase()).collect();
    assert_eq!(
        phases,
        [
            OperationPhase::HandOver,
            OperationPhase::MoveReplicas,
            OperationPhase::Done
        ]
    );
    assert!(ended.phases.is_sorted_by_key(|mark| mark.at_ms));
    assert_eq!(state(&cluster, 2).await, NodeState::Drained);
    cluster
        .until("news at the node", async || {
            let (held, led) = of(&cluster, 2).await;
            (held.is_empty() && led == 0).then_some(())
        })
        .await;
    assert!(zones(&cluster).await.iter().all(|zones| zones.len() >= 2));
    send_all(&cluster, &mut epoch, &pairs, n + 1).await;
    let refused = ask(&cluster, drain(&[2]), Throttle::default(), false)
        .await
        .unwrap_err();
    assert!(refused.message.contains("node 2 is drained"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_drained_and_comes_back_in_stages() {
    let cluster = Cluster::start(6, 4, zoned);
    cluster.leader(0).await;
    let zone = "b".to_owned();
    let out = Goal::DrainZone(DrainZone {
        zone: zone.clone(),
        any_zone: false,
    });
    let throttle = Throttle {
        moves_max: 3,
        ..Throttle::default()
    };
    // The placement group hears of zones before it can place by them.
    cluster
        .until("the zones", async || {
            (placement(&cluster)
                .await
                .nodes
                .iter()
                .filter(|it| it.zone == "b")
                .count()
                == 2)
                .then_some(())
        })
        .await;
    let id = ask(&cluster, out, throttle, false).await.unwrap().operation;
    done(&cluster, id).await;
    assert!(
        zones(&cluster)
            .await
            .iter()
            .all(|zones| !zones.contains("b") && zones.len() == 2)
    );
    let back = Goal::ReturnZone(ReturnZone {
        zone: zone.clone(),
        stages: 2,
        pause_ms: 1500,
    });
    let began = cluster.clock.now();
    let id = start(&cluster, back).await;
    let ended = done(&cluster, id).await;
    assert!(cluster.clock.now() - began >= Duration::from_millis(1500), "it paused");
    assert_eq!(ended.stage, 2);
    let phases: Vec<_> = ended.phases.iter().map(|mark| (mark.phase(), mark.stage)).collect();
    assert_eq!(phases[0], (OperationPhase::MoveReplicas, 1));
    assert_eq!(phases[1], (OperationPhase::MoveReplicas, 2));
    assert!(
        zones(&cluster).await.iter().all(|zones| zones.len() == 3),
        "each shard is in each zone again"
    );
    let mut led = Vec::new();
    for node in [2, 5] {
        led.push(of(&cluster, node).await.1);
    }
    assert!(led.iter().sum::<usize>() >= 1, "{led:?}");
}

#[tokio::test(start_paused = true)]
async fn spares_are_added_get_their_share_and_one_is_removed_for_good() {
    let mut cluster = Cluster::start(5, 4, with_spares);
    let pairs = talkers(&cluster, 4).await;
    let mut epoch = 0;
    send_all(&cluster, &mut epoch, &pairs, 1).await;
    assert_eq!(state(&cluster, 4).await, NodeState::Spare);
    cluster.crash(5, true);
    cluster.clock.sleep(Duration::from_secs(4)).await;
    let add = |nodes: &[u64]| Goal::AddNodes(AddNodes { nodes: nodes.to_vec() });
    let refused = ask(&cluster, add(&[4, 5]), Throttle::default(), false)
        .await
        .unwrap_err();
    assert!(refused.message.contains("node 5 was not heard lately"), "{refused}");
    cluster.up(5);
    cluster.clock.sleep(Duration::from_secs(1)).await;
    let id = start(&cluster, add(&[4, 5])).await;
    done(&cluster, id).await;
    let mut held = Vec::new();
    for node in 1..=5 {
        held.push(of(&cluster, node).await.0.len());
    }
    // Node 3 is the only one of its zone, and each shard has a replica in every zone.
    assert_eq!(held, [2, 2, 4, 2, 2]);
    let remove = |node| {
        Goal::RemoveNodes(RemoveNodes {
            nodes: vec![node],
            any_zone: false,
        })
    };
    let refused = ask(&cluster, remove(1), Throttle::default(), false).await.unwrap_err();
    assert!(refused.message.contains("holds the placement group"), "{refused}");
    let id = start(&cluster, remove(5)).await;
    done(&cluster, id).await;
    assert_eq!(state(&cluster, 5).await, NodeState::Removed);
    let refused = ask(&cluster, add(&[5]), Throttle::default(), false).await.unwrap_err();
    assert!(refused.message.contains("never used again"), "{refused}");
    send_all(&cluster, &mut epoch, &pairs, 2).await;
}

#[tokio::test(start_paused = true)]
async fn leaderships_are_spread_and_moved_and_no_call_fails() {
    let cluster = Cluster::start(3, 6, zoned);
    let pairs = talkers(&cluster, 6).await;
    let mut epoch = 0;
    send_all(&cluster, &mut epoch, &pairs, 1).await;
    // All to node 1, one after the other.
    for shard in 0..6 {
        let id = start(&cluster, Goal::MoveLeader(MoveLeader { shard, to: 1 })).await;
        done(&cluster, id).await;
    }
    assert_eq!(of(&cluster, 1).await.1, 6);
    let planned = dry(&cluster, Goal::SpreadLeaders(SpreadLeaders {})).await.unwrap();
    assert_eq!(planned.len(), 4, "{planned:?}");
    let id = start(&cluster, Goal::SpreadLeaders(SpreadLeaders {})).await;
    let mut n = 1;
    while migration(&cluster, id)
        .await
        .is_none_or(|it| it.phase() != OperationPhase::Done)
    {
        n += 1;
        send_all(&cluster, &mut epoch, &pairs, n).await;
        cluster.clock.sleep(Duration::from_millis(5)).await;
        assert!(n < 2000, "{:?}", migration(&cluster, id).await);
    }
    assert_eq!(migration(&cluster, id).await.unwrap().items_done, 4);
    for node in 1..=3 {
        assert_eq!(of(&cluster, node).await.1, 2, "node {node}");
    }
}

#[tokio::test(start_paused = true)]
async fn shards_move_with_all_their_replicas() {
    let cluster = Cluster::start(6, 2, |config| config.everywhere_up_to = 0);
    let pairs = talkers(&cluster, 2).await;
    let mut epoch = 0;
    send_all(&cluster, &mut epoch, &pairs, 1).await;
    let goal = Goal::MoveShards(MoveShards {
        shards: vec![0],
        from: None,
        to: Some(Place {
            nodes: vec![4, 5, 6],
            zone: String::new(),
        }),
    });
    assert_eq!(dry(&cluster, goal.clone()).await.unwrap().len(), 3);
    let id = start(&cluster, goal.clone()).await;
    let mut n = 1;
    while migration(&cluster, id)
        .await
        .is_none_or(|it| it.phase() != OperationPhase::Done)
    {
        n += 1;
        send_all(&cluster, &mut epoch, &pairs, n).await;
        cluster.clock.sleep(Duration::from_millis(5)).await;
        assert!(n < 2000, "{:?}", migration(&cluster, id).await);
    }
    assert_eq!(migration(&cluster, id).await.unwrap().items_done, 3);
    let routes = cluster
        .call(async |node| node.routes(RoutesRequest {}, patient()).await)
        .await;
    assert_eq!(routes.routes[0].nodes, [4, 5, 6]);
    send_all(&cluster, &mut epoch, &pairs, n + 1).await;
    let refused = ask(&cluster, goal, Throttle::default(), false).await.unwrap_err();
    assert!(refused.message.contains("nothing to move"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_abort_begins_nothing_more_and_the_source_serves() {
    let cluster = Cluster::start(6, 4, zoned);
    let pairs = talkers(&cluster, 4).await;
    let mut epoch = 0;
    send_all(&cluster, &mut epoch, &pairs, 1).await;
    let id = start(&cluster, drain(&[1])).await;
    cluster
        .until("the first move", async || {
            let found = migration(&cluster, id).await?;
            (found.phase() == OperationPhase::MoveReplicas).then_some(())
        })
        .await;
    let request = AbortOperationRequest { operation: id };
    let answer = cluster
        .call(async |node| node.abort_operation(request, patient()).await)
        .await;
    assert!(matches!(
        answer.phase(),
        OperationPhase::Aborting | OperationPhase::Aborted
    ));
    let ended = ended(&cluster, id).await;
    assert_eq!(ended.phase(), OperationPhase::Aborted);
    assert!(ended.items_done < ended.items_total, "{ended:?}");
    assert_eq!(state(&cluster, 1).await, NodeState::Placeable);
    let quiet = placement(&cluster)
        .await
        .operations
        .into_iter()
        .filter_map(|it| it.operation);
    assert!(quiet.into_iter().all(|it| !crate::placement::is_active(&it)));
    send_all(&cluster, &mut epoch, &pairs, 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_is_refused_with_the_reason() {
    let cluster = Cluster::start(4, 2, zoned);
    cluster.leader(0).await;
    cluster.leader(1).await;
    cluster.clock.sleep(Duration::from_secs(2)).await;
    let refused = async |cluster: &Cluster, goal| {
        let refusal = ask(cluster, goal, Throttle::default(), true).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Invalid, "{refusal}");
        refusal.message
    };
    let words = refused(&cluster, drain(&[1, 2])).await;
    assert!(words.contains("has no target for its replica"), "{words}");
    assert!(refused(&cluster, drain(&[9])).await.contains("no node of this cluster"));
    assert!(refused(&cluster, drain(&[])).await.contains("names no node"));
    let zone = Goal::DrainZone(DrainZone {
        zone: "x".to_owned(),
        any_zone: false,
    });
    assert!(refused(&cluster, zone).await.contains("no node of zone \"x\""));
    let away = Goal::MoveLeader(MoveLeader { shard: 0, to: 4 });
    assert!(refused(&cluster, away).await.contains("not by node 4"));
    assert!(
        dry(&cluster, Goal::Rebalance(Rebalance {})).await.unwrap().is_empty(),
        "it is even already"
    );
    // Two of the three that hold shard 1 are down: nothing of it can move.
    let mut cluster = Cluster::start(6, 2, zoned);
    cluster.leader(1).await;
    cluster.crash(3, true);
    cluster.crash(4, true);
    cluster.clock.sleep(Duration::from_secs(4)).await;
    let words = refused(&cluster, drain(&[4])).await;
    assert!(words.contains("shard 1 would lose its quorum"), "{words}");
}
