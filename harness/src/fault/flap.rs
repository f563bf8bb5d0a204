//! `flap`: a partition that comes and goes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Plane;
use crate::base::HumanDuration;
use crate::target::{Roster, Target};

/// The most bursts of one flap.
pub const TIMES_MAX: u32 = 1000;

/// A partition, on and off in bursts. Burst k begins `(k - 1) * (on + off)` after the first; each is a fault event of
/// its own, numbered from 1. The nodes are chosen once, at the first burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// What comes and goes.
    pub partition: Partition,
    /// How long each burst lasts.
    pub on: HumanDuration,
    /// How long it is whole between two bursts.
    pub off: HumanDuration,
    /// How many bursts.
    #[schemars(range(min = 1, max = 1000))]
    pub times: u32,
}

impl Flap {
    /// From the first burst's beginning to the last one's end, in milliseconds.
    #[must_use]
    pub fn lasts_ms(&self) -> u64 {
        let times = u64::from(self.times);
        let off = self.off.as_millis().saturating_mul(times.saturating_sub(1));
        self.on.as_millis().saturating_mul(times).saturating_add(off)
    }
}

impl Verb for Flap {
    const INFO: VerbInfo = VerbInfo {
        name: "flap",
        group: Group::Network,
        summary: "a partition that comes and goes; it ends by itself after its last burst",
        evidence: "as `partition`, for each burst",
        example: "flap: { partition: { all_nodes: true }, on: 4s, off: 3s, times: 5 }",
        needs: &[],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        self.partition.check(roster)?;
        if self.on.get().is_zero() || self.off.get().is_zero() {
            return Err(SpecError::Form(format!(
                "`on: {}` and `off: {}` must both be longer than 0s: use `partition` for a cut that stays",
                self.on, self.off
            )));
        }
        if !(1..=TIMES_MAX).contains(&self.times) {
            return Err(SpecError::Form(format!(
                "`times: {}` must be from 1 to {TIMES_MAX}",
                self.times
            )));
        }
        Ok(())
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let mut resolved = self.partition.resolve(scene)?;
        if let Action::Rules(rules) = resolved.action {
            resolved.action = Action::Flap {
                rules,
                on: self.on.get(),
                off: self.off.get(),
                times: self.times,
            };
        }
        Ok(resolved)
    }

    fn targets(&self) -> Vec<&Target> {
        self.partition.targets()
    }

    fn plane(&self) -> Option<Plane> {
        Some(self.partition.plane)
    }
}
