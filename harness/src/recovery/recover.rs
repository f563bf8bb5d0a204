//! The figures, put together: one row for each fault and for the run, per class, group and system.

use std::collections::BTreeMap;

use crate::history::{Class, History, SystemView};

use super::{
    band::Band,
    episode::episodes,
    figure::Figure,
    late::Late,
    outage::{Outage, outages},
    reading::View,
    row::Row,
    sample::{ALL_CLIENTS, classes, groups, samples},
    status::{Said, detect, failover},
};

/// The success ratios that `steady` is also told for, where there were operations enough to tell.
pub const THRESHOLDS: &[(&str, f64)] = &[("99%", 0.99), ("99.9%", 0.999), ("99.999%", 0.99999)];

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
