//! The judgement: what a run came to. `run` and `check` both end here, so they agree by construction.

use std::{collections::BTreeMap, path::Path};

use crate::{
    base::Exit,
    check::{self, Finding, Verdict},
    history::{Event, FILE_NAME, HarnessKind, Header, History, HistoryError, Logical, Outcome},
    recovery::{self, Row, SystemRecovery},
};

use super::{
    budget::{BudgetResult, BudgetVerdict, budgets},
    doubt::doubts,
    repeated::{Repeated, repeated},
};

/// A run's history, and everything drawn from it.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What it was drawn from.
    pub history: History,
    /// One finding for each promise.
    pub findings: Vec<Finding>,
    /// Recovery figures by system.
    pub recovery: BTreeMap<String, SystemRecovery>,
    /// The distributions over faults that were done several times.
    pub repeated: Vec<Repeated>,
    /// The budgets.
    pub budgets: Vec<BudgetResult>,
    /// What was offered and what became of it.
    pub load: Load,
    /// Why the run did not pass, in words; empty when it did.
    pub reasons: Vec<String>,
    /// Every exit code that applies, the returned one first.
    pub exits: Vec<Exit>,
}

/// What was offered and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Operations that the schedule meant.
    pub offered: u64,
    /// Acknowledged.
    pub ok: u64,
    /// Surely failed.
    pub failed: u64,
    /// May have happened.
    pub unknown: u64,
    /// Never sent, since the generator had no room.
    pub shed: u64,
    /// The generator's own lag at p99, ms.
    pub lag_p99_ms: f64,
}

impl Judgement {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::worst(self.exits.iter().copied())
    }

    /// `pass`, `fail` or `unknown`: fail beats unknown beats pass.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |exit| self.exits.contains(&exit);
        if has(Exit::Promise) || has(Exit::Budget) {
            Verdict::Fail
        } else if self.exit() == Exit::Pass {
            Verdict::Pass
        } else {
            Verdict::Unknown
        }
    }

    /// All rows of the recovery table.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.recovery.values().flat_map(|r| &r.rows)
    }

    /// The command that does the same run again.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let facts = &self.history.facts;
        let path = self.history.header.plan["path"].as_str().filter(|p| !p.is_empty());
        let scenario = path.unwrap_or(&facts.scenario);
        let scenario = if scenario.contains(|c: char| c.is_whitespace() || "'\"$`\\&;|<>()*?".contains(c)) {
            format!("'{}'", scenario.replace('\'', r"'\''"))
        } else {
            scenario.to_owned()
        };
        format!(
            "firedrill run {scenario} --seed {} --backend {}",
            facts.seed, facts.backend
        )
    }
}

/// Judges the history in a run's folder.
///
/// # Errors
/// When the history can't be read.
pub fn judge(dir: &Path) -> Result<Judgement, HistoryError> {
    let recorded = crate::history::read(&dir.join(FILE_NAME))?;
    Ok(judge_events(recorded.header, recorded.events, recorded.torn.as_deref()))
}

/// Judges a history in memory. `torn` says where its file was cut off, if it was.
#[must_use]
pub fn judge_events(header: Header, events: Vec<Event>, torn: Option<&str>) -> Judgement {
    let history = History::new(header, events);
    let wanted = history.facts.promises.clone();
    let promises: Vec<_> = check::ALL
        .iter()
        .copied()
        .filter(|p| {
            wanted
                .as_ref()
                .is_none_or(|names| names.iter().any(|n| n == p.name()) || always(p.name()))
        })
        .collect();
    let findings = check::judge(&history, &promises);
    let recovery: BTreeMap<String, SystemRecovery> = history
        .systems
        .values()
        .map(|system| (system.name.clone(), recovery::recover(&history, system)))
        .collect();
    let budgets = budgets(&history, &recovery);
    let load = load(&history);
    let repeated = repeated(&history, recovery.values().flat_map(|it| &it.rows));
    let mut judgement = Judgement {
        history,
        findings,
        recovery,
        repeated,
        budgets,
        load,
        reasons: Vec::new(),
        exits: Vec::new(),
    };
    conclude(&mut judgement, torn);
    judgement
}

/// Whether the run was what it claims to be is judged whatever a scenario asks for.
fn always(promise: &str) -> bool {
    matches!(promise, "assumptions" | "coverage" | "node-exit")
}

/// Everything that stands against a pass, the worst first.
fn conclude(judgement: &mut Judgement, torn: Option<&str>) {
    let mut against: Vec<(Exit, String)> = Vec::new();
    for fault in judgement.history.faults.iter().filter(|f| f.bursts == 0) {
        if let Some(reason) = &fault.heal_failed {
            against.push((
                Exit::HealFailed,
                format!("fault {} could not be undone: {reason}", fault.id),
            ));
        }
    }
    for event in &judgement.history.harness {
        match event.kind {
            HarnessKind::Interrupted => against.push((Exit::Interrupted, format!("interrupted: {}", event.text))),
            HarnessKind::Dirty => against.push((Exit::HealFailed, event.text.clone())),
            HarnessKind::Failure => against.push((Exit::Internal, format!("the harness failed: {}", event.text))),
            _ => {}
        }
    }
    for finding in &judgement.findings {
        let name = finding.name;
        match finding.verdict {
            Verdict::Fail => {
                let witness = finding.witness.as_deref().unwrap_or_default();
                against.push((Exit::Promise, format!("promise {name} is broken: {witness}")));
            }
            Verdict::Unknown => {
                let reason = finding.reason.as_deref().unwrap_or_default();
                against.push((Exit::Inconclusive, format!("promise {name} can't be told: {reason}")));
            }
            Verdict::NotJudged
                if judgement
                    .history
                    .facts
                    .promises
                    .as_ref()
                    .is_some_and(|p| p.iter().any(|n| n == name)) =>
            {
                let reason = finding.reason.as_deref().unwrap_or_default();
                against.push((
                    Exit::Inconclusive,
                    format!("promise {name} was asked for and not exercised: {reason}"),
                ));
            }
            Verdict::NotJudged | Verdict::Pass => {}
        }
    }
    for budget in &judgement.budgets {
        match budget.verdict {
            BudgetVerdict::Fail => against.push((
                Exit::Budget,
                format!("budget {} is exceeded: {}", budget.expr, budget.actual_in_words()),
            )),
            BudgetVerdict::Unknown => against.push((
                Exit::Inconclusive,
                format!("budget {} can't be told: {}", budget.expr, budget.why),
            )),
            BudgetVerdict::Pass => {}
        }
    }
    let doubts = doubts(&judgement.history, &judgement.recovery, &judgement.load, torn);
    against.extend(doubts.into_iter().map(|reason| (Exit::Inconclusive, reason)));
    let place = |exit: &Exit| Exit::PRECEDENCE.iter().position(|e| e == exit);
    against.sort_by_key(|(exit, _)| place(exit));
    judgement.exits = against.iter().map(|(exit, _)| *exit).collect();
    judgement.exits.dedup();
    if judgement.exits.is_empty() {
        judgement.exits.push(Exit::Pass);
    }
    judgement.reasons = against.into_iter().map(|(_, reason)| reason).collect();
}

/// The operations of the planned loads, and of whatever is not preparation where the plan names none.
pub(super) fn loaded(history: &History) -> impl Iterator<Item = &Logical> {
    use crate::history::Class;
    history
        .systems
        .values()
        .flat_map(|s| &s.operations)
        // Session 0 signs the load's own people up, before it begins and after it.
        .filter(|o| o.class != Class::SignUp || o.session != 0)
        .filter(|o| !matches!(o.class, Class::LogIn | Class::Sync | Class::Read))
}

fn load(history: &History) -> Load {
    let mut load = Load::default();
    let mut lags: Vec<std::time::Duration> = Vec::new();
    for operation in loaded(history) {
        load.offered += 1;
        match operation.outcome {
            Outcome::Ok => load.ok += 1,
            Outcome::Failed => load.failed += 1,
            Outcome::Unknown => load.unknown += 1,
            Outcome::Shed => load.shed += 1,
        }
        if operation.outcome != Outcome::Shed {
            lags.push(operation.sent.since(operation.intended));
        }
    }
    lags.sort_unstable();
    if !lags.is_empty() {
        let p99 = lags[(lags.len() * 99).div_ceil(100) - 1];
        load.lag_p99_ms = (crate::base::millis(p99) * 1000.0).round() / 1000.0;
    }
    load
}
