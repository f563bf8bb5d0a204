//! The whole of a scenario file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::load::LoadEntry;
use super::step::Step;
use super::system::SystemEntry;
use super::units::Name;
use crate::base::{Expr, HumanDuration};

/// The version of the scenario format that this build reads.
pub const VERSION: u32 = 1;

/// A scenario: a system, a load, what is done to it, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The format's version: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The scenario's name.
    pub name: Name,
    /// What it shows, in a sentence.
    pub about: String,
    /// The seed of everything random: 1 unless said, and `--seed` overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What happened, for a scenario of a documented outage: in our own words, with the rows of the fact sheet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<String>,
    /// What this file claims to rehearse, and what it leaves out so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// The system under test. Either this or `systems`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemEntry>,
    /// Several systems under test, by name; loads and steps then name theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systems: Option<BTreeMap<String, SystemEntry>>,
    /// What clients do.
    pub load: Vec<LoadEntry>,
    /// What counts as steady: awaited before the first step, and the band that recovery is measured against.
    #[serde(default)]
    pub steady_state: SteadyEntry,
    /// What is done, in order of time.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What counts as recovered, and how long that is awaited.
    #[serde(default)]
    pub settle: SettleEntry,
    /// How long what is owed is awaited after the load has ended. 30s unless said.
    #[serde(default = "drain")]
    pub drain_within: HumanDuration,
    /// What is expected of the system.
    #[serde(default)]
    pub expect: ExpectEntry,
    /// Beyond which of the harness's own troubles the run proves nothing.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// How many times it is run, with seeds counting up from the first. 1 unless said.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub repeat: u32,
    /// Where each number comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<ProvenanceEntry>,
    /// The ratios of the real event that a rehearsal on a small scale has to keep, or say why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratios: Option<Ratios>,
}

const fn drain() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn once() -> u32 {
    1
}

/// What a file claims, and what it leaves out so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// What it rehearses.
    pub now: Vec<String>,
    /// What of the real event it does not rehearse yet.
    #[serde(default)]
    pub later: Vec<String>,
}

/// What counts as steady.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SteadyEntry {
    /// For how long the conditions have to hold without a break. 3s unless said.
    #[serde(default = "steady_for", rename = "for")]
    pub lasts: HumanDuration,
    /// How long that is awaited; then the run is inconclusive. 30s unless said.
    #[serde(default = "steady_within")]
    pub within: HumanDuration,
    /// The conditions, each over the last second. Unless said: `<class>.success >= 99%` of each load.
    #[serde(default)]
    pub require: Vec<Expr>,
}

const fn steady_for() -> HumanDuration {
    HumanDuration::from_secs(3)
}

const fn steady_within() -> HumanDuration {
    HumanDuration::from_secs(30)
}

impl Default for SteadyEntry {
    fn default() -> Self {
        Self {
            lasts: steady_for(),
            within: steady_within(),
            require: Vec::new(),
        }
    }
}

/// What counts as recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleEntry {
    /// How long the band has to hold without a break to count as steady again. 2s unless said.
    #[serde(default = "settle_hold")]
    pub hold: HumanDuration,
    /// How long that is awaited after the last heal, and with it that replicas have caught up and 99 % of the sessions that
    /// were connected before the first step are again. 30s unless said.
    #[serde(default = "settle_within")]
    pub within: HumanDuration,
}

const fn settle_hold() -> HumanDuration {
    HumanDuration::from_secs(2)
}

const fn settle_within() -> HumanDuration {
    HumanDuration::from_secs(30)
}

impl Default for SettleEntry {
    fn default() -> Self {
        Self {
            hold: settle_hold(),
            within: settle_within(),
        }
    }
}

/// What is expected of the system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectEntry {
    /// Budgets on recovery figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Expr>,
    /// Budgets on service levels over the whole run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Expr>,
    /// The promises that are judged. All unless said.
    #[serde(default)]
    pub promises: Promises,
    /// For a scenario that has to fail: the exit code it has to end with. It changes nothing in how the run is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// For a scenario that has to fail: promises of which at least one has to be found broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<String>,
}

/// The promises that are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Promises {
    /// All.
    #[default]
    All,
    /// These.
    These(Vec<String>),
}

impl Serialize for Promises {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::These(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Promises {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Promises;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of promises such as [lost-acked]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Promises, E> {
                if text == "all" {
                    return Ok(Promises::All);
                }
                Err(E::custom(format!(
                    "`{text}` is neither `all` nor a list: write [{text}] for one promise"
                )))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<Promises, A::Error> {
                let mut found = Vec::new();
                while let Some(name) = names.next_element()? {
                    found.push(name);
                }
                Ok(Promises::These(found))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Promises {
    fn schema_name() -> Cow<'static, str> {
        "Promises".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`all`, or a list of promises.",
            "oneOf": [{ "const": "all" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
        })
    }
}

/// Beyond which of the harness's own troubles the run proves nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsEntry {
    /// The 99th percentile of how late the generator may send. 25ms unless said.
    #[serde(default = "lag_p99")]
    pub lag_p99: HumanDuration,
    /// How many operations the generator may shed for want of room, in percent of those offered. 0.1 unless said.
    #[serde(default = "shed_percent")]
    pub shed_percent: f64,
    /// How many operations each phase needs at least to be judged. 20 unless said.
    #[serde(default = "min_operations")]
    pub min_operations: u32,
}

const fn lag_p99() -> HumanDuration {
    HumanDuration::from_millis(25)
}

const fn shed_percent() -> f64 {
    0.1
}

const fn min_operations() -> u32 {
    20
}

impl Default for LimitsEntry {
    fn default() -> Self {
        Self {
            lag_p99: lag_p99(),
            shed_percent: shed_percent(),
            min_operations: min_operations(),
        }
    }
}

/// How well a number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The operator said it.
    Documented,
    /// The press says it.
    Reported,
    /// Somebody guessed.
    Speculated,
    /// Arithmetic on the others.
    Derived,
    /// Chosen by the scenario's author.
    Assumed,
}

impl Provenance {
    /// As written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Reported => "reported",
            Self::Speculated => "speculated",
            Self::Derived => "derived",
            Self::Assumed => "assumed",
        }
    }
}

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenanceEntry {
    /// The values it is about, as paths such as `load[0].rate` or `steps`; a path covers all that is under it.
    pub of: Vec<String>,
    /// How well they are known.
    pub is: Provenance,
    /// The row of the fact sheet, such as `S3.2` or `2.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// How they follow.
    pub note: String,
}

/// The seven ratios to keep instead of raw sizes; without them a rehearsal on a small scale tests nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    /// Utilisation before the fault: arrivals to capacity.
    pub utilisation: Ratio,
    /// Clients to log-in capacity, relative to the outage.
    pub login_capacity: Ratio,
    /// Attempts for each operation while it fails.
    pub retry_amplification: Ratio,
    /// Sign-ups in the surge to those before it.
    pub surge: Ratio,
    /// Deliveries for each message.
    pub fan_out: Ratio,
    /// The fault's length to the election timeout.
    pub fault_to_election: Ratio,
    /// The outage's length to the times things live.
    pub outage_to_ttl: Ratio,
}

impl Ratios {
    /// All seven with their names, in order.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Ratio); 7] {
        [
            ("utilisation", &self.utilisation),
            ("login_capacity", &self.login_capacity),
            ("retry_amplification", &self.retry_amplification),
            ("surge", &self.surge),
            ("fan_out", &self.fan_out),
            ("fault_to_election", &self.fault_to_election),
            ("outage_to_ttl", &self.outage_to_ttl),
        ]
    }
}

/// One ratio: kept at a value, or waived for a reason. Exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ratio {
    /// Kept.
    Kept {
        /// Its value here.
        value: String,
        /// How it follows.
        why: String,
    },
    /// Not kept.
    Waived {
        /// Its value here, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// Why that is right here.
        why: String,
    },
}
