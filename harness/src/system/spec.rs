//! What a plan says of a system: everything resolved, in plain numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One system of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSpec {
    /// Its name within the run.
    pub name: String,
    /// What it is.
    pub kind: SystemKind,
}

/// The kinds of systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemKind {
    /// The messaging service of this project.
    Messaging(MessagingSpec),
    /// Programs of somebody else.
    Command(CommandSpec),
    /// A target without processes, whose outages are scripted: to calibrate the measuring.
    Scripted(ScriptedSpec),
}

/// The messaging service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessagingSpec {
    /// How many nodes.
    pub nodes: u32,
    /// Zones, dealt to the nodes in turn; may be empty.
    pub zones: Vec<String>,
    /// How many shards.
    pub shards: u32,
    /// Log-ins per second that the whole service admits; each node gets its share. None is no limit.
    pub login_per_s: Option<f64>,
    /// The wrong that is planted in it, by name.
    pub plant: Option<String>,
    /// Gateways, where clients come in through some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewaysSpec>,
    /// For two zones, how many milliseconds a byte takes from one to the other, either way.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency_ms: BTreeMap<String, BTreeMap<String, u64>>,
    /// On how many nodes each shard lives; none is what nodes do by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What tells users how it is, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_page: Option<StatusPageSpec>,
    /// How sign-ups are verified, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSpec>,
    /// Further settings of the nodes, as their configuration names them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// The status page of a messaging service with gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusPageSpec {
    /// Entries that may be undelivered in the calmest of times.
    pub backlog_calm: u64,
}

/// How sign-ups are verified: by a code that a service outside carries to the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationSpec {
    /// How long a code is on its way.
    pub delay_ms: u64,
}

/// The gateways of a messaging service, and the directory that they are found in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaysSpec {
    /// How many in each zone.
    pub per_zone: u32,
    /// For how long clients may remember an answer of the directory.
    pub ttl_ms: u64,
    /// For how long an empty one.
    pub negative_ttl_ms: u64,
    /// What a gateway does about its door when it can't reach the store: `on`, `off` or `fail_static`.
    pub health_rule: String,
    /// How gateways keep their session registry alike: `digests` or `naive`.
    pub registry: String,
}

/// Programs of somebody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The nodes' zones, by name.
    pub nodes: BTreeMap<String, String>,
    /// Program and arguments, with `{placeholders}`.
    pub command: Vec<String>,
    /// Environment variables, with `{placeholders}` as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The ports that each node listens on, by name; `client` takes the load.
    pub ports: Vec<String>,
    /// What `{peers}` is made of: once for each node, joined by commas; empty when there is none.
    pub peers: String,
    /// How to tell that a node is ready: `tcp:PORT`, `http:PATH` or `grpc:SERVICE`.
    pub ready: String,
    /// The nodes' disks, where they have some of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskKind>,
    /// How to send it load: `tcp`, `http`, `grpc_health`, `etcd`.
    pub client: String,
}

/// The kinds of disks that nodes can have of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// Forgets what was not synced.
    Volatile,
    /// Forgets everything, though it says that it syncs.
    Lying,
}

/// A scripted target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedSpec {
    /// Time that a healthy answer takes, in microseconds.
    pub service_us: u64,
    /// Its outages, by their start; times count from the first operation sent.
    pub outages: Vec<ScriptedOutage>,
}

/// One outage of a scripted target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedOutage {
    /// Its start, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What is wrong while it lasts.
    pub effect: ScriptedEffect,
    /// What becomes of the target's roles, sessions and deliveries; nothing at all where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<ScriptedReaction>,
}

/// What becomes of a scripted target's roles, sessions and deliveries in one outage. With the outage its leader falls silent
/// and stands still, all its sessions are lost, and nothing that it accepts is shown any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedReaction {
    /// From the start until the other nodes are in a new term.
    pub detected_ms: u64,
    /// From the start until the next of them leads it.
    pub led_ms: u64,
    /// From the end until all but one of the sessions are open again; the last is a good while later.
    pub sessions_back_ms: u64,
    /// From the end until all that was accepted is shown, at one instant.
    pub shown_ms: u64,
    /// From the end until the node that led has caught up.
    pub caught_up_ms: u64,
}

/// What is wrong during a scripted outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScriptedEffect {
    /// Every attempt is refused at once.
    Dead {},
    /// Every attempt is left without an answer.
    Silent {},
    /// This share of attempts, 0 to 1, is refused.
    Errors {
        /// The share.
        share: f64,
    },
    /// Answers take this many times as long.
    Slow {
        /// The factor.
        factor: f64,
    },
    /// Dead and well in turn, dead first.
    Flapping {
        /// Dead for this long at a time.
        on_ms: u64,
        /// Well for this long in between.
        off_ms: u64,
    },
}
