//! Whether a workload is in the state that a scenario calls steady.

use std::time::Duration;

use crate::{
    base::expr::Expr,
    history::Class,
    workload::{ClassProgress, Progress},
};

/// The stretch that a workload's progress tells of.
pub(super) const WINDOW: Duration = crate::workload::RECENT;

/// How one system's load goes, by the system's name.
pub(super) type Going = (String, Progress);

/// What keeps the progress of the systems from satisfying the conditions, in words; empty when they all hold.
///
/// A condition that names no system holds for each that has traffic of its class. A class without traffic in the last
/// second satisfies nothing: silence is not success.
#[must_use]
pub(super) fn unmet(systems: &[Going], conditions: &[Expr]) -> Vec<String> {
    conditions
        .iter()
        .flat_map(|condition| unmet_one(systems, condition))
        .collect()
}

fn unmet_one(systems: &[Going], condition: &Expr) -> Vec<String> {
    let asked = |name: &str| condition.system().is_none_or(|wanted| wanted == name);
    let classes: Vec<_> = class_named(&condition.class)
        .into_iter()
        .flat_map(|class| {
            systems
                .iter()
                .filter(|(name, _)| asked(name))
                .filter_map(move |(name, progress)| Some((name, progress.classes.get(&class)?)))
        })
        .collect();
    let silent = || format!("nothing to judge `{}` by in the last second", condition.text);
    if classes.is_empty() {
        return vec![silent()];
    }
    let complaints = classes.into_iter().filter_map(|(name, class)| {
        let of = if systems.len() > 1 {
            format!(" of {name}")
        } else {
            String::new()
        };
        match actual(class, condition.figure.name) {
            Some(actual) if condition.holds(actual) => None,
            Some(actual) => Some(format!(
                "{}{of} is {actual:.4}, required is `{}`",
                condition.figure.name, condition.text
            )),
            None => Some(silent() + &of),
        }
    });
    complaints.collect()
}

/// What is said of sessions that were connected before and are not now; none when 99 % of as many are, which is also what
/// the figure `sessions_back` counts.
#[must_use]
pub(super) fn away(before: u64, now: u64) -> Option<String> {
    let wanted = before.saturating_mul(99).div_ceil(100);
    (now < wanted).then(|| format!("{now} sessions are connected, {before} were before"))
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

    fn alone(progress: Progress) -> Vec<Going> {
        vec![("main".to_owned(), progress)]
    }

    #[test]
    fn a_sick_system_is_not_hidden_by_a_busier_one() {
        let both = |condition: &str| {
            let going = [
                ("w".to_owned(), progress(Some(0.5), Some(900.0))),
                ("t".to_owned(), progress(Some(1.0), Some(3.0))),
            ];
            unmet(&going, &conditions(&[condition]))
        };
        let said = both("send.success >= 99%");
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("of w"), "{said:?}");
        assert!(both("send[system:t].success >= 99%").is_empty());
        assert_eq!(both("send[system:w].success >= 99%").len(), 1);
    }

    fn conditions(texts: &[&str]) -> Vec<Expr> {
        texts.iter().map(|text| text.parse().expect("a condition")).collect()
    }

    #[test]
    fn all_conditions_must_hold() {
        let wanted = conditions(&["send.success >= 99.9%", "send.p99 < 50ms"]);
        assert!(unmet(&alone(progress(Some(1.0), Some(12.0))), &wanted).is_empty());
        assert_eq!(unmet(&alone(progress(Some(0.99), Some(12.0))), &wanted).len(), 1);
        assert_eq!(unmet(&alone(progress(Some(0.99), Some(50.0))), &wanted).len(), 2);
    }

    #[test]
    fn sessions_that_are_away_are_missed_down_to_one_in_a_hundred() {
        assert_eq!(away(0, 0), None);
        assert_eq!(away(164, 163), None);
        assert!(away(164, 162).is_some_and(|said| said.contains("162") && said.contains("164")));
        assert!(away(1, 0).is_some());
        assert_eq!(away(10, 200), None);
    }

    #[test]
    fn silence_is_not_success() {
        let wanted = conditions(&["send.success >= 99.9%"]);
        assert_eq!(unmet(&alone(progress(None, None)), &wanted).len(), 1);
        assert_eq!(unmet(&alone(Progress::default()), &wanted).len(), 1);
    }

    #[test]
    fn a_class_that_the_history_knows_is_found_by_its_word() {
        for class in crate::base::expr::CLASSES {
            assert!(class_named(class).is_some(), "`{class}` is no class of the history");
        }
    }
}
