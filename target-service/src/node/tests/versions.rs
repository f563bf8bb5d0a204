//! Two versions side by side: who serves whom, updating and going back under load, and a build that can't send.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    Caller, Command, OpenRequest, SendRequest, StatusRequest, command, peer_message::Message,
};
use prost::Message as _;

use super::{
    super::{Answer, Build, ClientApi as _, Observer, Protocols, Reason},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::chat::ids;

/// What was applied of each kind that only the second version knows, by shard and index.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<(u32, u64), &'static str>>);

impl Observer for Seen {
    fn leads(&self, _: u64, _: u32, _: u64) {}

    fn applied(&self, _: u64, shard: u32, index: u64, _: u64, data: &[u8]) {
        let kind = match Command::decode(data).ok().and_then(|command| command.command) {
            Some(command::Command::SetVersion(_)) => "set",
            Some(command::Command::TrimOutboxes(_)) => "trim",
            _ => return,
        };
        self.0.lock().unwrap().insert((shard, index), kind);
    }
}

impl Seen {
    fn count(&self, kind: &str) -> usize {
        self.0.lock().unwrap().values().filter(|seen| **seen == kind).count()
    }

    /// Nothing of the second version stands before the entry that turns its shard to it.
    fn in_order(&self) {
        let mut turned = BTreeSet::new();
        for ((shard, index), kind) in &*self.0.lock().unwrap() {
            match *kind {
                "set" => assert!(turned.insert(*shard), "shard {shard} turned again at {index}"),
                _ => assert!(turned.contains(shard), "shard {shard} was not turned by {index}"),
            }
        }
    }
}

fn cluster_of(protocols: [u32; 3], finalize: bool) -> (Cluster, Arc<Seen>) {
    let mut cluster = Cluster::start(3, 3, |config| {
        config.versions.protocol = protocols[config.node as usize - 1];
        config.versions.finalize = finalize;
        config.retention.checkpoint_every = 20;
        config.retention.keep_behind = 5;
        config.retention.chunk_bytes = 256;
    });
    // With somebody who watches from the start.
    let seen = Arc::new(Seen::default());
    cluster.observer = Some(seen.clone());
    for node in 1..=3 {
        cluster.crash(node, true);
    }
    (1..=3).for_each(|node| cluster.up(node));
    (cluster, seen)
}

async fn people(cluster: &Cluster) -> Vec<Person> {
    let mut people = Vec::new();
    for number in 0..5 {
        people.push(cluster.person(&format!("1555000{number}")).await);
    }
    people
}

/// Everybody writes to everybody, so that each shard fills the outboxes to all.
async fn load(cluster: &Cluster, people: &[Person], ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        for (at, from) in people.iter().enumerate() {
            cluster
                .send(from, &people[(at + id as usize % 4 + 1) % people.len()], id)
                .await;
        }
        cluster.clock.sleep(Duration::from_millis(20)).await;
    }
}

/// Every message of everybody is in its conversation.
async fn all_stored(cluster: &Cluster, people: &[Person], last: u64) {
    let mut stored: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (at, a) in people.iter().enumerate() {
        for b in &people[at + 1..] {
            for message in cluster.history(ids::conversation_id(a.user, b.user)).await.messages {
                stored.entry(message.sender).or_default().push(message.client_id);
            }
        }
    }
    for person in people {
        let mut ids = stored.remove(&person.user).unwrap_or_default();
        ids.sort_unstable();
        in_order(1..=last, ids);
    }
}

async fn restart_as(cluster: &mut Cluster, node: u64, protocol: u32) {
    cluster.handle(node).stop().await;
    cluster.wire.nodes.lock().unwrap().remove(&node);
    cluster.tasks.remove(&node).unwrap().await.unwrap().unwrap();
    cluster.disks[&node].crash();
    cluster.configs.get_mut(&node).unwrap().versions.protocol = protocol;
    cluster.up(node);
}

#[tokio::test(start_paused = true)]
async fn callers_and_nodes_of_every_pair_of_versions_agree_or_say_why_not() {
    for protocols in [[1, 1, 1], [1, 1, 2], [1, 2, 2], [2, 2, 2]] {
        let (cluster, _) = cluster_of(protocols, true);
        let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
        let shard = ids::owner(ids::conversation_id(a.user, b.user), 3);
        let mut id = 0;
        for speaks in [(1, 1), (1, 2), (2, 2), (3, 4)] {
            let speaks = Protocols::new(speaks.0, speaks.1).unwrap();
            for node in 1..=3 {
                id += 1;
                let own = Protocols::new(1, protocols[node as usize - 1]).unwrap();
                let asked = cluster
                    .handle(node)
                    .send(a.message(&b, id), patient().speaking(speaks))
                    .await;
                let leads = cluster.leader(shard).await == node;
                match (speaks.shared(own), asked) {
                    (None, Err(refusal)) => {
                        assert_eq!(refusal.reason, Reason::UnsupportedVersion);
                        let said = format!("version {speaks} of the protocol, this node {own}");
                        assert!(refusal.message.contains(&said), "{refusal}");
                    }
                    (Some(_), Ok(_)) => assert!(leads),
                    (Some(_), Err(refusal)) => {
                        assert!(!leads && refusal.reason == Reason::NotLeader, "{refusal}");
                    }
                    (None, Ok(_)) => panic!("{speaks} and {own} share nothing"),
                }
                let status = cluster.handle(node).status(StatusRequest {}, patient()).await.unwrap();
                assert_eq!((status.protocol_least, status.protocol_most), (1, own.most()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_holds_nothing_of_the_second_version_before_all_members_speak_it() {
    let (mut cluster, seen) = cluster_of([1, 1, 1], true);
    let people = people(&cluster).await;
    load(&cluster, &people, 1..=10).await;
    for (node, last) in [(1, 30), (2, 60)] {
        restart_as(&mut cluster, node, 2).await;
        load(&cluster, &people, last - 19..=last).await;
        load(&cluster, &people, last - 19..=last).await;
        assert_eq!((seen.count("set"), seen.count("trim")), (0, 0), "node 3 still speaks 1");
    }
    restart_as(&mut cluster, 3, 2).await;
    load(&cluster, &people, 11..=40).await;
    cluster.clock.sleep(Duration::from_secs(3)).await;
    load(&cluster, &people, 61..=100).await;
    assert_eq!(seen.count("set"), 3, "one for each shard");
    assert!(seen.count("trim") > 0, "and it is used");
    seen.in_order();
    for shard in 0..3 {
        cluster.converge(shard).await;
        assert_eq!(cluster.shard(1, shard).await.unwrap().version, 2);
    }
    // There is no way back, and that is said.
    cluster.handle(2).stop().await;
    cluster.crash(2, true);
    cluster.configs.get_mut(&2).unwrap().versions.protocol = 1;
    cluster.up(2);
    let what = cluster
        .tasks
        .remove(&2)
        .unwrap()
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        what.contains("turned to version 2") && what.contains("versions.protocol = 2"),
        "{what}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_update_and_the_way_back_lose_nothing_under_load() {
    let (mut cluster, seen) = cluster_of([1, 1, 1], false);
    let people = people(&cluster).await;
    load(&cluster, &people, 1..=10).await;
    let mut last = 10;
    for protocol in [2, 1, 2] {
        for node in 1..=3 {
            restart_as(&mut cluster, node, protocol).await;
            load(&cluster, &people, last + 1..=last + 10).await;
            last += 10;
        }
    }
    cluster.clock.sleep(Duration::from_secs(3)).await;
    assert_eq!((seen.count("set"), seen.count("trim")), (0, 0), "it was held back");
    all_stored(&cluster, &people, last).await;
    for shard in 0..3 {
        cluster.converge(shard).await;
    }
    for person in &people {
        let (shown, _) = cluster.shown(person, 2, 0).await;
        // What it sent, and what was sent to it.
        in_order(1..=shown.len() as u64, shown.iter().map(|delivery| delivery.sequence));
        assert!(shown.iter().filter(|it| it.sender == person.user).count() as u64 == last);
    }
}

/// To a node of the first version a snapshot goes whole, to one of the second in chunks; both arrive.
#[tokio::test(start_paused = true)]
async fn a_snapshot_reaches_followers_of_both_versions() {
    for (protocols, chunks) in [
        ([2, 2, 2], true),
        ([1, 1, 1], false),
        ([1, 2, 2], false),
        ([2, 1, 1], false),
    ] {
        let (cluster, _) = cluster_of(protocols, true);
        let people = people(&cluster).await;
        let away = 1;
        cluster.isolate(away, &[2, 3]);
        load(&cluster, &people, 1..=60).await;
        let sent = Arc::new(Mutex::new((0, 0)));
        let counts = sent.clone();
        *cluster.wire.way.lock().unwrap() = Some(Box::new(move |_, to, messages| {
            let mut counts = counts.lock().unwrap();
            for message in messages.iter().filter(|_| to == away) {
                match &message.message {
                    Some(Message::SnapshotChunk(_)) => counts.0 += 1,
                    Some(Message::Raft(raft)) if raft.snapshot.is_some() => counts.1 += 1,
                    _ => {}
                }
            }
            messages
        }));
        cluster.heal();
        for shard in 0..3 {
            cluster.converge(shard).await;
        }
        let (in_chunks, whole) = *sent.lock().unwrap();
        assert!(
            if chunks {
                whole == 0 && in_chunks > 10
            } else {
                whole > 0
            },
            "{in_chunks} chunks, {whole} whole"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_bad_build_the_app_opens_and_sending_fails_until_it_is_taken_back() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1).await;
    let build = async |cluster: &mut Cluster, build| {
        for node in 1..=3 {
            cluster.handle(node).stop().await;
            cluster.crash(node, true);
            cluster.configs.get_mut(&node).unwrap().versions.build = build;
            cluster.up(node);
        }
        cluster.leader(0).await
    };
    let leader = build(&mut cluster, Build::SecondBad).await;
    let both = patient().speaking(Protocols::ALL);
    let open = OpenRequest {
        caller: Some(Caller {
            user: a.user,
            device: 1,
            session: a.sessions[&1],
        }),
        epoch: 1,
        ..OpenRequest::default()
    };
    let opened = cluster.handle(leader).open(open, both).await.unwrap();
    assert!(opened.current, "opening goes another way");
    let failed = cluster.handle(leader).send(a.message(&b, 2), both).await.unwrap_err();
    assert_eq!(
        (failed.reason, failed.reason.surely_not_done()),
        (Reason::BrokenBuild, true)
    );
    let status = cluster
        .handle(leader)
        .status(StatusRequest {}, patient())
        .await
        .unwrap();
    assert_eq!(status.build, "2-bad");
    // Who has not been updated takes the old way.
    let old: SendRequest = a.message(&b, 3);
    assert_eq!(cluster.handle(leader).send(old, patient()).await.unwrap().position, 2);
    let leader = build(&mut cluster, Build::Good).await;
    let sent = cluster.handle(leader).send(a.message(&b, 4), both).await.unwrap();
    assert_eq!((sent.position, sent.repeated), (3, false));
}

/// What became of the calls of one client, by `ok` or the reason of the refusal; who doesn't lead is not asked.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn add<T>(&mut self, answer: &Answer<T>) {
        let word = answer.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "ok");
        if word != "NOT_LEADER" {
            *self.0.entry(word).or_default() += 1;
        }
    }

    fn take(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

/// May 2017 in small: the build goes to one node after the other while everybody writes and opens the app.
#[tokio::test(start_paused = true)]
async fn under_load_the_bad_build_fails_only_what_is_sent_the_new_way() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let both = patient().speaking(Protocols::ALL);
    let open = OpenRequest {
        caller: Some(Caller {
            user: a.user,
            device: 1,
            session: a.sessions[&1],
        }),
        epoch: 1,
        ..OpenRequest::default()
    };
    let mut id = 0;
    let (mut opens, mut new, mut old) = (Tally::default(), Tally::default(), Tally::default());
    for updated in 0..=3_u64 {
        if updated > 0 {
            cluster.handle(updated).stop().await;
            cluster.crash(updated, true);
            cluster.configs.get_mut(&updated).unwrap().versions.build = Build::SecondBad;
            cluster.up(updated);
        }
        cluster.leader(0).await;
        for _ in 0..150 {
            id += 2;
            for node in 1..=3 {
                let node = cluster.handle(node);
                let (opened, sent, sent_before) = tokio::join!(
                    node.open(open, both),
                    node.send(a.message(&b, id), both),
                    node.send(a.message(&b, id + 1), patient()),
                );
                opens.add(&opened);
                new.add(&sent);
                old.add(&sent_before);
            }
            cluster.clock.sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(opens.take(), ["ok"], "{updated} of three have it");
        assert_eq!(old.take(), ["ok"], "{updated} of three have it");
        let seen = new.take();
        match updated {
            0 => assert_eq!(seen, ["ok"]),
            3 => assert_eq!(seen, ["BROKEN_BUILD"]),
            // It depends on who leads.
            _ => assert!(
                seen.iter().all(|word| ["ok", "BROKEN_BUILD"].contains(word)),
                "{seen:?}"
            ),
        }
    }
}
