//! `verification`: whoever carries codes to phones is slow, or carries none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::base::HumanDuration;
use crate::system::Errand;
use crate::target::{Roster, Target};

/// What has become of the service outside that carries codes to phones. One of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// How long a code is on its way now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<HumanDuration>,
    /// `true`: none is carried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failing: bool,
}

impl Verb for Verification {
    const INFO: VerbInfo = VerbInfo {
        name: "verification",
        group: Group::Dependency,
        summary: "whoever carries the codes that sign-ups show is slow, or carries none",
        evidence: "every node that runs says so, and a code that is asked for is late or refused; after the heal it comes",
        example: "verification: { failing: true }",
        needs: &[Capability::Verification],
        heals: true,
    };

    fn check(&self, _: &Roster) -> Result<(), SpecError> {
        match (self.delay, self.failing) {
            (None, true) => Ok(()),
            (Some(delay), false) if !delay.get().is_zero() => Ok(()),
            _ => Err(SpecError::Form(
                "write either `delay`, such as `delay: 2s`, or `failing: true`".to_owned(),
            )),
        }
    }

    fn resolve(&self, _: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        Ok(Resolved {
            action: Action::Errand(Errand::Verification {
                delay: self.delay.map_or(Duration::ZERO, |delay| delay.get()),
                failing: self.failing,
            }),
            targets: vec!["verification".to_owned()],
            affected: Vec::new(),
            left_out: Vec::new(),
            needs: Vec::new(),
        })
    }

    fn targets(&self) -> Vec<&Target> {
        Vec::new()
    }
}
