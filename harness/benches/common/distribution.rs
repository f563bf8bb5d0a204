//! Samples, and what can be said of them.

use std::time::Duration;

/// Samples in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution(Vec<Duration>);

impl Distribution {
    /// The columns of [`Distribution::cells`].
    pub(crate) const HEAD: [&str; 6] = ["n", "min", "p50", "p95", "p99", "max"];

    /// The distribution of `samples`.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The smallest sample that at least `per_mille` of all do not exceed (the nearest rank: always one that was
    /// measured, never one in between). None without samples.
    pub(crate) fn at(&self, per_mille: usize) -> Option<Duration> {
        let rank = (self.0.len() * per_mille).div_ceil(1000).max(1);
        self.0.get(rank - 1).copied()
    }

    /// Number, smallest, quantiles, largest: as [`Distribution::HEAD`] names them.
    pub(crate) fn cells(&self) -> Vec<String> {
        let quantiles = [0, 500, 950, 990, 1000].map(|per_mille| self.at(per_mille).map_or("–".to_owned(), show));
        std::iter::once(self.0.len().to_string()).chain(quantiles).collect()
    }
}

/// Three figures and a unit.
pub(crate) fn show(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let places = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.places$} {unit}")
}
