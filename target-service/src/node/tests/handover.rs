//! Leadership that changes on purpose, with callers in the middle of it.

use std::collections::BTreeSet;

use firedrill_proto::chat::v1::{
    PeerMessage, RaftMessageKind, SendResponse, TransferLeaderRequest, peer_message::Message,
};
use tokio::task::JoinSet;

use super::{
    super::{Answer, ClientApi as _, NodeHandle, Reason, Refusal},
    cluster::{Cluster, Person, patient},
};

/// Calls that the leader is asked before the hand-over and after it, in one batch.
const EACH: u64 = 20;

/// A cluster of three with one shard, two people, who leads and who is to.
async fn rig() -> (Cluster, Person, Person, u64, u64) {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1000).await;
    let old = cluster.leader(0).await;
    (cluster, a, b, old, 1 + old % 3)
}

/// Sends before and after the old leader is asked to hand over, all of which it finds in its inbox at once, with the
/// answer to each, in order.
async fn in_the_middle(node: &NodeHandle, (a, b): (&Person, &Person), to: u64) -> Vec<(u64, Answer<SendResponse>)> {
    let mut calls = JoinSet::new();
    for id in 1..=2 * EACH {
        if id == EACH + 1 {
            let node = node.clone();
            calls.spawn(async move {
                let asked = node
                    .transfer_leader(TransferLeaderRequest { shard: 0, to }, patient())
                    .await;
                asked.map(|answer| assert_eq!(answer.to, to)).unwrap();
                None
            });
        }
        let (node, request) = (node.clone(), a.message(b, id));
        calls.spawn(async move { Some((id, node.send(request, patient()).await)) });
    }
    let mut answers: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    answers.sort_by_key(|(id, _)| *id);
    answers
}

/// The answers to what was asked before the hand-over, and after.
fn halves(answers: Vec<(u64, Answer<SendResponse>)>) -> (Vec<Answer<SendResponse>>, Vec<Answer<SendResponse>>) {
    let (before, after): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(id, _)| *id <= EACH);
    let strip = |half: Vec<(u64, Answer<SendResponse>)>| half.into_iter().map(|(_, answer)| answer).collect();
    (strip(before), strip(after))
}

fn refusals(answers: Vec<Answer<SendResponse>>) -> Vec<Refusal> {
    answers.into_iter().map(|answer| answer.unwrap_err()).collect()
}

/// Only what `keep` takes arrives.
fn only(cluster: &Cluster, keep: impl Fn(u64, RaftMessageKind) -> bool + Send + 'static) {
    *cluster.wire.way.lock().unwrap() = Some(Box::new(move |from, _, messages: Vec<PeerMessage>| {
        let kept = messages.into_iter().filter(|message| match &message.message {
            Some(Message::Raft(raft)) => keep(from, raft.kind()),
            _ => true,
        });
        kept.collect()
    }));
}

#[tokio::test(start_paused = true)]
async fn who_asked_before_is_answered_and_who_asks_meanwhile_is_sent_to_the_new_leader() {
    let (cluster, a, b, old, to) = rig().await;
    let (before, after) = halves(in_the_middle(&cluster.handle(old), (&a, &b), to).await);
    let positions: BTreeSet<u64> = before.into_iter().map(|sent| sent.unwrap().position).collect();
    assert_eq!(positions, (2..=1 + EACH).collect(), "each took place, once");
    for refused in refusals(after) {
        assert_eq!((refused.reason, refused.leader), (Reason::NotLeader, Some(to)));
        assert_eq!(refused.retry_after, None, "there is nothing to wait for");
    }
    for id in EACH + 1..=2 * EACH {
        let sent = cluster.handle(to).send(a.message(&b, id), patient()).await.unwrap();
        assert_eq!(
            (sent.position, sent.repeated),
            (id + 1, false),
            "it had not taken place"
        );
    }
    cluster.converge(0).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_hand_over_that_fails_is_served_by_the_old_leader() {
    let (cluster, a, b, old, to) = rig().await;
    only(&cluster, |_, kind| kind != RaftMessageKind::TimeoutNow);
    let answers = in_the_middle(&cluster.handle(old), (&a, &b), to).await;
    let positions: BTreeSet<u64> = answers.into_iter().map(|(_, sent)| sent.unwrap().position).collect();
    assert_eq!(positions, (2..=1 + 2 * EACH).collect());
    assert_eq!(cluster.leader(0).await, old);
}

/// The new leader is elected and then not heard of: what it does with the log is not known here, and nobody waits for it
/// for ever.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_what_a_silent_new_leader_makes_of_a_proposal() {
    let (cluster, a, b, old, to) = rig().await;
    let quiet = |kind| {
        matches!(
            kind,
            RaftMessageKind::Append | RaftMessageKind::Heartbeat | RaftMessageKind::Snapshot
        )
    };
    only(&cluster, move |from, kind| from != to || !quiet(kind));
    // What the old leader proposed reaches the new one and is acknowledged by it alone: committed or not, who knows.
    let asked = cluster.clock.now();
    let answers = in_the_middle(&cluster.handle(old), (&a, &b), to).await;
    let took = cluster.clock.now() - asked;
    let timing = &cluster.configs[&old].timing;
    assert!(took.as_millis() < 3 * u128::from(timing.election_ms_max), "{took:?}");
    let (_, after) = halves(answers);
    for refused in refusals(after) {
        assert_eq!(refused.reason, Reason::NotLeader, "{refused}");
    }
    *cluster.wire.way.lock().unwrap() = None;
    cluster.converge(0).await;
}
