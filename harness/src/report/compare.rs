//! Two sets of runs beside each other: what differs, and what is noise.
//!
//! Each figure is compared by the ranks of its readings alone ([`crate::base::order::shift`]), so skewed and censored
//! times are compared as well as others. Many figures are compared at once, and of twenty that are the same one would
//! look different at 95 %: each interval is therefore taken at a level at which *all* of them hold together with 95 %
//! (Bonferroni). A difference within the error bound of the readings is noise whatever the ranks say.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    readings::{Key, Reading, Readings},
    spread::{aligned, json_number},
};
use crate::base::order::{median, runs_needed, shift};

/// With how much confidence all intervals hold together.
pub(super) const CONFIDENCE_ALL: f64 = 0.95;

/// What can be said of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// More than noise, and more of what is bad.
    Worse,
    /// More than noise, and less of it.
    Better,
    /// No difference beyond chance and error bounds.
    Noise,
    /// Too few runs tell.
    CantTell,
}

impl Change {
    /// As a table writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::Noise => "noise",
            Self::CantTell => "can't tell",
        }
    }
}

/// One figure, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Which.
    pub key: Key,
    /// How many readings there are, and their median, in A and B. What never came counts, as larger than all.
    pub a: (usize, Option<f64>),
    /// The same for B.
    pub b: (usize, Option<f64>),
    /// How far B lies above A.
    pub difference: Option<f64>,
    /// What holds the difference.
    pub interval: Option<(f64, f64)>,
    /// A difference up to this is within the readings' error bounds.
    pub bound: f64,
    /// What can be said.
    pub change: Change,
    /// Why nothing can be; empty otherwise.
    pub why: String,
    /// Readings that are in no comparison: too few operations, in A and B.
    pub unresolved: (usize, usize),
}

/// A whole comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The figures, in the order of the recovery table.
    pub figures: Vec<Compared>,
    /// How much confidence each interval has by itself.
    pub confidence_each: f64,
    /// What else a reader must know: runs left out, scenarios that only one side has, versions that differ.
    pub notes: Vec<String>,
}

/// Compares the headline figures of two sets of runs; only those in `wanted`, by their names without unit, if there are any.
#[must_use]
pub fn compare(a: &Readings, b: &Readings, wanted: &[String]) -> Comparison {
    let keys: Vec<&Key> = a
        .figures
        .keys()
        .chain(b.figures.keys().filter(|key| !a.figures.contains_key(*key)))
        .filter(|key| a.runs.contains_key(&key.scenario) && b.runs.contains_key(&key.scenario))
        .filter(|key| key.is_headline())
        .filter(|key| wanted.is_empty() || wanted.iter().any(|name| key.figure().trim_end_matches("_ms") == name))
        .filter(|key| told(a, key) + told(b, key) > 0)
        .collect();
    let compared = keys.iter().filter(|key| told(a, key) > 0 && told(b, key) > 0).count();
    #[expect(clippy::cast_precision_loss, reason = "a few figures")]
    let confidence_each = 1.0 - (1.0 - CONFIDENCE_ALL) / compared.max(1) as f64;
    let mut figures: Vec<Compared> = keys.into_iter().map(|key| one(a, b, key, confidence_each)).collect();
    figures.sort_by(|x, y| x.key.cmp(&y.key));
    Comparison {
        figures,
        confidence_each,
        notes: notes(a, b),
    }
}

/// How many readings of `key` there are, resolved or not.
fn told(readings: &Readings, key: &Key) -> usize {
    readings.numbers(key).len() + readings.count(key, Reading::Unresolved)
}

fn one(a: &Readings, b: &Readings, key: &Key, confidence: f64) -> Compared {
    let (in_a, in_b) = (a.numbers(key), b.numbers(key));
    let bound = a.bound(key).max(b.bound(key));
    let found = shift(&in_a, &in_b, confidence);
    let interval = found.and_then(|shift| shift.interval);
    let change = match (found, interval) {
        (Some(shift), Some(interval)) if interval.low > 0.0 && shift.estimate > bound => Change::Worse,
        (Some(shift), Some(interval)) if interval.high < 0.0 && -shift.estimate > bound => Change::Better,
        (Some(_), Some(_)) => Change::Noise,
        _ => Change::CantTell,
    };
    let why = if change == Change::CantTell {
        match runs_needed(confidence) {
            Some(needed) => format!("too few runs: {needed} readings on each side are enough"),
            None => "too few runs".to_owned(),
        }
    } else {
        String::new()
    };
    Compared {
        key: key.clone(),
        a: (in_a.len(), median(&in_a)),
        b: (in_b.len(), median(&in_b)),
        difference: found.map(|shift| shift.estimate),
        interval: interval.map(|interval| (interval.low, interval.high)),
        bound,
        change,
        why,
        unresolved: (a.count(key, Reading::Unresolved), b.count(key, Reading::Unresolved)),
    }
}

fn notes(a: &Readings, b: &Readings) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, here, there) in [("A", a, b), ("B", b, a)] {
        for scenario in here.runs.keys().filter(|scenario| !there.runs.contains_key(*scenario)) {
            notes.push(format!("only {name} has runs of {scenario}: not compared"));
        }
        if here.left_out > 0 {
            notes.push(format!(
                "{} runs of {name} did not end by themselves: left out",
                here.left_out
            ));
        }
        if here.inconclusive > 0 {
            notes.push(format!(
                "{} runs of {name} are inconclusive by themselves",
                here.inconclusive
            ));
        }
    }
    let names = a.versions.keys().chain(b.versions.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let of = |readings: &Readings| {
            let values = readings.versions.get(name).into_iter().flatten();
            values.cloned().collect::<Vec<_>>().join(", ")
        };
        let (here, there) = (of(a), of(b));
        if here != there {
            notes.push(format!("{name} differs: A {here}; B {there}"));
        }
    }
    notes
}

impl Comparison {
    /// Whether anything is worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.figures.iter().any(|figure| figure.change == Change::Worse)
    }

    /// The comparison as a table, and what must be said beside it.
    #[must_use]
    pub fn table(&self) -> String {
        let head = ["", "A", "B", "B - A", "interval", "A runs", "B runs", "verdict"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let first = self.figures.first();
        let same =
            |get: fn(&Key) -> &String| first.is_some_and(|x| self.figures.iter().all(|y| get(&x.key) == get(&y.key)));
        let (one_scenario, one_system) = (same(|key| &key.scenario), same(|key| &key.system));
        for figure in &self.figures {
            let unit = figure.key.unit();
            let told = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| unit.human(value));
            let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, unit.human(value));
            let mut name = figure.key.label();
            if !one_system {
                name = format!("{}.{name}", figure.key.system);
            }
            if !one_scenario {
                name = format!("{} {name}", figure.key.scenario);
            }
            let runs = |(count, _): (usize, Option<f64>), unresolved: usize| match unresolved {
                0 => count.to_string(),
                some => format!("{count} (+{some} unresolved)"),
            };
            lines.push(vec![
                name,
                told(figure.a.1),
                told(figure.b.1),
                figure.difference.map_or_else(|| "–".to_owned(), signed),
                figure.interval.map_or_else(
                    || "–".to_owned(),
                    |(low, high)| format!("{} to {}", signed(low), signed(high)),
                ),
                runs(figure.a, figure.unresolved.0),
                runs(figure.b, figure.unresolved.1),
                figure.change.as_str().to_owned(),
            ]);
        }
        let mut out = aligned(&lines);
        let count = |change| self.figures.iter().filter(|figure| figure.change == change).count();
        out.push_str(&format!(
            "\n  {} worse, {} better, {} noise, {} can't tell\n",
            count(Change::Worse),
            count(Change::Better),
            count(Change::Noise),
            count(Change::CantTell)
        ));
        out.push_str(&format!(
            "  medians; each interval holds {:.2} %, so that all of them together hold {:.0} %\n",
            self.confidence_each * 100.0,
            CONFIDENCE_ALL * 100.0
        ));
        let whys: std::collections::BTreeSet<&str> = self.figures.iter().map(|figure| figure.why.as_str()).collect();
        for why in whys.into_iter().filter(|why| !why.is_empty()) {
            out.push_str(&format!("  can't tell: {why}\n"));
        }
        for note in &self.notes {
            out.push_str(&format!("  {note}\n"));
        }
        out
    }

    /// The comparison for a machine.
    #[must_use]
    pub fn document(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let number = |value: Option<f64>| value.map_or(Value::Null, json_number);
                let side = |(runs, median): (usize, Option<f64>), unresolved| {
                    json!({ "runs": runs, "unresolved": unresolved, "median": number(median) })
                };
                json!({
                    "scenario": figure.key.scenario,
                    "system": figure.key.system,
                    "fault": figure.key.fault,
                    "class": figure.key.class,
                    "group": figure.key.group,
                    "figure": figure.key.figure(),
                    "unit": figure.key.unit(),
                    "a": side(figure.a, figure.unresolved.0),
                    "b": side(figure.b, figure.unresolved.1),
                    "difference": number(figure.difference),
                    "interval": figure.interval.map(|(low, high)| [json_number(low), json_number(high)]),
                    "bound": figure.bound,
                    "change": figure.change,
                    "why": figure.why,
                })
            })
            .collect();
        json!({
            "schema": "firedrill.comparison/v1",
            "worse": self.is_worse(),
            "confidence_each": self.confidence_each,
            "confidence_all": CONFIDENCE_ALL,
            "figures": figures,
            "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::readings::tests::{downtime, readings, run};
    use super::*;

    fn around(middle: f64, count: u32) -> Readings {
        let values: Vec<Value> = (0..count).map(|n| json!(middle + f64::from(n % 7) * 10.0)).collect();
        readings(&values)
    }

    fn change(a: &Readings, b: &Readings) -> Compared {
        let comparison = compare(a, b, &[]);
        let found = comparison.figures.into_iter().find(|figure| figure.key == downtime());
        found.expect("downtime is compared")
    }

    #[test]
    fn a_slower_system_is_worse_and_a_faster_one_better() {
        let (fast, slow) = (around(1000.0, 10), around(3000.0, 10));
        let found = change(&fast, &slow);
        assert_eq!(found.change, Change::Worse);
        assert!((found.difference.unwrap() - 2000.0).abs() < 100.0, "{found:?}");
        let (low, high) = found.interval.unwrap();
        assert!(low > 1900.0 && high < 2100.0);
        assert_eq!(change(&slow, &fast).change, Change::Better);
        assert!(compare(&fast, &slow, &[]).is_worse() && !compare(&slow, &fast, &[]).is_worse());
    }

    #[test]
    fn the_same_system_twice_is_noise() {
        let found = change(&around(1000.0, 10), &around(1000.0, 12));
        assert_eq!((found.change, found.why.as_str()), (Change::Noise, ""));
    }

    #[test]
    fn a_difference_within_the_error_bounds_is_noise_however_many_runs_show_it() {
        let constant = |value: f64| readings(&vec![json!(value); 50]);
        // The bound of these readings is 20 ms.
        let found = change(&constant(1000.0), &constant(1015.0));
        assert_eq!(found.change, Change::Noise, "{found:?}");
        assert!(found.interval.unwrap().0 > 0.0, "the ranks alone would call it worse");
        assert_eq!(change(&constant(1000.0), &constant(1025.0)).change, Change::Worse);
    }

    #[test]
    fn too_few_runs_can_not_tell_and_say_how_many_would() {
        let found = change(&around(1000.0, 3), &around(9000.0, 3));
        assert_eq!(found.change, Change::CantTell);
        assert!(found.why.contains("5 readings on each side"), "{}", found.why);
        let table = compare(&around(1000.0, 3), &around(9000.0, 3), &[]).table();
        assert!(table.contains("can't tell: too few runs"), "{table}");
        assert!(!compare(&around(1.0, 1), &around(9.0, 1), &[]).is_worse());
    }

    #[test]
    fn what_never_came_back_is_worse_than_what_did() {
        let found = change(&around(1000.0, 8), &readings(&vec![json!("never"); 8]));
        assert_eq!((found.change, found.b), (Change::Worse, (8, Some(f64::INFINITY))));
        let document = compare(&around(1000.0, 8), &readings(&vec![json!("never"); 8]), &[]).document();
        let figure = document["figures"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["figure"] == "downtime_ms")
            .unwrap();
        assert_eq!(
            (&figure["change"], &figure["difference"]),
            (&json!("worse"), &json!("never"))
        );
    }

    #[test]
    fn what_can_not_be_compared_is_said() {
        let mut a = around(1000.0, 8);
        a.take(&run(&json!(1.0), 130));
        let mut other = run(&json!(1.0), 5);
        other["scenario"] = json!("another");
        other["versions"]["build"] = json!("debug");
        let mut b = around(1000.0, 8);
        b.take(&other);
        let notes = compare(&a, &b, &[]).notes.join("\n");
        for said in [
            "1 runs of A did not end",
            "only B has runs of another",
            "1 runs of B are inconclusive",
            "build differs: A release; B debug, release",
        ] {
            assert!(notes.contains(said), "{said}: {notes}");
        }
        let unresolved = change(&a, &readings(&vec![json!("unresolved"); 8]));
        assert_eq!((unresolved.change, unresolved.unresolved), (Change::CantTell, (0, 8)));
    }

    #[test]
    fn fewer_figures_need_fewer_runs() {
        let (a, b) = (around(1000.0, 4), around(9000.0, 4));
        assert_eq!(change(&a, &b).change, Change::CantTell, "two figures at once");
        let one = compare(&a, &b, &["downtime".to_owned()]);
        assert_eq!((one.figures.len(), one.figures[0].change), (1, Change::Worse));
        assert!((one.confidence_each - 0.95).abs() < 1e-9);
    }
}
