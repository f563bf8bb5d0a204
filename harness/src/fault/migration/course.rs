//! What an operation is to do, how long it may take, and how it may end.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::interrupt::Interrupt;
use super::rollout::Rollout;
use crate::base::HumanDuration;
use crate::fault::spec::SpecError;
use crate::history::MigrationEnd;
use crate::system::Relocation;

/// How long an operation may take unless a step says.
const WITHIN: HumanDuration = HumanDuration::from_secs(60);
/// The longest that it may be given.
const WITHIN_MAX: HumanDuration = HumanDuration::from_secs(3600);

/// An operation as it is to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// What is to be done.
    pub work: Work,
    /// Where it is hit.
    pub interrupt: Option<Interrupt>,
    /// How long it may take.
    pub within: Duration,
    /// How it may end.
    pub ends: Ends,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// The system is asked for it and does it by itself.
    Asked(Relocation),
    /// The harness restarts nodes, one after the other.
    Rolled(Rollout),
}

/// How an operation may end. Another end leaves the run without a green verdict: what was to be exercised was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// With all of it done.
    Completed,
    /// Taken back.
    Aborted,
    /// Stopped where it was.
    Stopped,
    /// Any way that leaves the source or the target serving: done, taken back or stopped.
    Any,
}

impl Ends {
    /// Unless a step says: done; and any way where it is hit in the middle.
    #[must_use]
    pub const fn or_default(said: Option<Self>, interrupted: bool) -> Self {
        match said {
            Some(ends) => ends,
            None if interrupted => Self::Any,
            None => Self::Completed,
        }
    }

    /// Whether that is such an end.
    #[must_use]
    pub fn allows(self, how: MigrationEnd) -> bool {
        match self {
            Self::Completed => how == MigrationEnd::Completed,
            Self::Aborted => how == MigrationEnd::Aborted,
            Self::Stopped => how == MigrationEnd::Stopped,
            Self::Any => how != MigrationEnd::Unknown,
        }
    }

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
            Self::Any => "any",
        }
    }
}

/// How long it may take: as said, or as always.
pub(in crate::fault) fn within(said: Option<HumanDuration>) -> Duration {
    said.unwrap_or(WITHIN).get()
}

/// Whether `within` can be.
pub(in crate::fault) fn check_within(said: Option<HumanDuration>) -> Result<(), SpecError> {
    match said {
        Some(within) if within.get().is_zero() || within > WITHIN_MAX => Err(SpecError::Form(format!(
            "`within: {within}` does not fit; write more than 0s and at most {WITHIN_MAX}"
        ))),
        _ => Ok(()),
    }
}
