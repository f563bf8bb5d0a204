//! The recovery figures of many runs, as their run.json tells them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::{base::Exit, recovery::Figure};

/// The figures that statistics are made of, and their units, in the order of the recovery table. Of each, less is better.
pub const FIGURES: &[(&str, Unit)] = &[
    ("impact_ms", Unit::Millis),
    ("detect_ms", Unit::Millis),
    ("failover_ms", Unit::Millis),
    ("first_ok_ms", Unit::Millis),
    ("steady_ms", Unit::Millis),
    ("first_ok_after_heal_ms", Unit::Millis),
    ("steady_after_heal_ms", Unit::Millis),
    ("drained_after_heal_ms", Unit::Millis),
    ("sessions_back_after_heal_ms", Unit::Millis),
    ("redundant_after_heal_ms", Unit::Millis),
    ("worst_gap_ms", Unit::Millis),
    ("downtime_ms", Unit::Millis),
    ("relapses", Unit::Count),
    ("lost_user_seconds", Unit::UserSeconds),
];

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Times.
    Count,
    /// Seconds of users.
    UserSeconds,
}

impl Unit {
    /// A number of this unit as a person reads it; infinity is what never came.
    #[must_use]
    pub fn human(self, value: f64) -> String {
        if value.is_infinite() {
            return if value > 0.0 { "never" } else { "-never" }.to_owned();
        }
        match self {
            Self::Millis => {
                let sign = if value < 0.0 { "-" } else { "" };
                let value = rounded(value.abs());
                format!("{sign}{}", Figure::Value { value, bound: 0.0 }.human())
            }
            Self::Count => rounded(value).to_string(),
            Self::UserSeconds => format!("{value:.1} user-s"),
        }
    }
}

/// Three decimals: what is left of binary fractions and of means of two is not meant.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Which figure of which row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The scenario.
    pub scenario: String,
    /// The system.
    pub system: String,
    /// The fault's id, or `run`.
    pub fault: String,
    /// The class of operations.
    pub class: String,
    /// `all`, or a label such as `zone:europe`.
    pub group: String,
    /// The figure's place in [`FIGURES`].
    #[serde(skip)]
    pub place: usize,
}

impl Key {
    /// The figure's name.
    #[must_use]
    pub fn figure(&self) -> &'static str {
        FIGURES[self.place].0
    }

    /// Its unit.
    #[must_use]
    pub fn unit(&self) -> Unit {
        FIGURES[self.place].1
    }

    /// Whether it is one of those that tables show: of the run as a whole, of all clients, of a class that is the load.
    #[must_use]
    pub fn is_headline(&self) -> bool {
        self.fault == crate::recovery::RUN
            && self.group == crate::recovery::ALL_CLIENTS
            && matches!(self.class.as_str(), "send" | "deliver" | "open" | "put" | "request")
    }

    /// The figure as a table names it, without its unit.
    #[must_use]
    pub fn label(&self) -> String {
        let figure = self.figure().trim_end_matches("_ms").replace('_', " ");
        format!("{} {figure}", self.class)
    }
}

/// What one run says of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// A number and its error bound.
    Value(f64, f64),
    /// Not within the run.
    Never,
    /// Too few operations to tell.
    Unresolved,
    /// It does not apply.
    Absent,
}

/// All figures of a set of runs.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// What each run says, by figure.
    pub figures: BTreeMap<Key, Vec<Reading>>,
    /// How many runs are in it, by scenario.
    pub runs: BTreeMap<String, usize>,
    /// Runs whose harness failed, which were interrupted or could not be healed: they tell nothing of the system.
    pub left_out: usize,
    /// Runs among those counted that prove nothing by themselves (exit code 5), but do have figures.
    pub inconclusive: usize,
    /// What the runs were made with: the values of each version.
    pub versions: BTreeMap<String, BTreeSet<String>>,
}

impl Readings {
    /// Takes one run.
    pub fn take(&mut self, run: &Value) {
        let code = run["exit_code"].as_u64().and_then(|code| u8::try_from(code).ok());
        let exit = code.and_then(Exit::from_code);
        let (Some(scenario), Some(rows)) = (run["scenario"].as_str(), run["recovery"].as_array()) else {
            self.left_out += 1;
            return;
        };
        if !matches!(
            exit,
            Some(Exit::Pass | Exit::Inconclusive | Exit::Budget | Exit::Promise)
        ) {
            self.left_out += 1;
            return;
        }
        self.inconclusive += usize::from(exit == Some(Exit::Inconclusive));
        *self.runs.entry(scenario.to_owned()).or_default() += 1;
        let made_with = run["versions"].as_object().into_iter().flatten();
        let made_with = made_with.map(|(name, value)| (name.as_str(), value));
        for (name, value) in made_with.chain([("backend", &run["backend"])]) {
            if let Some(value) = value.as_str() {
                self.versions
                    .entry(name.to_owned())
                    .or_default()
                    .insert(value.to_owned());
            }
        }
        for row in rows {
            let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            for (place, (figure, _)) in FIGURES.iter().enumerate() {
                let key = Key {
                    scenario: scenario.to_owned(),
                    system: word("system"),
                    fault: word("fault"),
                    class: word("class"),
                    group: word("group"),
                    place,
                };
                self.figures.entry(key).or_default().push(reading(row, figure));
            }
        }
    }

    /// The readings of `key` as numbers going up, what never came as infinity.
    #[must_use]
    pub fn numbers(&self, key: &Key) -> Vec<f64> {
        let readings = self.figures.get(key).into_iter().flatten();
        let mut numbers: Vec<f64> = readings
            .filter_map(|reading| match reading {
                Reading::Value(value, _) => Some(*value),
                Reading::Never => Some(f64::INFINITY),
                Reading::Unresolved | Reading::Absent => None,
            })
            .collect();
        numbers.sort_by(f64::total_cmp);
        numbers
    }

    /// The error bound of a typical reading of `key`: the median of theirs; 0 when there is none.
    #[must_use]
    pub fn bound(&self, key: &Key) -> f64 {
        let readings = self.figures.get(key).into_iter().flatten();
        let mut bounds: Vec<f64> = readings
            .filter_map(|reading| match reading {
                Reading::Value(_, bound) => Some(*bound),
                _ => None,
            })
            .collect();
        bounds.sort_by(f64::total_cmp);
        crate::base::order::median(&bounds).unwrap_or(0.0)
    }

    /// How many runs say this of `key`.
    #[must_use]
    pub fn count(&self, key: &Key, what: Reading) -> usize {
        let readings = self.figures.get(key).into_iter().flatten();
        readings.filter(|reading| **reading == what).count()
    }
}

fn reading(row: &Value, figure: &str) -> Reading {
    match &row[figure] {
        Value::String(word) if word == "never" => Reading::Never,
        Value::String(_) => Reading::Unresolved,
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.is_finite() => {
                let bound = row["bounds_ms"][figure]
                    .as_f64()
                    .or_else(|| row["bounds"][figure].as_f64());
                Reading::Value(value, bound.unwrap_or(0.0))
            }
            _ => Reading::Unresolved,
        },
        _ => Reading::Absent,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A run whose only row has this downtime.
    pub(crate) fn run(downtime: &Value, exit_code: u8) -> Value {
        json!({
            "scenario": "drill", "seed": 1, "backend": "process", "exit_code": exit_code,
            "versions": {"firedrill": "0.1.0", "build": "release"},
            "recovery": [{
                "fault": "run", "system": "main", "class": "send", "group": "all",
                "downtime_ms": downtime, "relapses": 0.0, "bounds_ms": {"downtime_ms": 20.0},
            }],
        })
    }

    pub(crate) fn readings(downtimes: &[Value]) -> Readings {
        let mut readings = Readings::default();
        for downtime in downtimes {
            readings.take(&run(downtime, 0));
        }
        readings
    }

    pub(crate) fn downtime() -> Key {
        Key {
            scenario: "drill".to_owned(),
            system: "main".to_owned(),
            fault: "run".to_owned(),
            class: "send".to_owned(),
            group: "all".to_owned(),
            place: FIGURES.iter().position(|(name, _)| *name == "downtime_ms").unwrap(),
        }
    }

    #[test]
    fn nothing_that_a_run_says_is_dropped() {
        let said = [
            json!(300.0),
            json!("never"),
            json!("unresolved"),
            json!(null),
            json!(100.0),
        ];
        let readings = readings(&said);
        let key = downtime();
        assert_eq!(readings.numbers(&key), [100.0, 300.0, f64::INFINITY]);
        assert_eq!(readings.count(&key, Reading::Never), 1);
        assert_eq!(readings.count(&key, Reading::Unresolved), 1);
        assert_eq!(readings.count(&key, Reading::Absent), 1);
        assert_eq!((readings.runs["drill"], readings.left_out), (5, 0));
        assert!((readings.bound(&key) - 20.0).abs() < 1e-9);
        assert!(key.is_headline());
        assert_eq!(key.label(), "send downtime");
    }

    #[test]
    fn a_run_that_tells_nothing_is_left_out_and_counted() {
        let mut readings = Readings::default();
        for exit in [0, 5, 6, 7, 1, 8, 130] {
            readings.take(&run(&json!(1.0), exit));
        }
        readings.take(&json!({"scenario": "drill"}));
        assert_eq!(
            (readings.runs["drill"], readings.left_out, readings.inconclusive),
            (4, 4, 1)
        );
        assert_eq!(readings.numbers(&downtime()).len(), 4);
    }

    #[test]
    fn figures_are_those_of_a_row() {
        let history = crate::history::synth::Script::default();
        let judgement = crate::report::judge_events(history.header(), history.events(), None);
        let document = serde_json::to_value(crate::report::document(&judgement)).unwrap();
        let row = document["recovery"][0].as_object().unwrap();
        for (figure, unit) in FIGURES {
            assert!(row.contains_key(*figure), "{figure}");
            assert_eq!(figure.ends_with("_ms"), *unit == Unit::Millis, "{figure}");
        }
        let missing = row.keys().filter(|key| key.ends_with("_ms") && row[*key].is_number());
        let known: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).chain(["bound_ms"]).collect();
        for key in missing {
            assert!(
                known.contains(&key.as_str()),
                "{key} is a figure that statistics pass over"
            );
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(Unit::Millis.human(812.0), "812 ms");
        assert_eq!(Unit::Millis.human(-1500.0), "-1.50 s");
        assert_eq!(Unit::Millis.human(f64::INFINITY), "never");
        assert_eq!(Unit::Count.human(2.5), "2.5");
        assert_eq!(Unit::UserSeconds.human(3.04), "3.0 user-s");
    }
}
