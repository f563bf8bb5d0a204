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
