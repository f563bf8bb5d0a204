//! What an operator asks a system to move, and how the system says how far it is.
//!
//! The operation belongs to the system: whoever asked for it may go away, and it goes on. So each of these can be asked for
//! again, which is answered with the operation that goes on, and can be asked after by its number.

use serde::{Deserialize, Serialize};

use crate::{
    history::{Amounts, MigrationEnd},
    target::NodeName,
};

/// Something that is asked of a system and that it does by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relocation {
    /// One replica of a group moves from one node to another.
    MoveReplica {
        /// The group, such as `shard:3`.
        group: String,
        /// The node that it leaves.
        from: NodeName,
        /// The node that it comes to.
        to: NodeName,
    },
}

impl Relocation {
    /// The phases that it goes through, in their order; those of its being taken back last.
    #[must_use]
    pub const fn phases(&self) -> &'static [&'static str] {
        match self {
            Self::MoveReplica { .. } => MOVE_PHASES,
        }
    }
}

/// The phases of a replica that moves.
pub const MOVE_PHASES: &[&str] = &["add_learner", "catch_up", "enter_joint", "leave_joint", "aborting"];

/// The releases that a scenario can name: the first version of the protocol, the second, and a build of the second that
/// can't send.
pub const RELEASES: &[&str] = &["1", "2", "2-bad"];

/// A system took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number that it is known by from here on.
    pub operation: u64,
    /// Who took it, in words.
    pub text: String,
}

/// How far it is, by the newest word of any node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The phase, in the system's words.
    pub phase: String,
    /// How far it is in all.
    pub done: Amounts,
    /// Who holds now what is to move.
    pub source: Vec<NodeName>,
    /// Whom it comes to.
    pub target: Vec<NodeName>,
    /// Who leads those that keep the operation.
    pub coordinator: Option<NodeName>,
    /// How it ended, and why or by whose word, once it has.
    pub ended: Option<(MigrationEnd, String)>,
}
