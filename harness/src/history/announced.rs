//! What a history holds of a system's status page. See docs/history-format.md.

use serde::{Deserialize, Serialize};

use crate::base::Nanos;

/// What the status page said on being asked, or that it said nothing. It is asked at a constant spacing, each time written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// When it was asked.
    pub asked: Nanos,
    /// When the answer was in, or was waited for no more.
    pub at: Nanos,
    /// The system.
    pub system: String,
    /// What it said; none when it said nothing.
    pub statement: Option<Statement>,
}

/// A status page's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// In a word.
    pub said: Word,
    /// How many sessions it knows to be there; none when it can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    /// How many there were when all was well last.
    #[serde(default)]
    pub sessions_before: u64,
    /// How many entries it knows to be undelivered; none when it can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
    /// Why it doesn't say that all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What a status page can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// All is well: everybody is served and everything is delivered.
    AllClear,
    /// Something does not work, or is not back yet.
    Degraded,
    /// Users are served by no part.
    Down,
    /// It can't tell.
    Unknown,
}
