//! A scenario as a whole, and what it names: systems and faults.

use garde::{Path, Report, Validate};
use serde_json::Value;

use super::{expected, findings::Findings, loads, steps, systems};
use crate::scenario::model::{Scenario, VERSION};
use crate::scenario::paths::value_at;
use crate::scenario::system::SystemEntry;

/// Most runs of one scenario.
const REPEAT_MAX: u32 = 1000;

/// What the rules need beside the scenario itself.
#[derive(Debug, Default)]
pub struct Context {
    /// The file, without types.
    pub value: Value,
}

impl Validate for Scenario {
    type Context = Context;

    fn validate_into(&self, context: &Context, _: &mut dyn FnMut() -> Path, report: &mut Report) {
        let mut found = Findings { report };
        found.check(self.version == VERSION, "version", || {
            format!(
                "version {} of the format is not known here; this build reads version {VERSION}",
                self.version
            )
        });
        found.check(!self.about.trim().is_empty(), "about", || {
            "`about` is empty; say in a sentence what the scenario shows".to_owned()
        });
        found.check((1..=REPEAT_MAX).contains(&self.repeat), "repeat", || {
            format!("`repeat: {}` does not fit; write 1 to {REPEAT_MAX}", self.repeat)
        });
        systems::systems(self, &mut found);
        loads::loads(self, &mut found);
        expected::steady(self, &mut found);
        steps::steps(self, &mut found);
        expected::expectations(self, &mut found);
        let shed = self.limits.shed_percent;
        found.check((0.0..=100.0).contains(&shed), "limits.shed_percent", || {
            format!("`{shed}` is not a percentage; write 0 to 100")
        });
        for (i, entry) in self.provenance.iter().enumerate() {
            for (j, of) in entry.of.iter().enumerate() {
                found.check(
                    value_at(&context.value, of).is_some(),
                    &format!("provenance[{i}].of[{j}]"),
                    || format!("`{of}` points at nothing in this file; write a path such as load[0].rate"),
                );
            }
        }
    }
}

impl Scenario {
    /// The systems by name; a single one is called `main`.
    #[must_use]
    pub fn systems(&self) -> Vec<(&str, &SystemEntry)> {
        let single = self.system.iter().map(|system| ("main", system));
        let several = self
            .systems
            .iter()
            .flatten()
            .map(|(name, system)| (name.as_str(), system));
        single.chain(several).collect()
    }

    /// The system called `name`, or the only one when no name is given.
    #[must_use]
    pub fn system_named(&self, name: Option<&str>) -> Option<(&str, &SystemEntry)> {
        let systems = self.systems();
        match name {
            Some(name) => systems.into_iter().find(|(known, _)| *known == name),
            None if systems.len() == 1 => systems.first().copied(),
            None => None,
        }
    }

    /// The faults' ids, in the order of the steps: the step's number from 1 and its verb, such as `2-kill`.
    #[must_use]
    pub fn fault_ids(&self) -> Vec<String> {
        self.steps
            .iter()
            .enumerate()
            .map(|(i, step)| format!("{}-{}", i + 1, step.fault.kind()))
            .collect()
    }
}
