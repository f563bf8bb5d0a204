//! What every verb has in common: how it describes itself and what can be checked before a run.

use std::collections::BTreeSet;

use super::scene::{Resolved, Scene};
use crate::backend::{Capability, Plane};
use crate::target::{self, Roster, Target, TargetError};

/// The groups that verbs are listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What happens to processes.
    Process,
    /// What happens to the power.
    Power,
    /// What happens between nodes, and between clients and nodes.
    Network,
    /// What happens to leadership.
    Consensus,
    /// What clients do.
    Client,
    /// What whoever looks for the system finds.
    Discovery,
    /// What operators move.
    Migration,
    /// What happens to services outside that the system needs.
    Dependency,
}

impl Group {
    /// Its name, as printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
            Self::Network => "network",
            Self::Consensus => "consensus",
            Self::Client => "client",
            Self::Discovery => "discovery",
            Self::Migration => "migration",
            Self::Dependency => "dependency",
        }
    }
}

/// How a verb describes itself: help, reference and plan checks are made from it.
#[derive(Clone, Copy, Debug)]
pub struct VerbInfo {
    /// The key of a step.
    pub name: &'static str,
    /// Where it is listed.
    pub group: Group,
    /// One line.
    pub summary: &'static str,
    /// What counts as evidence that it bites and that it ended.
    pub evidence: &'static str,
    /// As it is written in a step, key included.
    pub example: &'static str,
    /// What it always needs. What its value needs on top is in [`Verb::needs`].
    pub needs: &'static [Capability],
    /// Whether it lasts until it is healed; one that does not takes no `heal_after`.
    pub heals: bool,
}

/// A fault that can not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Its target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its form: what is wrong, with the value and the remedy.
    #[error("{0}")]
    Form(String),
    /// There is nothing that it could be done to at this moment.
    #[error("{0}")]
    Nothing(String),
}

impl SpecError {
    /// True for a mistake of the scenario; false when the system's state alone stands in the way, so that the fault is
    /// skipped.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        match self {
            Self::Target(error) => error.is_static(),
            Self::Form(_) => true,
            Self::Nothing(_) => false,
        }
    }
}

/// A verb's value, as a scenario writes it.
pub trait Verb {
    /// How it describes itself.
    const INFO: VerbInfo;

    /// Checks all that can be checked before anything runs.
    ///
    /// # Errors
    /// What is wrong, with the value and the remedy.
    fn check(&self, roster: &Roster) -> Result<(), SpecError>;

    /// The targets in it.
    fn targets(&self) -> Vec<&Target>;

    /// The plane it acts on, for a verb that has one.
    fn plane(&self) -> Option<Plane> {
        None
    }

    /// Asks the scene whom it hits at this moment, and says what is to be done to them.
    ///
    /// # Errors
    /// As [`Verb::check`], and when nobody fits at this moment.
    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError>;

    /// Everything it needs, its targets and plane included.
    fn needs(&self) -> BTreeSet<Capability> {
        let mut needs: BTreeSet<Capability> = Self::INFO.needs.iter().copied().collect();
        if let Some(plane) = self.plane() {
            if plane.covers(Plane::BackEnd) {
                needs.insert(Capability::Links);
            }
            if plane.covers(Plane::Client) {
                needs.insert(Capability::ClientLinks);
            }
        }
        if self.targets().into_iter().any(target::needs_observation) {
            needs.insert(Capability::Observe);
        }
        needs
    }
}
