//! The system under test, as a scenario file describes it.
//!
//! One flat shape for all kinds, since that gives exact positions in errors; which fields belong to which kind is said
//! in [`FIELDS`] and checked by the rules. The plan turns it into one type for each kind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    rules::NODES_MAX,
    units::{Name, Rate},
};
use crate::base::HumanDuration;

/// What stands under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemKind {
    /// The replicated messaging service that comes with firedrill.
    Messaging,
    /// Somebody else's service: any command, started once for each node.
    Command,
    /// A target without processes, whose outages are scripted: it calibrates the measuring.
    Scripted,
}

impl SystemKind {
    /// All kinds, with the name they are written with and what they are.
    pub const ALL: &[(Self, &str, &str)] = &[
        (
            Self::Messaging,
            "messaging",
            "the replicated messaging service that comes with firedrill",
        ),
        (
            Self::Command,
            "command",
            "somebody else's service: any command, started once for each node",
        ),
        (
            Self::Scripted,
            "scripted",
            "a target without processes, whose outages are scripted: it calibrates the measuring",
        ),
    ];

    /// As written.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or("?", |(_, name, _)| name)
    }
}

/// The plants of the messaging service: deliberately wrong behaviours, each to be caught by a promise.
pub const PLANTS: &[(&str, &str)] = &[
    (
        "ack-before-durable",
        "answers a send as soon as the leader has proposed it, and never syncs its log",
    ),
    ("forget-after-power-loss", "syncs nothing, while it says that it does"),
    ("redeliver", "delivers a message twice, under two sequences"),
    ("reorder", "swaps two deliveries of one conversation"),
    ("drop-delivery", "never delivers some messages"),
    ("corrupt", "flips a byte of some bodies"),
    ("dup-store", "forgets client ids, so that a retry is stored again"),
    ("stale", "answers reads from what a replica has applied, whoever leads"),
    ("no-limit", "groups take more members than they may have"),
    (
        "leak-membership",
        "whoever was removed from an open group is still sent what is said in it",
    ),
    ("leak-history", "a new member reads what was said before it came"),
    (
        "miss-joined",
        "whoever came last is not sent the first message after that",
    ),
    ("accept-strangers", "a stranger's message to a group is taken"),
    (
        "phantom-contact",
        "a contact that was found also appears in the list of somebody else",
    ),
    ("miscount-unread", "every 10th message is not counted as unread"),
    (
        "early-receipt",
        "a receipt says what it is told, whether there was a delivery or not",
    ),
    ("double-account", "a repeated sign-up makes another account"),
    (
        "cross-leak",
        "every 10th message is also shown to a user whom it doesn't concern",
    ),
    (
        "forget-own-devices",
        "a sender's own devices are not shown every 10th of its messages",
    ),
    (
        "shrink-history",
        "whoever has logged in anew sees its conversations end earlier than they do",
    ),
    (
        "ghost-online",
        "every device that ever logged in is said to be online, heard of or not",
    ),
    (
        "serve-after-removal",
        "a node goes on answering reads of a shard that it holds no more",
    ),
    (
        "forget-dedup",
        "snapshots leave out which client ids were used, so that a retry is stored again",
    ),
    (
        "false-all-clear",
        "the status page says that all is well as soon as every process answers",
    ),
];

/// The system under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemEntry {
    /// What stands under test.
    pub kind: SystemKind,
    /// How many nodes (named n1, n2, ...), or their names.
    pub nodes: Nodes,
    /// Zones; nodes are spread over them in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Name>>,
    /// messaging: how long a byte takes from one zone to another, either way: `{ a: { b: 20ms, c: 60ms }, b: { c: 50ms } }`.
    /// At once where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_between_zones: Option<BTreeMap<String, BTreeMap<String, HumanDuration>>>,
    /// messaging: how many shards, each a consensus group of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// messaging: on how many nodes each shard lives. On all of up to five nodes, else on three, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// messaging: how many log-ins the whole system admits, shared equally by its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_limit: Option<Rate>,
    /// messaging: how the limit of log-ins grows to what it is, after the start of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_ramp: Option<LoginRampEntry>,
    /// messaging: what each node can do, in sends a second; what is asked beyond it waits or is refused. What the machine
    /// gives unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Rate>,
    /// messaging: protections against overload that are switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<Vec<Protection>>,
    /// messaging: shortest election timeout; a node waits for between this and twice this. 300ms unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election_timeout: Option<HumanDuration>,
    /// messaging: how many gateways each zone has. Clients then come in through gateways, which they find in a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<u32>,
    /// messaging: a sign-up needs a code, which a service outside carries to the phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationEntry>,
    /// messaging: a status page, a process of its own that tells users how it is. Needs gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_page: Option<StatusPageEntry>,
    /// messaging: how gateways are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryEntry>,
    /// messaging: how gateways keep their session registry alike. By digests unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryMode>,
    /// messaging: a deliberately wrong behaviour, to show that it is caught. Needs a build with plants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<Name>,
    /// command: the program and its arguments. Filled in are `{name}`, `{index}` (from 1), `{zone}`, `{dir}` (the node's own
    /// folder), `{disk}` (its own disk), `{port:client}` (where to listen), `{address:client}` (where others dial it,
    /// through links) and `{peers}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// command: environment variables, filled in like the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<std::collections::BTreeMap<String, String>>,
    /// command: the ports that a node listens on, by name. `client` takes the load. Only `client` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Name>>,
    /// command: how `{peers}` is put together, once for each node, joined by commas: of `{name}`, `{index}`, `{zone}` and
    /// `{address:peer}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<String>,
    /// command: a disk of its own for each node, mounted at `{disk}`, so that its power can fail. Needs FUSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskKind>,
    /// command: when a node counts as started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// command: what sends the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientKind>,
    /// scripted: how long a healthy answer takes. 1ms unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_time: Option<HumanDuration>,
    /// scripted: its outages, in order of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outages: Option<Vec<OutageEntry>>,
}

/// How gateways are found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryEntry {
    /// For how long clients remember an answer. 10s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
    /// For how long they remember that there was nobody. 5s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_ttl: Option<HumanDuration>,
    /// What a gateway does about its door when it can't reach the store. It stays, marked, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_rule: Option<HealthRule>,
}

/// What tells users how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusPageEntry {
    /// Entries that may be undelivered in the calmest of times: what is always under way. 500 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calm: Option<u64>,
}

/// How sign-ups are verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerificationEntry {
    /// How long a code is on its way to a phone. No time unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<HumanDuration>,
}

/// What a gateway does about its door when it can't reach the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthRule {
    /// It withdraws itself.
    On,
    /// It says nothing of the store.
    Off,
    /// It stays, marked, and is handed out only when no other is well.
    #[default]
    FailStatic,
}

impl HealthRule {
    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::FailStatic => "fail_static",
        }
    }
}

/// How gateways keep their session registry alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistryMode {
    /// Versions first, then what is lacking.
    #[default]
    Digests,
    /// The whole state, to everybody, at each reconnect.
    Naive,
}

impl RegistryMode {
    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digests => "digests",
            Self::Naive => "naive",
        }
    }
}

/// How a limit of log-ins grows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRampEntry {
    /// The whole system's limit at first.
    pub from: Rate,
    /// How long it takes to grow to `login_limit`.
    pub over: HumanDuration,
}

/// What protects a messaging service from more than it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// What nobody waits for any more is not done.
    Deadlines,
    /// Classes of calls with queues of their own, the lowest shed first.
    Priorities,
    /// What would wait for too long is refused at once.
    Admission,
    /// Log-ins are limited in rate.
    LoginLimit,
    /// Bytes on the way between shards are bounded.
    Fanout,
}

impl Protection {
    /// As written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deadlines => "deadlines",
            Self::Priorities => "priorities",
            Self::Admission => "admission",
            Self::LoginLimit => "login_limit",
            Self::Fanout => "fanout",
        }
    }
}

/// A field that belongs to some kinds only.
pub struct FieldOfKind {
    /// As written.
    pub name: &'static str,
    /// The kind it belongs to.
    pub kind: SystemKind,
    /// Whether that kind needs it.
    pub needed: bool,
    /// Whether a system gives it.
    pub given: fn(&SystemEntry) -> bool,
}

const fn field(name: &'static str, kind: SystemKind, needed: bool, given: fn(&SystemEntry) -> bool) -> FieldOfKind {
    FieldOfKind {
        name,
        kind,
        needed,
        given,
    }
}

/// The fields that belong to some kinds only. One line for a new one.
pub const FIELDS: &[FieldOfKind] = &[
    field("shards", SystemKind::Messaging, false, |s| s.shards.is_some()),
    field("latency_between_zones", SystemKind::Messaging, false, |s| {
        s.latency_between_zones.is_some()
    }),
    field("replicas", SystemKind::Messaging, false, |s| s.replicas.is_some()),
    field("login_limit", SystemKind::Messaging, false, |s| s.login_limit.is_some()),
    field("login_ramp", SystemKind::Messaging, false, |s| s.login_ramp.is_some()),
    field("capacity", SystemKind::Messaging, false, |s| s.capacity.is_some()),
    field("without", SystemKind::Messaging, false, |s| s.without.is_some()),
    field("election_timeout", SystemKind::Messaging, false, |s| {
        s.election_timeout.is_some()
    }),
    field("status_page", SystemKind::Messaging, false, |s| s.status_page.is_some()),
    field("verification", SystemKind::Messaging, false, |s| {
        s.verification.is_some()
    }),
    field("gateways", SystemKind::Messaging, false, |s| s.gateways.is_some()),
    field("discovery", SystemKind::Messaging, false, |s| s.discovery.is_some()),
    field("registry", SystemKind::Messaging, false, |s| s.registry.is_some()),
    field("plant", SystemKind::Messaging, false, |s| s.plant.is_some()),
    field("command", SystemKind::Command, true, |s| s.command.is_some()),
    field("env", SystemKind::Command, false, |s| s.env.is_some()),
    field("ports", SystemKind::Command, false, |s| s.ports.is_some()),
    field("peers", SystemKind::Command, false, |s| s.peers.is_some()),
    field("disk", SystemKind::Command, false, |s| s.disk.is_some()),
    field("ready", SystemKind::Command, true, |s| s.ready.is_some()),
    field("client", SystemKind::Command, true, |s| s.client.is_some()),
    field("service_time", SystemKind::Scripted, false, |s| {
        s.service_time.is_some()
    }),
    field("outages", SystemKind::Scripted, true, |s| s.outages.is_some()),
];

/// The nodes: a number, or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// This many, named n1, n2, ...
    Count(u32),
    /// These.
    Named(Vec<Name>),
}

impl Nodes {
    /// The nodes' names. A count beyond the bound is refused elsewhere, and is not spelt out here.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Count(_) => (1..=self.count().min(NODES_MAX)).map(|i| format!("n{i}")).collect(),
            Self::Named(names) => names.iter().map(ToString::to_string).collect(),
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Self::Named(names) => names.len(),
        }
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Nodes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of nodes such as 3, or a list of their names")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Nodes, E> {
                u32::try_from(count)
                    .map(Nodes::Count)
                    .map_err(|_| E::custom(format!("`{count}` nodes are too many")))
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Nodes, E> {
                let count = u64::try_from(count)
                    .map_err(|_| E::custom(format!("`{count}` nodes: write a number from 1 on")))?;
                self.visit_u64(count)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<Nodes, A::Error> {
                let mut found = Vec::new();
                while let Some(name) = names.next_element()? {
                    found.push(name);
                }
                Ok(Nodes::Named(found))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Nodes {
    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        json_schema!({
            "description": "How many nodes (named n1, n2, ...), or their names.",
            "oneOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "array", "items": name, "minItems": 1 },
            ],
        })
    }
}

/// When a node of a command system counts as started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// The port of this name accepts a connection.
    Tcp(Name),
    /// This path on the client port answers with a 2xx status.
    Http(String),
    /// The gRPC health service on the client port says that this service is serving.
    Grpc(String),
}

/// What a disk of a node's own keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// A power loss takes what was not synced.
    Volatile,
    /// Every fsync says that all is well and does nothing: a power loss takes everything.
    Lying,
}

/// One outage of a scripted system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutageEntry {
    /// Its start, counted from the first operation sent.
    pub at: HumanDuration,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: HumanDuration,
    /// What is wrong while it lasts.
    pub effect: EffectEntry,
}

/// What is wrong during a scripted outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EffectEntry {
    /// Every attempt is refused at once.
    Dead,
    /// Every attempt is left without an answer.
    Silent,
    /// This share of attempts, 0 to 1, is refused.
    Errors(f64),
    /// Answers take this many times as long.
    Slow(f64),
    /// Dead and well in turn, dead first.
    Flapping {
        /// Dead for this long at a time.
        on: HumanDuration,
        /// Well for this long in between.
        off: HumanDuration,
    },
}

/// What sends load to a command system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// Connects, and waits for a sign of life.
    Tcp,
    /// HTTP requests.
    Http,
    /// The gRPC health service.
    GrpcHealth,
    /// etcd's own API, which also says who leads.
    Etcd,
}
