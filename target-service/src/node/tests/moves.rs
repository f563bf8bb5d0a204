//! Replicas that move from one node to another, while people write and nodes die.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AuditRequest, MoveReplicaRequest, OperationPhase, RoutesRequest, SendRequest, StatusRequest,
};

use super::{
    super::{ClientApi as _, NodeConfig, Reason},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::{chat::ids, env::Disk as _};

/// Four nodes, and every shard on three of them: shard 0 on 1, 2 and 3.
fn spread(config: &mut NodeConfig) {
    config.everywhere_up_to = 0;
}

/// As [`spread`], with snapshots needed at once.
fn compacting(config: &mut NodeConfig) {
    spread(config);
    config.retention.checkpoint_every = 10;
    config.retention.keep_behind = 2;
}

async fn begin(cluster: &Cluster, from: u64, to: u64) -> u64 {
    let request = MoveReplicaRequest {
        shard: 0,
        from,
        to,
        dry_run: false,
    };
    cluster
        .call(async |node| node.move_replica(request, patient()).await)
        .await
        .operation
}

/// The phase of an operation at the node that knows most.
async fn phase(cluster: &Cluster, operation: u64) -> OperationPhase {
    let mut newest = (0, OperationPhase::Unspecified);
    for node in cluster.nodes() {
        let Ok(status) = cluster.handle(node).status(StatusRequest {}, patient()).await else {
            continue;
        };
        let placement = status.placement.unwrap();
        let operations = placement.operations.into_iter().filter_map(|it| it.operation);
        for it in operations.filter(|it| it.id == operation) {
            if placement.version >= newest.0 {
                newest = (placement.version, it.phase());
            }
        }
    }
    newest.1
}

async fn ended(cluster: &Cluster, operation: u64) -> OperationPhase {
    cluster
        .until("end of the operation", async || {
            let phase = phase(cluster, operation).await;
            matches!(phase, OperationPhase::Done | OperationPhase::Aborted).then_some(phase)
        })
        .await
}

/// Moves shard 0 from one node to another; both know it by the end.
pub(super) async fn moved(cluster: &Cluster, from: u64, to: u64) {
    let operation = begin(cluster, from, to).await;
    assert_eq!(ended(cluster, operation).await, OperationPhase::Done);
    cluster
        .until("news of it", async || {
            let status = cluster.handle(from).status(StatusRequest {}, patient()).await.ok()?;
            (status.map_epoch == 3).then_some(())
        })
        .await;
}

/// Waits until each node that is up holds shard 0 or not, as `holders` say, and all that do have the same.
async fn held_by(cluster: &Cluster, holders: &[u64]) {
    cluster
        .until("the holders", async || {
            for node in cluster.nodes() {
                let held = cluster.shard(node, 0).await;
                if held.is_some() != holders.contains(&node) {
                    return None;
                }
            }
            let mut ends = Vec::new();
            for node in holders.iter().filter(|node| cluster.nodes().contains(node)) {
                let request = firedrill_proto::chat::v1::DigestRequest { shard: 0 };
                let digest = cluster.handle(*node).digest(request, patient()).await.ok()?;
                ends.push((digest.applied, digest.digest));
            }
            ends.dedup();
            (ends.len() == 1).then_some(())
        })
        .await;
}

/// Two people whose conversation lives on shard 0 of `shards`.
async fn talkers(cluster: &Cluster, shards: u32) -> (Person, Person) {
    let mut people = Vec::new();
    for number in 0..12 {
        people.push(cluster.person(&format!("1555000{number:04}")).await);
        for a in 0..people.len() {
            for b in a + 1..people.len() {
                if ids::owner(ids::conversation_id(people[a].user, people[b].user), shards) == 0 {
                    let b = people.swap_remove(b);
                    return (people.swap_remove(a), b);
                }
            }
        }
    }
    panic!("twelve people, and no conversation on shard 0")
}

/// Sends as a client does: where it is told that it is wrong it asks for the map, and tries again. Nothing that is
/// refused was done, and nothing may be unknown.
async fn send(cluster: &Cluster, epoch: &mut u64, a: &Person, b: &Person, id: u64) -> u32 {
    let mut stale = 0;
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
                        stale += 1;
                        let routes = cluster.handle(node).routes(RoutesRequest {}, patient()).await.unwrap();
                        *epoch = routes.epoch.max(*epoch);
                    }
                    Err(refusal) => assert_eq!(refusal.reason, Reason::NotLeader, "{refusal}"),
                }
            }
            None
        })
        .await;
    assert_eq!(position, id);
    stale
}

#[tokio::test(start_paused = true)]
async fn a_replica_moves_under_load_and_nothing_fails() {
    for change in [spread, compacting] {
        let cluster = Cluster::start(4, 2, change);
        let (a, b) = talkers(&cluster, 2).await;
        let (mut epoch, mut id, mut stale) = (1, 0, 0);
        // Away from each of the three, so that the leader is among them.
        for (from, to, holders) in [(1, 4, [2, 3, 4]), (2, 1, [1, 3, 4]), (3, 2, [1, 2, 4])] {
            for _ in 0..30 {
                id += 1;
                stale += send(&cluster, &mut epoch, &a, &b, id).await;
            }
            let operation = begin(&cluster, from, to).await;
            assert_eq!(begin(&cluster, from, to).await, operation, "asked again");
            while !matches!(phase(&cluster, operation).await, OperationPhase::Done) {
                id += 1;
                stale += send(&cluster, &mut epoch, &a, &b, id).await;
                cluster.clock.sleep(Duration::from_millis(3)).await;
                assert!(id < 5000, "it ends: {:?}", phase(&cluster, operation).await);
            }
            held_by(&cluster, &holders).await;
        }
        id += 1;
        stale += send(&cluster, &mut epoch, &a, &b, id).await;
        assert!(
            stale > 0 && epoch == 7,
            "stale routes were refused, the last at epoch {epoch}"
        );
        let history = cluster
            .call(async |node| {
                let request = AuditRequest {
                    conversation: ids::conversation_id(a.user, b.user),
                    after: id - 20,
                    limit: 0,
                    epoch: 0,
                };
                node.audit(request, patient()).await
            })
            .await;
        in_order(id - 19..=id, history.messages.iter().map(|message| message.client_id));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_old_node_by_an_old_map_is_refused_with_the_new_epoch() {
    let cluster = Cluster::start(4, 1, spread);
    let (a, b) = talkers(&cluster, 1).await;
    cluster.send(&a, &b, 1).await;
    moved(&cluster, 3, 4).await;
    held_by(&cluster, &[1, 2, 4]).await;
    let refused = cluster.handle(3).send(a.message(&b, 2), patient()).await.unwrap_err();
    assert_eq!((refused.reason, refused.epoch), (Reason::StaleRoute, 3));
    let routes = cluster.handle(3).routes(RoutesRequest {}, patient()).await.unwrap();
    assert_eq!((routes.epoch, &routes.routes[0].nodes[..]), (3, &[1, 2, 4][..]));
    let mut epoch = routes.epoch;
    assert_eq!(send(&cluster, &mut epoch, &a, &b, 2).await, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_in_whatever_phase_the_move_ends() {
    use OperationPhase::{AddLearner, CatchUp, EnterJoint, LeaveJoint};
    for at in [AddLearner, CatchUp, EnterJoint, LeaveJoint] {
        for victim in ["source", "target", "shard leader", "placement leader", "everybody"] {
            let mut cluster = Cluster::start(4, 1, compacting);
            let (a, b) = talkers(&cluster, 1).await;
            let mut epoch = 1;
            for id in 1..=30 {
                send(&cluster, &mut epoch, &a, &b, id).await;
            }
            let operation = begin(&cluster, 3, 4).await;
            let end = cluster.clock.now() + Duration::from_secs(5);
            while phase(&cluster, operation).await < at && cluster.clock.now() < end {
                cluster.clock.sleep(Duration::from_millis(1)).await;
            }
            let placement = cluster.handle(1).status(StatusRequest {}, patient()).await.unwrap();
            let victims = match victim {
                "source" => vec![3],
                "target" => vec![4],
                "shard leader" => vec![cluster.leader(0).await],
                "placement leader" => vec![placement.placement.unwrap().leader.max(1)],
                _ => vec![1, 2, 3, 4],
            };
            for node in &victims {
                cluster.crash(*node, true);
            }
            if victims.len() == 1 {
                send(&cluster, &mut epoch, &a, &b, 31).await;
                cluster.clock.sleep(Duration::from_secs(1)).await;
            }
            for node in victims {
                cluster.up(node);
            }
            assert_eq!(
                ended(&cluster, operation).await,
                OperationPhase::Done,
                "{victim} at {at:?}"
            );
            held_by(&cluster, &[1, 2, 4]).await;
            send(
                &cluster,
                &mut epoch,
                &a,
                &b,
                if victim == "everybody" { 31 } else { 32 },
            )
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_can_be_given_up_and_the_source_serves() {
    let mut cluster = Cluster::start(4, 1, spread);
    let (a, b) = talkers(&cluster, 1).await;
    let mut epoch = 1;
    send(&cluster, &mut epoch, &a, &b, 1).await;
    cluster.crash(4, true);
    let operation = begin(&cluster, 3, 4).await;
    cluster
        .until("the learner", async || {
            (phase(&cluster, operation).await == OperationPhase::CatchUp).then_some(())
        })
        .await;
    let request = AbortOperationRequest { operation };
    let answer = cluster
        .call(async |node| node.abort_operation(request, patient()).await)
        .await;
    assert_eq!(answer.phase(), OperationPhase::Aborting);
    assert_eq!(ended(&cluster, operation).await, OperationPhase::Aborted);
    send(&cluster, &mut epoch, &a, &b, 2).await;
    assert_eq!(epoch, 1, "clients never heard of it");
    cluster.up(4);
    held_by(&cluster, &[1, 2, 3]).await;
    // And again, with a target that is there: it was a learner once.
    let operation = begin(&cluster, 3, 4).await;
    assert_eq!(ended(&cluster, operation).await, OperationPhase::Done);
    held_by(&cluster, &[1, 2, 4]).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_stays_away_is_given_up_by_itself() {
    let mut cluster = Cluster::start(4, 1, spread);
    cluster.leader(0).await;
    cluster.crash(4, true);
    let operation = begin(&cluster, 3, 4).await;
    cluster.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(ended(&cluster, operation).await, OperationPhase::Aborted);
    held_by(&cluster, &[1, 2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_move_is_refused_with_the_reason() {
    let cluster = Cluster::start(4, 1, spread);
    cluster.leader(0).await;
    let ask = async |from, to, dry_run| {
        let request = MoveReplicaRequest {
            shard: 0,
            from,
            to,
            dry_run,
        };
        cluster
            .until("a decision", async || {
                for node in cluster.nodes() {
                    match cluster.handle(node).move_replica(request, patient()).await {
                        Err(refusal) if refusal.reason == Reason::NotLeader => {}
                        answer => return Some(answer),
                    }
                }
                None
            })
            .await
    };
    for (from, to) in [(4, 1), (1, 2), (1, 9)] {
        assert_eq!(
            ask(from, to, false).await.unwrap_err().reason,
            Reason::Invalid,
            "{from} {to}"
        );
    }
    assert_eq!(ask(1, 4, true).await.unwrap().operation, 0);
    assert_eq!(
        phase(&cluster, 1).await,
        OperationPhase::Unspecified,
        "a dry run does nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn founders_that_lost_their_folders_make_no_empty_majority_and_are_replaced_by_others() {
    let mut cluster = Cluster::start(4, 1, |config| {
        config.founders = vec![1, 2, 3];
        config.bootstrap = config.node < 4;
    });
    let (a, b) = talkers(&cluster, 1).await;
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    // Two of three, one after the other: each comes back as a process with the same configuration and nothing on its disk.
    for node in [2, 3] {
        cluster.crash(node, true);
        let folder = std::mem::take(cluster.disks.get_mut(&node).unwrap());
        cluster.configs.get_mut(&node).unwrap().bootstrap = false;
        cluster.up(node);
        let ended = cluster.tasks.remove(&node).unwrap().await.unwrap();
        let why = ended.unwrap_err().to_string();
        assert!(why.contains(&format!("node {node} is a founder")), "{why}");
        cluster.wire.nodes.lock().unwrap().remove(&node);
        if node == 2 {
            // With its folder back it is who it was.
            cluster.disks.insert(node, folder);
            cluster.up(node);
        }
    }
    let operation = begin(&cluster, 3, 4).await;
    assert_eq!(ended(&cluster, operation).await, OperationPhase::Done);
    held_by(&cluster, &[1, 2, 4]).await;
    let mut epoch = 1;
    assert!(
        send(&cluster, &mut epoch, &a, &b, 21).await > 0,
        "its route had gone stale"
    );
    let request = AuditRequest {
        conversation: ids::conversation_id(a.user, b.user),
        ..AuditRequest::default()
    };
    let history = cluster.call(async |node| node.audit(request, patient()).await).await;
    in_order(1..=21, history.messages.iter().map(|message| message.client_id));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_replica_is_forgotten_with_its_note_when_it_is_moved_away_and_can_come_back() {
    let mut cluster = Cluster::start(4, 1, spread);
    let (a, b) = talkers(&cluster, 1).await;
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    cluster.handle(3).stop().await;
    cluster.crash(3, true);
    let (disk, file) = (cluster.disks[&3].clone(), "state/shard-0000.redb");
    let note = format!("{file}.quarantined");
    let len = disk.open(file).unwrap().len().unwrap();
    for at in (0..len).step_by(512) {
        disk.flip(file, at, 1).unwrap();
    }
    cluster.up(3);
    let set_aside = async |cluster: &Cluster| {
        let status = cluster.handle(3).status(StatusRequest {}, patient()).await.unwrap();
        !status.quarantined.is_empty()
    };
    assert!(set_aside(&cluster).await && disk.exists(&note).unwrap());
    // A newer map of something else is no reason to open the damaged file.
    moved(&cluster, 3, 4).await;
    assert!(!set_aside(&cluster).await);
    assert!(!disk.exists(file).unwrap() && !disk.exists(&note).unwrap());
    let back = begin(&cluster, 4, 3).await;
    assert_eq!(ended(&cluster, back).await, OperationPhase::Done);
    held_by(&cluster, &[1, 2, 3]).await;
    cluster.crash(3, true);
    cluster.up(3);
    held_by(&cluster, &[1, 2, 3]).await;
    assert!(!set_aside(&cluster).await);
}

#[tokio::test(start_paused = true)]
async fn a_newer_map_does_not_open_what_is_quarantined() {
    let mut cluster = Cluster::start(4, 2, spread);
    let (a, b) = talkers(&cluster, 2).await;
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    // Shard 1 is on 2, 3 and 4, and is damaged at 3.
    cluster.handle(3).stop().await;
    cluster.crash(3, true);
    let (disk, file) = (cluster.disks[&3].clone(), "state/shard-0001.redb");
    let len = disk.open(file).unwrap().len().unwrap();
    for at in (0..len).step_by(512) {
        disk.flip(file, at, 1).unwrap();
    }
    cluster.up(3);
    moved(&cluster, 3, 4).await;
    let status = cluster.handle(3).status(StatusRequest {}, patient()).await.unwrap();
    assert_eq!(status.quarantined.len(), 1, "{status:?}");
    assert!(cluster.shard(3, 1).await.is_none());
    assert!(disk.exists(&format!("{file}.quarantined")).unwrap());
}
