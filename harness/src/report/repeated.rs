//! One kind of fault, done several times in one run: how long its gaps were, as a distribution.
//!
//! One kill meets one phase of the heartbeat and says little. Ten say what to expect of the next.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bars::bar;
use crate::{
    base::order::quantile,
    history::History,
    recovery::{ALL_CLIENTS, Figure, Row},
};

/// Fewer faults of a kind than this have no distribution worth a line.
const FAULTS_MIN: usize = 3;
type Told = (&'static str, &'static str, fn(&Row) -> Figure);

/// What is told of each fault: the column's word, its name in run.json, and where the row holds it.
const FIGURES: [Told; 2] = [
    ("first ok", "first_ok_ms", |row| row.first_ok_ms),
    ("steady", "steady_ms", |row| row.steady_ms),
];

/// A figure of all faults of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeated {
    /// The faults' kind, such as `kill`.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The class of operations.
    pub class: &'static str,
    /// The figure, as its row in `recovery` calls it.
    pub figure: &'static str,
    /// The same for people.
    #[serde(skip)]
    label: &'static str,
    /// Each value in the order of the faults, ms; null where it did not come.
    pub values_ms: Vec<Option<f64>>,
    /// Faults that tell nothing: no impact, or too few operations.
    pub untold: usize,
}

impl Repeated {
    /// What it is of: `10 × kill  put.first ok`.
    #[must_use]
    pub fn title(&self) -> String {
        format!(
            "{} × {}  {}.{}",
            self.values_ms.len(),
            self.kind,
            self.class,
            self.label
        )
    }

    /// What a share of the faults stayed under; `None` when that many did not come back.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let never = |value: &Option<f64>| value.unwrap_or(f64::INFINITY);
        let mut sorted: Vec<f64> = self.values_ms.iter().map(never).collect();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, share).filter(|value| value.is_finite())
    }

    /// A bar for each fault in their order, as high as its value beside the largest.
    #[must_use]
    pub fn picture(&self) -> String {
        let largest = self
            .values_ms
            .iter()
            .flatten()
            .fold(f64::MIN_POSITIVE, |a, b| a.max(*b));
        let bars = self.values_ms.iter();
        bars.map(|value| value.map_or('∞', |ms| bar(ms / largest * 7.0)))
            .collect()
    }

    /// As a person reads it: how many, smallest, median, 95th percentile, largest.
    #[must_use]
    pub fn words(&self) -> String {
        let told = |share| {
            self.quantile_ms(share)
                .map_or(Figure::Never, |ms| Figure::millis(ms, 0.0))
                .human()
        };
        let (min, median, p95, max) = (told(0.0), told(0.5), told(0.95), told(1.0));
        format!("min {min}  median {median}  p95 {p95}  max {max}")
    }
}

/// The distributions of a run: of each kind of fault that was done three times or more, for each class that it hit.
#[must_use]
pub(super) fn repeated<'a>(history: &'a History, rows: impl Iterator<Item = &'a Row>) -> Vec<Repeated> {
    let kinds: BTreeMap<&str, &str> = history
        .faults
        .iter()
        .map(|fault| (fault.id.as_str(), fault.kind.as_str()))
        .collect();
    let mut groups: BTreeMap<(&str, &str, &'static str), Vec<&Row>> = BTreeMap::new();
    for row in rows.filter(|row| row.group == ALL_CLIENTS) {
        if let Some(kind) = kinds.get(row.fault.as_str()) {
            groups.entry((&row.system, kind, row.class)).or_default().push(row);
        }
    }
    let of = |((system, kind, class), rows): (&(&str, &str, &'static str), &Vec<&Row>)| {
        let (system, kind, class, rows) = ((*system).to_owned(), (*kind).to_owned(), *class, rows.clone());
        FIGURES.map(move |(label, figure, read)| {
            let told = |row: &&Row| match read(row) {
                Figure::Value { value, .. } => Some(Some(value)),
                Figure::Never => Some(None),
                Figure::None | Figure::Unresolved => None,
            };
            let values_ms: Vec<Option<f64>> = rows.iter().filter_map(told).collect();
            Repeated {
                kind: kind.clone(),
                system: system.clone(),
                class,
                figure,
                label,
                untold: rows.len() - values_ms.len(),
                values_ms,
            }
        })
    };
    groups
        .iter()
        .flat_map(of)
        .filter(|found| found.values_ms.len() >= FAULTS_MIN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values_ms: Vec<Option<f64>>) -> Repeated {
        Repeated {
            kind: "kill".to_owned(),
            system: "main".to_owned(),
            class: "put",
            figure: "first_ok_ms",
            label: "first ok",
            untold: 0,
            values_ms,
        }
    }

    #[test]
    fn what_never_came_is_the_largest() {
        let three = of(vec![Some(20.0), None, Some(10.0)]);
        assert_eq!(three.quantile_ms(0.0), Some(10.0));
        assert_eq!(three.quantile_ms(0.5), Some(20.0));
        assert_eq!(three.quantile_ms(1.0), None);
        assert_eq!(three.title(), "3 × kill  put.first ok");
        assert_eq!(three.picture(), "█∞▅");
        assert_eq!(three.words(), "min 10 ms  median 20 ms  p95 never  max never");
    }
}
