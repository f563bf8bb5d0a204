//! What a history holds of where the parts of a system are, and of their moves. See docs/history-format.md.

use serde::{Deserialize, Serialize};

/// Where things are, in a node's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The epoch of the newest map that the node knows.
    pub epoch: u64,
    /// Moves of replicas that the map remembers, by their number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// One replica on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its number.
    pub id: u64,
    /// The group, such as `shard:3`.
    pub group: String,
    /// The node that it leaves.
    pub from: String,
    /// The node that it comes to.
    pub to: String,
    /// How far it is.
    pub phase: MovePhase,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovePhase {
    /// It goes on.
    UnderWay,
    /// It is being taken back.
    Aborting,
    /// The new node holds it, and the old one does no more.
    Done,
    /// The old node holds it as before.
    Aborted,
}
