//! Sign-ups with a verification that can be slow or down, the sender's own devices, and who is online.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, PresenceRequest, RequestCodeRequest, SetVerificationRequest, SignUpRequest,
};

use super::{
    super::{ClientApi as _, Reason},
    cluster::{Cluster, Person, in_order, patient},
};

const PHONE: &str = "15550007";

fn request_code() -> RequestCodeRequest {
    RequestCodeRequest {
        phone: PHONE.to_owned(),
        epoch: 1,
    }
}

fn sign_up(code: &str) -> SignUpRequest {
    SignUpRequest {
        phone: PHONE.to_owned(),
        epoch: 1,
        code: code.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_verification_that_is_down_costs_sign_ups_and_nothing_else() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let mut cluster = cluster;
    for node in cluster.nodes() {
        cluster.handle(node).stop().await;
        cluster.configs.get_mut(&node).unwrap().verification.required = true;
        cluster.up(node);
    }
    let leader = cluster.handle(cluster.leader(0).await);
    let refused = leader.sign_up(sign_up(""), patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::WrongCode);

    let down = SetVerificationRequest {
        delay_ms: 500,
        failing: true,
    };
    leader.set_verification(down, patient()).await.unwrap();
    let asked = cluster.clock.now();
    let (refused, sent) = tokio::join!(
        leader.request_code(request_code(), patient()),
        leader.send(a.message(&b, 1), patient())
    );
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason, Reason::VerificationDown);
    assert!(refused.retry_after.is_some());
    assert!(cluster.clock.now() - asked >= Duration::from_millis(500));
    assert_eq!(sent.unwrap().position, 1);

    let slow = SetVerificationRequest {
        delay_ms: 700,
        failing: false,
    };
    let before = leader.set_verification(slow, patient()).await.unwrap();
    assert_eq!((before.delay_ms, before.failing), (500, true));
    let asked = cluster.clock.now();
    let carried = leader.request_code(request_code(), patient()).await.unwrap();
    assert!(cluster.clock.now() - asked >= Duration::from_millis(700));
    let first = leader.sign_up(sign_up(&carried.code), patient()).await.unwrap();
    let again = leader.sign_up(sign_up(&carried.code), patient()).await.unwrap();
    assert_eq!((first.created, again.created, again.user), (true, false, first.user));
}

#[tokio::test(start_paused = true)]
async fn sign_ups_of_one_number_at_all_nodes_at_once_make_one_account() {
    let cluster = Cluster::start(3, 1, |_| {});
    cluster.leader(0).await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        for node in cluster.nodes() {
            let handle = cluster.handle(node);
            tasks.push(tokio::spawn(
                async move { handle.sign_up(sign_up(""), patient()).await },
            ));
        }
    }
    let mut users = Vec::new();
    let mut created = 0;
    for task in tasks {
        if let Ok(answer) = task.await.unwrap() {
            users.push(answer.user);
            created += u32::from(answer.created);
        }
    }
    assert!(users.len() >= 5, "the leader answered");
    users.dedup();
    assert_eq!((users.len(), created), (1, 1));
}

async fn presence(cluster: &Cluster, of: &Person) -> Vec<(u32, bool, u64)> {
    let request = PresenceRequest {
        user: of.user,
        epoch: 1,
    };
    let answer = cluster.call(async |node| node.presence(request, patient()).await).await;
    let devices = answer.devices.into_iter();
    devices.map(|it| (it.device, it.online, it.owed)).collect()
}

#[tokio::test(start_paused = true)]
async fn whoever_is_shown_online_on_a_dead_connection_loses_nothing() {
    let cluster = Cluster::start(3, 2, |config| config.timing.presence_ms = 2000);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let request = b.subscribe(1, 0);
    // Nobody will ever read this stream: the connection behind it is dead.
    let dead = cluster
        .call(async |node| node.subscribe(request, patient()).await)
        .await;
    assert_eq!(presence(&cluster, &b).await, [(1, true, 0), (2, false, 0)]);
    for id in 1..=100 {
        cluster.send(&a, &b, id).await;
    }
    cluster
        .until("delivery", async || {
            (presence(&cluster, &b).await[0].2 == 100).then_some(())
        })
        .await;
    assert!(
        !presence(&cluster, &b).await[0].1,
        "it takes nothing any more: it isn't there"
    );
    drop(dead);
    let (shown, _) = cluster.shown(&b, 1, 0).await;
    in_order(1..=100, shown.iter().map(|delivery| delivery.client_id));
    let (own, _) = cluster.shown(&a, 2, 0).await;
    in_order(1..=100, own.iter().map(|delivery| delivery.client_id));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_without_news_keeps_a_device_online() {
    let cluster = Cluster::start(3, 1, |config| config.timing.presence_ms = 2000);
    let a = cluster.person("15550001").await;
    let request = a.subscribe(1, 0);
    let mut stream = cluster
        .call(async |node| node.subscribe(request, patient()).await)
        .await;
    let reader = tokio::spawn(async move { while stream.recv().await.is_some() {} });
    let alive = AcknowledgeRequest {
        user: a.user,
        device: 1,
        session: a.sessions[&1],
        sequence: 0,
        epoch: 1,
    };
    for _ in 0..4 {
        cluster.clock.sleep(Duration::from_millis(1500)).await;
        cluster
            .call(async |node| node.acknowledge(alive, patient()).await)
            .await;
        assert!(presence(&cluster, &a).await[0].1);
    }
    cluster.clock.sleep(Duration::from_millis(2500)).await;
    assert!(!presence(&cluster, &a).await[0].1, "silent for too long");
    reader.abort();
    let stranger = PresenceRequest { user: 77, epoch: 1 };
    let leader = cluster.handle(cluster.leader(0).await);
    let refused = leader.presence(stranger, patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoSuchUser);
}

#[cfg(feature = "plants")]
#[tokio::test(start_paused = true)]
async fn a_ghost_stays_online_only_where_it_was_planted() {
    for (plant, online) in [(None, false), (Some(crate::node::Plant::GhostOnline), true)] {
        let cluster = Cluster::start(3, 1, |config| {
            config.timing.presence_ms = 2000;
            config.plant = plant;
        });
        let a = cluster.person("15550001").await;
        let request = a.subscribe(1, 0);
        let stream = cluster
            .call(async |node| node.subscribe(request, patient()).await)
            .await;
        cluster.clock.sleep(Duration::from_millis(2500)).await;
        assert_eq!(presence(&cluster, &a).await[0].1, online, "{plant:?}");
        drop(stream);
    }
}
