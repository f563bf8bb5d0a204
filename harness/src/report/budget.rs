//! Budgets: what the scenario allows, beside what was measured.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    base::{
        expr::{EVERY_FAULT, Expr, Op, Scope, Unit},
        millis,
    },
    history::{Class, History, SystemView},
    recovery::{ALL_CLIENTS, Figure, RUN, Row, Sample, SystemRecovery, samples},
};

/// What a budget came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetVerdict {
    /// Kept.
    Pass,
    /// Exceeded.
    Fail,
    /// Too little was measured to tell.
    Unknown,
}

/// One budget, beside what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetResult {
    /// As written.
    pub expr: String,
    /// In the unit of the figure: a share, milliseconds, or a count. Null when the figure does not apply.
    pub actual: Figure,
    /// What it came to.
    pub verdict: BudgetVerdict,
    /// In words, where it is no plain comparison.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    #[serde(skip)]
    unit: Option<Unit>,
}

impl BudgetResult {
    /// What was measured, as a person reads it.
    #[must_use]
    pub fn actual_in_words(&self) -> String {
        match (self.unit, self.actual.value()) {
            (Some(Unit::Ratio), Some(share)) => format!("{:.3} %", share * 100.0),
            (Some(Unit::Count), Some(count)) => format!("{count}"),
            _ => self.actual.human(),
        }
    }
}

/// Holds every budget of the plan against the figures.
pub(super) fn budgets(history: &History, recovery: &BTreeMap<String, SystemRecovery>) -> Vec<BudgetResult> {
    let facts = &history.facts;
    facts
        .recovery_budgets
        .iter()
        .chain(&facts.slo_budgets)
        .map(|text| match text.parse::<Expr>() {
            Ok(expr) => one(history, recovery, &expr),
            Err(error) => BudgetResult {
                expr: text.clone(),
                actual: Figure::Unresolved,
                verdict: BudgetVerdict::Unknown,
                why: error.to_string(),
                unit: None,
            },
        })
        .collect()
}

fn one(history: &History, recovery: &BTreeMap<String, SystemRecovery>, expr: &Expr) -> BudgetResult {
    let systems = recovery
        .iter()
        .filter(|(name, _)| expr.system().is_none_or(|wanted| wanted == *name));
    let taken = |row: &Row| taken(history, row, expr.figure.name);
    let figures: Vec<Figure> = match expr.figure.scope {
        Scope::Recovery => systems
            .flat_map(|(_, found)| &found.rows)
            .filter(|row| row.class == expr.class && row.group == expr.group())
            .filter(|row| match expr.fault() {
                EVERY_FAULT => row.fault != RUN,
                fault => row.fault == fault,
            })
            .filter_map(taken)
            .collect(),
        Scope::Service => systems.map(|(name, _)| service(history, name, expr)).collect(),
    };
    // The worst of the systems speaks for all.
    let worst = figures
        .into_iter()
        .max_by(|a, b| rank(expr, a).total_cmp(&rank(expr, b)));
    let (verdict, why) = match &worst {
        None => (BudgetVerdict::Unknown, "nothing of the kind was measured".to_owned()),
        Some(Figure::Unresolved) => (BudgetVerdict::Unknown, "too little was seen to tell".to_owned()),
        Some(Figure::Never) => (BudgetVerdict::Fail, "not within the run".to_owned()),
        Some(Figure::None) => (
            BudgetVerdict::Pass,
            "does not apply: there was nothing to recover".to_owned(),
        ),
        Some(Figure::Value { value, bound }) => within(expr, *value, *bound),
    };
    BudgetResult {
        expr: expr.text.clone(),
        actual: worst.unwrap_or(Figure::Unresolved),
        verdict,
        why,
        unit: Some(expr.figure.unit),
    }
}

/// A row's figure, as a budget takes it: that nobody could have seen it is no proof that it was quick.
fn taken(history: &History, row: &Row, figure: &str) -> Option<Figure> {
    match row.figure(figure).copied() {
        Some(Figure::None) if !does_not_apply(history, row, figure) => Some(Figure::Unresolved),
        figure => figure,
    }
}

/// Whether a figure that was not taken is one that there is nothing of, rather than one that nobody saw.
fn does_not_apply(history: &History, row: &Row, figure: &str) -> bool {
    let system = history.systems.get(&row.system);
    let no_impact = row.impact_ms == Figure::None;
    match figure {
        // A client's own experience, and what a budget says that the system does about it: there is one wherever there
        // was an impact.
        "first_ok" | "steady" | "downtime" | "worst_gap" | "detect" | "failover" => no_impact,
        // Nothing was harmed, so nothing came back. What was harmed and never healed has no clock to be held against.
        "first_ok_after_heal" | "steady_after_heal" => no_impact,
        // Only what is shown to devices is ever owed; it is counted from every heal on.
        "drained" => row.class == Class::Deliver.name() && no_impact && !row.heals,
        // That no session was lost is seen where there are sessions.
        "sessions_back" => system.is_some_and(|it| !it.sessions.is_empty()) && (row.heals || no_impact),
        // Every replica that ever said something has caught up at some time, or never.
        "redundant" => {
            let groups = |it: &SystemView| {
                let mut told = it.observed.iter().filter_map(|observed| observed.status.as_ref());
                told.any(|status| !status.groups.is_empty())
            };
            system.is_some_and(groups) && no_impact && !row.heals
        }
        _ => true,
    }
}

/// A value says no more than its bound lets it: kept when all of what the truth may be is, exceeded when none of it is.
fn within(expr: &Expr, value: f64, bound: f64) -> (BudgetVerdict, String) {
    match (expr.holds((value - bound).max(0.0)), expr.holds(value + bound)) {
        (true, true) => (BudgetVerdict::Pass, String::new()),
        (false, false) => (BudgetVerdict::Fail, String::new()),
        _ => (
            BudgetVerdict::Unknown,
            format!("{value} is within its error bound of {bound} of the limit"),
        ),
    }
}

/// How bad a figure is for this budget.
fn rank(expr: &Expr, figure: &Figure) -> f64 {
    let upwards = matches!(expr.op, Op::Less | Op::LessOrEqual);
    match figure {
        Figure::None => f64::NEG_INFINITY,
        Figure::Value { value, .. } if upwards => *value,
        Figure::Value { value, .. } => -value,
        Figure::Unresolved => f64::MAX,
        Figure::Never => f64::INFINITY,
    }
}

/// A service level over the whole time under load.
fn service(history: &History, system: &str, expr: &Expr) -> Figure {
    let class = CLASSES.iter().copied().find(|c| c.name() == expr.class);
    let Some((class, system)) = class.zip(history.systems.get(system)) else {
        return Figure::Unresolved;
    };
    let group = expr.group();
    let samples = samples(
        history,
        system,
        class,
        if group.is_empty() { ALL_CLIENTS } else { &group },
    );
    if samples.is_empty() {
        return Figure::Unresolved;
    }
    match expr.figure.name {
        "success" => {
            let ok = samples.iter().filter(|s| s.ok).count();
            #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
            let share = ok as f64 / samples.len() as f64;
            Figure::count((share * 1e6).floor() / 1e6)
        }
        "p50" => percentile(&samples, 500),
        "p90" => percentile(&samples, 900),
        "p99" => percentile(&samples, 990),
        "p999" => percentile(&samples, 999),
        _ => Figure::Unresolved,
    }
}

const CLASSES: &[Class] = &[
    Class::SignUp,
    Class::LogIn,
    Class::Send,
    Class::Deliver,
    Class::Sync,
    Class::Read,
    Class::Group,
    Class::Contacts,
    Class::Open,
    Class::Receipt,
    Class::Presence,
    Class::Put,
    Class::Request,
];

/// The response time that so many of a thousand operations stay under; a failed one took forever.
fn percentile(samples: &[Sample], per_mille: usize) -> Figure {
    let mut waits: Vec<Duration> = samples.iter().filter(|s| s.ok).map(Sample::waited).collect();
    waits.sort_unstable();
    let rank = (samples.len() * per_mille).div_ceil(1000).max(1) - 1;
    waits
        .get(rank)
        .map_or(Figure::Never, |wait| Figure::millis(millis(*wait), 0.0))
}
