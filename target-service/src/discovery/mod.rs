//! Where the gateways are: a directory with leases, what each gateway says there of itself, and the caches before it.
//!
//! Three pure state machines, with the time passed in:
//! - [`Directory`]: who is where, as far as leases and generations say. It stands apart from what it lists, and knows
//!   nothing of the store.
//! - [`Publisher`]: what one gateway says of itself, by its [`HealthRule`]. "Withdraw me when I can not reach the store"
//!   is what made servers unreachable in October 2021 that were in good health: so the rule can be on, off, or
//!   fail-static.
//! - [`Resolver`]: what a client remembers of an answer, the empty one and the missing one too, and which door it takes
//!   first: one of its own zone.
//!
//! A cached answer outlives a withdrawal by one TTL at most, a cached emptiness outlives a return by one negative TTL.

mod directory;
mod health;
mod resolver;
#[cfg(test)]
mod tests;

pub use directory::{Directory, DirectoryCounts, DirectoryOptions, Distortion, PublishError};
pub use health::{HealthRule, Publisher, PublisherOptions, Word};
pub use resolver::{Lookup, Resolver, ResolverOptions};

use std::time::Duration;

/// What a gateway says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The gateway's name: one record for each.
    pub name: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Where clients dial it: `host:port`.
    pub address: String,
    /// Which life of the gateway speaks: higher for each start. What an earlier life still says is refused.
    pub generation: u64,
    /// How long this holds without being said again.
    pub lease: Duration,
    /// Whether the gateway can do its work. One that can't is only handed out when no other can either.
    pub healthy: bool,
}

/// One gateway in an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    /// The gateway's name.
    pub name: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Where to dial it.
    pub address: String,
}

/// What the directory answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The doors, by name; none is an answer too.
    pub doors: Vec<Door>,
    /// For how long a cache may keep this.
    pub ttl: Duration,
    /// The doors are those that were known last, kept because nothing better is known.
    pub kept: bool,
}
