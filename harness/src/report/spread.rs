//! A figure over several runs: how it spreads, and where its median lies.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::readings::{Key, Reading, Readings, Unit, rounded};
use crate::base::order::{median, median_interval, quantile};

/// With how much confidence the interval holds the median.
pub(super) const CONFIDENCE: f64 = 0.95;

/// One figure over all runs of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Which figure.
    #[serde(flatten)]
    pub key: Key,
    /// Its name in run.json.
    pub figure: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Runs that gave a number.
    pub values: usize,
    /// Runs in which it did not come. They count as larger than every number.
    pub never: usize,
    /// Runs with too few operations to tell. They are in no quantile.
    pub unresolved: usize,
    /// Runs in which it did not apply, such as without an impact. They are in no quantile.
    pub absent: usize,
    /// The smallest; `"never"` when it never came, null when no run tells.
    #[serde(serialize_with = "number")]
    pub min: Option<f64>,
    /// The middle one.
    #[serde(serialize_with = "number")]
    pub median: Option<f64>,
    /// What 95 % stay under: the largest, with fewer than twenty runs.
    #[serde(serialize_with = "number")]
    pub p95: Option<f64>,
    /// The largest.
    #[serde(serialize_with = "number")]
    pub max: Option<f64>,
    /// What holds the median of all such runs with [`CONFIDENCE`]; null with fewer than six.
    #[serde(serialize_with = "interval")]
    pub median_interval: Option<(f64, f64)>,
}

fn number<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map_or(Value::Null, json_number).serialize(serializer)
}

fn interval<S: serde::Serializer>(value: &Option<(f64, f64)>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map_or(Value::Null, |(low, high)| json!([json_number(low), json_number(high)]))
        .serialize(serializer)
}

/// A number for a machine: JSON has no infinity.
pub(super) fn json_number(value: f64) -> Value {
    if value.is_finite() {
        json!(rounded(value))
    } else {
        json!(if value > 0.0 { "never" } else { "-never" })
    }
}

/// The spread of every figure that any run tells something of, in the order of the recovery table.
#[must_use]
pub fn spreads(readings: &Readings) -> Vec<Spread> {
    let all = readings.figures.keys().map(|key| spread(readings, key));
    all.filter(|spread| spread.values + spread.never + spread.unresolved > 0)
        .collect()
}

fn spread(readings: &Readings, key: &Key) -> Spread {
    let numbers = readings.numbers(key);
    let never = readings.count(key, Reading::Never);
    Spread {
        key: key.clone(),
        figure: key.figure(),
        unit: key.unit(),
        values: numbers.len() - never,
        never,
        unresolved: readings.count(key, Reading::Unresolved),
        absent: readings.count(key, Reading::Absent),
        min: numbers.first().copied(),
        median: median(&numbers),
        p95: quantile(&numbers, 0.95),
        max: numbers.last().copied(),
        median_interval: median_interval(&numbers, CONFIDENCE).map(|it| (it.low, it.high)),
    }
}

/// The headline figures of these runs as a table, each with the number of runs it is of, and what must be said beside it.
#[must_use]
pub fn spread_table(readings: &Readings) -> String {
    let mut out = String::new();
    for (scenario, runs) in &readings.runs {
        let shown: Vec<Spread> = spreads(readings)
            .into_iter()
            .filter(|spread| spread.key.scenario == *scenario && spread.key.is_headline())
            .collect();
        if shown.is_empty() {
            continue;
        }
        let head = [
            "",
            "runs",
            "min",
            "median",
            "95 % interval",
            "p95",
            "max",
            "never",
            "unresolved",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let several = shown.iter().any(|spread| spread.key.system != shown[0].key.system);
        lines.extend(shown.iter().map(|spread| {
            let told = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| spread.unit.human(value));
            let count = |count: usize| {
                if count == 0 {
                    "–".to_owned()
                } else {
                    count.to_string()
                }
            };
            let name = match several {
                true => format!("{}.{}", spread.key.system, spread.key.label()),
                false => spread.key.label(),
            };
            let interval = spread.median_interval.map_or_else(
                || "–".to_owned(),
                |(low, high)| format!("{} to {}", spread.unit.human(low), spread.unit.human(high)),
            );
            vec![
                name,
                (spread.values + spread.never).to_string(),
                told(spread.min),
                told(spread.median),
                interval,
                told(spread.p95),
                told(spread.max),
                count(spread.never),
                count(spread.unresolved),
            ]
        }));
        // Writing into a string does not fail.
        let _ = writeln!(out, "\n{scenario}, {runs} runs\n{}", aligned(&lines));
    }
    if readings.runs.values().any(|runs| *runs < 6) {
        out.push_str("  fewer than six runs give the median no interval of 95 %: --repeat 6 or more\n");
    }
    if readings.left_out > 0 {
        let _ = writeln!(
            out,
            "  {} runs are in no figure: they did not end by themselves",
            readings.left_out
        );
    }
    if readings.inconclusive > 0 {
        let _ = writeln!(
            out,
            "  {} of the runs are inconclusive by themselves",
            readings.inconclusive
        );
    }
    out
}

/// Columns under each other: the first to the left, the others to the right.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let mut out = String::new();
    for line in lines {
        let mut text = String::from("  ");
        for (column, cell) in line.iter().enumerate() {
            let room = " ".repeat(width(column).unwrap_or(0).saturating_sub(cell.chars().count()));
            match column {
                0 => text.extend([cell.as_str(), &room]),
                _ => text.extend(["  ", &room, cell.as_str()]),
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::readings::tests::{downtime, readings, run};
    use super::*;

    fn of(downtimes: &[Value]) -> Spread {
        let all = spreads(&readings(downtimes));
        all.into_iter()
            .find(|spread| spread.key == downtime())
            .expect("a spread")
    }

    #[test]
    fn a_spread_names_the_extremes_the_middle_and_its_interval() {
        let spread = of(&[5, 1, 4, 2, 3, 6, 8, 7].map(|n| json!(f64::from(n) * 100.0)));
        let told = [spread.min, spread.median, spread.p95, spread.max].map(Option::unwrap);
        assert_eq!(told, [100.0, 450.0, 800.0, 800.0]);
        assert_eq!(spread.median_interval, Some((100.0, 800.0)));
        let written = serde_json::to_value(&spread).unwrap();
        assert_eq!(written["figure"], "downtime_ms");
        assert_eq!(written["scenario"], "drill");
        assert_eq!(written["median_interval"], json!([100.0, 800.0]));
    }

    #[test]
    fn what_never_came_is_the_largest_and_is_counted() {
        let spread = of(&[json!(1.0), json!("never"), json!("never"), json!("unresolved")]);
        assert_eq!((spread.values, spread.never, spread.unresolved), (1, 2, 1));
        let written = serde_json::to_value(&spread).unwrap();
        assert_eq!(
            (&written["min"], &written["median"], &written["max"]),
            (&json!(1.0), &json!("never"), &json!("never"))
        );
        assert_eq!(written["median_interval"], Value::Null);
    }

    #[test]
    fn a_figure_that_no_run_tells_is_not_written_and_one_that_is_only_unresolved_is() {
        assert!(
            spreads(&readings(&[json!(null), json!(null)]))
                .iter()
                .all(|it| it.key != downtime())
        );
        let spread = of(&[json!("unresolved")]);
        assert_eq!((spread.unresolved, spread.median), (1, None));
    }

    #[test]
    fn the_table_says_what_it_leaves_out() {
        let mut few = readings(&[json!(300.0), json!("never"), json!("unresolved")]);
        few.take(&run(&json!(1.0), 130));
        few.take(&run(&json!(700.0), 5));
        let table = spread_table(&few);
        let line = table
            .lines()
            .find(|line| line.contains("send downtime"))
            .expect("a line");
        for word in ["  3  ", "300 ms", "700 ms", "never"] {
            assert!(line.contains(word), "{line}");
        }
        assert!(table.contains("drill, 4 runs"), "{table}");
        assert!(table.contains("1 runs are in no figure") && table.contains("1 of the runs are inconclusive"));
        assert!(table.contains("--repeat 6"), "{table}");
        let many = spread_table(&readings(&[1, 2, 3, 4, 5, 6].map(|n| json!(f64::from(n) * 1000.0))));
        assert!(
            many.contains("1.00 s to 6.00 s") && !many.contains("--repeat"),
            "{many}"
        );
    }
}
