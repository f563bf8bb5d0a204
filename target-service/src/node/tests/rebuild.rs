//! A node whose disk is gone: its id stays gone, another node takes its place, and until then no other may be emptied.

use firedrill_proto::chat::v1::{OperationPhase, StatusRequest, StatusResponse};

use super::{
    super::{ClientApi as _, WipeError, may_go},
    cluster::{Cluster, in_order, patient},
    moves::{begin, ended, held_by},
};
use crate::{chat::ids, env::SimDisk};

async fn statuses(cluster: &Cluster, nodes: &[u64]) -> Vec<StatusResponse> {
    let mut said = Vec::new();
    for node in nodes {
        said.push(cluster.handle(*node).status(StatusRequest {}, patient()).await.unwrap());
    }
    said
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_rebuilt_under_a_new_id_and_no_other_may_go_before() {
    let mut cluster = Cluster::start(4, 1, |config| config.founders = vec![1, 2, 3]);
    let (mut a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    held_by(&cluster, &[1, 2, 3]).await;
    let wiped = cluster.configs[&2].clone();
    // The placement group elects its leader in its own time.
    let led = cluster.until("a leader of the placement group", async || {
        let all = statuses(&cluster, &[1, 3, 4]).await;
        let known = all
            .iter()
            .all(|it| it.placement.as_ref().is_some_and(|placement| placement.leader != 0));
        known.then_some(all)
    });
    let all = led.await;
    may_go(&wiped, &all).expect("all are well");
    assert!(
        matches!(may_go(&wiped, &all[..1]), Err(WipeError::Quorum { .. })),
        "who isn't asked is lost"
    );

    cluster.crash(3, true);
    cluster.disks.insert(3, SimDisk::new());
    cluster.configs.get_mut(&3).unwrap().bootstrap = false;
    cluster.up(3);
    let refused = cluster
        .tasks
        .remove(&3)
        .unwrap()
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(refused.contains("under an id that was never used"), "{refused}");
    cluster.wire.nodes.lock().unwrap().remove(&3);

    // One of three is lost already: the next would take the majority with it.
    let left = statuses(&cluster, &[1, 4]).await;
    let refused = may_go(&wiped, &left).unwrap_err().to_string();
    assert!(
        refused.contains("shard 0 would be left with [1] of its voters [1, 2, 3], and needs 2"),
        "{refused}"
    );

    let operation = begin(&cluster, 3, 4).await;
    assert_eq!(ended(&cluster, operation).await, OperationPhase::Done);
    held_by(&cluster, &[1, 2, 4]).await;
    // The shard could do without by now; the placement group has still lost one of its founders.
    let left = statuses(&cluster, &[1, 4]).await;
    let refused = may_go(&wiped, &left).unwrap_err().to_string();
    assert!(
        refused.contains("the placement group would be left with [1]"),
        "{refused}"
    );

    // What was acknowledged is there, with the new node in the majority, on the routes that lead to it.
    (cluster.epoch, a.epoch) = (3, 3);
    cluster.crash(1, true);
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    in_order(1..=20, history.messages.iter().map(|it| it.position));
    assert_eq!(cluster.send(&a, &b, 21).await.position, 21);
    held_by(&cluster, &[2, 4]).await;
}
