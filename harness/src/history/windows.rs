//! When each fault bit and when it had ended, and when each phase began.

use std::collections::BTreeMap;

use super::{FaultChange, FaultEvent, Phase, PhaseEvent};
use crate::base::Nanos;

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// It bit, with evidence.
    Installed,
    /// It did not apply.
    Skipped,
    /// It may or may not have bitten; also when the history ends before it was known.
    Indeterminate,
}

impl FaultOutcome {
    /// The word of run.json.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Skipped => "skipped",
            Self::Indeterminate => "indeterminate",
        }
    }
}

/// One fault, from request to heal.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultWindow {
    /// Its name within the run.
    pub id: String,
    /// The verb.
    pub kind: String,
    /// The system.
    pub system: String,
    /// What it hit.
    pub targets: Vec<String>,
    /// What it took away, in the words of an operation's `needs`.
    pub needs: Vec<String>,
    /// What became of it.
    pub outcome: FaultOutcome,
    /// When the nodes were asked whom it hits: the oldest of the words that it rests on.
    pub resolved: Option<Nanos>,
    /// When the command was given.
    pub requested: Option<Nanos>,
    /// When the evidence that it bites was true.
    pub effective: Option<Nanos>,
    /// When its end was asked for.
    pub heal_requested: Option<Nanos>,
    /// When the evidence of its end was true.
    pub healed: Option<Nanos>,
    /// Why it could not be undone.
    pub heal_failed: Option<String>,
    /// Evidence or reason, in words.
    pub evidence: String,
    /// The whole of which this is one burst.
    pub parent: Option<String>,
    /// How many bursts this whole has; 0 for what is no such whole.
    pub bursts: usize,
}

impl FaultWindow {
    fn new(event: &FaultEvent) -> Self {
        Self {
            id: event.id.clone(),
            kind: event.kind.clone(),
            system: event.system.clone(),
            targets: event.targets.clone(),
            needs: event.needs.clone(),
            outcome: FaultOutcome::Indeterminate,
            resolved: event.resolved,
            requested: None,
            effective: None,
            heal_requested: None,
            healed: None,
            heal_failed: None,
            evidence: "nothing proved that it bit".to_owned(),
            parent: None,
            bursts: 0,
        }
    }

    fn take(&mut self, event: &FaultEvent) {
        merge(&mut self.targets, &event.targets);
        merge(&mut self.needs, &event.needs);
        match &event.change {
            FaultChange::Requested => self.requested = Some(event.at),
            FaultChange::Installed { effective, evidence } => {
                self.outcome = FaultOutcome::Installed;
                self.effective = Some(*effective);
                self.evidence.clone_from(evidence);
            }
            FaultChange::Skipped { reason } => {
                self.outcome = FaultOutcome::Skipped;
                self.evidence.clone_from(reason);
            }
            FaultChange::Indeterminate { reason } => {
                self.outcome = FaultOutcome::Indeterminate;
                self.evidence.clone_from(reason);
            }
            FaultChange::HealRequested => self.heal_requested = Some(event.at),
            FaultChange::Healed { healed, evidence } => {
                self.healed = Some(*healed);
                self.heal_failed = None;
                if !evidence.is_empty() {
                    self.evidence.push_str("; healed: ");
                    self.evidence.push_str(evidence);
                }
            }
            FaultChange::HealFailed { reason } => self.heal_failed = Some(reason.clone()),
        }
    }

    /// When its hold on the system ended: its heal; its effect for a fault that needs none (a restart, a transfer);
    /// none while it lasts.
    #[must_use]
    pub fn ended(&self) -> Option<Nanos> {
        match (self.healed, self.heal_requested) {
            (Some(healed), _) => Some(healed),
            (None, None) if self.heal_failed.is_none() => self.effective,
            _ => None,
        }
    }
}

fn merge(into: &mut Vec<String>, from: &[String]) {
    for name in from {
        if !into.contains(name) {
            into.push(name.clone());
        }
    }
}

/// The faults of a history, in the order of their effect. Bursts (`2-flap.1`, `2-flap.2`) are followed by nothing but
/// themselves: their whole (`2-flap`) stands before them, made from them where the history doesn't name it.
#[must_use]
pub fn fault_windows(events: &[FaultEvent]) -> Vec<FaultWindow> {
    let mut windows: BTreeMap<String, FaultWindow> = BTreeMap::new();
    for event in events {
        windows
            .entry(event.id.clone())
            .or_insert_with(|| FaultWindow::new(event))
            .take(event);
    }
    let mut wholes: BTreeMap<String, Vec<FaultWindow>> = BTreeMap::new();
    for window in windows.values_mut() {
        if let Some(parent) = parent_of(&window.id) {
            window.parent = Some(parent.to_owned());
            wholes.entry(parent.to_owned()).or_default().push(window.clone());
        }
    }
    for (id, bursts) in wholes {
        let own = windows.remove(&id);
        windows.insert(id.clone(), whole(id, own, &bursts));
    }
    let mut windows: Vec<_> = windows.into_values().collect();
    windows.sort_by_key(|w| (w.effective.or(w.requested).unwrap_or_default(), w.bursts == 0));
    windows
}

/// `2-flap` of `2-flap.3`.
fn parent_of(id: &str) -> Option<&str> {
    let (parent, number) = id.rsplit_once('.')?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(parent)
}

fn whole(id: String, own: Option<FaultWindow>, bursts: &[FaultWindow]) -> FaultWindow {
    let first = &bursts[0];
    let mut whole = own.unwrap_or_else(|| FaultWindow {
        kind: first.kind.clone(),
        ..first.clone()
    });
    for burst in bursts {
        merge(&mut whole.targets, &burst.targets);
        merge(&mut whole.needs, &burst.needs);
    }
    let bitten = bursts.iter().filter(|b| b.outcome == FaultOutcome::Installed).count();
    whole.outcome = match bitten {
        n if n == bursts.len() => FaultOutcome::Installed,
        0 if bursts.iter().all(|b| b.outcome == FaultOutcome::Skipped) => FaultOutcome::Skipped,
        _ => FaultOutcome::Indeterminate,
    };
    whole.evidence = format!(
        "{bitten} of {} bursts proven; the first: {}",
        bursts.len(),
        first.evidence
    );
    whole.requested = earliest(bursts.iter().map(|b| b.requested)).or(whole.requested);
    whole.effective = earliest(bursts.iter().map(|b| b.effective)).or(whole.effective);
    whole.heal_requested = bursts.iter().filter_map(|b| b.heal_requested).max();
    whole.healed = bursts
        .iter()
        .all(|b| b.healed.is_some())
        .then(|| bursts.iter().filter_map(|b| b.healed).max())
        .flatten();
    whole.heal_failed = bursts.iter().find_map(|b| b.heal_failed.clone());
    whole.parent = None;
    whole.bursts = bursts.len();
    whole.id = id;
    whole
}

fn earliest(times: impl Iterator<Item = Option<Nanos>>) -> Option<Nanos> {
    times.flatten().min()
}

/// When each phase began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phases {
    starts: Vec<(Phase, Nanos)>,
}

impl Phases {
    /// The phases that a history names, in the order of time. A run that goes back, since its steady state broke off,
    /// was never in what it went back from: each phase begins once.
    #[must_use]
    pub fn new(events: &[PhaseEvent]) -> Self {
        let mut in_time: Vec<_> = events.iter().map(|e| (e.phase, e.at)).collect();
        in_time.sort_by_key(|(_, at)| *at);
        let mut starts: Vec<(Phase, Nanos)> = Vec::new();
        for (phase, at) in in_time {
            while starts.last().is_some_and(|(last, _)| *last > phase) {
                starts.pop();
            }
            if starts.last().is_none_or(|(last, _)| *last < phase) {
                starts.push((phase, at));
            }
        }
        Self { starts }
    }

    /// When `phase` began.
    #[must_use]
    pub fn start(&self, phase: Phase) -> Option<Nanos> {
        self.starts.iter().find(|(p, _)| *p == phase).map(|(_, at)| *at)
    }

    /// From when to when `phase` lasted; `ended` stands for the end of the last one.
    #[must_use]
    pub fn window(&self, phase: Phase, ended: Nanos) -> Option<(Nanos, Nanos)> {
        let index = self.starts.iter().position(|(p, _)| *p == phase)?;
        let end = self.starts.get(index + 1).map_or(ended, |(_, at)| *at);
        Some((self.starts[index].1, end.max(self.starts[index].1)))
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[(Phase, Nanos)] {
        &self.starts
    }

    /// When the load ended: the beginning of the first phase after it.
    #[must_use]
    pub fn load_end(&self) -> Option<Nanos> {
        self.starts.iter().find(|(p, _)| *p >= Phase::Drain).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, id: &str, change: FaultChange) -> FaultEvent {
        FaultEvent {
            at: Nanos::from_millis(at),
            id: id.to_owned(),
            kind: "flap".to_owned(),
            system: "main".to_owned(),
            targets: vec![format!("n{at}")],
            needs: vec!["shard:1".to_owned()],
            resolved: None,
            change,
        }
    }

    fn bite(at: u64) -> FaultChange {
        FaultChange::Installed {
            effective: Nanos::from_millis(at),
            evidence: "seen".to_owned(),
        }
    }

    fn heal(at: u64) -> FaultChange {
        FaultChange::Healed {
            healed: Nanos::from_millis(at),
            evidence: String::new(),
        }
    }

    #[test]
    fn the_evidence_counts_and_not_the_command() {
        let windows = fault_windows(&[
            event(10, "1-kill", FaultChange::Requested),
            event(14, "1-kill", bite(12)),
            event(20, "1-kill", FaultChange::HealRequested),
            event(25, "1-kill", heal(24)),
        ]);
        assert_eq!(windows[0].effective, Some(Nanos::from_millis(12)));
        assert_eq!(windows[0].ended(), Some(Nanos::from_millis(24)));
        assert_eq!(windows[0].outcome, FaultOutcome::Installed);
    }

    #[test]
    fn a_fault_without_proof_is_indeterminate_and_never_installed() {
        let windows = fault_windows(&[event(10, "1-kill", FaultChange::Requested)]);
        assert_eq!(windows[0].outcome, FaultOutcome::Indeterminate);
        assert_eq!(windows[0].ended(), None);
    }

    #[test]
    fn bursts_make_one_whole_from_the_first_bite_to_the_last_heal() {
        let windows = fault_windows(&[
            event(1, "2-flap.1", bite(10)),
            event(2, "2-flap.1", heal(14)),
            event(3, "2-flap.2", bite(17)),
            event(4, "2-flap.2", heal(21)),
        ]);
        assert_eq!(windows.len(), 3);
        assert_eq!(windows[0].id, "2-flap");
        assert_eq!(windows[0].bursts, 2);
        assert_eq!(windows[0].effective, Some(Nanos::from_millis(10)));
        assert_eq!(windows[0].healed, Some(Nanos::from_millis(21)));
        assert_eq!(windows[1].parent.as_deref(), Some("2-flap"));
    }

    #[test]
    fn one_burst_unproven_leaves_the_whole_unproven() {
        let skipped = FaultChange::Skipped {
            reason: "no".to_owned(),
        };
        let windows = fault_windows(&[event(1, "2-flap.1", bite(10)), event(3, "2-flap.2", skipped)]);
        assert_eq!(
            windows.iter().find(|w| w.bursts == 2).unwrap().outcome,
            FaultOutcome::Indeterminate
        );
    }

    #[test]
    fn a_heal_that_was_asked_for_and_never_proven_has_not_ended() {
        let windows = fault_windows(&[
            event(1, "1-kill", bite(10)),
            event(3, "1-kill", FaultChange::HealRequested),
        ]);
        assert_eq!(windows[0].ended(), None);
        let momentary = fault_windows(&[event(1, "1-restart", bite(10))]);
        assert_eq!(momentary[0].ended(), Some(Nanos::from_millis(10)));
    }

    #[test]
    fn phases_know_their_windows() {
        let at = |phase, ms| PhaseEvent {
            at: Nanos::from_millis(ms),
            phase,
        };
        let phases = Phases::new(&[at(Phase::Steady, 5), at(Phase::Disturb, 9), at(Phase::Drain, 20)]);
        let end = Nanos::from_millis(30);
        assert_eq!(
            phases.window(Phase::Steady, end),
            Some((Nanos::from_millis(5), Nanos::from_millis(9)))
        );
        assert_eq!(phases.window(Phase::Drain, end).unwrap().1, end);
        assert_eq!(phases.window(Phase::Fence, end), None);
        assert_eq!(phases.load_end(), Some(Nanos::from_millis(20)));
    }

    #[test]
    fn a_steady_state_that_broke_off_is_warm_up() {
        let at = |phase, ms| PhaseEvent {
            at: Nanos::from_millis(ms),
            phase,
        };
        let broken = [at(Phase::WarmUp, 1), at(Phase::Steady, 5), at(Phase::WarmUp, 7)];
        let phases = Phases::new(&broken);
        assert_eq!(phases.start(Phase::Steady), None);
        assert_eq!(phases.start(Phase::WarmUp), Some(Nanos::from_millis(1)));

        let mut mended = broken.to_vec();
        mended.extend([at(Phase::Steady, 12), at(Phase::Disturb, 20)]);
        let steady = Phases::new(&mended).window(Phase::Steady, Nanos::from_millis(30));
        assert_eq!(steady, Some((Nanos::from_millis(12), Nanos::from_millis(20))));
    }
}
