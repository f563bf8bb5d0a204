//! Assumptions: the run was what it claims to be. What is wrong here is wrong with the harness, so it can make a run
//! unknown and never failed. (The assumptions verdict that comes first in etcd's robustness tests.)

use std::time::Duration;

use super::{Promise, Tally, words};
use crate::history::{History, Phase, SystemView};

/// A timer may fire this much early.
const EARLY_MAX: Duration = Duration::from_millis(1);

pub(super) struct Assumptions;

impl Promise for Assumptions {
    fn name(&self) -> &'static str {
        "assumptions"
    }

    fn about(&self) -> &'static str {
        "the run was what it claims to be: identities unique, times in order, read back in full"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.oblige(1);
        if let Some(item) = system.item_conflicts.first() {
            tally.unsure(|| format!("two operations carry the identity {item}"));
        }
        for attempt in &system.attempts {
            if attempt.done < attempt.sent || attempt.sent.plus(EARLY_MAX) < attempt.intended {
                tally.unsure(|| {
                    format!(
                        "operation {} was meant {}, sent {} and done {}: not in that order",
                        attempt.id,
                        words::at(attempt.intended),
                        words::at(attempt.sent),
                        words::at(attempt.done)
                    )
                });
                break;
            }
        }
        let phases = history.phases.all();
        if let Some(pair) = phases.windows(2).find(|pair| pair[1].0 <= pair[0].0) {
            tally.unsure(|| format!("phase {:?} follows phase {:?}", pair[1].0, pair[0].0));
        }
        if history.phases.start(Phase::TearDown).is_none() {
            tally.unsure(|| "the history breaks off before the run ended".to_owned());
        }
    }
}
