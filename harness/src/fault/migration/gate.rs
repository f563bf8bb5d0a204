//! The health gate between two steps of a roll-out: it opens when users are well, for some time and without a break.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Expr, HumanDuration, Nanos, RunClock};
use crate::fault::spec::SpecError;
use crate::workload::{Pulse, steady};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that it may be awaited.
const WITHIN_MAX: HumanDuration = HumanDuration::from_secs(600);

/// What has to hold before the next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nothing: the next step follows at once, whatever users see.
    None,
    /// Conditions, as in `steady_state.require`, of this system's load in the last second.
    Health(Health),
}

/// Conditions that have to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The conditions, such as `send.success >= 99%`. All of them.
    pub require: Vec<Expr>,
    /// For how long, without a break.
    #[serde(rename = "for")]
    pub lasts: HumanDuration,
    /// How long that is awaited. A gate that has not opened by then is red.
    pub within: HumanDuration,
}

impl Gate {
    /// What has to hold, where anything has.
    #[must_use]
    pub const fn health(&self) -> Option<&Health> {
        match self {
            Self::None => None,
            Self::Health(health) => Some(health),
        }
    }

    /// Whether it can be.
    ///
    /// # Errors
    /// What does not fit, with the value.
    pub fn check(&self) -> Result<(), SpecError> {
        let Some(health) = self.health() else { return Ok(()) };
        let wrong = |text: String| Err(SpecError::Form(text));
        if health.require.is_empty() {
            return wrong(
                "a gate without conditions is no gate; add some to `require`, or write `gate: none`".to_owned(),
            );
        }
        for expr in &health.require {
            if !matches!(expr.figure.name, "success" | "p50" | "p99") || !expr.select.is_empty() {
                return wrong(format!(
                    "`{expr}` is not known while the run goes on; use success, p50 or p99 of a class, of all clients"
                ));
            }
        }
        if health.lasts.get().is_zero() || health.lasts > health.within || health.within > WITHIN_MAX {
            return wrong(format!(
                "`for: {}` and `within: {}` do not fit; write more than 0s, at most `within`, and that at most {WITHIN_MAX}",
                health.lasts, health.within
            ));
        }
        Ok(())
    }
}

/// Waits until the conditions have held for as long as they have to. What users see in the last second counts from one second
/// after now on: before that it tells of what was before.
///
/// # Errors
/// In words what does not hold, when the gate is red.
pub(super) async fn opens(health: &Health, pulse: &Pulse, clock: RunClock, deadline: Nanos) -> Result<(), String> {
    let began = clock.now();
    clock.sleep(steady::WINDOW).await;
    let mut since: Option<Nanos> = None;
    let red_at = began.plus(health.within.get()).min(deadline);
    loop {
        let unmet = steady::unmet(&[(String::new(), pulse.progress())], &health.require);
        let now = clock.now();
        since = unmet.is_empty().then(|| since.unwrap_or(now));
        if since.is_some_and(|since| now.since(since) >= health.lasts.get()) {
            return Ok(());
        }
        if now >= red_at {
            let waited = now.since(began);
            let why = since.map(|since| format!("it had held for {:?}", now.since(since)));
            return Err(format!(
                "the gate was red after {:.1} s: {}",
                waited.as_secs_f64(),
                why.unwrap_or_else(|| unmet.join("; "))
            ));
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(yaml: &str) -> Gate {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_gate_that_can_not_be_is_refused() {
        assert_eq!(gate("none").check(), Ok(()));
        assert_eq!(
            gate("{ health: { require: [\"send.success >= 99%\"], for: 2s, within: 10s } }").check(),
            Ok(())
        );
        for (yaml, says) in [
            ("{ health: { require: [], for: 2s, within: 10s } }", "gate: none"),
            (
                "{ health: { require: [\"send.success >= 99%\"], for: 20s, within: 10s } }",
                "at most `within`",
            ),
            (
                "{ health: { require: [\"send.success >= 99%\"], for: 0s, within: 10s } }",
                "more than 0s",
            ),
            (
                "{ health: { require: [\"send.steady < 2s\"], for: 1s, within: 10s } }",
                "while the run goes on",
            ),
            (
                "{ health: { require: [\"send[zone:a].success >= 99%\"], for: 1s, within: 10s } }",
                "of all clients",
            ),
        ] {
            let error = gate(yaml).check().unwrap_err().to_string();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }
}
