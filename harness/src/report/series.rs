//! The run over time, in buckets: what the pictures are drawn from, and series.csv.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{
    base::{Nanos, millis},
    history::{Class, Delivery, History, Outcome, SystemView},
    recovery::{owed_series, sessions_series},
};

use super::{judgement::Judgement, output::Output};

/// A picture has no more columns than this, so a file is no larger than that allows.
const BUCKETS_MAX: u64 = 600;
/// The finest bucket.
const BUCKET_MIN: Duration = Duration::from_millis(100);

/// One bucket of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Operations that the schedule meant for this bucket.
    pub offered: u64,
    /// Operations that succeeded in this bucket, whenever they were meant.
    pub done_ok: u64,
    /// Of those meant for it: surely failed.
    pub failed: u64,
    /// Of those meant for it: unknown.
    pub unknown: u64,
    /// Of those meant for it: shed.
    pub shed: u64,
    /// Median wait of those meant for it that succeeded, ms; none when none did.
    pub p50_ms: Option<f64>,
    /// Their p99, ms.
    pub p99_ms: Option<f64>,
}

/// A system over time.
#[derive(Clone, Debug)]
pub struct Series {
    /// How wide a bucket is.
    pub width: Duration,
    /// The buckets of each class.
    pub classes: BTreeMap<Class, Vec<Bucket>>,
    /// Sessions open at each bucket's end.
    pub sessions: Vec<u64>,
    /// Deliveries owed at each bucket's end.
    pub owed: Vec<u64>,
}

/// Puts a system's run into buckets.
#[must_use]
pub fn series(history: &History, system: &SystemView) -> Series {
    let width = width(history);
    let buckets = bucket_of(history.ended, width) + 1;
    let mut classes: BTreeMap<Class, (Vec<Bucket>, Vec<Vec<f64>>)> = BTreeMap::new();
    let mut put = |class, intended: Nanos, done: Nanos, outcome: Outcome| {
        let (list, waits) = classes
            .entry(class)
            .or_insert_with(|| (vec![Bucket::default(); buckets], vec![Vec::new(); buckets]));
        let meant = bucket_of(intended, width).min(buckets - 1);
        let bucket = &mut list[meant];
        bucket.offered += 1;
        match outcome {
            Outcome::Ok => {
                waits[meant].push(millis(done.since(intended)));
                list[bucket_of(done, width).min(buckets - 1)].done_ok += 1;
            }
            Outcome::Failed => bucket.failed += 1,
            Outcome::Unknown => bucket.unknown += 1,
            Outcome::Shed => bucket.shed += 1,
        }
    };
    for operation in &system.operations {
        put(operation.class, operation.intended, operation.done, operation.outcome);
    }
    for delivery in &system.deliveries {
        let (done, outcome) = outcome_of(delivery);
        put(Class::Deliver, delivery.intended, done, outcome);
    }
    Series {
        width,
        classes: classes
            .into_iter()
            .map(|(class, (list, waits))| (class, with_percentiles(list, waits)))
            .collect(),
        sessions: at_ends(
            sessions_series(system, &|_| true)
                .into_iter()
                .map(|(at, n)| (at, n as u64)),
            width,
            buckets,
        ),
        owed: at_ends(
            owed_series(system, &|_| true)
                .into_iter()
                .map(|(at, n)| (at, u64::try_from(n).unwrap_or(0))),
            width,
            buckets,
        ),
    }
}

fn outcome_of(delivery: &Delivery) -> (Nanos, Outcome) {
    use crate::history::Fate;
    match (delivery.shown, delivery.fate) {
        (Some(shown), _) => (shown, Outcome::Ok),
        _ if delivery.shed => (delivery.over, Outcome::Shed),
        (None, Fate::Not) => (delivery.over, Outcome::Failed),
        (None, Fate::May | Fate::Must) => (delivery.over, Outcome::Unknown),
    }
}

/// The finest of 100, 200, 500 ms, 1, 2, 5 s ... that keeps within [`BUCKETS_MAX`].
fn width(history: &History) -> Duration {
    let whole = history.ended.since(Nanos(0));
    (0..9)
        .flat_map(|power| [1, 2, 5].map(|factor| BUCKET_MIN.saturating_mul(factor * 10u32.pow(power))))
        .find(|width| whole.as_nanos() <= width.as_nanos() * u128::from(BUCKETS_MAX))
        .unwrap_or(Duration::MAX)
}

fn bucket_of(at: Nanos, width: Duration) -> usize {
    let bucket = u128::from(at.0) / width.as_nanos().max(1);
    usize::try_from(bucket.min(u128::from(BUCKETS_MAX))).unwrap_or(0)
}

fn with_percentiles(mut list: Vec<Bucket>, waits: Vec<Vec<f64>>) -> Vec<Bucket> {
    for (bucket, mut waits) in list.iter_mut().zip(waits) {
        waits.sort_by(f64::total_cmp);
        let rank = |percent: usize| waits.get((waits.len() * percent).div_ceil(100).max(1) - 1).copied();
        (bucket.p50_ms, bucket.p99_ms) = (rank(50), rank(99));
    }
    list
}

/// The last value at each bucket's end.
fn at_ends(changes: impl Iterator<Item = (Nanos, u64)>, width: Duration, buckets: usize) -> Vec<u64> {
    let mut ends: Vec<Option<u64>> = vec![None; buckets];
    for (at, value) in changes {
        ends[bucket_of(at, width).min(buckets - 1)] = Some(value);
    }
    let mut last = 0;
    ends.into_iter()
        .map(|end| {
            last = end.unwrap_or(last);
            last
        })
        .collect()
}

/// Writes series.csv.
pub(super) struct SeriesCsv;

impl Output for SeriesCsv {
    fn file_name(&self) -> &'static str {
        "series.csv"
    }

    fn about(&self) -> &'static str {
        "the run over time: one row for each bucket and class"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let mut csv = String::from(
            "t_ms,system,class,offered,done_ok,failed,unknown,shed,p50_ms,p99_ms,sessions,owed_deliveries\n",
        );
        for system in judgement.history.systems.values() {
            let series = series(&judgement.history, system);
            let width = series.width.as_millis();
            for (class, buckets) in &series.classes {
                for (number, b) in (0u128..).zip(buckets) {
                    let at = usize::try_from(number).unwrap_or(usize::MAX);
                    let cell = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.3}"));
                    writeln!(
                        csv,
                        "{},{},{},{},{},{},{},{},{},{},{},{}",
                        number * width,
                        quoted(&system.name),
                        class.name(),
                        b.offered,
                        b.done_ok,
                        b.failed,
                        b.unknown,
                        b.shed,
                        cell(b.p50_ms),
                        cell(b.p99_ms),
                        series.sessions.get(at).copied().unwrap_or(0),
                        series.owed.get(at).copied().unwrap_or(0),
                    )
                    .map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(csv.into_bytes())
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
