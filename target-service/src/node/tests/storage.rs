//! What the disk holds: bounded however long it goes on, quick to start from, and never served when it is damaged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{StatusRequest, StatusResponse, TransferLeaderRequest};

use super::{
    super::{ClientApi as _, Observer},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::{
    chat::ids,
    env::{Disk as _, SimDisk, read_all},
};

fn bytes_in(disk: &SimDisk, dir: &str) -> u64 {
    let files = disk.list(dir).unwrap().into_iter();
    let len = |name: String| disk.open(&format!("{dir}/{name}")).unwrap().len().unwrap();
    files.map(len).sum()
}

async fn status(cluster: &Cluster, node: u64) -> StatusResponse {
    cluster.handle(node).status(StatusRequest {}, patient()).await.unwrap()
}

/// A repeated send goes through the log like any other and adds nothing to the state, so that all that grows is waste.
#[tokio::test(start_paused = true)]
async fn a_long_run_with_a_dead_follower_keeps_log_and_disk_within_bounds() {
    const SEGMENT: u64 = 4 << 10;
    let mut cluster = Cluster::start(3, 3, |config| {
        config.retention.checkpoint_every = 40;
        config.retention.keep_behind = 20;
        config.retention.segment_bytes = SEGMENT;
    });
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let shard = ids::owner(ids::conversation_id(a.user, b.user), 3);
    let dead = 1 + cluster.leader(shard).await % 3;
    cluster.crash(dead, true);
    let mut state = BTreeMap::new();
    for round in 0..40 {
        for id in 1..=50 {
            cluster.send(&a, &b, id).await;
        }
        for node in cluster.nodes() {
            let (disk, held) = (&cluster.disks[&node], cluster.shard(node, shard).await.unwrap());
            assert!(held.log_bytes < 20_000, "node {node}, round {round}: {held:?}");
            let log = bytes_in(disk, "log");
            // Twice 8 segments, each of which may be a turn longer than its size.
            assert!(log < 32 * SEGMENT, "node {node}, round {round}: {log} bytes of log");
            let bytes = bytes_in(disk, "state");
            let early = *state.entry(node).or_insert(bytes);
            if round == 5 {
                state.insert(node, bytes);
            }
            assert!(
                round <= 5 || bytes <= early,
                "node {node}, round {round}: {early} to {bytes} bytes"
            );
        }
    }
    cluster.up(dead);
    for shard in 0..3 {
        cluster.converge(shard).await;
    }
}

#[derive(Default)]
struct Applied(Mutex<BTreeMap<u64, (u64, u64)>>);

impl Observer for Applied {
    fn leads(&self, _: u64, _: u32, _: u64) {}

    fn applied(&self, node: u64, _: u32, index: u64, _: u64, _: &[u8]) {
        let mut all = self.0.lock().unwrap();
        let (first, count) = all.entry(node).or_insert((index, 0));
        *first = index.min(*first);
        *count += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_applies_no_more_than_what_a_checkpoint_may_miss() {
    let mut cluster = Cluster::start(3, 1, |config| config.retention.checkpoint_every = 50);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=330 {
        cluster.send(&a, &b, id).await;
    }
    let node = 1 + cluster.leader(0).await % 3;
    let before = cluster.shard(node, 0).await.unwrap();
    assert!(
        before.applied > 330 && before.applied < before.checkpoint + 50,
        "{before:?}"
    );
    cluster.crash(node, true);
    let applied = Arc::new(Applied::default());
    cluster.observer = Some(applied.clone());
    cluster.up(node);
    cluster.converge(0).await;
    let (first, count) = applied.0.lock().unwrap()[&node];
    assert_eq!(first, before.checkpoint + 1, "it went on behind its last checkpoint");
    let after = cluster.shard(node, 0).await.unwrap();
    assert_eq!(count, after.applied - before.checkpoint, "each once");
    assert!(count < 60, "{count} entries were applied");
}

/// A checkpoint by bytes: few large entries must not wait for many.
#[tokio::test(start_paused = true)]
async fn few_large_entries_are_checkpointed_and_released_too() {
    let cluster = Cluster::start(1, 1, |config| {
        config.retention.checkpoint_bytes = 50_000;
        config.retention.keep_bytes = 20_000;
    });
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=60 {
        let mut request = a.message(&b, id);
        request.body = vec![b'x'; 4000].into();
        cluster
            .call(async |node| node.send(request.clone(), patient()).await)
            .await;
        let held = cluster.shard(1, 0).await.unwrap();
        assert!(held.log_bytes < 85_000, "{held:?}");
    }
    let held = cluster.shard(1, 0).await.unwrap();
    assert!(held.checkpoint > 0 && held.first_index > 40, "{held:?}");
}

async fn talk(cluster: &Cluster, a: &Person, b: &Person, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        cluster.send(a, b, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_database_sets_one_replica_aside_and_its_file_is_kept() {
    let mut cluster = Cluster::start(3, 2, |config| config.retention.checkpoint_every = 10);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    talk(&cluster, &a, &b, 1..=30).await;
    let shard = ids::owner(ids::conversation_id(a.user, b.user), 2);
    let file = format!("state/shard-{shard:04}.redb");
    cluster.crash(1, true);
    let disk = cluster.disks[&1].clone();
    let len = disk.open(&file).unwrap().len().unwrap();
    for offset in (4096..len).step_by(509) {
        disk.flip(&file, offset, 4).unwrap();
    }
    let damaged = read_all(&*disk.open(&file).unwrap()).unwrap();
    for _ in 0..2 {
        cluster.up(1);
        let said = status(&cluster, 1).await;
        let [found] = &said.quarantined[..] else {
            panic!("{said:?}")
        };
        assert_eq!((found.shard, &found.file), (shard, &file));
        assert!(!said.shards.iter().any(|held| held.shard == shard), "it is not served");
        let refused = cluster.handle(1).send(a.message(&b, 1), patient()).await.unwrap_err();
        assert!(refused.message.contains(&file), "{refused}");
        talk(&cluster, &a, &b, 31..=40).await;
        cluster.converge(1 - shard).await;
        assert!(
            status(&cluster, 1).await.shards[0].applied > 0,
            "the other shard goes on"
        );
        cluster.crash(1, true);
        assert!(
            read_all(&*disk.open(&file).unwrap()).unwrap() == damaged,
            "the evidence is kept"
        );
    }
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    in_order(1..=40, history.messages.iter().map(|message| message.client_id));
}

/// Rot that a start does not look for is found by whoever reads the record, and is no answer.
#[tokio::test(start_paused = true)]
async fn a_record_that_rots_under_a_leader_is_never_served() {
    let mut cluster = Cluster::start(3, 1, |config| {
        config.retention.checkpoint_every = 10;
        config.retention.verify_state = false;
    });
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    talk(&cluster, &a, &b, 1..=30).await;
    // What the outboxes held is gone by then, so that nothing but the messages themselves is hit.
    cluster.clock.sleep(Duration::from_secs(2)).await;
    cluster.handle(1).stop().await;
    cluster.crash(1, true);
    let (disk, file) = (cluster.disks[&1].clone(), "state/shard-0000.redb");
    let bytes = read_all(&*disk.open(file).unwrap()).unwrap();
    let places = (0..bytes.len() - 9).filter(|at| &bytes[*at..*at + 9] == b"message 7");
    for at in places {
        disk.flip(file, at as u64, 1).unwrap();
    }
    cluster.up(1);
    let request = TransferLeaderRequest { shard: 0, to: 1 };
    let leads = async || {
        for node in cluster.nodes() {
            let _ = cluster.handle(node).transfer_leader(request, patient()).await;
        }
        let said = status(&cluster, 1).await;
        assert!(said.quarantined.is_empty(), "too early: {said:?}");
        (cluster.leader(0).await == 1).then_some(())
    };
    cluster.until("leadership of the damaged node", leads).await;
    let asked = cluster.clock.now();
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    let bodies = history
        .messages
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned());
    assert_eq!(
        bodies.collect::<Vec<_>>(),
        (1..=30).map(|id| format!("message {id}")).collect::<Vec<_>>()
    );
    assert!(
        cluster.clock.now() - asked < patient().timeout.unwrap(),
        "nobody waited for a timeout"
    );
    let said = status(&cluster, 1).await;
    assert!(
        said.quarantined[0].at.starts_with("record ") && said.quarantined[0].what.contains("checksum"),
        "{said:?}"
    );
    talk(&cluster, &a, &b, 31..=33).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_ends_the_node_and_says_where_and_what_to_do() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    talk(&cluster, &a, &b, 1..=30).await;
    cluster.crash(1, true);
    let name = format!("log/{}", cluster.disks[&1].list("log").unwrap()[0]);
    cluster.disks[&1].flip(&name, 700, 1).unwrap();
    cluster.up(1);
    let what = cluster
        .tasks
        .remove(&1)
        .unwrap()
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        what.contains(&format!("{name} is corrupt at byte ")) && what.contains("under a new id"),
        "{what}"
    );
}
