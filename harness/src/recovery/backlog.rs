//! What the service owed, by our own model: acknowledged, obliged, and not yet shown.

use std::collections::BTreeMap;

use crate::{
    base::Nanos,
    history::{Delivery, SystemView},
};

use super::{episode::Episode, figure::Figure, late::Late};

/// The deliveries still owed, after each change: from the acknowledgement until the showing. `member` chooses whose.
#[must_use]
pub fn owed_series(system: &SystemView, member: &dyn Fn(&Delivery) -> bool) -> Vec<(Nanos, i64)> {
    let mut changes: Vec<(Nanos, i64)> = Vec::new();
    for delivery in system.deliveries.iter().filter(|d| member(d)) {
        let Some(acked) = delivery.acked else { continue };
        match delivery.shown {
            Some(shown) if shown <= acked => {}
            Some(shown) => changes.extend([(acked, 1), (shown, -1)]),
            None => changes.push((acked, 1)),
        }
    }
    changes.sort_unstable();
    let mut owed = 0;
    changes
        .into_iter()
        .map(|(at, change)| {
            owed += change;
            (at, owed)
        })
        .collect()
}

/// From the heal until the backlog is back at its level before the fault and everything acknowledged before the heal
/// is shown. The level is the highest within two seconds before the effect, since a working service owes a little.
pub(super) fn drained(
    system: &SystemView,
    episode: &Episode,
    clock: Option<Nanos>,
    late: &Late,
    member: &dyn Fn(&Delivery) -> bool,
) -> Figure {
    let Some(healed) = clock.filter(|_| episode.heals) else {
        return if episode.heals { Figure::Never } else { Figure::None };
    };
    let mut last = healed;
    for delivery in system.deliveries.iter().filter(|d| member(d)) {
        if delivery.acked.is_some_and(|acked| acked <= healed) {
            match delivery.shown {
                Some(shown) => last = last.max(shown),
                None => return Figure::Never,
            }
        }
    }
    let series = owed_series(system, member);
    let before = episode.effective.minus(std::time::Duration::from_secs(2));
    let index = series.partition_point(|(at, _)| *at < before);
    let standing = index.checked_sub(1).map_or(0, |i| series[i].1);
    let level = series[index..]
        .iter()
        .take_while(|(at, _)| *at < episode.effective)
        .map(|(_, owed)| *owed)
        .fold(standing, i64::max);
    let index = series.partition_point(|(at, _)| *at <= healed);
    let at_heal = index.checked_sub(1).map_or(0, |i| series[i].1);
    let back = if at_heal <= level {
        Some(healed)
    } else {
        series[index..]
            .iter()
            .find(|(_, owed)| *owed <= level)
            .map(|(at, _)| *at)
    };
    back.map_or(Figure::Never, |back| {
        let drained = back.max(last);
        Figure::between(healed, drained, late.at(drained))
    })
}

/// The service's own count of what it owes, summed over the nodes' latest words, after each change.
#[must_use]
pub fn service_backlog(system: &SystemView) -> Vec<(Nanos, u64)> {
    let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
    system
        .observed
        .iter()
        .filter_map(|o| {
            latest.insert(&o.node, o.status.as_ref()?.backlog);
            Some((o.at, latest.values().sum()))
        })
        .collect()
}
