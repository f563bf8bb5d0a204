//! The load: what clients do while things break.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::{Rate, Size};
use crate::base::{HumanDuration, did_you_mean};

/// One stream of operations. It has exactly one of the operation keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadEntry {
    /// messaging: people send messages to each other, and their devices receive them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<SendEntry>,
    /// messaging: people live in groups: they talk there, come and go, are removed and come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupEntry>,
    /// messaging: people sign up, some of them again, some from two places at the same moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_up: Option<SignUpEntry>,
    /// messaging: people add numbers to their address books, and look at whom the service has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts: Option<ContactsEntry>,
    /// messaging: the people of the other loads open the app and see their conversations, current or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<CrowdEntry>,
    /// messaging: the people of the other loads read what they were shown and say so; some look at the conversation first,
    /// and a few phones claim to have read what isn't there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<CrowdEntry>,
    /// messaging: the people of the other loads ask who is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<CrowdEntry>,
    /// command with a key-value client: puts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<PutEntry>,
    /// command: requests of which nothing is known but that they are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestEntry>,
    /// When operations are meant to be sent: fixed before the run, never waiting for an answer.
    pub rate: Schedule,
    /// How an operation that was refused or not answered is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryEntry>,
    /// Operations under way at one time; beyond, they are shed and the run says so. 20000 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// How long one attempt may take. 2s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// A constant-spaced probe beside the load, for each part of the system: it measures gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Rate>,
    /// Which system, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// People and the messages they send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendEntry {
    /// How many accounts.
    pub users: u32,
    /// Devices of each account, all of them connected. 1 unless said.
    #[serde(default = "one")]
    pub devices: u32,
    /// How long a message is. 256B unless said.
    #[serde(default = "message_size")]
    pub size: Size,
}

/// People and the groups that they live in. Most operations are messages of members; the others are joining, letting in,
/// leaving, removing, making small groups, looking at what was said, and strangers who try to talk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// How many accounts.
    pub users: u32,
    /// Devices of each account, all of them connected. 1 unless said.
    #[serde(default = "one")]
    pub devices: u32,
    /// How long a message is. 256B unless said.
    #[serde(default = "message_size")]
    pub size: Size,
    /// How many groups there are from the start. 1 unless said.
    #[serde(default = "one")]
    pub groups: u32,
    /// Members of each from the start, at most 200; the rest are strangers. Half of the accounts unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// Of a hundred operations, how many are not messages of members. 30 unless said.
    #[serde(default = "changes_percent")]
    pub changes_percent: u32,
}

impl GroupEntry {
    /// Members of each group from the start.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members.unwrap_or_else(|| (self.users / 2).clamp(1, MEMBERS_MAX))
    }
}

/// The people of the loads of `send` and `group` of the same system, all of them in turn: `{}`, there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrowdEntry {}

/// Most members of a group.
pub(super) const MEMBERS_MAX: u32 = 200;

/// Sign-ups while the load runs. With verification each asks for a code first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpEntry {
    /// Of a hundred, how many are with a number that was signed up before. 20 unless said.
    #[serde(default = "twenty")]
    pub again_percent: u32,
    /// Of a hundred, how many are made from two places at the same moment. 20 unless said.
    #[serde(default = "twenty")]
    pub at_once_percent: u32,
}

/// People and their address books. A number in four of each is one that nobody has when the load begins: of those who sign
/// up while it runs, where there are some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactsEntry {
    /// How many accounts.
    pub users: u32,
    /// Devices of each account, all of them connected. 1 unless said.
    #[serde(default = "one")]
    pub devices: u32,
    /// Numbers in each address book. 12 unless said.
    #[serde(default = "twelve")]
    pub book: u32,
    /// Of a hundred operations, how many add to an address book; the others look. 40 unless said.
    #[serde(default = "forty")]
    pub import_percent: u32,
}

/// Most numbers in an address book of a load.
pub(super) const BOOK_MAX: u32 = 500;

const fn twelve() -> u32 {
    12
}

const fn twenty() -> u32 {
    20
}

const fn forty() -> u32 {
    40
}

/// Keys and the values put under them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutEntry {
    /// How many keys.
    pub keys: u32,
    /// How long a value is. 256B unless said.
    #[serde(default = "message_size")]
    pub size: Size,
}

/// Requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestEntry {
    /// How many sessions the requests are spread over. 8 unless said.
    #[serde(default = "eight")]
    pub sessions: u32,
    /// http: the path that is asked for, `/` unless said. grpc_health: the service that is asked after, the whole server
    /// unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// tcp: what is sent once connected. Nothing unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// tcp: what the answer has to begin with. Anything, or the end of the connection, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

const fn one() -> u32 {
    1
}

const fn changes_percent() -> u32 {
    30
}

const fn eight() -> u32 {
    8
}

const fn message_size() -> Size {
    Size::from_bytes(256)
}

/// How an attempt that was refused or not answered is followed by another: full-jitter back-off between `0` and
/// `base * 2^n`, at most `cap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryEntry {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The first back-off's upper end.
    pub base: HumanDuration,
    /// The longest back-off's upper end.
    pub cap: HumanDuration,
    /// Retries allowed for each hundred operations of the load... 20 unless said.
    #[serde(default = "budget_percent")]
    pub budget_percent: u32,
    /// ... and beside those, retries allowed per second. 10 unless said.
    #[serde(default = "budget_per_s")]
    pub budget_per_s: u32,
    /// `false`: another attempt at once, whatever was asked for. `true` unless said.
    #[serde(default = "yes")]
    pub back_off: bool,
    /// `false`: as many retries as there are attempts. `true` unless said.
    #[serde(default = "yes")]
    pub budget: bool,
}

const fn yes() -> bool {
    true
}

const fn budget_percent() -> u32 {
    20
}

const fn budget_per_s() -> u32 {
    10
}

/// When operations are meant to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Constant spacing.
    Constant(Rate),
    /// Independent arrivals with this mean.
    Poisson(Rate),
    /// From one rate to another, evenly, from the first operation on; then it stays.
    Ramp(RampEntry),
    /// One rate after another; the last goes on.
    Steps(Vec<RateStep>),
}

/// A rate that rises or falls evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RampEntry {
    /// The rate before.
    pub from: Rate,
    /// The rate after.
    pub to: Rate,
    /// How long it takes.
    pub over: HumanDuration,
}

/// A rate and how long it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateStep {
    /// The rate.
    pub rate: Rate,
    /// How long it holds.
    #[serde(rename = "for")]
    pub lasts: HumanDuration,
}

const SHAPES: &[&str] = &["poisson", "ramp", "steps"];

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        if let Self::Constant(rate) = self {
            return rate.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Constant(rate) | Self::Poisson(rate) => map.serialize_entry("poisson", rate)?,
            Self::Ramp(ramp) => map.serialize_entry("ramp", ramp)?,
            Self::Steps(steps) => map.serialize_entry("steps", steps)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> de::Visitor<'de> for Shape {
            type Value = Schedule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 300/s, or one of poisson, ramp, steps")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Schedule, E> {
                text.parse().map(Schedule::Constant).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Schedule, E> {
                Err(E::custom(format!("`{number}` is not a rate: write {number}/s")))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Schedule, A::Error> {
                let one = "`rate` has exactly one of poisson, ramp, steps";
                let key: String = map.next_key()?.ok_or_else(|| de::Error::custom(one))?;
                let schedule = match key.as_str() {
                    "poisson" => Schedule::Poisson(map.next_value()?),
                    "ramp" => Schedule::Ramp(map.next_value()?),
                    "steps" => Schedule::Steps(map.next_value()?),
                    other => {
                        let hint = did_you_mean(other, SHAPES.iter().copied());
                        return Err(de::Error::custom(format!("unknown shape of load `{other}`; {hint}")));
                    }
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom(one));
                }
                Ok(schedule)
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<Rate>();
        let ramp = generator.subschema_for::<RampEntry>();
        let steps = generator.subschema_for::<Vec<RateStep>>();
        let shape = |name: &str, schema: &Schema| serde_json::json!({ "type": "object", "properties": { name: schema }, "required": [name], "additionalProperties": false });
        let (poisson, ramp, steps) = (shape("poisson", &rate), shape("ramp", &ramp), shape("steps", &steps));
        json_schema!({
            "description": "Constant spacing (`300/s`), or one of poisson, ramp, steps.",
            "oneOf": [rate, poisson, ramp, steps],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_read_and_write() {
        for text in [
            "\"300/s\"",
            r#"{"poisson":"5/s"}"#,
            r#"{"ramp":{"from":"1/s","to":"9/s","over":"10s"}}"#,
            r#"{"steps":[{"rate":"1/s","for":"5s"},{"rate":"7/s","for":"1s"}]}"#,
        ] {
            let schedule: Schedule = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
        }
    }

    #[test]
    fn a_schedule_of_no_known_shape_is_refused() {
        for (text, says) in [
            ("300", "write 300/s"),
            ("{}", "exactly one"),
            (r#"{"poison":"5/s"}"#, "did you mean `poisson`"),
            (
                r#"{"poisson":"5/s","ramp":{"from":"1/s","to":"9/s","over":"10s"}}"#,
                "exactly one",
            ),
        ] {
            let error = serde_json::from_str::<Schedule>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
