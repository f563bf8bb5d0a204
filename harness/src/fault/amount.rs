//! A number in a verb's value.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::SpecError;

/// A number that is compared as it is written; what it may be is checked by the verb that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Amount(f64);

// What is read from a file is a number: a NaN is refused by the verb's check, since it lies in no range.
impl Eq for Amount {}

impl Amount {
    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// All of something.
    #[must_use]
    pub const fn all() -> Self {
        Self(1.0)
    }

    /// Whether it can be a share of something: above 0, at most 1.
    pub(super) fn check_share(self) -> Result<(), SpecError> {
        if self.0 > 0.0 && self.0 <= 1.0 {
            return Ok(());
        }
        Err(SpecError::Form(format!(
            "`share: {self}` does not fit; write more than 0 and at most 1"
        )))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
