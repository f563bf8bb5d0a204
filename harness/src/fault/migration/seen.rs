//! What a controller has seen last of its operation, for whoever interrupts it.

use crate::fault::evidence::Evidence;
use crate::history::Amounts;
use crate::target::NodeName;

/// How far an operation was when it was last looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// That it was taken, or that its first act was done.
    pub(super) began: Option<Evidence>,
    /// The phases that it has entered, in order.
    pub(super) entered: Vec<String>,
    /// How far it is.
    pub(super) done: Amounts,
    /// Who holds what moves.
    pub(super) source: Vec<NodeName>,
    /// Whom it comes to.
    pub(super) target: Vec<NodeName>,
    /// Who leads those that keep the operation.
    pub(super) coordinator: Option<NodeName>,
}
