//! A recipient without room, across shards: its senders are told, and nobody else notices.

use std::time::Duration;

use firedrill_proto::chat::v1::AcknowledgeRequest;

use super::{
    super::{ClientApi as _, Reason},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::chat::ids;

async fn acknowledge(cluster: &Cluster, person: &Person, device: u32, sequence: u64) {
    let acknowledge = AcknowledgeRequest {
        user: person.user,
        device,
        session: person.sessions[&device],
        sequence,
        epoch: 1,
    };
    cluster
        .call(async |node| node.acknowledge(acknowledge, patient()).await)
        .await;
}

async fn all_acknowledged(cluster: &Cluster, person: &Person, sequence: u64) {
    for device in [1, 2] {
        acknowledge(cluster, person, device, sequence).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_recipient_holds_up_nobody_else_and_loses_nothing() {
    let cluster = Cluster::start(3, 2, |config| config.state.stream_max = 10);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    // Somebody whose account is on the same shard as the full one, so that both are fed by the same outboxes.
    let mut number = 15_560_000;
    let c = loop {
        let c = cluster.person(&number.to_string()).await;
        if ids::owner(c.user, 2) == ids::owner(b.user, 2) {
            break c;
        }
        number += 1;
    };
    let turned = cluster.until("the second version", async || {
        for shard in 0..2 {
            let leader = cluster.shard(cluster.leader(shard).await, shard).await?;
            if leader.version < 2 {
                return None;
            }
        }
        Some(())
    });
    turned.await;
    let home = ids::owner(ids::conversation_id(a.user, b.user), 2);
    let mut sent = 0;
    let refused = loop {
        assert!(sent < 100, "nobody is told");
        let leader = cluster.handle(cluster.leader(home).await);
        match leader.send(a.message(&b, sent + 1), patient()).await {
            Ok(answer) => {
                sent += 1;
                assert_eq!(answer.position, sent);
                // The sender's own devices keep up.
                all_acknowledged(&cluster, &a, sent).await;
                cluster.clock.sleep(Duration::from_millis(20)).await;
            }
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refused.reason, Reason::Overloaded);
    assert!(refused.message.contains(&format!("user {}", b.user)), "{refused}");
    assert!(refused.retry_after.is_some());
    assert!((10..15).contains(&sent), "{sent} went through before");
    // Others send to the same shard, and are heard there.
    for client_id in 1..=5 {
        cluster.send(&c, &a, 100 + client_id).await;
        cluster.send(&a, &c, 200 + client_id).await;
    }
    let heard = cluster.until("what is for somebody else", async || {
        let (shown, _) = cluster.shown(&c, 1, 0).await;
        (shown.len() == 10).then_some(())
    });
    heard.await;
    // Nothing that was acknowledged is missing, and with room it goes on.
    let (shown, _) = cluster.shown(&b, 1, 0).await;
    in_order(1..=sent, shown.iter().map(|it| it.position));
    all_acknowledged(&cluster, &a, u64::MAX).await;
    all_acknowledged(&cluster, &b, sent).await;
    cluster
        .until("room", async || {
            let leader = cluster.handle(cluster.leader(home).await);
            leader.send(a.message(&b, sent + 1), patient()).await.ok()
        })
        .await;
    let more = cluster.until("the next one", async || {
        let (shown, _) = cluster.shown(&b, 1, sent).await;
        (shown.last()?.position == sent + 1).then_some(())
    });
    more.await;
    for shard in 0..2 {
        cluster.converge(shard).await;
    }
}
