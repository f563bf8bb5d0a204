//! Steps.

use super::findings::Findings;
use super::systems::named_system;
use crate::fault::FaultSpec;
use crate::scenario::model::Scenario;
use crate::scenario::step::Step;

/// Most steps of a scenario.
const STEPS_MAX: usize = 100;

pub(super) fn steps(scenario: &Scenario, found: &mut Findings<'_>) {
    found.check(scenario.steps.len() <= STEPS_MAX, "steps", || {
        format!("{} steps do not fit; write at most {STEPS_MAX}", scenario.steps.len())
    });
    let mut before = None;
    for (i, step) in scenario.steps.iter().enumerate() {
        let path = format!("steps[{i}]");
        one_step(scenario, step, &path, found);
        if let (Some(at), Some(before)) = (step.at, before) {
            found.check(at >= before, &format!("{path}.at"), || {
                format!("`at: {at}` is before the step above at {before}; put the steps in order of time")
            });
        }
        before = step.at.or(before);
    }
}

fn one_step(scenario: &Scenario, step: &Step, path: &str, found: &mut Findings<'_>) {
    match (&step.at, &step.when) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) => found.add(
            path,
            "a step needs a time; add `at: 5s`, or `when: { event: ..., within: ... }`",
        ),
        (Some(_), Some(_)) => found.add(&format!("{path}.when"), "`at` and `when` are both given; keep one"),
    }
    let info = step.fault.info();
    if let Some(heal_after) = step.heal_after {
        let path = format!("{path}.heal_after");
        // A flap lasts as long as its bursts, which say so themselves.
        let by_itself = !info.heals || matches!(step.fault, FaultSpec::Flap(_));
        found.check(!by_itself, &path, || {
            format!("`{}` ends by itself; leave `heal_after` out", info.name)
        });
        found.check(!heal_after.get().is_zero(), &path, || {
            "`heal_after: 0s` leaves the fault no time; write how long it lasts".to_owned()
        });
    }
    let system = named_system(scenario, step.system.as_deref(), &format!("{path}.system"), found);
    if let Some(system) = system
        && let Err(error) = step.fault.check(&system.roster())
    {
        found.add(&format!("{path}.{}", info.name), error.to_string());
    }
}
