//! Whether a workload is in the state that a scenario calls steady.

use std::time::Duration;

use crate::{
    base::expr::Expr,
    history::Class,
    recovery::back_at,
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

/// What keeps the systems from being as they were `before` the first fault, in words; empty when nothing does. Besides the
/// conditions: that every replica has caught up, and that the sessions of each system are back, however well the load of
/// those who are connected goes.
#[must_use]
pub(super) fn unsettled(before: &[Going], now: &[Going], conditions: &[Expr], redundant: bool) -> Vec<String> {
    let mut unsettled = unmet(now, conditions);
    if !redundant {
        unsettled.push("a replica has not caught up".to_owned());
    }
    let connected = |going: &Progress| usize::try_from(going.sessions_connected).unwrap_or(usize::MAX);
    for ((name, before), (_, now)) in before.iter().zip(now) {
        let (before, now) = (connected(before), connected(now));
        if now < back_at(before) {
            unsettled.push(format!("{now} of the {before} sessions of {name} are connected"));
        }
    }
    unsettled
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
    fn sessions_that_are_away_keep_a_system_from_settling_whoever_else_has_more() {
        let going = |w: u64, t: u64| {
            let connected = |sessions_connected| Progress {
                sessions_connected,
                ..progress(Some(1.0), Some(3.0))
            };
            [("w".to_owned(), connected(w)), ("t".to_owned(), connected(t))]
        };
        let before = going(164, 100);
        let said = |now: &[Going]| unsettled(&before, now, &conditions(&["send.success >= 99%"]), true);
        assert!(said(&before).is_empty());
        assert!(said(&going(163, 99)).is_empty());
        assert_eq!(said(&going(162, 200)), ["162 of the 164 sessions of w are connected"]);
        assert_eq!(said(&going(0, 0)).len(), 2);
    }

    #[test]
    fn a_replica_that_lags_and_a_load_that_fails_keep_it_from_settling() {
        let wanted = conditions(&["send.success >= 99%"]);
        let well = alone(progress(Some(1.0), Some(3.0)));
        assert!(unsettled(&well, &well, &wanted, true).is_empty());
        assert_eq!(unsettled(&well, &well, &wanted, false), ["a replica has not caught up"]);
        let ill = alone(progress(Some(0.5), Some(3.0)));
        assert_eq!(unsettled(&well, &ill, &wanted, true).len(), 1);
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
