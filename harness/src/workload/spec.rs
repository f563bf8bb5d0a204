//! What a plan says of a load: everything resolved, in plain numbers.

use serde::{Deserialize, Serialize};

use crate::history::Class;

/// One load on one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// The system it goes to.
    pub system: String,
    /// What is done: `send`, `group`, `sign_up`, `contacts`, `open`, `receipt`, `presence`, `put` or `request`.
    pub class: Class,
    /// Accounts that send and receive; for `put`, the number of keys; 0 where the accounts are those of other loads.
    pub users: u32,
    /// Devices of each account that listen, 1 to 10. Ignored where nobody listens.
    pub devices: u32,
    /// Size of a body in bytes; at least what its identity takes.
    pub size_bytes: u32,
    /// When operations are sent.
    pub schedule: ScheduleSpec,
    /// What a client does when an attempt was not ok.
    pub retry: RetrySpec,
    /// How long an attempt may take, in milliseconds; then its outcome is unknown.
    pub op_timeout_ms: u64,
    /// Operations under way at one time; beyond, they are shed.
    pub in_flight_max: u32,
    /// A constant-spaced probe beside the load, for each shard.
    pub probe: Option<ProbeSpec>,
    /// What a request says; none for the other classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestSpec>,
    /// The groups of a load of class `group`; none for the other classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupSpec>,
    /// What people do beside talking, for the classes `sign_up` and `contacts`; none for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<LifeSpec>,
}

/// Groups, and how their people live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// How many there are from the start.
    pub groups: u32,
    /// Members of each from the start.
    pub members: u32,
    /// Of a hundred operations, those that are not messages of members.
    pub changes_percent: u32,
}

/// What people do beside talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LifeSpec {
    /// They sign up.
    SignUp(SignUpSpec),
    /// They keep address books.
    Contacts(ContactsSpec),
}

/// Sign-ups while the load runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUpSpec {
    /// Of a hundred, those with a number that was signed up before.
    pub again_percent: u32,
    /// Of a hundred, those that are made from two places at the same moment.
    pub at_once_percent: u32,
}

/// Address books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactsSpec {
    /// Numbers in each address book.
    pub book: u32,
    /// Of a hundred operations, those that add to an address book; the others look at the contacts.
    pub import_percent: u32,
}

/// What a request says, as far as its client can say something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// http: the path; `/` when empty. grpc_health: the service that is asked after; the whole server when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// tcp: what is sent; nothing when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub send: String,
    /// tcp: what the answer has to begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expect: String,
}

/// A schedule: rates are operations per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// Equal gaps.
    Constant {
        /// The rate.
        per_s: f64,
    },
    /// Exponential gaps, seeded.
    Poisson {
        /// The mean rate.
        per_s: f64,
    },
    /// From one rate to another in a straight line, then on at the second.
    Ramp {
        /// The first rate.
        from_per_s: f64,
        /// The second.
        to_per_s: f64,
        /// How long the change takes.
        over_ms: u64,
    },
    /// One rate after another; the last goes on.
    Steps {
        /// The steps, at least one.
        steps: Vec<StepSpec>,
    },
}

/// One step of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// The rate.
    pub per_s: f64,
    /// How long it holds.
    pub for_ms: u64,
}

/// Retries: full jitter over an exponentially growing window, within a budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySpec {
    /// Attempts of one operation, the first included; at least 1.
    pub attempts: u32,
    /// The first window, in milliseconds.
    pub base_ms: u64,
    /// The largest window.
    pub cap_ms: u64,
    /// Retries allowed for each hundred operations of the load...
    pub budget_percent: u32,
    /// ... and beside those, retries allowed per second.
    pub budget_per_s: u32,
    /// Off: another attempt is made at once, whatever the system asked for.
    #[serde(default = "yes")]
    pub back_off: bool,
    /// Off: as many retries as there are attempts.
    #[serde(default = "yes")]
    pub budget: bool,
}

const fn yes() -> bool {
    true
}

impl Default for RetrySpec {
    /// Four attempts from 20 ms to 1 s, and the budget that gRPC users know: 20 % and 10 per second.
    fn default() -> Self {
        Self {
            attempts: 4,
            base_ms: 20,
            cap_ms: 1000,
            budget_percent: 20,
            budget_per_s: 10,
            back_off: true,
            budget: true,
        }
    }
}

/// A probe: operations at equal gaps, never retried, never held back by the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Probes per second and shard.
    pub per_s: f64,
}
