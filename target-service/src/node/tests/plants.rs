//! Positive controls: each of the node's own plants breaks what it is meant to break.

use firedrill_proto::chat::v1::StatusRequest;

use super::{
    super::{ClientApi as _, Plant},
    cluster::{Cluster, patient},
};
use crate::{chat::ids, env::Streams};

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_lost_with_a_leader_that_is_cut_off() {
    let cluster = Cluster::start(3, 1, |config| config.plant = Some(Plant::AckBeforeDurable));
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    assert_eq!(cluster.send(&a, &b, 1).await.position, 1);
    let leader = cluster.leader(0).await;
    let status = cluster
        .handle(leader)
        .status(StatusRequest {}, patient())
        .await
        .unwrap();
    assert_eq!(status.plant, "ack-before-durable");
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.isolate(leader, &others);
    let early = cluster.handle(leader).send(a.message(&b, 2), patient()).await.unwrap();
    assert_eq!(early.position, 2, "acknowledged by nobody but the leader");
    cluster
        .until("successor", async || {
            let mut led = false;
            for node in &others {
                led |= cluster.handle(*node).send(b.message(&a, 3), patient()).await.is_ok();
            }
            led.then_some(())
        })
        .await;
    cluster.heal();
    cluster.converge(0).await;
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    assert!(
        history
            .messages
            .iter()
            .all(|message| message.sender != a.user || message.client_id != 2)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_never_synced_is_forgotten_in_a_power_loss() {
    let mut cluster = Cluster::start(3, 1, |config| config.plant = Some(Plant::ForgetAfterPowerLoss));
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=10 {
        cluster.send(&a, &b, id).await;
    }
    let mut rng = Streams::new(1).stream("power");
    for node in 1..=3 {
        cluster.crash(node, false);
        cluster.disks[&node].power_loss(&mut rng);
    }
    (1..=3).for_each(|node| cluster.up(node));
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    assert!(history.messages.len() < 10, "something is lost");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_answers_reads_without_what_its_successor_acknowledged() {
    for (plant, answers) in [(None, false), (Some(Plant::Stale), true)] {
        let cluster = Cluster::start(3, 1, |config| config.plant = plant);
        let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
        assert_eq!(cluster.send(&a, &b, 1).await.position, 1);
        let old = cluster.leader(0).await;
        let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
        cluster.isolate(old, &others);
        cluster
            .until("successor", async || {
                let mut sent = false;
                for node in &others {
                    sent |= cluster.handle(*node).send(a.message(&b, 2), patient()).await.is_ok();
                }
                sent.then_some(())
            })
            .await;
        let request = a.read(&b);
        let read = cluster.handle(old).history(request, patient()).await;
        assert_eq!(read.is_ok(), answers, "{read:?}");
        assert!(read.is_err() || read.is_ok_and(|read| read.last_position == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_state_machines_plants_reach_it() {
    let cluster = Cluster::start(3, 2, |config| config.plant = Some(Plant::Redeliver));
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=120 {
        cluster.send(&a, &b, id).await;
    }
    // Of every two deliveries the second is the second device's, and every 50th is repeated.
    let (shown, _) = cluster.shown(&b, 2, 0).await;
    assert!(shown.len() > 120, "shown twice: {}", shown.len());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_serves_after_it_was_removed_answers_what_it_does_not_own() {
    for (plant, answers) in [(None, false), (Some(Plant::ServeAfterRemoval), true)] {
        let cluster = Cluster::start(4, 1, |config| {
            config.everywhere_up_to = 0;
            config.plant = plant;
        });
        let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
        cluster.send(&a, &b, 1).await;
        super::moves::moved(&cluster, 3, 4).await;
        let request = a.read(&b);
        let read = cluster.handle(3).history(request, patient()).await;
        assert_eq!(read.is_ok(), answers, "{read:?}");
    }
}
