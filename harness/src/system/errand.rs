//! What an operator can ask of a system: faults that the system itself carries out, and ends when asked.

use std::time::Duration;

/// Something that is asked of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Whoever carries the codes that sign-ups show is slow, or carries none.
    Verification {
        /// How long a code is on its way.
        delay: Duration,
        /// None is carried.
        failing: bool,
    },
    /// The directory tells whoever looks for a gateway something else than it knows.
    Directory(Answering),
    /// One replica of a group moves from one node to another. Ends by itself.
    MoveReplica {
        /// The group, such as `shard:3`.
        group: String,
        /// The node that it leaves.
        from: String,
        /// The node that it comes to.
        to: String,
    },
}

/// What a directory answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answering {
    /// That there is nobody.
    Empty,
    /// What it knew when this began.
    Stale,
    /// Everybody, where nobody listens.
    Poison,
    /// What it knows, without these.
    Without(Vec<String>),
    /// What it knows, to be remembered for this long.
    Ttl(Duration),
}

impl Errand {
    /// Whether it is over once it is done, with nothing left to undo.
    #[must_use]
    pub const fn ends_by_itself(&self) -> bool {
        matches!(self, Self::MoveReplica { .. })
    }
}
