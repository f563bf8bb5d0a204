//! States that are carried to followers, over ways and past crashes that spare nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{PeerMessage, SnapshotChunk, peer_message::Message};
use prost::Message as _;
use rand::RngExt as _;

use super::cluster::{Cluster, Person, Way, in_order};
use crate::{chat::ids, env::Streams};

const CHUNK: usize = 256;

/// What went by.
#[derive(Default)]
struct Seen {
    chunks: usize,
    lost: usize,
    swapped: usize,
    /// Chunks that were the first of their snapshot.
    firsts: usize,
    largest: usize,
    /// The sizes of the snapshots, by their digests.
    totals: BTreeMap<u64, u64>,
}

impl Seen {
    fn note(&mut self, chunk: &SnapshotChunk, bytes: usize) {
        self.chunks += 1;
        self.firsts += usize::from(chunk.offset == 0);
        self.largest = self.largest.max(bytes);
        self.totals.insert(chunk.digest, chunk.total);
    }
}

/// Loses one in seven parts of snapshots and answers to them, and keeps as many back until the next comes.
fn fickle(seen: Arc<Mutex<Seen>>, fair: bool) -> Way {
    let mut rng = Streams::new(3).stream("way");
    let mut kept: BTreeMap<(u64, u64), PeerMessage> = BTreeMap::new();
    Box::new(move |from, to, messages| {
        let mut seen = seen.lock().unwrap();
        let mut arriving = Vec::new();
        for message in messages {
            match &message.message {
                Some(Message::SnapshotChunk(chunk)) => seen.note(chunk, message.encoded_len()),
                Some(Message::SnapshotAck(_)) => {}
                _ => {
                    arriving.push(message);
                    continue;
                }
            }
            match rng.random_range(0..7) {
                0 if !fair => seen.lost += 1,
                1 if !fair => {
                    seen.swapped += 1;
                    arriving.extend(kept.insert((from, to), message));
                }
                _ => {
                    arriving.push(message);
                    arriving.extend(kept.remove(&(from, to)));
                }
            }
        }
        arriving
    })
}

/// A cluster with a follower that the log no longer reaches, the people, and the follower.
async fn with_a_laggard(bytes_per_second: u64, hold_bytes: u64, messages: u64) -> (Cluster, [Person; 2], u64) {
    let cluster = Cluster::start(3, 1, |config| {
        config.retention.checkpoint_every = 20;
        config.retention.keep_behind = 5;
        config.retention.chunk_bytes = CHUNK;
        config.retention.snapshot_bytes_per_second = bytes_per_second;
        config.retention.hold_bytes = hold_bytes;
    });
    let people = [cluster.person("15550001").await, cluster.person("15550002").await];
    let away = 1 + cluster.leader(0).await % 3;
    let others: Vec<u64> = (1..=3).filter(|node| *node != away).collect();
    cluster.isolate(away, &others);
    for id in 1..=messages {
        cluster.send(&people[0], &people[1], id).await;
    }
    (cluster, people, away)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_many_times_a_chunk_arrives_over_a_bad_way_and_past_crashes_of_both_sides() {
    let (mut cluster, [a, b], away) = with_a_laggard(40_000, 1 << 30, 150).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    *cluster.wire.way.lock().unwrap() = Some(fickle(seen.clone(), false));
    cluster.heal();
    let passed = async |cluster: &Cluster, count| {
        let enough = async || (seen.lock().unwrap().chunks >= count).then_some(());
        cluster.until("parts of a snapshot", enough).await;
    };
    passed(&cluster, 20).await;
    assert_eq!(seen.lock().unwrap().firsts, 1, "it is under way");
    cluster.crash(away, true);
    cluster.up(away);
    passed(&cluster, 60).await;
    assert!(seen.lock().unwrap().firsts > 1, "who has lost all of it starts anew");
    let leader = cluster.leader(0).await;
    cluster.crash(leader, true);
    cluster.up(leader);
    cluster.send(&a, &b, 151).await;
    let before = seen.lock().unwrap().chunks;
    cluster.converge(0).await;
    {
        let seen = seen.lock().unwrap();
        assert!(seen.chunks > before, "the next leader carried it on");
        assert!(
            seen.lost > 10 && seen.swapped > 10,
            "{} lost, {} swapped",
            seen.lost,
            seen.swapped
        );
        let largest = seen.totals.values().max().copied().unwrap_or_default();
        assert!(largest > 100 * CHUNK as u64, "many parts: {largest} bytes");
        assert!(
            seen.largest < 2 * CHUNK,
            "no message holds more than a part: {} bytes",
            seen.largest
        );
    }
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    in_order(1..=151, history.messages.iter().map(|message| message.client_id));
    assert!(
        cluster.shard(away, 0).await.unwrap().first_index > 100,
        "it was given a snapshot"
    );
}

/// A transfer that takes longer than the log is kept would be followed by another one, and so on.
#[tokio::test(start_paused = true)]
async fn the_log_behind_a_snapshot_on_its_way_is_held_within_a_bound() {
    for hold_bytes in [1 << 30, 0] {
        let (cluster, [a, b], away) = with_a_laggard(20_000, hold_bytes, 100).await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        *cluster.wire.way.lock().unwrap() = Some(fickle(seen.clone(), true));
        cluster.heal();
        for id in 101..=300 {
            cluster.send(&a, &b, id).await;
            cluster.clock.sleep(Duration::from_millis(10)).await;
        }
        cluster.converge(0).await;
        let digests: BTreeSet<u64> = seen.lock().unwrap().totals.keys().copied().collect();
        match hold_bytes {
            0 => assert!(digests.len() > 1, "nothing was held, so one was not enough"),
            _ => assert_eq!(digests.len(), 1, "one was enough"),
        }
        assert!(cluster.shard(away, 0).await.unwrap().applied > 300);
    }
}
