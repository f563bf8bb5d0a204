//! Whether a workload is in the state that a scenario calls steady.

use std::time::Duration;

use crate::{
    base::expr::Expr,
    history::Class,
    workload::{ClassProgress, Progress},
};

/// The stretch that a workload's progress tells of.
pub(super) const WINDOW: Duration = crate::workload::RECENT;

/// What keeps the progress from satisfying the conditions, in words; empty when they all hold.
///
/// A class without traffic in the last second satisfies nothing: silence is not success.
#[must_use]
pub(super) fn unmet(progress: &Progress, conditions: &[Expr]) -> Vec<String> {
    conditions
        .iter()
        .filter_map(|condition| unmet_one(progress, condition))
        .collect()
}

fn unmet_one(progress: &Progress, condition: &Expr) -> Option<String> {
    let class = class_named(&condition.class).and_then(|class| progress.classes.get(&class));
    match class.and_then(|class| actual(class, condition.figure.name)) {
        Some(actual) if condition.holds(actual) => None,
        Some(actual) => Some(format!(
            "{} is {actual:.4}, required is `{}`",
            condition.figure.name, condition.text
        )),
        None => Some(format!("nothing to judge `{}` by in the last second", condition.text)),
    }
}

/// The figure in its unit: a share, or milliseconds.
fn actual(class: &ClassProgress, figure: &str) -> Option<f64> {
    match figure {
        "success" => class.success,
        "p50" => class.p50_ms,
        "p99" => class.p99_ms,
        _ => None,
    }
}

fn class_named(name: &str) -> Option<Class> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn progress(success: Option<f64>, p99_ms: Option<f64>) -> Progress {
        let send = ClassProgress {
            success,
            p99_ms,
            recent: 300,
            ..ClassProgress::default()
        };
        Progress {
            classes: BTreeMap::from([(Class::Send, send)]),
            ..Progress::default()
        }
    }

    fn conditions(texts: &[&str]) -> Vec<Expr> {
        texts.iter().map(|text| text.parse().expect("a condition")).collect()
    }

    #[test]
    fn all_conditions_must_hold() {
        let wanted = conditions(&["send.success >= 99.9%", "send.p99 < 50ms"]);
        assert!(unmet(&progress(Some(1.0), Some(12.0)), &wanted).is_empty());
        assert_eq!(unmet(&progress(Some(0.99), Some(12.0)), &wanted).len(), 1);
        assert_eq!(unmet(&progress(Some(0.99), Some(50.0)), &wanted).len(), 2);
    }

    #[test]
    fn silence_is_not_success() {
        let wanted = conditions(&["send.success >= 99.9%"]);
        assert_eq!(unmet(&progress(None, None), &wanted).len(), 1);
        assert_eq!(unmet(&Progress::default(), &wanted).len(), 1);
    }

    #[test]
    fn a_class_that_the_history_knows_is_found_by_its_word() {
        for class in crate::base::expr::CLASSES {
            assert!(class_named(class).is_some(), "`{class}` is no class of the history");
        }
    }
}
