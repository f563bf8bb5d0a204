//! A node's configuration, as its file says it. Every field but the identity, the addresses and the folder has a default.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    admission::{Capacity, LoginRamp, Protections},
    versions::Versions,
};
use crate::{
    chat::{Settings, validate::GROUP_MEMBERS_MAX},
    plant::Plant,
};

/// How long things take, and how often they happen. Milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// One tick of consensus.
    pub tick_ms: u64,
    /// From one heartbeat of a leader to the next.
    pub heartbeat_ms: u64,
    /// The shortest election timeout. Also after how long a leader without a majority steps down.
    pub election_ms_min: u64,
    /// The longest election timeout.
    pub election_ms_max: u64,
    /// How long a survivor of lower rank waits behind the one before it, when a closed connection says the leader died.
    pub fast_campaign_stagger_ms: u64,
    /// The least time between two such campaigns of one shard at one node.
    pub fast_campaign_every_ms: u64,
    /// From one heartbeat on a device's stream to the next.
    pub stream_heartbeat_ms: u64,
    /// After how long an outbox batch that was not acknowledged is sent again.
    pub outbox_resend_ms: u64,
    /// How long after its last sign of life a device counts as online, while its stream is open.
    pub presence_ms: u64,
    /// How long a graceful stop waits for its leaderships to be taken over.
    pub stop_ms_max: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick_ms: 10,
            heartbeat_ms: 50,
            election_ms_min: 300,
            election_ms_max: 600,
            fast_campaign_stagger_ms: 20,
            fast_campaign_every_ms: 200,
            stream_heartbeat_ms: 1000,
            outbox_resend_ms: 150,
            presence_ms: 10_000,
            stop_ms_max: 1000,
        }
    }
}

/// Most bytes of entries that may be on their way to one follower of one shard: consensus merges them into one message,
/// and the queue to a peer, which all shards share, holds twice as much.
pub const CATCH_UP_BYTES_MAX: u64 = 2 << 20;

/// The bounds of queues, batches and budgets. Over a bound a call is refused at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Client and operator calls waiting for the loop.
    pub inbox: usize,
    /// Batches of peer messages waiting for the loop; over it they are dropped, as a network would.
    pub peer_inbox: usize,
    /// Bytes of peer messages waiting for the loop; over it they are dropped as well. A batch that waits alone may be larger.
    pub peer_inbox_bytes: usize,
    /// Proposals of one shard that wait for their outcome.
    pub proposals_per_shard: usize,
    /// Linearizable reads of one shard that wait for their confirmation.
    pub reads_per_shard: usize,
    /// Device streams at this node.
    pub streams: usize,
    /// Events waiting in one device's stream before it is no longer pushed to.
    pub stream_queue: usize,
    /// Bytes of proposals of one shard that are not committed yet.
    pub uncommitted_bytes: u64,
    /// Messages in flight to one peer and shard.
    pub inflight_messages: usize,
    /// Bytes of entries in one message to a peer.
    pub message_bytes: u64,
    /// Items in one outbox batch.
    pub outbox_batch: usize,
    /// Bytes that one outbox may have on their way, not acknowledged; a single larger item goes alone.
    pub outbox_bytes: usize,
    /// Members of a group: the same at every node, at most 200.
    pub group_members: u64,
    /// Devices a second that may fetch their state anew at this node; 0 is no limit.
    pub syncs_per_second: u32,
    /// Those that may come at once, before the rate holds.
    pub sync_burst: u32,
    /// Log-ins a second that this node accepts; 0 is no limit.
    pub logins_per_second: u32,
    /// Log-ins that may come at once, before the rate holds.
    pub login_burst: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            inbox: 4096,
            peer_inbox: 4096,
            peer_inbox_bytes: 64 << 20,
            proposals_per_shard: 2048,
            reads_per_shard: 4096,
            streams: 20_000,
            stream_queue: 64,
            uncommitted_bytes: 16 << 20,
            inflight_messages: 16,
            message_bytes: 128 << 10,
            outbox_batch: 128,
            outbox_bytes: 1 << 20,
            group_members: GROUP_MEMBERS_MAX,
            syncs_per_second: 50,
            sync_burst: 50,
            logins_per_second: 0,
            login_burst: 100,
        }
    }
}

/// How phone numbers are verified before they become accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verification {
    /// Whether a sign-up needs a code that was carried to its phone.
    pub required: bool,
    /// How long a code is on its way, milliseconds.
    pub delay_ms: u64,
    /// Whoever carries codes carries none.
    pub failing: bool,
    /// How long a code is waited for, milliseconds.
    pub patience_ms: u64,
    /// Codes on their way at this node; one more is refused at once.
    pub waiting_max: usize,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            required: false,
            delay_ms: 0,
            failing: false,
            patience_ms: 3000,
            waiting_max: 1024,
        }
    }
}

/// How much is kept in the log and how often state becomes durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Applied entries of a shard between two durable checkpoints; the log below a checkpoint can go.
    pub checkpoint_every: u64,
    /// Entries kept below the checkpoint, so that a follower that is a little behind needs no snapshot.
    pub keep_behind: u64,
    /// Size at which the log turns to a new segment, bytes.
    pub segment_bytes: u64,
    /// Bytes of applied entries of a shard after which there is a checkpoint, however few they are.
    pub checkpoint_bytes: u64,
    /// Bytes of a shard's entries that are kept below the checkpoint, however few they are.
    pub keep_bytes: u64,
    /// Bytes of a shard's entries that are kept for a follower which is being given a snapshot. One that takes longer is
    /// given another.
    pub hold_bytes: u64,
    /// Bytes of one part of a snapshot on its way to a follower.
    pub chunk_bytes: usize,
    /// Bytes a second of snapshots that this node sends; 0 is no limit.
    pub snapshot_bytes_per_second: u64,
    /// Read a shard's whole state at the start, to compare its checksums. Without it, damage is noticed when a record is
    /// read.
    pub verify_state: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            checkpoint_every: 5000,
            keep_behind: 2000,
            segment_bytes: 16 << 20,
            checkpoint_bytes: 32 << 20,
            keep_bytes: 16 << 20,
            hold_bytes: 256 << 20,
            chunk_bytes: 256 << 10,
            snapshot_bytes_per_second: 32 << 20,
            verify_state: true,
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// This node's id: not 0, never used again for another node or after the loss of its disk.
    pub node: u64,
    /// The cluster that it belongs to: nodes of different clusters don't hear each other, and don't use each other's
    /// folders.
    #[serde(default)]
    pub cluster: String,
    /// Where it stands; a label.
    #[serde(default)]
    pub zone: String,
    /// Every node of the cluster, this one included, and the address at which this node reaches it.
    #[serde(with = "peer_keys")]
    pub peers: BTreeMap<u64, SocketAddr>,
    /// The nodes that the cluster began with, which never changes; empty is all of `peers`. A node that is added later
    /// stands in everybody's `peers`, and here nowhere: it holds nothing until replicas are moved to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub founders: Vec<u64>,
    /// Whether a founder whose folder is empty may found a new cluster. No file can say so, since it would still say so
    /// when the folder is lost: it is asked for at one start (`--bootstrap`, or `bootstrap_permit`).
    #[serde(skip)]
    pub bootstrap: bool,
    /// A file that permits the founding by being there, and is removed once the folder is founded: for whoever starts
    /// nodes with the same command each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_permit: Option<PathBuf>,
    /// Where clients are served.
    pub client_listen: SocketAddr,
    /// Where peers are served.
    pub peer_listen: SocketAddr,
    /// Where everything durable is.
    pub data_dir: PathBuf,
    /// Number of shards of the whole cluster.
    pub shards: u32,
    /// Replicas of each shard, in a cluster of more than `everywhere_up_to` nodes.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: u32,
    /// A cluster of up to so many nodes begins with every shard on every node.
    #[serde(default = "default_everywhere_up_to")]
    pub everywhere_up_to: usize,
    /// Epoch with which the shard map begins.
    #[serde(default = "default_epoch")]
    pub epoch: u64,
    /// Seed of this node's randomness; nodes of one cluster may share it.
    #[serde(default)]
    pub seed: u64,
    /// A deliberately wrong behaviour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<Plant>,
    /// Keep unsynced writes in the process, so that its end forgets them as a power loss would.
    #[serde(default)]
    pub volatile_write_cache: bool,
    /// Durations.
    #[serde(default)]
    pub timing: Timing,
    /// Bounds.
    #[serde(default)]
    pub bounds: Bounds,
    /// Log and checkpoints.
    #[serde(default)]
    pub retention: Retention,
    /// Bounds of a shard's state: the same at every node, and never changed, or replicas come to differ.
    #[serde(default)]
    pub state: Settings,
    /// Sign-ups.
    #[serde(default)]
    pub verification: Verification,
    /// What it can do at once.
    #[serde(default)]
    pub capacity: Capacity,
    /// How the log-in limit grows after a start.
    #[serde(default)]
    pub login_ramp: LoginRamp,
    /// What protects it from more than it can do.
    #[serde(default)]
    pub protections: Protections,
    /// Versions of the protocol.
    #[serde(default)]
    pub versions: Versions,
}

const fn default_replication_factor() -> u32 {
    3
}

const fn default_everywhere_up_to() -> usize {
    5
}

const fn default_epoch() -> u64 {
    1
}

/// TOML keys are text; ours are numbers.
mod peer_keys {
    use super::{BTreeMap, Deserialize, Serialize, SocketAddr};

    pub(super) fn serialize<S: serde::Serializer>(peers: &BTreeMap<u64, SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        let text: BTreeMap<String, SocketAddr> = peers.iter().map(|(id, at)| (id.to_string(), *at)).collect();
        text.serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<u64, SocketAddr>, D::Error> {
        BTreeMap::<String, SocketAddr>::deserialize(from)?
            .into_iter()
            .map(|(id, at)| {
                let number = id
                    .parse()
                    .map_err(|_| serde::de::Error::custom(format!("peers: {id:?} is not a node id: write a number")))?;
                Ok((number, at))
            })
            .collect()
    }
}

/// A configuration that can't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not a configuration.
    #[error("{0}")]
    Syntax(String),
    /// A value that can't work.
    #[error("{key} is {value}: {remedy}")]
    Value {
        /// The key, as the file writes it.
        key: &'static str,
        /// What it is.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// This binary can't misbehave.
    #[error(
        "plant is {0:?}: this binary was built without plants: build it with the feature `plants`, or remove the line"
    )]
    NoPlants(String),
}

impl NodeConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// When the text is not TOML, has an unknown key, or a value can't work.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The text that [`NodeConfig::parse`] reads back.
    ///
    /// # Errors
    /// When a value has no place in TOML (a number above `i64::MAX`).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Syntax(error.to_string()))
    }

    /// Checks what types can't.
    ///
    /// # Errors
    /// Names the first key that can't work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: String, remedy: &str| {
            Err(ConfigError::Value {
                key,
                value,
                remedy: remedy.to_owned(),
            })
        };
        if self.node == 0 || self.peers.contains_key(&0) {
            return bad("node", "0".to_owned(), "node ids start at 1");
        }
        if !self.peers.contains_key(&self.node) {
            return bad("node", self.node.to_string(), "peers must list this node too");
        }
        if self.peers.len() > 64 {
            return bad("peers", self.peers.len().to_string(), "at most 64 nodes");
        }
        if let Some(stranger) = self.founders.iter().find(|id| !self.peers.contains_key(id)) {
            return bad(
                "founders",
                stranger.to_string(),
                "founders are nodes: peers must list each of them, even those that are gone",
            );
        }
        if self.cluster.len() > 64 || !self.cluster.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad(
                "cluster",
                format!("{:?}", self.cluster),
                "at most 64 letters, digits and signs",
            );
        }
        if self.shards == 0 || self.shards > 1024 {
            return bad("shards", self.shards.to_string(), "between 1 and 1024");
        }
        if self.replication_factor == 0 || self.replication_factor > 7 {
            return bad(
                "replication_factor",
                self.replication_factor.to_string(),
                "between 1 and 7",
            );
        }
        if self.epoch == 0 {
            return bad(
                "epoch",
                "0".to_owned(),
                "epochs start at 1; 0 is what a client without a map says",
            );
        }
        self.timing.check()?;
        self.capacity.check()?;
        self.versions.check()?;
        for (key, value) in [
            ("bounds.inbox", self.bounds.inbox),
            ("bounds.peer_inbox", self.bounds.peer_inbox),
            ("bounds.proposals_per_shard", self.bounds.proposals_per_shard),
            ("bounds.reads_per_shard", self.bounds.reads_per_shard),
            ("bounds.streams", self.bounds.streams),
            ("bounds.stream_queue", self.bounds.stream_queue),
            ("bounds.inflight_messages", self.bounds.inflight_messages),
            ("bounds.outbox_batch", self.bounds.outbox_batch),
            ("verification.waiting_max", self.verification.waiting_max),
        ] {
            if value == 0 || value > 1 << 20 {
                return bad(key, value.to_string(), "between 1 and 1048576");
            }
        }
        if !(1..=GROUP_MEMBERS_MAX).contains(&self.bounds.group_members) {
            return bad(
                "bounds.group_members",
                self.bounds.group_members.to_string(),
                "between 1 and 200",
            );
        }
        let catch_up = self.bounds.message_bytes * self.bounds.inflight_messages as u64;
        if catch_up > CATCH_UP_BYTES_MAX {
            return bad(
                "bounds.message_bytes",
                format!("{catch_up} bytes in {} messages", self.bounds.inflight_messages),
                "at most 2097152 bytes in bounds.inflight_messages messages, which is half of what waits for a peer",
            );
        }
        if self.bounds.uncommitted_bytes < self.bounds.message_bytes {
            return bad(
                "bounds.uncommitted_bytes",
                self.bounds.uncommitted_bytes.to_string(),
                "at least bounds.message_bytes",
            );
        }
        for (key, value) in [
            ("state.dedup_ms", self.state.dedup_ms),
            ("state.outbox_max", self.state.outbox_max),
            ("state.stream_max", self.state.stream_max),
            ("state.pending_max", self.state.pending_max),
        ] {
            if value == 0 {
                return bad(key, "0".to_owned(), "at least 1");
            }
        }
        for (key, value) in [
            ("bounds.outbox_bytes", self.bounds.outbox_bytes),
            ("bounds.peer_inbox_bytes", self.bounds.peer_inbox_bytes),
        ] {
            if value == 0 {
                return bad(key, "0".to_owned(), "at least 1");
            }
        }
        for (key, value) in [
            ("retention.checkpoint_every", self.retention.checkpoint_every),
            ("retention.checkpoint_bytes", self.retention.checkpoint_bytes),
        ] {
            if value == 0 {
                return bad(key, "0".to_owned(), "at least 1");
            }
        }
        if !(64..=1 << 20).contains(&self.retention.chunk_bytes) {
            let value = self.retention.chunk_bytes.to_string();
            return bad("retention.chunk_bytes", value, "between 64 and 1048576");
        }
        match self.plant {
            Some(plant) if cfg!(not(feature = "plants")) => Err(ConfigError::NoPlants(plant.as_str().to_owned())),
            _ => Ok(()),
        }
    }

    /// What has to be the same at every node, each with the key that says it. Peers compare it when they connect.
    #[must_use]
    pub fn agreed(&self) -> BTreeMap<String, String> {
        let Settings {
            dedup_ms,
            outbox_max,
            stream_max,
            pending_max,
            // Said by `bounds.group_members`.
            group_max: _,
            code_ms,
            dead_letters_max,
        } = self.state;
        let founding: Vec<String> = self.founding().iter().map(u64::to_string).collect();
        let numbers = [
            ("shards", u64::from(self.shards)),
            ("bounds.group_members", self.bounds.group_members),
            ("state.dedup_ms", dedup_ms),
            ("state.outbox_max", outbox_max),
            ("state.stream_max", stream_max),
            ("state.pending_max", pending_max),
            ("state.code_ms", code_ms),
            ("state.dead_letters_max", dead_letters_max),
        ];
        let numbers = numbers.map(|(key, value)| (key.to_owned(), value.to_string()));
        let founders = ("founders".to_owned(), founding.join(","));
        numbers.into_iter().chain([founders]).collect()
    }

    /// The nodes that the cluster began with, in the order of their ids.
    #[must_use]
    pub fn founding(&self) -> Vec<u64> {
        if self.founders.is_empty() {
            return self.peers.keys().copied().collect();
        }
        let founders: BTreeSet<u64> = self.founders.iter().copied().collect();
        founders.into_iter().collect()
    }

    /// The ids of the other nodes.
    pub fn others(&self) -> impl Iterator<Item = u64> {
        self.peers.keys().copied().filter(|id| *id != self.node)
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: u64, remedy: &str| {
            Err(ConfigError::Value {
                key,
                value: value.to_string(),
                remedy: remedy.to_owned(),
            })
        };
        if self.tick_ms == 0 || self.tick_ms > 1000 {
            return bad("timing.tick_ms", self.tick_ms, "between 1 and 1000");
        }
        if self.heartbeat_ms < self.tick_ms {
            return bad("timing.heartbeat_ms", self.heartbeat_ms, "at least one tick");
        }
        if self.election_ms_min < 2 * self.heartbeat_ms {
            return bad(
                "timing.election_ms_min",
                self.election_ms_min,
                "at least two heartbeats",
            );
        }
        if self.election_ms_max < self.election_ms_min + 2 * self.tick_ms {
            return bad(
                "timing.election_ms_max",
                self.election_ms_max,
                "at least election_ms_min and two ticks: without a spread, candidates collide for ever",
            );
        }
        if self.stream_heartbeat_ms == 0 || self.outbox_resend_ms == 0 {
            return bad("timing.stream_heartbeat_ms or outbox_resend_ms", 0, "at least 1");
        }
        Ok(())
    }

    /// One tick.
    #[must_use]
    pub const fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
node = 2
zone = "b"
client_listen = "127.0.0.1:7002"
peer_listen = "127.0.0.1:7102"
data_dir = "data/2"
shards = 4
[peers]
1 = "127.0.0.1:7101"
2 = "127.0.0.1:7102"
3 = "127.0.0.1:7103"
"#;

    #[test]
    fn a_file_is_read_with_defaults_and_written_back_the_same() {
        let config = NodeConfig::parse(TEXT).unwrap();
        assert_eq!(config.others().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(config.timing, Timing::default());
        assert_eq!(NodeConfig::parse(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn what_can_not_work_is_named_with_its_remedy() {
        for (from, to, words) in [
            ("node = 2", "node = 7", "peers must list this node"),
            ("node = 2", "node = 0", "start at 1"),
            ("zone =", "cluster = \"a b\"\nzone =", "letters, digits"),
            ("shards = 4", "shards = 0", "between 1 and 1024"),
            ("shards = 4", "shards = 4\nshrads = 1", "shrads"),
            ("1 = ", "one = ", "not a node id"),
            ("shards = 4", "shards = 4\nfounders = [1, 9]", "founders is 9"),
            (
                "shards = 4",
                "shards = 4\nbootstrap = true",
                "unknown field `bootstrap`",
            ),
            ("[peers]", "[timing]\nelection_ms_min = 60\n[peers]", "two heartbeats"),
            ("[peers]", "[timing]\nelection_ms_max = 300\n[peers]", "collide"),
            ("[peers]", "[bounds]\nstream_queue = 0\n[peers]", "stream_queue"),
            (
                "[peers]",
                "[bounds]\ninflight_messages = 128\n[peers]",
                "half of what waits for a peer",
            ),
            ("[peers]", "[state]\noutbox_max = 0\n[peers]", "state.outbox_max"),
            ("[peers]", "[capacity]\nqueue_ms = 0\n[peers]", "capacity.queue_ms"),
            ("[peers]", "[capacity.costs]\nsend = 0\n[peers]", "capacity.costs.send"),
            ("[peers]", "[protections]\nhope = true\n[peers]", "hope"),
        ] {
            let error = NodeConfig::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn a_plant_is_refused_by_name_without_the_feature() {
        let text = TEXT.replace("shards = 4", "shards = 4\nplant = \"ack-before-durable\"");
        let read = NodeConfig::parse(&text);
        if cfg!(feature = "plants") {
            assert_eq!(read.unwrap().plant, Some(Plant::AckBeforeDurable));
        } else {
            assert_eq!(
                read.unwrap_err(),
                ConfigError::NoPlants("ack-before-durable".to_owned())
            );
        }
    }
}
