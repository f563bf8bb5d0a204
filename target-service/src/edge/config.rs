//! Configurations, as files say them. Every field but names and addresses has a default.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    discovery::{DirectoryOptions, HealthRule, PublisherOptions},
    registry::{MemberId, Mode},
    statuspage::{BoardOptions, Rule},
};

/// Members that one process may host.
const MEMBERS_MAX: u32 = 64;
/// Longest time that any setting may say, in milliseconds: a day.
const MS_MAX: u64 = 24 * 3600 * 1000;

/// A configuration that can be read and checked.
pub(crate) trait Configuration: DeserializeOwned {
    /// Whether it can work.
    ///
    /// # Errors
    /// Names the key, its value and what to do.
    fn check(&self) -> Result<(), String>;

    /// Reads and checks `text` (TOML).
    ///
    /// # Errors
    /// Names what can't be, and where.
    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }
}

/// Each of `settings` is a time that can be.
fn times(settings: &[(&str, u64)]) -> Result<(), String> {
    for (key, ms) in settings {
        if *ms == 0 || *ms > MS_MAX {
            return Err(format!("{key} is {ms}: write milliseconds from 1 to {MS_MAX}"));
        }
    }
    Ok(())
}

/// The session registry of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// How members keep their copies alike.
    pub mode: Mode,
    /// Members in each gateway.
    pub members: u32,
    /// Messages that may wait to be taken in.
    pub queue: usize,
    /// From one round of a member to its next.
    pub round_ms: u64,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            members: 4,
            queue: 4096,
            round_ms: 50,
        }
    }
}

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its name, which the directory lists.
    pub name: String,
    /// Its zone.
    #[serde(default)]
    pub zone: String,
    /// Where clients are served.
    pub client_listen: SocketAddr,
    /// Where other gateways, and who asks how it is, are served.
    pub peer_listen: SocketAddr,
    /// Where clients dial it (`host:port`), where that is not `client_listen`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The directory (`host:port`); a gateway without one is found by nobody who doesn't know it.
    #[serde(default)]
    pub directory: Option<String>,
    /// What it does about its door when it can't reach the store.
    #[serde(default)]
    pub health_rule: HealthRule,
    /// How long what it says to the directory holds without being said again.
    #[serde(default = "lease_ms")]
    pub lease_ms: u64,
    /// From one probe of the store to the next; each may take as long.
    #[serde(default = "probe_ms")]
    pub probe_ms: u64,
    /// After an outage of the store, gateways that withdrew come back over this time, each at its own instant.
    #[serde(default)]
    pub readmit_over_ms: u64,
    /// Streams of devices that it holds; one more is refused.
    #[serde(default = "sessions_max")]
    pub sessions_max: usize,
    /// Longest that a call may take here, whatever its caller grants.
    #[serde(default = "call_ms_max")]
    pub call_ms_max: u64,
    /// For how long a node's stream may be silent before it is given up. Nodes say something every second.
    #[serde(default = "silence_ms_max")]
    pub silence_ms_max: u64,
    /// The nodes' client listeners, by id: over the back-end plane.
    pub nodes: BTreeMap<u64, String>,
    /// Every gateway's back-end listener, by name, itself included: in all gateways the same names.
    #[serde(default)]
    pub gateways: BTreeMap<String, String>,
    /// The session registry.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// The seed of its randomness.
    #[serde(default)]
    pub seed: u64,
}

const fn lease_ms() -> u64 {
    10_000
}
const fn probe_ms() -> u64 {
    500
}
const fn sessions_max() -> usize {
    100_000
}
const fn call_ms_max() -> u64 {
    10_000
}
const fn silence_ms_max() -> u64 {
    4_000
}

impl Configuration for GatewayConfig {
    fn check(&self) -> Result<(), String> {
        times(&[
            ("lease_ms", self.lease_ms),
            ("probe_ms", self.probe_ms),
            ("call_ms_max", self.call_ms_max),
            ("silence_ms_max", self.silence_ms_max),
            ("registry.round_ms", self.registry.round_ms),
            ("readmit_over_ms", self.readmit_over_ms.max(1)),
        ])?;
        if self.name.is_empty() {
            return Err("name is empty: every gateway has one of its own".to_owned());
        }
        if self.nodes.is_empty() {
            return Err("nodes is empty: a gateway leads to nodes, name at least one".to_owned());
        }
        if !self.gateways.is_empty() && !self.gateways.contains_key(&self.name) {
            return Err(format!(
                "gateways does not have {}: it holds all of them, itself too",
                self.name
            ));
        }
        let members = self.registry.members;
        if members == 0 || members > MEMBERS_MAX {
            return Err(format!("registry.members is {members}: write 1 to {MEMBERS_MAX}"));
        }
        if self.registry.queue == 0 {
            return Err("registry.queue is 0: members need room for at least one message".to_owned());
        }
        if self.sessions_max == 0 {
            return Err("sessions_max is 0: a gateway without sessions serves nobody".to_owned());
        }
        Ok(())
    }
}

impl GatewayConfig {
    /// Reads and checks a file's text (TOML).
    ///
    /// # Errors
    /// Names what can't be, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        Configuration::parse(text)
    }

    /// The members of the gateway at `place` among all of them, by name.
    pub(super) fn members_of(&self, place: usize) -> Vec<MemberId> {
        let first = u32::try_from(place)
            .unwrap_or(u32::MAX)
            .saturating_mul(self.registry.members);
        (first..first.saturating_add(self.registry.members)).collect()
    }

    /// Every gateway's place and name; this one alone where no others are named.
    pub(super) fn places(&self) -> Vec<String> {
        if self.gateways.is_empty() {
            return vec![self.name.clone()];
        }
        self.gateways.keys().cloned().collect()
    }

    pub(super) fn publisher(&self) -> PublisherOptions {
        PublisherOptions {
            rule: self.health_rule,
            renew_every: Duration::from_millis(self.lease_ms) / 3,
            readmit_over: Duration::from_millis(self.readmit_over_ms),
            ..PublisherOptions::default()
        }
    }
}

/// The directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// Where gateways and clients are served.
    pub listen: SocketAddr,
    /// For how long an answer may be remembered.
    #[serde(default = "ttl_ms")]
    pub ttl_ms: u64,
    /// For how long an empty one may be.
    #[serde(default = "negative_ttl_ms")]
    pub negative_ttl_ms: u64,
    /// Where no lease is left, answer with the doors whose leases ran out last.
    #[serde(default)]
    pub keep_last: bool,
}

const fn ttl_ms() -> u64 {
    10_000
}
const fn negative_ttl_ms() -> u64 {
    5_000
}

impl Configuration for DirectoryConfig {
    fn check(&self) -> Result<(), String> {
        times(&[("ttl_ms", self.ttl_ms), ("negative_ttl_ms", self.negative_ttl_ms)])
    }
}

impl DirectoryConfig {
    /// Reads and checks a file's text (TOML).
    ///
    /// # Errors
    /// Names what can't be, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        Configuration::parse(text)
    }

    pub(super) fn options(&self) -> DirectoryOptions {
        DirectoryOptions {
            ttl: Duration::from_millis(self.ttl_ms),
            negative_ttl: Duration::from_millis(self.negative_ttl_ms),
            keep_last: self.keep_last,
            ..DirectoryOptions::default()
        }
    }
}

/// The status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageConfig {
    /// Where who wants to know is served.
    pub listen: SocketAddr,
    /// The nodes' client listeners, by id: the page's own way to them.
    pub nodes: BTreeMap<u64, String>,
    /// The gateways' back-end listeners, by name: the page's own way to them.
    #[serde(default)]
    pub gateways: BTreeMap<String, String>,
    /// The directory, to go in as users do; without one the page goes to the nodes itself.
    #[serde(default)]
    pub directory: Option<String>,
    /// How many shards the store has: each is tried.
    pub shards: u32,
    /// From one round of questions to the next; each question may take as long.
    #[serde(default = "ask_ms")]
    pub ask_ms: u64,
    /// For how long an answer counts.
    #[serde(default = "fresh_ms")]
    pub fresh_ms: u64,
    /// For how long all must have been well.
    #[serde(default = "hold_ms")]
    pub hold_ms: u64,
    /// What may be undelivered in the calmest of times.
    #[serde(default = "backlog_calm")]
    pub backlog_calm: u64,
    /// A number that nobody else has, for the page's own account, which sends to itself. Without one it only reads, and
    /// can't tell when nothing can be sent.
    #[serde(default)]
    pub phone: Option<String>,
    /// A deliberately wrong behaviour, `false-all-clear`: all is well as soon as every process answers. Needs a build with
    /// plants.
    #[serde(default)]
    pub plant: Option<String>,
}

/// The plant of the status page, which says that all is well as soon as every process answers.
pub const PAGE_PLANT: &str = "false-all-clear";

const fn ask_ms() -> u64 {
    500
}
const fn fresh_ms() -> u64 {
    3_000
}
const fn hold_ms() -> u64 {
    2_000
}
const fn backlog_calm() -> u64 {
    50
}

impl Configuration for PageConfig {
    fn check(&self) -> Result<(), String> {
        times(&[
            ("ask_ms", self.ask_ms),
            ("fresh_ms", self.fresh_ms),
            ("hold_ms", self.hold_ms),
        ])?;
        if self.fresh_ms <= 2 * self.ask_ms {
            return Err(format!(
                "fresh_ms is {} and ask_ms {}: an answer must count for more than two rounds, or nothing is ever known",
                self.fresh_ms, self.ask_ms
            ));
        }
        if let Some(plant) = &self.plant {
            if plant != PAGE_PLANT {
                return Err(format!("plant is {plant:?}: the status page has {PAGE_PLANT}"));
            }
            if !cfg!(feature = "plants") {
                return Err(format!(
                    "plant is {plant:?}: this build has no plants, build with --features plants"
                ));
            }
        }
        if self.nodes.is_empty() || self.shards == 0 {
            return Err(format!(
                "there are {} nodes and {} shards: a page that looks at nothing can tell nothing",
                self.nodes.len(),
                self.shards
            ));
        }
        Ok(())
    }
}

impl PageConfig {
    /// Reads and checks a file's text (TOML).
    ///
    /// # Errors
    /// Names what can't be, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        Configuration::parse(text)
    }

    fn rule(&self) -> Rule {
        #[cfg(feature = "plants")]
        if self.plant.is_some() {
            return Rule::Processes;
        }
        Rule::Whole
    }

    pub(super) fn board(&self) -> BoardOptions {
        BoardOptions {
            fresh_for: Duration::from_millis(self.fresh_ms),
            hold: Duration::from_millis(self.hold_ms),
            backlog_calm: self.backlog_calm,
            rule: self.rule(),
            ..BoardOptions::default()
        }
    }
}
