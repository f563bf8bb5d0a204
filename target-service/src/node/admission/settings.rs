//! The configuration of what a node can do at once, and of what protects it.

use serde::{Deserialize, Serialize};

use crate::node::config::ConfigError;

/// What a call of each class costs, in percent of a send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    /// Acknowledgements and receipts.
    pub acknowledge: u32,
    /// Messages and changes of groups.
    pub send: u32,
    /// Opening a session, and opening its stream.
    pub login: u32,
    /// Reading lists, histories, members, contacts.
    pub sync: u32,
    /// Codes, accounts, address books.
    pub sign_up: u32,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            acknowledge: 5,
            send: 100,
            login: 100,
            sync: 100,
            sign_up: 200,
        }
    }
}

/// What a node can do: work beyond it waits, as it would for a processor or a disk that is busy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Sends a second, or as much other work as costs the same; 0 is whatever the machine gives.
    pub per_second: u32,
    /// How long work may have to wait before it is refused instead, milliseconds.
    pub queue_ms: u64,
    /// Calls that may wait, however long each takes: what memory allows.
    pub queue_calls: usize,
    /// What the classes cost.
    pub costs: Costs,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            per_second: 0,
            queue_ms: 100,
            queue_calls: 1024,
            costs: Costs::default(),
        }
    }
}

impl Capacity {
    /// Checks what types can't.
    ///
    /// # Errors
    /// Names the first key that can't work.
    pub(in crate::node) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: String, remedy: &str| {
            Err(ConfigError::Value {
                key,
                value,
                remedy: remedy.to_owned(),
            })
        };
        if self.per_second > 1_000_000 {
            return bad("capacity.per_second", self.per_second.to_string(), "at most 1000000");
        }
        if !(1..=60_000).contains(&self.queue_ms) {
            return bad("capacity.queue_ms", self.queue_ms.to_string(), "between 1 and 60000");
        }
        if !(1..=1 << 20).contains(&self.queue_calls) {
            return bad(
                "capacity.queue_calls",
                self.queue_calls.to_string(),
                "between 1 and 1048576",
            );
        }
        for (key, cost) in [
            ("capacity.costs.acknowledge", self.costs.acknowledge),
            ("capacity.costs.send", self.costs.send),
            ("capacity.costs.login", self.costs.login),
            ("capacity.costs.sync", self.costs.sync),
            ("capacity.costs.sign_up", self.costs.sign_up),
        ] {
            if !(1..=10_000).contains(&cost) {
                return bad(key, cost.to_string(), "between 1 and 10000 percent of a send");
            }
        }
        Ok(())
    }
}

/// How the log-in limit grows to what `bounds.logins_per_second` says, after a start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginRamp {
    /// Log-ins a second at the start.
    pub from_per_second: u32,
    /// How long the growth takes, milliseconds; 0 is no ramp.
    pub over_ms: u64,
}

/// What protects a node from more than it can do. Each can be switched off, to see what becomes of the service then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protections {
    /// Work whose caller has given up is dropped before it is proposed. Off: it is done all the same.
    pub deadlines: bool,
    /// Classes of calls have queues of their own, and the lowest is shed first. Off: one queue, first come, first served.
    pub priorities: bool,
    /// Work that would wait for longer than `capacity.queue_ms`, or beyond its deadline, is refused at once. Off: the
    /// queue is bounded by memory alone.
    pub admission: bool,
    /// Log-ins are limited, with a ramp after a start. Off: neither.
    pub login_limit: bool,
    /// The bytes that an outbox may have on their way are bounded. Off: its items alone are.
    pub fanout: bool,
}

impl Default for Protections {
    fn default() -> Self {
        Self {
            deadlines: true,
            priorities: true,
            admission: true,
            login_limit: true,
            fanout: true,
        }
    }
}
