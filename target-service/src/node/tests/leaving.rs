//! A leader that leaves in good order, under load: who writes meanwhile is told at once where to go on, and nothing is in
//! doubt. What is promised: no write fails or is left unknown, and none takes longer than the change of hands.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::TransferLeaderRequest;

use super::{
    super::{Call, ClientApi as _, Reason},
    cluster::{Cluster, Person, in_order},
};
use crate::chat::ids;

/// Clients that write at once, each to a conversation of its own, waiting for each answer.
const WRITERS: usize = 24;
/// A client goes on this long after a refusal that doesn't say whom to ask.
const AGAIN_AFTER: Duration = Duration::from_millis(1);
/// Most that a write may take, its attempts together: a change of hands is a message, a vote and an entry, and whoever comes
/// in between waits for the new leader's first entry. Time here is ticks of the nodes alone.
const TAKES_MAX: Duration = Duration::from_millis(60);

/// What the writers saw.
#[derive(Default)]
struct Seen {
    written: AtomicU64,
    /// Answers that left it open whether the write happened.
    unknown: AtomicU64,
    /// Refusals other than that somebody else leads.
    refused: AtomicU64,
    /// The longest that a write took, microseconds.
    longest_us: AtomicU64,
}

/// Writes until `goes_on` ends, one message after the other, each until it is acknowledged. Gives the last one's id.
async fn write(cluster: &Cluster, people: (Person, Person), goes_on: &AtomicBool, seen: &Seen) -> u64 {
    let (from, to) = people;
    let mut leader = 1;
    let mut id = 0;
    while goes_on.load(Ordering::Relaxed) {
        id += 1;
        let began = cluster.clock.now();
        loop {
            let handle = cluster.wire.nodes.lock().unwrap().get(&leader).cloned();
            let Some(handle) = handle else {
                leader = leader % 3 + 1;
                continue;
            };
            match handle
                .send(from.message(&to, id), Call::within(Duration::from_secs(2)))
                .await
            {
                Ok(_) => break,
                Err(refusal) => {
                    match refusal.reason {
                        Reason::NotLeader => {}
                        Reason::Maybe => drop(seen.unknown.fetch_add(1, Ordering::Relaxed)),
                        _ => drop(seen.refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    match refusal.leader.filter(|known| *known != leader) {
                        Some(known) => leader = known,
                        None => {
                            leader = leader % 3 + 1;
                            cluster.clock.sleep(AGAIN_AFTER).await;
                        }
                    }
                }
            }
        }
        let took = u64::try_from((cluster.clock.now() - began).as_micros()).unwrap();
        seen.longest_us.fetch_max(took, Ordering::Relaxed);
        seen.written.fetch_add(1, Ordering::Relaxed);
        cluster.clock.sleep(Duration::from_micros(500)).await;
    }
    id
}

/// Has everybody write while `change` changes hands, and compares what was stored with what was acknowledged.
async fn under_load(change: impl AsyncFn(&Cluster)) -> Seen {
    let cluster = Arc::new(Cluster::start(3, 1, |_| {}));
    let (goes_on, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(Seen::default()));
    let mut writers = BTreeMap::new();
    for number in 0..WRITERS {
        let from = cluster.person(&format!("1555{number:04}")).await;
        let to = cluster.person(&format!("1666{number:04}")).await;
        let conversation = ids::conversation_id(from.user, to.user);
        let (cluster, goes_on, seen) = (cluster.clone(), goes_on.clone(), seen.clone());
        let task = tokio::spawn(async move { write(&cluster, (from, to), &goes_on, &seen).await });
        writers.insert(conversation, task);
    }
    cluster.clock.sleep(Duration::from_millis(200)).await;
    change(&cluster).await;
    cluster.clock.sleep(Duration::from_millis(200)).await;
    goes_on.store(false, Ordering::Relaxed);
    for (conversation, task) in writers {
        let last = task.await.unwrap();
        let after = last.saturating_sub(500);
        let history = cluster.history_after(conversation, after).await;
        in_order(
            after + 1..=last,
            history.messages.iter().map(|message| message.client_id),
        );
    }
    Arc::into_inner(seen).unwrap()
}

fn promised(what: &str, seen: &Seen) {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert!(of(&seen.written) > 2000, "{what}: {} writes", of(&seen.written));
    assert_eq!(of(&seen.unknown), 0, "{what}: writes were left unknown");
    assert_eq!(of(&seen.refused), 0, "{what}: writes were refused");
    let longest = Duration::from_micros(of(&seen.longest_us));
    assert!(longest <= TAKES_MAX, "{what}: a write took {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_under_load_fails_no_write() {
    let seen = under_load(async |cluster| {
        let leader = cluster.leader(0).await;
        cluster.handle(leader).stop().await;
        cluster.wire.nodes.lock().unwrap().remove(&leader);
    })
    .await;
    promised("stop", &seen);
}

#[tokio::test(start_paused = true)]
async fn handing_over_under_load_again_and_again_fails_no_write() {
    let seen = under_load(async |cluster| {
        for _ in 0..10 {
            let leader = cluster.leader(0).await;
            let to = leader % 3 + 1;
            let request = TransferLeaderRequest { shard: 0, to };
            let node = cluster.handle(leader);
            assert_eq!(node.transfer_leader(request, Call::default()).await.unwrap().to, to);
            cluster
                .until("successor", async || (cluster.leader(0).await == to).then_some(()))
                .await;
        }
    })
    .await;
    promised("transfer", &seen);
}
