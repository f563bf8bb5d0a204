//! Why a scenario can't be planned.

use crate::base::Exit;

/// Why a scenario can't be planned: what is wrong, with the values, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The scenario or the request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// This machine, backend or build can't do it.
    #[error("{0}")]
    Capability(String),
}

impl PlanError {
    /// The exit code that says so.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Invalid(_) => Exit::Invalid,
            Self::Capability(_) => Exit::Capability,
        }
    }
}
