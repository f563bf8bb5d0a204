//! Whole nodes, broken in all the ways that they promise to survive.

mod accounts;
mod cluster;
mod groups;
mod handover;
mod leaving;
mod moves;
mod overload;
#[cfg(feature = "plants")]
mod plants;
mod snapshots;
mod storage;
mod versions;

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, ConfState, DigestRequest, FenceRequest, HistoryRequest, OpenSessionRequest, OutboxAck,
    OutboxBatch, OutboxItem, PeerMessage, RaftMessage, RaftMessageKind, SendRequest, Snapshot, StatusRequest,
    TransferLeaderRequest, peer_message::Message, subscribe_event::Event,
};

pub(super) use cluster::config;
use cluster::{Cluster, in_order, patient};

use super::{Call, ClientApi as _, NodeError, Reason, Refusal};
use crate::{chat::ids, env::Streams};

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_stored_and_shown_on_every_device_in_order() {
    let cluster = Cluster::start(3, 4, |_| {});
    let (a, b) = (cluster.person("+1 555 0001").await, cluster.person("+1 555 0002").await);
    for id in 1..=20 {
        let sent = cluster.send(&a, &b, id).await;
        assert_eq!((sent.position, sent.repeated), (id, false));
    }
    assert!(
        cluster.send(&a, &b, 7).await.repeated,
        "a repeated send has the first answer"
    );
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    in_order(1..=20, history.messages.iter().map(|message| message.client_id));
    for device in 1..=2 {
        let (shown, position) = cluster.shown(&b, device, 0).await;
        in_order(1..=20, shown.iter().map(|delivery| delivery.sequence));
        in_order(1..=20, shown.iter().map(|delivery| delivery.position));
        assert_eq!(position.last_sequence, 20);
    }
    let (shown, _) = cluster.shown(&b, 1, 15).await;
    in_order(16..=20, shown.iter().map(|delivery| delivery.sequence));
    let acknowledge = AcknowledgeRequest {
        user: b.user,
        device: 2,
        session: b.sessions[&2],
        sequence: 12,
        epoch: 1,
    };
    let answer = cluster
        .call(async |node| node.acknowledge(acknowledge, patient()).await)
        .await;
    assert_eq!(answer.acknowledged, 12);
    let early = b.subscribe(2, 11);
    let leader = cluster.handle(cluster.leader(ids::owner(b.user, 4)).await);
    let refused = leader.subscribe(early, patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Resync);
    assert!(
        refused.message.contains("11") && refused.message.contains("12"),
        "{refused}"
    );
    let (shown, _) = cluster.shown(&b, 2, 12).await;
    in_order(13..=20, shown.iter().map(|delivery| delivery.sequence));
    for shard in 0..4 {
        cluster.converge(shard).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_stays_open_and_is_pushed_to() {
    let cluster = Cluster::start(3, 2, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let request = b.subscribe(1, 0);
    let mut stream = cluster
        .call(async |node| node.subscribe(request, patient()).await)
        .await;
    // More than its queue holds, while nobody reads: the rest comes once somebody does.
    for id in 1..=200 {
        cluster.send(&a, &b, id).await;
    }
    let read = cluster.clock.now();
    let mut sequences = Vec::new();
    while sequences.len() < 200 {
        if let Event::Delivery(delivery) = stream.recv().await.unwrap().unwrap().event.unwrap() {
            sequences.push(delivery.sequence);
        }
    }
    in_order(1..=200, sequences);
    let took = cluster.clock.now() - read;
    assert!(
        took < Duration::from_millis(200),
        "room is noticed before a heartbeat is due: {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_from_the_leader_replaces_it_at_once_and_silence_after_the_timeout() {
    for reset in [true, false] {
        let mut cluster = Cluster::start(3, 1, |_| {});
        let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
        cluster.send(&a, &b, 1).await;
        let old = cluster.leader(0).await;
        let killed = cluster.clock.now();
        cluster.crash(old, reset);
        let sent = cluster.send(&a, &b, 2).await;
        let took = cluster.clock.now() - killed;
        assert_eq!(sent.position, 2);
        match reset {
            true => assert!(took < Duration::from_millis(50), "{took:?}"),
            false => assert!(
                (Duration::from_millis(200)..Duration::from_secs(2)).contains(&took),
                "{took:?}"
            ),
        }
        assert_ne!(cluster.leader(0).await, old);
        cluster.up(old);
        cluster.converge(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_hands_leadership_over_first() {
    let mut cluster = Cluster::start(3, 2, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1).await;
    let old = cluster.leader(0).await;
    let asked = cluster.clock.now();
    cluster.handle(old).stop().await;
    let took = cluster.clock.now() - asked;
    assert!(took < Duration::from_millis(200), "{took:?}");
    cluster.wire.nodes.lock().unwrap().remove(&old);
    assert!(cluster.tasks.remove(&old).unwrap().await.unwrap().is_ok());
    assert_eq!(cluster.send(&a, &b, 2).await.position, 2);
    let since = cluster.clock.now() - asked;
    assert!(
        since < Duration::from_millis(300),
        "nobody waited for a timeout: {since:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nodes_that_stop_together_do_not_hand_leadership_round() {
    for stopping in [2, 3] {
        let cluster = Cluster::start(3, 6, |_| {});
        for shard in 0..6 {
            cluster.leader(shard).await;
        }
        let asked = cluster.clock.now();
        let mut stops = tokio::task::JoinSet::new();
        for node in 1..=stopping {
            let handle = cluster.handle(node);
            stops.spawn(async move { handle.stop().await });
        }
        while stops.join_next().await.is_some() {}
        let took = cluster.clock.now() - asked;
        assert!(took < Duration::from_millis(200), "{stopping} nodes: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_who_asks_a_node_to_stop_waits_until_it_has() {
    let mut cluster = Cluster::start(3, 2, |_| {});
    let node = cluster.leader(0).await;
    let mut stops = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let handle = cluster.handle(node);
        stops.spawn(async move {
            handle.stop().await;
            handle.is_alive()
        });
    }
    while let Some(alive) = stops.join_next().await {
        assert!(!alive.unwrap(), "told before it had stopped");
    }
    assert!(cluster.tasks.remove(&node).unwrap().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_transferred_on_request() {
    let cluster = Cluster::start(3, 1, |_| {});
    let old = cluster.leader(0).await;
    let to = 1 + old % 3;
    let request = TransferLeaderRequest { shard: 0, to };
    let other = cluster
        .handle(to)
        .transfer_leader(request, patient())
        .await
        .unwrap_err();
    assert_eq!((other.reason, other.leader), (Reason::NotLeader, Some(old)));
    cluster
        .call(async |node| node.transfer_leader(request, patient()).await)
        .await;
    cluster
        .until("new leader", async || (cluster.leader(0).await == to).then_some(()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn everything_acknowledged_survives_a_power_loss_of_all() {
    let mut cluster = Cluster::start(3, 2, |config| config.retention.checkpoint_every = 10);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let mut rng = Streams::new(1).stream("power");
    for round in 0..4 {
        for id in 1..=15 {
            cluster.send(&a, &b, round * 15 + id).await;
        }
        for node in 1..=3 {
            cluster.crash(node, false);
            cluster.disks[&node].power_loss(&mut rng);
        }
        (1..=3).for_each(|node| cluster.up(node));
    }
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    in_order(1..=60, history.messages.iter().map(|message| message.client_id));
    let (shown, _) = cluster.shown(&b, 2, 0).await;
    in_order(1..=60, shown.iter().map(|delivery| delivery.client_id));
    for shard in 0..2 {
        cluster.converge(shard).await;
    }
}

/// A crash between taking over a snapshot and noting it in the log leaves a state that is ahead of the log.
#[tokio::test(start_paused = true)]
async fn a_log_that_ends_before_the_state_starts_anew_behind_it_and_never_the_reverse() {
    let mut cluster = Cluster::start(1, 1, |config| config.retention.checkpoint_every = 1);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=5 {
        cluster.send(&a, &b, id).await;
    }
    cluster.crash(1, false);
    cluster.lose(1, "log");
    cluster.up(1);
    assert_eq!(cluster.send(&a, &b, 6).await.position, 6);
    let log = cluster.shard(1, 0).await.unwrap();
    assert!(log.first_index > 5, "the log goes on behind the state: {log:?}");
    cluster.handle(1).stop().await;
    cluster.lose(1, "state");
    cluster.up(1);
    let status = cluster.handle(1).status(StatusRequest {}, patient()).await.unwrap();
    let [found] = &status.quarantined[..] else {
        panic!("{status:?}");
    };
    assert!(
        found.file == "state/shard-0000.redb" && found.what.contains("the log begins behind"),
        "{found:?}"
    );
}

/// Two nodes that still have the old file and three that have the new one would be two majorities.
#[tokio::test(start_paused = true)]
async fn a_file_that_names_other_members_than_the_log_is_refused() {
    let mut cluster = Cluster::start(3, 2, |_| {});
    cluster.leader(0).await;
    cluster.crash(1, false);
    cluster.disks[&1].power_loss(&mut Streams::new(1).stream("power"));
    let old = cluster.configs[&1].clone();
    let at = old.peers[&1];
    cluster.configs.get_mut(&1).unwrap().peers.extend([(4, at), (5, at)]);
    cluster.up(1);
    let ended = cluster.tasks.remove(&1).unwrap().await.unwrap();
    let what = ended.unwrap_err().to_string();
    assert!(what.contains("[1, 2, 3]") && what.contains("[1, 2, 3, 4, 5]"), "{what}");
    cluster.configs.insert(1, old);
    cluster.up(1);
    cluster.converge(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_recipient_costs_no_entries_and_is_served_once_it_has_room() {
    let cluster = Cluster::start(3, 1, |config| config.state.stream_max = 10);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=25 {
        cluster.send(&a, &b, id).await;
    }
    let last = async || cluster.shard(cluster.leader(0).await, 0).await.unwrap().last_index;
    let full = cluster.until("ten deliveries", async || {
        let (shown, _) = cluster.shown(&b, 1, 0).await;
        (shown.len() == 10).then_some(())
    });
    full.await;
    let before = last().await;
    cluster.clock.sleep(Duration::from_secs(60)).await;
    let entries = last().await - before;
    assert!(entries < 40, "{entries} entries in a minute in which nothing happened");
    for (sequence, next) in [(10, 20), (20, 25)] {
        let freed = cluster.clock.now();
        // The sender's own devices are shown what it sends, and have no room either.
        for (person, device) in [(&a, 1), (&a, 2), (&b, 1), (&b, 2)] {
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
        let more = cluster.until("more deliveries", async || {
            let (shown, _) = cluster.shown(&b, 1, sequence).await;
            (shown.last()?.sequence == next).then_some(())
        });
        more.await;
        let took = cluster.clock.now() - freed;
        assert!(took < Duration::from_secs(1), "room was noticed after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_away_too_long_gets_a_snapshot() {
    let cluster = Cluster::start(3, 1, |config| {
        config.retention.checkpoint_every = 20;
        config.retention.keep_behind = 5;
    });
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let away = 1 + cluster.leader(0).await % 3;
    let others: Vec<u64> = (1..=3).filter(|node| *node != away).collect();
    cluster.isolate(away, &others);
    for id in 1..=100 {
        cluster.send(&a, &b, id).await;
    }
    let behind = cluster.shard(away, 0).await.unwrap();
    let first = cluster.shard(cluster.leader(0).await, 0).await.unwrap().first_index;
    assert!(first > behind.last_index, "the log that it needs is gone");
    cluster.heal();
    cluster.converge(0).await;
    let after = cluster.shard(away, 0).await.unwrap();
    assert!(after.first_index > behind.last_index + 1, "it was given a snapshot");
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_steps_down_and_what_it_had_is_uncertain() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let old = cluster.leader(0).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    let request = b.subscribe(1, 0);
    let mut stream = cluster.handle(old).subscribe(request, patient()).await.unwrap();
    cluster.isolate(old, &others);
    let asked = cluster.clock.now();
    let stranded = cluster.handle(old).send(a.message(&b, 1), patient()).await.unwrap_err();
    assert_eq!(stranded.reason, Reason::Maybe);
    let took = cluster.clock.now() - asked;
    assert!(
        took < Duration::from_secs(1),
        "told when leadership was lost, not at the deadline: {took:?}"
    );
    let ended = loop {
        if let Err(refusal) = stream.recv().await.expect("it says why it ends") {
            break refusal;
        }
    };
    assert_eq!(ended.reason, Reason::NotLeader);
    let read = a.read(&b);
    cluster.clock.sleep(Duration::from_secs(3)).await;
    let refused = cluster.handle(old).history(read, patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoQuorum);
    assert!(refused.retry_after.is_some());
    // The rest goes on, and the retry with the same client id is stored once, whatever became of the first.
    for node in others {
        let _ = cluster.handle(node).send(a.message(&b, 1), patient()).await;
    }
    cluster.heal();
    cluster.send(&a, &b, 1).await;
    cluster.converge(0).await;
    let history = cluster.history(read.conversation).await;
    in_order(1..=1, history.messages.iter().map(|message| message.client_id));
}

#[tokio::test(start_paused = true)]
async fn over_a_bound_a_call_is_refused_at_once_with_a_delay() {
    let cluster = Cluster::start(3, 1, |config| config.bounds.proposals_per_shard = 3);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let leader = cluster.leader(0).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.isolate(leader, &others);
    let handle = cluster.handle(leader);
    let mut stuck = Vec::new();
    for id in 1..=3 {
        let (handle, request) = (handle.clone(), a.message(&b, id));
        stuck.push(tokio::spawn(async move { handle.send(request, patient()).await }));
    }
    tokio::task::yield_now().await;
    let asked = cluster.clock.now();
    let refused: Refusal = handle.send(a.message(&b, 4), patient()).await.unwrap_err();
    assert_eq!((refused.reason, cluster.clock.now()), (Reason::Overloaded, asked));
    assert!(refused.retry_after.is_some());
    for stuck in stuck {
        assert_eq!(stuck.await.unwrap().unwrap_err().reason, Reason::Maybe);
    }
}

#[tokio::test(start_paused = true)]
async fn log_ins_beyond_the_rate_are_told_when_to_come_back() {
    let cluster = Cluster::start(1, 1, |config| {
        config.bounds.logins_per_second = 10;
        config.bounds.login_burst = 2;
    });
    let a = cluster.person("15550001").await;
    let again = OpenSessionRequest {
        user: a.user,
        device: 3,
        epoch: 1,
        client_nonce: 9,
    };
    let refused = cluster.handle(1).open_session(again, patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Overloaded);
    cluster.clock.sleep(refused.retry_after.unwrap()).await;
    assert!(cluster.handle(1).open_session(again, patient()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_session_neither_sends_nor_hears_any_more() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let request = a.subscribe(1, 0);
    let mut stream = cluster
        .call(async |node| node.subscribe(request, patient()).await)
        .await;
    let fence = FenceRequest {
        shard: 0,
        sessions: vec![a.sessions[&1]],
        epoch: 1,
    };
    cluster
        .call(async |node| node.fence(fence.clone(), patient()).await)
        .await;
    let leader = cluster.handle(cluster.leader(0).await);
    let refused = leader.send(a.message(&b, 1), patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::SessionEnded);
    loop {
        match stream.recv().await {
            Some(Err(refusal)) => break assert_eq!(refusal.reason, Reason::SessionEnded),
            Some(Ok(_)) => {}
            None => panic!("the stream says why it ends"),
        }
    }
    assert!(leader.send(b.message(&a, 1), patient()).await.is_ok(), "others go on");
}

#[tokio::test(start_paused = true)]
async fn stale_routes_expired_calls_and_unknown_shards_are_refused_before_anything_happens() {
    let cluster = Cluster::start(3, 2, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let shard = ids::owner(ids::conversation_id(a.user, b.user), 2);
    let leader = cluster.handle(cluster.leader(shard).await);
    let old = SendRequest {
        epoch: 9,
        ..a.message(&b, 1)
    };
    let refused = leader.send(old, patient()).await.unwrap_err();
    assert_eq!((refused.reason, refused.epoch), (Reason::StaleRoute, 1));
    let late = leader
        .send(a.message(&b, 1), Call::within(Duration::ZERO))
        .await
        .unwrap_err();
    assert!(matches!(late.reason, Reason::Expired | Reason::Maybe));
    let mut selfish = a.message(&b, 1);
    selfish.recipient = a.user;
    let refused = cluster.handle(1).send(selfish, patient()).await.unwrap_err();
    assert!(
        matches!(refused.reason, Reason::Invalid | Reason::StaleRoute),
        "{refused:?}"
    );
    let digest = cluster.handle(1).digest(DigestRequest { shard: 7 }, patient()).await;
    assert_eq!(digest.unwrap_err().reason, Reason::Invalid);
    assert_eq!(cluster.send(&a, &b, 1).await.position, 1, "none of it was stored");
}

/// Every one of these ended a node, or kept its outbox from ever moving on.
#[tokio::test(start_paused = true)]
async fn what_a_peer_can_not_mean_neither_ends_a_node_nor_stops_its_deliveries() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1).await;
    let (shown, _) = cluster.shown(&b, 1, 0).await;
    assert_eq!(shown.len(), 1);
    let leader = cluster.leader(0).await;
    let follower = 1 + leader % 3;
    let status = cluster.shard(leader, 0).await.unwrap();
    let says = |from: u64, to: u64, message| {
        let message = PeerMessage {
            shard: 0,
            message: Some(message),
        };
        cluster.handle(to).deliver(from, vec![message]);
    };

    for (index, term) in [(status.last_index + 1000, status.term), (status.commit, status.term)] {
        let snapshot = Snapshot {
            index,
            term,
            conf_state: Some(ConfState {
                voters: vec![1, 2, 3],
                ..ConfState::default()
            }),
            data: "no state at all".into(),
        };
        let raft = RaftMessage {
            kind: RaftMessageKind::Snapshot.into(),
            to: follower,
            from: leader,
            term: status.term,
            snapshot: Some(snapshot),
            ..RaftMessage::default()
        };
        says(leader, follower, Message::Raft(raft));
    }
    for (from_shard, to_shard, through) in [(0, 0, 1 << 40), (0, 9, 0), (7, 0, 1)] {
        let ack = OutboxAck {
            from_shard,
            to_shard,
            through,
        };
        says(follower, leader, Message::OutboxAck(ack));
    }
    let items = (2..70).map(|outbox_sequence| OutboxItem {
        outbox_sequence,
        body: vec![0; 1 << 20].into(),
        ..OutboxItem::default()
    });
    let batch = OutboxBatch {
        from_shard: 0,
        to_shard: 0,
        items: items.collect(),
    };
    says(follower, leader, Message::Outbox(batch));

    for id in 2..=20 {
        cluster.send(&a, &b, id).await;
    }
    let (shown, _) = cluster.shown(&b, 1, 1).await;
    in_order(2..=20, shown.iter().map(|delivery| delivery.client_id));
    assert_eq!(cluster.leader(0).await, leader, "nothing of it was taken for true");
    cluster.converge(0).await;
    assert!((1..=3).all(|node| cluster.handle(node).is_alive()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_ends_the_node_and_the_others_go_on() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let leader = cluster.leader(0).await;
    cluster.disks[&leader].fail_next_sync("log");
    let refused = cluster
        .handle(leader)
        .send(a.message(&b, 1), patient())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::Maybe);
    let ended = cluster.tasks.remove(&leader).unwrap().await.unwrap();
    assert!(matches!(ended, Err(NodeError::Storage(_))), "{ended:?}");
    cluster.wire.nodes.lock().unwrap().remove(&leader);
    cluster.send(&a, &b, 1).await;
}

#[tokio::test(start_paused = true)]
async fn noise_from_peers_is_ignored() {
    use firedrill_proto::chat::v1::{LogEntry, RaftMessage, peer_message::Message};
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let leader = cluster.leader(0).await;
    let follower = 1 + leader % 3;
    let term = cluster.shard(follower, 0).await.unwrap().term;
    let raft = |kind: i32, to, from, index, commit| RaftMessage {
        kind,
        to,
        from,
        term,
        index,
        commit,
        entries: vec![LogEntry::default(); (index % 3) as usize],
        ..Default::default()
    };
    for kind in -1..20 {
        for (to, from) in [
            (follower, leader),
            (leader, follower),
            (9, leader),
            (follower, 9),
            (follower, follower),
        ] {
            for (index, commit) in [(0, u64::MAX), (u64::MAX, 0), (1 << 40, 1 << 40), (4, 1 << 40)] {
                let message = raft(kind, to, from, index, commit);
                let wrapped = PeerMessage {
                    shard: 0,
                    message: Some(Message::Raft(message)),
                };
                let receiver = if to == leader { leader } else { follower };
                cluster
                    .handle(receiver)
                    .deliver(from, vec![wrapped, PeerMessage::default()]);
            }
        }
    }
    for id in 1..=5 {
        cluster.send(&a, &b, id).await;
    }
    cluster.converge(0).await;
    assert!(
        cluster.tasks.values().all(|task| !task.is_finished()),
        "nobody panicked"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_when_a_node_stops_are_told_to_go_elsewhere() {
    // More of them than one turn takes in, all there before the turn that stops.
    const CALLS: usize = 1500;
    let cluster = Cluster::start(1, 1, |_| {});
    let node = cluster.handle(1);
    let stop = tokio::spawn({
        let node = node.clone();
        async move { node.stop().await }
    });
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let node = node.clone();
            let read = HistoryRequest {
                conversation: 1,
                after: 0,
                limit: 1,
                epoch: 1,
                caller: None,
            };
            tokio::spawn(async move { node.history(read, patient()).await })
        })
        .collect();
    for call in calls {
        let refusal = call.await.unwrap().unwrap_err();
        assert_eq!(refusal.reason, Reason::NotLeader, "{refusal:?}");
    }
    stop.await.unwrap();
    assert!(!node.is_alive());
}
