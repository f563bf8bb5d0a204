//! What the gate and its neighbours do inside a whole node.

use std::time::Duration;

use firedrill_proto::chat::v1::{OpenRequest, StatusRequest};

use super::cluster::{Cluster, in_order, patient};
use crate::node::{Call, ClientApi as _, Protections, Reason};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A node that does ten sends a second.
fn slow(config: &mut crate::node::NodeConfig) {
    config.capacity.per_second = 10;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_fit_on_the_way_at_once_go_one_after_the_other() {
    let cluster = Cluster::start(3, 4, |config| config.bounds.outbox_bytes = 700);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let mut sends = Vec::new();
    for id in 1..=40 {
        let mut request = a.message(&b, id);
        request.body = vec![b'x'; 300].into();
        sends.push(
            cluster
                .call(async |node| node.send(request.clone(), patient()).await)
                .await,
        );
    }
    let (shown, _) = cluster.shown(&b, 1, 0).await;
    in_order(1..=40, shown.iter().map(|delivery| delivery.position));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_the_queue_is_kept_out_of_the_log() {
    for kept in [true, false] {
        let cluster = Cluster::start(1, 1, |config| {
            slow(config);
            config.protections = Protections {
                admission: false,
                deadlines: kept,
                ..Protections::default()
            };
        });
        let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
        let handle = cluster.handle(1);
        // Twenty sends take two seconds; each is waited for for half of one.
        let sends = (1..=20).map(|id| {
            let (handle, request) = (handle.clone(), a.message(&b, id));
            tokio::spawn(async move { handle.send(request, Call::within(ms(500))).await })
        });
        let sends: Vec<_> = sends.collect();
        let mut good = 0;
        for send in sends {
            good += u64::from(send.await.unwrap().is_ok());
        }
        cluster.clock.sleep(Duration::from_secs(3)).await;
        let status = handle.status(StatusRequest {}, patient()).await.unwrap();
        let stored = status.shards[0].messages;
        let expired: u64 = status
            .admission
            .unwrap()
            .classes
            .iter()
            .map(|class| class.expired)
            .sum();
        assert!((3..=6).contains(&good), "{good} in time");
        if kept {
            assert_eq!(
                (stored, stored + expired),
                (good, 20),
                "what nobody waits for is not done"
            );
        } else {
            assert_eq!((stored, expired), (20, 0), "all of it is done, for nobody");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_at_once_opens_the_app_and_answers_operators() {
    let cluster = Cluster::start(1, 1, slow);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let handle = cluster.handle(1);
    for id in 1..=4 {
        let (handle, request) = (handle.clone(), a.message(&b, id));
        tokio::spawn(async move { handle.send(request, patient()).await });
    }
    tokio::task::yield_now().await;
    let asked = cluster.clock.now();
    let refused = handle.send(a.message(&b, 9), patient()).await.unwrap_err();
    assert_eq!(
        (refused.reason, cluster.clock.now()),
        (Reason::Overloaded, asked),
        "{refused}"
    );
    assert!(refused.retry_after.is_some_and(|wait| wait >= ms(100)), "{refused:?}");
    let caller = Some(firedrill_proto::chat::v1::Caller {
        user: a.user,
        device: 1,
        session: a.sessions[&1],
    });
    let mut opened = Vec::new();
    for _ in 0..3 {
        let request = OpenRequest {
            caller,
            after: 0,
            epoch: 1,
        };
        let handle = handle.clone();
        opened.push(tokio::spawn(async move { handle.open(request, patient()).await }));
    }
    let status = handle.status(StatusRequest {}, patient()).await.unwrap();
    assert_eq!(cluster.clock.now(), asked, "operators don't wait behind clients");
    let admission = status.admission.unwrap();
    let send = admission.classes.iter().find(|class| class.class == "send").unwrap();
    assert!(send.shed >= 1 && send.waiting >= 1, "{admission:?}");
    for open in opened {
        open.await.unwrap().expect("the app opens while nothing can be sent");
    }
}
