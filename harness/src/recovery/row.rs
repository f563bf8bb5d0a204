//! One row of the recovery table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{episode::RUN, figure::Figure, gaps::ClientGaps, sample::ALL_CLIENTS};

/// One row of the recovery table. Times without `_after_heal` count from the fault's effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The fault's id, or `run`.
    pub fault: String,
    /// The system.
    pub system: String,
    /// The class of operations.
    pub class: &'static str,
    /// `all`, or a label such as `zone:europe`.
    pub group: String,
    /// Whether there was something to heal, so that there are figures from the heal.
    #[serde(skip)]
    pub heals: bool,
    /// To the first error or breach of the band that a client saw.
    pub impact_ms: Figure,
    /// To the system's first reaction.
    pub detect_ms: Figure,
    /// To the new leader, by its own word.
    pub failover_ms: Figure,
    /// To the first success that needed the failed part.
    pub first_ok_ms: Figure,
    /// To the first stretch inside the band.
    pub steady_ms: Figure,
    /// From the heal to the first success that needed the failed part.
    pub first_ok_after_heal_ms: Figure,
    /// From the heal to the first stretch inside the band.
    pub steady_after_heal_ms: Figure,
    /// From the heal until nothing more is owed than before.
    pub drained_after_heal_ms: Figure,
    /// From the heal until 99 % of the sessions are back.
    pub sessions_back_after_heal_ms: Figure,
    /// From the heal until every replica has caught up.
    pub redundant_after_heal_ms: Figure,
    /// Longest stretch between two successes of the probe.
    pub worst_gap_ms: Figure,
    /// All time outside the band.
    pub downtime_ms: Figure,
    /// How often the band was left again.
    pub relapses: Figure,
    /// Area between the goodput before and during, in user-seconds.
    pub lost_user_seconds: Figure,
    /// Successes a second while it lasted, as a share of those of the steady phase.
    pub goodput: Figure,
    /// The largest bound of this row's times, ms.
    pub bound_ms: f64,
    /// Each time's own bound, ms.
    pub bounds_ms: BTreeMap<&'static str, f64>,
    /// The bound of each figure that is no time, in the figure's own unit.
    pub bounds: BTreeMap<&'static str, f64>,
    /// `steady_ms` for other success ratios.
    pub steady_at_ms: BTreeMap<&'static str, Figure>,
    /// Each client's longest wait, as a distribution.
    pub client_gap_ms: Option<ClientGaps>,
}

pub(super) fn bounds(row: &Row) -> BTreeMap<&'static str, f64> {
    let figures = [
        ("impact_ms", &row.impact_ms),
        ("detect_ms", &row.detect_ms),
        ("failover_ms", &row.failover_ms),
        ("first_ok_ms", &row.first_ok_ms),
        ("steady_ms", &row.steady_ms),
        ("first_ok_after_heal_ms", &row.first_ok_after_heal_ms),
        ("steady_after_heal_ms", &row.steady_after_heal_ms),
        ("drained_after_heal_ms", &row.drained_after_heal_ms),
        ("sessions_back_after_heal_ms", &row.sessions_back_after_heal_ms),
        ("redundant_after_heal_ms", &row.redundant_after_heal_ms),
        ("worst_gap_ms", &row.worst_gap_ms),
        ("downtime_ms", &row.downtime_ms),
    ];
    figures
        .into_iter()
        .filter_map(|(name, figure)| Some((name, figure.bound()?)))
        .collect()
}

impl Row {
    /// The figure that a budget names, such as `steady` or `drained`; none for a name that isn't of this table.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        Some(match name {
            "impact" => &self.impact_ms,
            "detect" => &self.detect_ms,
            "failover" => &self.failover_ms,
            "first_ok" => &self.first_ok_ms,
            "steady" => &self.steady_ms,
            "first_ok_after_heal" => &self.first_ok_after_heal_ms,
            "steady_after_heal" => &self.steady_after_heal_ms,
            "drained" => &self.drained_after_heal_ms,
            "sessions_back" => &self.sessions_back_after_heal_ms,
            "redundant" => &self.redundant_after_heal_ms,
            "worst_gap" => &self.worst_gap_ms,
            "downtime" => &self.downtime_ms,
            "relapses" => &self.relapses,
            "lost_user_seconds" => &self.lost_user_seconds,
            "goodput" => &self.goodput,
            _ => return None,
        })
    }

    /// True for the run as a whole with all clients: what stands first in a summary.
    #[must_use]
    pub fn is_summary(&self) -> bool {
        self.fault == RUN && self.group == ALL_CLIENTS
    }
}
