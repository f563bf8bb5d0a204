//! The band: what is normal for a class, taken from the steady phase.

use std::time::Duration;

use crate::{
    base::{
        Nanos,
        expr::{Expr, Op},
        millis,
    },
    history::{Class, History, Phase},
};

use super::sample::{ALL_CLIENTS, Sample};

/// The success ratio of the band where the scenario states none.
const SUCCESS_MIN: f64 = 0.999;
/// The band's p99 where the scenario states none: the steady phase's, times this, and at least this much more.
const P99_FACTOR: f64 = 3.0;
const P99_MARGIN_MS: f64 = 20.0;

/// What a stretch of operations must be to count as normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// The least share of operations that succeed.
    pub success_min: f64,
    /// The most that 99 % of operations may take, from their intended time.
    pub p99_max: Duration,
    /// The steady phase's own success ratio.
    pub success: f64,
    /// The steady phase's own p99.
    pub p99: Duration,
    /// The operations it was taken from.
    pub operations: usize,
}

impl Band {
    /// The band of `class` for the clients of `group`: what the scenario demands of its steady state, and where it
    /// demands nothing, what the steady phase showed with a margin. None without operations in the steady phase.
    #[must_use]
    pub fn of(history: &History, system: &str, class: Class, group: &str, samples: &[Sample]) -> Option<Self> {
        let (from, to) = history.phases.window(Phase::Steady, history.ended)?;
        let mut waits: Vec<Duration> = Vec::new();
        let mut operations = 0usize;
        for sample in samples.iter().filter(|s| s.intended >= from && s.intended < to) {
            operations += 1;
            if sample.ok {
                waits.push(sample.waited());
            }
        }
        if operations == 0 || waits.is_empty() {
            return None;
        }
        waits.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
        let success = waits.len() as f64 / operations as f64;
        let p99 = waits[(waits.len() * 99).div_ceil(100) - 1];
        let stated = stated(history, system, class, group);
        Some(Self {
            success_min: stated.0.unwrap_or_else(|| success.min(SUCCESS_MIN)),
            p99_max: stated.1.unwrap_or_else(|| {
                Duration::from_secs_f64((millis(p99) * P99_FACTOR).max(millis(p99) + P99_MARGIN_MS) / 1e3)
            }),
            success,
            p99,
            operations,
        })
    }

    /// Whether this one operation is outside: failed, or slower than the band's p99.
    #[must_use]
    pub fn bad(&self, sample: &Sample) -> bool {
        !sample.ok || sample.waited() > self.p99_max
    }

    /// Whether it is outside only because the generator sent it late: that says nothing of the system.
    #[must_use]
    pub fn only_late(&self, sample: &Sample) -> bool {
        self.bad(sample) && sample.ok && sample.waited().saturating_sub(sample.lag) <= self.p99_max
    }

    /// When the client of a bad operation noticed: its first error, or the moment it took longer than the band allows.
    #[must_use]
    pub fn noticed(&self, sample: &Sample) -> Nanos {
        let seen = sample.first_error.unwrap_or(sample.done).min(sample.done);
        seen.min(sample.intended.plus(self.p99_max))
    }

    /// The same band with another success ratio.
    #[must_use]
    pub const fn with_success(mut self, success_min: f64) -> Self {
        self.success_min = success_min;
        self
    }
}

/// The success ratio and the p99 that the scenario demands of the steady state.
fn stated(history: &History, system: &str, class: Class, group: &str) -> (Option<f64>, Option<Duration>) {
    let (mut success, mut p99) = (None, None);
    for text in &history.facts.steady_require {
        let Ok(expr) = text.parse::<Expr>() else { continue };
        let mine = expr.class == class.name()
            && (expr.group() == group || expr.group() == ALL_CLIENTS)
            && expr.system().is_none_or(|name| name == system);
        if !mine {
            continue;
        }
        match (expr.figure.name, expr.op) {
            ("success", Op::Greater | Op::GreaterOrEqual) => success = Some(expr.value),
            ("p99", Op::Less | Op::LessOrEqual) => p99 = Some(Duration::from_secs_f64(expr.value / 1e3)),
            _ => {}
        }
    }
    (success, p99)
}
