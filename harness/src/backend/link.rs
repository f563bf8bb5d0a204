//! Links by name, and the rules that a fault puts on them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Nanos;

/// Which of a system's networks a fault hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// Between nodes.
    #[default]
    BackEnd,
    /// Between clients and nodes.
    Client,
    /// Both.
    All,
}

impl Plane {
    /// True when a fault on `self` takes in links of `other` (which is never [`Plane::All`]).
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == Self::All || self == other
    }

    /// Its name, as in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackEnd => "back_end",
            Self::Client => "client",
            Self::All => "all",
        }
    }
}

/// Who dials over a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A node, by name.
    Node(String),
    /// A group of clients, by name.
    Clients(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name),
            Self::Clients(group) => write!(f, "clients:{group}"),
        }
    }
}

/// One link: the path that `from` dials to reach `to`. Printed as `n1->n2/back_end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId {
    /// Who dials.
    pub from: Endpoint,
    /// The node that is dialled.
    pub to: String,
    /// [`Plane::BackEnd`] or [`Plane::Client`].
    pub plane: Plane,
}

impl LinkId {
    /// The link over which node `from` dials node `to`.
    #[must_use]
    pub fn between(from: &str, to: &str) -> Self {
        Self {
            from: Endpoint::Node(from.to_owned()),
            to: to.to_owned(),
            plane: Plane::BackEnd,
        }
    }

    /// The link over which the clients of `group` dial node `to`.
    #[must_use]
    pub fn clients(group: &str, to: &str) -> Self {
        Self {
            from: Endpoint::Clients(group.to_owned()),
            to: to.to_owned(),
            plane: Plane::Client,
        }
    }
}

impl std::fmt::Display for LinkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{}/{}", self.from, self.to, self.plane.name())
    }
}

/// One half of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From who dialled to who was dialled.
    Forward,
    /// From who was dialled to who dialled.
    Backward,
}

impl Direction {
    /// Both halves.
    pub const BOTH: [Self; 2] = [Self::Forward, Self::Backward];
}

/// What one half of a link does to bytes. Nothing is ever lost or reordered: what is cut or delayed waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRule {
    /// Holds bytes, end-of-stream and resets alike until it is lifted; new connections wait with them.
    pub cut: bool,
    /// Added to each byte's way.
    pub delay: Duration,
    /// Up to this much more, drawn for each piece from the link's own seeded stream; order is kept.
    pub jitter: Duration,
    /// At most this many bytes a second; none for no limit.
    pub bytes_per_s: Option<u64>,
    /// The rule lifts itself at this instant, so that a fault never outlives who put it there.
    pub expires: Option<Nanos>,
}

impl LinkRule {
    /// A cut that lifts itself at `expires`.
    #[must_use]
    pub fn cut_until(expires: Nanos) -> Self {
        Self {
            cut: true,
            expires: Some(expires),
            ..Self::default()
        }
    }

    /// True when it does nothing.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        !self.cut && self.delay.is_zero() && self.jitter.is_zero() && self.bytes_per_s.is_none()
    }
}

/// What a probe of one half of a link saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfProbe {
    /// When the probe's byte was handed to the link.
    pub sent: Nanos,
    /// When it came out at the other end; none when it had not within the probe's bound.
    pub arrived: Option<Nanos>,
}

/// What a probe of a link saw, through its data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// From who dialled.
    pub forward: HalfProbe,
    /// To who dialled.
    pub backward: HalfProbe,
}

impl ProbeResult {
    /// The half in `direction`.
    #[must_use]
    pub const fn half(&self, direction: Direction) -> HalfProbe {
        match direction {
            Direction::Forward => self.forward,
            Direction::Backward => self.backward,
        }
    }
}
