//! Which clocks a fault starts, and when they stop.

use crate::{
    base::Nanos,
    history::{FaultOutcome, FaultWindow, History, Phase, SystemView},
};

/// The name of the row for the run as a whole.
pub const RUN: &str = "run";

/// What one row of figures is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// The fault's id, or [`RUN`].
    pub fault: String,
    /// When it took effect: figures count from here.
    pub effective: Nanos,
    /// From when on gaps are put down to it: its effect; for the run as a whole already the steady state, so that an
    /// outage that no fault explains is seen too.
    pub watched_from: Nanos,
    /// When the last of the faults that overlap it had ended; none when one of them never did.
    pub healed: Option<Nanos>,
    /// True when there was something to heal: a figure from the heal makes sense.
    pub heals: bool,
    /// Until when what happens is put down to it: the effect of the first fault after its heal, or the load's end.
    pub horizon: Nanos,
    /// What it took away; empty for everything.
    pub needs: Vec<String>,
    /// The other faults: their effect and their end. They reset the heal clock.
    pub others: Vec<(Nanos, Option<Nanos>)>,
}

impl Episode {
    /// The heal clock's start, given that recovery at `at` was not in time for a fault that began before it: the end of
    /// the last fault to begin before `at`. None when such a fault never ended.
    #[must_use]
    pub fn reset_by(&self, clock: Nanos, at: Nanos) -> Option<Option<Nanos>> {
        self.others
            .iter()
            .filter(|(effective, ended)| *effective >= clock && *effective < at && ended.is_none_or(|e| e > clock))
            .map(|(_, ended)| *ended)
            .min_by_key(|ended| ended.unwrap_or(Nanos(u64::MAX)))
    }
}

/// One episode for each fault of the system that bit, bursts included, and one for the run.
#[must_use]
pub fn episodes(history: &History, system: &SystemView) -> Vec<Episode> {
    let bitten: Vec<&FaultWindow> = history
        .faults_of(&system.name)
        .filter(|f| f.effective.is_some() && (f.outcome == FaultOutcome::Installed || f.bursts > 0))
        .collect();
    let load_end = history.load_end();
    let mut episodes = vec![whole_run(history, &bitten, load_end)];
    for fault in &bitten {
        let others: Vec<_> = bitten
            .iter()
            .filter(|other| other.id != fault.id && !belongs(fault, other) && other.bursts == 0)
            .map(|other| (other.effective.unwrap_or_default(), other.ended()))
            .collect();
        episodes.push(one(fault, others, load_end));
    }
    episodes
}

/// Whether one is a burst of the other: then they are the same fault, not two that overlap.
fn belongs(a: &FaultWindow, b: &FaultWindow) -> bool {
    a.parent.as_deref() == Some(&b.id) || b.parent.as_deref() == Some(&a.id)
}

fn one(fault: &FaultWindow, others: Vec<(Nanos, Option<Nanos>)>, load_end: Nanos) -> Episode {
    let effective = fault.effective.unwrap_or_default();
    let mut ended = fault.ended();
    // The end of everything that overlaps, and of everything that overlaps that.
    let mut sorted = others.clone();
    sorted.sort_by_key(|(effective, _)| *effective);
    for (begin, end) in &sorted {
        let touches = ended.is_some_and(|mine| *begin < mine) && end.is_none_or(|end| end > effective);
        if touches {
            ended = end.and_then(|end| ended.map(|mine| mine.max(end)));
        }
    }
    let horizon = ended
        .and_then(|ended| sorted.iter().map(|(begin, _)| *begin).find(|begin| *begin >= ended))
        .map_or(load_end, |begin| begin.min(load_end));
    Episode {
        fault: fault.id.clone(),
        effective,
        watched_from: effective,
        healed: ended,
        heals: fault.healed.is_some() || fault.heal_requested.is_some() || fault.heal_failed.is_some(),
        horizon: horizon.max(effective),
        needs: fault.needs.clone(),
        others,
    }
}

fn whole_run(history: &History, bitten: &[&FaultWindow], load_end: Nanos) -> Episode {
    let effective = bitten
        .iter()
        .filter_map(|f| f.effective)
        .min()
        .or_else(|| history.phases.start(Phase::Disturb))
        .or_else(|| history.phases.start(Phase::Steady))
        .unwrap_or_default();
    let ended: Option<Vec<Nanos>> = bitten.iter().map(|f| f.ended()).collect();
    let mut needs: Vec<String> = Vec::new();
    // One fault that doesn't say what it takes away may take away everything.
    if bitten.iter().all(|f| !f.needs.is_empty()) {
        needs = bitten.iter().flat_map(|f| f.needs.clone()).collect();
        needs.sort_unstable();
        needs.dedup();
    }
    Episode {
        fault: RUN.to_owned(),
        effective,
        watched_from: history.phases.start(Phase::Steady).unwrap_or(effective).min(effective),
        healed: ended.and_then(|ended| ended.into_iter().max()),
        heals: bitten.iter().any(|f| f.healed.is_some() || f.heal_requested.is_some()),
        horizon: load_end.max(effective),
        needs,
        others: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    fn fault(id: &str, from: u64, to: Option<u64>) -> FaultWindow {
        FaultWindow {
            id: id.to_owned(),
            kind: "kill".to_owned(),
            system: "main".to_owned(),
            targets: Vec::new(),
            needs: Vec::new(),
            outcome: FaultOutcome::Installed,
            resolved: None,
            requested: Some(at(from)),
            effective: Some(at(from)),
            heal_requested: to.map(at),
            healed: to.map(at),
            heal_failed: None,
            evidence: String::new(),
            parent: None,
            bursts: 0,
        }
    }

    #[test]
    fn overlapping_faults_share_the_last_heal() {
        let first = fault("1", 10, Some(20));
        let others = vec![(at(15), Some(at(30))), (at(28), Some(at(40))), (at(90), Some(at(95)))];
        let episode = one(&first, others, at(1000));
        assert_eq!(episode.healed, Some(at(40)), "the chain of overlaps ends at 40");
        assert_eq!(episode.horizon, at(90));
    }

    #[test]
    fn an_overlap_that_never_heals_leaves_no_heal() {
        let episode = one(&fault("1", 10, Some(20)), vec![(at(15), None)], at(1000));
        assert_eq!(episode.healed, None);
        assert_eq!(episode.horizon, at(1000));
    }

    #[test]
    fn a_fault_that_came_and_went_before_does_not_touch() {
        let episode = one(&fault("2", 50, Some(60)), vec![(at(10), Some(at(20)))], at(1000));
        assert_eq!(episode.healed, Some(at(60)));
        assert_eq!(episode.horizon, at(1000));
    }

    #[test]
    fn a_new_fault_before_recovery_resets_the_clock() {
        let episode = one(&fault("1", 10, Some(20)), vec![(at(30), Some(at(50)))], at(1000));
        assert_eq!(episode.reset_by(at(20), at(25)), None, "recovered before it began");
        assert_eq!(episode.reset_by(at(20), at(60)), Some(Some(at(50))));
        assert_eq!(episode.reset_by(at(50), at(60)), None, "it resets once");
    }
}
