//! The figures, put together: one row for each fault and for the run, per class, group and system.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{Class, History, SystemView};

use super::{
    band::Band,
    episode::{RUN, episodes},
    figure::Figure,
    gaps::ClientGaps,
    late::Late,
    outage::{Outage, outages},
    reading::View,
    sample::{ALL_CLIENTS, classes, groups, samples},
    status::{Said, detect, failover},
};

/// The success ratios that `steady` is also told for, where there were operations enough to tell.
pub const THRESHOLDS: &[(&str, f64)] = &[("99%", 0.99), ("99.9%", 0.999), ("99.999%", 0.99999)];

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

/// What was found for one system, besides the rows: for the report and for judging the run itself.
#[derive(Clone, Debug, Default)]
pub struct SystemRecovery {
    /// The rows.
    pub rows: Vec<Row>,
    /// The band of each class, all clients.
    pub bands: BTreeMap<Class, Band>,
    /// When each class was outside its band, all clients.
    pub outages: BTreeMap<Class, Vec<Outage>>,
}

/// All rows of all systems.
#[must_use]
pub fn rows(history: &History) -> Vec<Row> {
    history
        .systems
        .values()
        .flat_map(|system| recover(history, system).rows)
        .collect()
}

/// The rows of one system, the run's first.
#[must_use]
pub fn recover(history: &History, system: &SystemView) -> SystemRecovery {
    let mut found = SystemRecovery::default();
    let episodes = episodes(history, system);
    let late = Late::of(system);
    let said = Said {
        history,
        system,
        late: &late,
    };
    // What the system itself said is the same for all classes and groups.
    let told: Vec<(Figure, Figure)> = episodes
        .iter()
        .map(|episode| (detect(&said, episode), failover(&said, episode)))
        .collect();
    for class in classes(history, system) {
        for group in groups(system) {
            let samples = samples(history, system, class, &group);
            if samples.is_empty() {
                continue;
            }
            let band = Band::of(history, &system.name, class, &group, &samples);
            let hold = history.facts.hold;
            let find = |band: Band| outages(&samples, &band, hold, history.load_end());
            let view = View {
                history,
                system,
                said: &said,
                class,
                group: &group,
                outages: band.map(find),
                stricter: THRESHOLDS
                    .iter()
                    .filter_map(|(name, ratio)| Some((*name, *ratio, find(band?.with_success(*ratio)))))
                    .collect(),
                samples: &samples,
                band,
            };
            if group == ALL_CLIENTS {
                found.bands.extend(band.map(|band| (class, band)));
                found.outages.extend(view.outages.clone().map(|o| (class, o)));
            }
            found.rows.extend(
                episodes
                    .iter()
                    .zip(&told)
                    .map(|(episode, told)| view.row(episode, *told)),
            );
        }
    }
    let order: Vec<&str> = classes(history, system).into_iter().map(Class::name).collect();
    found.rows.sort_by_key(|row| {
        let place = episodes.iter().position(|e| e.fault == row.fault);
        let class = order.iter().position(|name| *name == row.class);
        (place, class, row.group != ALL_CLIENTS, row.group.clone())
    });
    found
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
