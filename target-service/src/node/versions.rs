//! Which versions of the protocol are spoken, and when a shard's log may hold what only the later of them knows.
//!
//! Two versions live side by side. What changed with the second:
//! - between nodes, a snapshot travels in chunks; the first sends it whole, as far as one frame carries it;
//! - in the log, one entry trims all of a shard's outboxes (`TrimOutboxes`); the first has one for each;
//! - to clients, nothing they see: they take another path through the node, and one build of the second version
//!   ([`Build::SecondBad`]) fails on it.
//!
//! Everybody says what it speaks: callers and nodes in the header `chat-protocol`, as `1`, `2` or `1-2`; nodes to each other
//! also in the stream of their messages, and to operators in their status. Both sides use the highest that they share, and
//! who shares none is refused. Who says nothing speaks 1.
//!
//! A log must hold nothing that some member can't apply: it would count as refused there and as done elsewhere. So the
//! leader of a shard writes one entry that turns the shard to version 2, once every member has said that it speaks 2, and
//! what only 2 knows comes after it. Until then every node can go back to 1; after it, a node that speaks 1 ends and says
//! so. `finalize = false` holds that entry back for as long as going back must stay possible.

use std::{collections::BTreeMap, fmt, time::Duration};

use firedrill_proto::chat::v1::{Hello, SetVersionCommand, command, peer_message::Message};
use serde::{Deserialize, Serialize};

use super::{
    config::ConfigError,
    run::{Node, NodeError},
    waiting::Waiting,
};

/// The header in which callers and nodes say what they speak.
pub const PROTOCOL_HEADER: &str = "chat-protocol";

/// A range of versions that somebody speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    least: u32,
    most: u32,
}

impl Protocols {
    /// Everything that this program knows.
    pub const ALL: Self = Self { least: 1, most: 2 };
    /// The first version alone: what somebody speaks who says nothing.
    pub const FIRST: Self = Self { least: 1, most: 1 };

    /// From `least` to `most`; `None` for what can't be a range.
    #[must_use]
    pub const fn new(least: u32, most: u32) -> Option<Self> {
        if least == 0 || least > most {
            return None;
        }
        Some(Self { least, most })
    }

    /// The highest version of the range.
    #[must_use]
    pub const fn most(self) -> u32 {
        self.most
    }

    /// The lowest version of the range.
    #[must_use]
    pub const fn least(self) -> u32 {
        self.least
    }

    /// The highest version that both speak.
    #[must_use]
    pub fn shared(self, other: Self) -> Option<u32> {
        let most = self.most.min(other.most);
        (most >= self.least.max(other.least)).then_some(most)
    }

    /// Reads what a header says: `2` or `1-2`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok())?
        };
        Self::new(number(least)?, number(most)?)
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least == self.most {
            true => write!(f, "{}", self.most),
            false => write!(f, "{}-{}", self.least, self.most),
        }
    }
}

/// Which build of the program a node passes for. All of them are in every binary, so that any node can be updated to any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Build {
    /// The one that works.
    #[default]
    #[serde(rename = "good")]
    Good,
    /// A build of the second version whose way of sending fails, while the app still opens. What is sent with the first
    /// version takes the old way.
    #[serde(rename = "2-bad")]
    SecondBad,
}

impl Build {
    /// Its name, as configuration and status write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::SecondBad => "2-bad",
        }
    }
}

/// What a node speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Versions {
    /// The highest version that the node speaks: 1 or 2.
    pub protocol: u32,
    /// Which build it passes for.
    pub build: Build,
    /// Whether shards that this node leads turn to the version that all their members speak. There is no way back then.
    pub finalize: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            protocol: Protocols::ALL.most,
            build: Build::Good,
            finalize: true,
        }
    }
}

impl Versions {
    /// The range.
    #[must_use]
    pub fn speaks(&self) -> Protocols {
        Protocols {
            least: Protocols::ALL.least,
            most: self.protocol.clamp(Protocols::ALL.least, Protocols::ALL.most),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value: String, remedy: &str| {
            Err(ConfigError::Value {
                key,
                value,
                remedy: remedy.to_owned(),
            })
        };
        if !(1..=Protocols::ALL.most).contains(&self.protocol) {
            return bad("versions.protocol", self.protocol.to_string(), "1 or 2");
        }
        if self.build == Build::SecondBad && self.protocol != 2 {
            return bad(
                "versions.build",
                format!("{:?}", self.build.as_str()),
                "a build of version 2 needs versions.protocol = 2",
            );
        }
        Ok(())
    }
}

/// What peers said of themselves, and when it is said again.
#[derive(Debug, Default)]
pub(super) struct Peers {
    said: BTreeMap<u64, (Protocols, Duration)>,
}

/// A peer that was not heard for so long may have become another.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

impl Peers {
    /// The highest version that a peer said it speaks; `None` when it said nothing lately.
    pub(super) fn most(&self, peer: u64, now: Duration) -> Option<u32> {
        let (said, at) = self.said.get(&peer)?;
        (now.saturating_sub(*at) < BELIEVED_FOR).then_some(said.most)
    }

    /// A peer's process is gone: the next one may be another version.
    pub(super) fn gone(&mut self, peer: u64) {
        self.said.remove(&peer);
    }
}

impl Node {
    /// Tells the peers what this node speaks.
    pub(super) fn say_hello(&mut self) {
        let speaks = self.config.versions.speaks();
        for peer in self.config.others() {
            let hello = Hello {
                least: speaks.least,
                most: speaks.most,
                build: self.config.versions.build.as_str().to_owned(),
            };
            self.net.send(peer, 0, Message::Hello(hello));
        }
    }

    pub(super) fn hello(&mut self, from: u64, hello: &Hello) {
        let Some(said) = Protocols::new(hello.least, hello.most) else {
            let value = format!("{} to {}", hello.least, hello.most);
            let what = "versions that a peer speaks";
            return self.malformed(from, &crate::consensus::Malformed { what, value });
        };
        let now = self.clock.now();
        let before = self.peers.said.insert(from, (said, now));
        if before.is_none_or(|(before, _)| before != said) {
            tracing::info!(from, %said, build = hello.build, "a peer says what it speaks");
        }
    }

    /// Whether a peer is sent a snapshot in chunks.
    pub(super) fn takes_chunks(&self, peer: u64) -> bool {
        let own = self.config.versions.protocol;
        let theirs = self.peers.most(peer, self.clock.now()).unwrap_or(own);
        own.min(theirs) >= 2
    }

    /// Turns shards that this node leads to the version that all their members speak.
    pub(super) fn raise_versions(&mut self) {
        let (own, now) = (self.config.versions.protocol, self.clock.now());
        if !self.config.versions.finalize {
            return;
        }
        for shard in self.shards.values_mut() {
            if shard.led.is_none() || shard.replica.is_handing_over() {
                continue;
            }
            let members = shard.replica.everybody();
            let spoken = members.iter().map(|member| match *member == self.config.node {
                true => own,
                false => self.peers.most(*member, now).unwrap_or(Protocols::FIRST.most),
            });
            let version = spoken.min().unwrap_or(own);
            let pending = shard.pending.values().any(|it| matches!(it.waiting, Waiting::Version));
            if version <= shard.machine.version() || pending {
                continue;
            }
            tracing::info!(
                shard = shard.id,
                version,
                ?members,
                "every member speaks it: turns to this version"
            );
            let command = command::Command::SetVersion(SetVersionCommand { version });
            let command = Self::command(&mut self.ticket, self.config.node, &self.clock, command);
            shard.propose(command, Waiting::Version);
        }
    }

    /// Whether this node may go on with a shard: not if its log may hold what this node can't apply.
    pub(super) fn check_version(&self, id: u32) -> Result<(), NodeError> {
        let speaks = self.config.versions.protocol;
        match self.shards.get(&id).map(|shard| shard.machine.version()) {
            Some(needs) if needs > speaks => Err(NodeError::Version {
                shard: id,
                needs,
                speaks,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_survives_its_header(least in 1u32..1000, more in 0u32..1000) {
            let range = Protocols::new(least, least + more).unwrap();
            prop_assert_eq!(Protocols::parse(&range.to_string()), Some(range));
        }

        #[test]
        fn what_is_shared_is_spoken_by_both(a in (1u32..6, 0u32..4), b in (1u32..6, 0u32..4)) {
            let (a, b) = (Protocols::new(a.0, a.0 + a.1).unwrap(), Protocols::new(b.0, b.0 + b.1).unwrap());
            let speaks = |range: Protocols, version| (range.least..=range.most).contains(&version);
            let best = (1..20).rev().find(|version| speaks(a, *version) && speaks(b, *version));
            prop_assert_eq!(a.shared(b), best);
        }

        #[test]
        fn noise_is_no_range(text in "[-0-9 a]{0,8}") {
            if let Some(range) = Protocols::parse(&text) {
                prop_assert!(range.least >= 1 && range.least <= range.most);
            }
        }
    }

    #[test]
    fn what_can_not_be_a_range_is_refused() {
        for text in ["", "0", "2-1", "1-", "-2", "1-2-3", "+1", "99999999999"] {
            assert_eq!(Protocols::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_bad_build_is_one_of_the_second_version() {
        let bad = Versions {
            protocol: 1,
            build: Build::SecondBad,
            finalize: true,
        };
        assert!(bad.check().unwrap_err().to_string().contains("versions.protocol = 2"));
        let unknown = Versions {
            protocol: 3,
            ..Versions::default()
        };
        assert!(unknown.check().unwrap_err().to_string().contains("1 or 2"));
    }
}
