//! What one class of one group of clients went through in one episode, read off its samples and outages.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    base::{Nanos, millis},
    history::{Class, Delivery, History, SystemView},
};

use super::{
    backlog::drained,
    band::Band,
    episode::Episode,
    figure::Figure,
    gaps::{client_gaps, needed, worst_gap},
    goodput::goodput,
    lost::{Stretch, lost},
    outage::{OPERATIONS_MIN, Outage},
    row::{Row, bounds},
    sample::{ALL_CLIENTS, Sample},
    status::{Said, redundant, sessions_back},
};

/// One class of one group of clients of one system.
pub(super) struct View<'a> {
    pub(super) history: &'a History,
    pub(super) system: &'a SystemView,
    pub(super) said: &'a Said<'a>,
    pub(super) class: Class,
    pub(super) group: &'a str,
    pub(super) samples: &'a [Sample],
    pub(super) band: Option<Band>,
    pub(super) outages: Option<Vec<Outage>>,
    pub(super) stricter: Vec<(&'static str, f64, Vec<Outage>)>,
}

/// The part of an outage that an episode answers for.
#[derive(Clone, Copy)]
struct Share {
    from: Nanos,
    to: Option<Nanos>,
    from_bound: u64,
    /// The bound of the outage's own beginning, also where the effect says it better.
    edge_bound: u64,
    to_bound: u64,
}

impl View<'_> {
    fn member(&self, session: u64) -> bool {
        self.group == ALL_CLIENTS
            || self
                .system
                .session_groups
                .get(&session)
                .is_some_and(|labels| labels.contains(self.group))
    }

    pub(super) fn row(&self, episode: &Episode, told: (Figure, Figure)) -> Row {
        let shares = self.outages.as_ref().map(|outages| shares(episode, outages));
        let resolved = self.resolved(episode);
        let impact = self.impact(episode, shares.as_deref(), resolved);
        let heal = self.heal_clock(episode, shares.as_deref());
        let mut row = Row {
            fault: episode.fault.clone(),
            system: self.system.name.clone(),
            class: self.class.name(),
            group: self.group.to_owned(),
            heals: episode.heals,
            impact_ms: impact,
            detect_ms: told.0,
            failover_ms: told.1,
            first_ok_ms: self.first_ok(episode, &impact),
            steady_ms: self.steady(episode, shares.as_deref(), &impact, resolved),
            first_ok_after_heal_ms: self.first_ok_after_heal(episode, heal.0, &impact),
            steady_after_heal_ms: if resolved { heal.1 } else { Figure::Unresolved },
            drained_after_heal_ms: self.drained(episode, heal.0),
            sessions_back_after_heal_ms: sessions_back(self.said, episode, heal.0, &|session| self.member(session)),
            redundant_after_heal_ms: redundant(self.said, episode, heal.0),
            worst_gap_ms: worst_gap(episode, self.samples),
            downtime_ms: self.downtime(episode, shares.as_deref(), resolved),
            relapses: match (&shares, resolved) {
                (Some(shares), true) => Figure::count(count(shares.len().saturating_sub(1))),
                _ => Figure::Unresolved,
            },
            lost_user_seconds: self.lost(episode, shares.as_deref(), resolved),
            goodput: goodput(self.history, episode, self.samples),
            bound_ms: 0.0,
            bounds_ms: BTreeMap::new(),
            bounds: BTreeMap::new(),
            steady_at_ms: self.steady_at(episode),
            client_gap_ms: client_gaps(episode, self.samples, self.said.late),
        };
        row.bounds_ms = bounds(&row);
        row.bounds = [("lost_user_seconds", &row.lost_user_seconds), ("goodput", &row.goodput)]
            .into_iter()
            .filter_map(|(name, figure)| Some((name, figure.bound()?)))
            .collect();
        row.bound_ms = row.bounds_ms.values().copied().fold(0.0, f64::max);
        row
    }

    /// Whether there were operations enough, on the average, for a stretch to tell anything.
    fn resolved(&self, episode: &Episode) -> bool {
        let inside = self.between(episode.effective, episode.horizon).len();
        let stretches = episode.horizon.since(episode.effective).as_secs_f64() / self.history.facts.hold.as_secs_f64();
        self.band.is_some() && count(inside) >= count(OPERATIONS_MIN) * stretches.max(1.0)
    }

    fn between(&self, from: Nanos, to: Nanos) -> &[Sample] {
        let first = self.samples.partition_point(|s| s.intended < from);
        let last = self.samples.partition_point(|s| s.intended < to).max(first);
        &self.samples[first..last]
    }

    /// How long nothing was sent before and after `at`: the spacing of what was meant, and how late the next was.
    fn spacing_at(&self, at: Nanos) -> u64 {
        let index = self.samples.partition_point(|s| s.intended < at);
        let before = index.checked_sub(1).map(|i| self.samples[i].intended);
        let after = self.samples.get(index).map(|s| s.intended.plus(s.lag));
        match (before, after) {
            (Some(before), Some(after)) => after.0.saturating_sub(before.0),
            (Some(edge), None) | (None, Some(edge)) => edge.0.abs_diff(at.0),
            (None, None) => 0,
        }
    }

    fn impact(&self, episode: &Episode, shares: Option<&[Share]>, resolved: bool) -> Figure {
        let (Some(band), Some(shares)) = (self.band, shares) else {
            return Figure::Unresolved;
        };
        let inside_outage = |s: &Sample| {
            shares
                .iter()
                .any(|o| s.intended >= o.from && o.to.is_none_or(|to| s.intended < to))
        };
        let edge = shares.first().map_or(0, |o| o.edge_bound);
        self.between(Nanos(0), episode.horizon)
            .iter()
            .filter(|s| s.done >= episode.effective && band.bad(s))
            // A slow operation within the tolerance is nothing; an error is one even there.
            .filter(|s| (s.intended >= episode.effective && !s.ok) || inside_outage(s))
            .map(|s| (band.noticed(s).max(episode.effective), s))
            .min_by_key(|(at, s)| (*at, s.intended))
            .map_or(
                if resolved { Figure::None } else { Figure::Unresolved },
                |(at, first)| {
                    // An error says that the service failed at some time while it was being answered.
                    let limit = first.intended.plus(band.p99_max);
                    let answering = if at < limit {
                        at.0.saturating_sub(first.intended.0)
                    } else {
                        Nanos::from_duration(first.lag).0
                    };
                    let bound = edge.max(self.spacing_at(first.intended)).saturating_add(answering);
                    Figure::between(episode.effective, at, bound)
                },
            )
    }

    fn steady(&self, episode: &Episode, shares: Option<&[Share]>, impact: &Figure, resolved: bool) -> Figure {
        match (impact, shares) {
            _ if !resolved => Figure::Unresolved,
            (Figure::Value { .. }, Some([])) => *impact,
            (Figure::Value { .. }, Some([first, ..])) => first.to.map_or(Figure::Never, |to| {
                Figure::between(episode.effective, to, first.to_bound)
            }),
            (other, _) => *other,
        }
    }

    /// The heal clock's start, and the first stretch inside the band from there.
    fn heal_clock(&self, episode: &Episode, shares: Option<&[Share]>) -> (Option<Nanos>, Figure) {
        if !episode.heals {
            return (None, Figure::None);
        }
        let (Some(mut clock), Some(outages)) = (episode.healed, self.outages.as_ref()) else {
            let without = if episode.healed.is_none() {
                Figure::Never
            } else {
                Figure::Unresolved
            };
            return (episode.healed, without);
        };
        // Each reset takes one of the other faults, so this ends.
        for _ in 0..=episode.others.len() {
            let (back, bound) = first_stretch(outages, clock, self.history.facts.hold);
            match episode.reset_by(clock, back.unwrap_or(Nanos(u64::MAX))) {
                Some(None) => return (None, Figure::Never),
                Some(Some(ended)) => clock = clock.max(ended),
                None => {
                    let figure = match (shares, back) {
                        (Some([]), _) => Figure::None,
                        (_, None) => Figure::Never,
                        (_, Some(back)) => Figure::between(clock, back, bound.max(self.spacing_at(back))),
                    };
                    return (Some(clock), figure);
                }
            }
        }
        (Some(clock), Figure::Never)
    }

    fn first_ok(&self, episode: &Episode, impact: &Figure) -> Figure {
        let Some(band) = self.band.filter(|_| impact.value().is_some()) else {
            return *impact;
        };
        let mine = || self.samples.iter().filter(|s| needed(episode, s));
        let Some(first_bad) =
            mine().find(|s| s.done >= episode.effective && s.intended < episode.horizon && band.bad(s))
        else {
            return Figure::None;
        };
        let from = first_bad.intended.max(episode.effective);
        let Some(ok) = mine().filter(|s| s.ok && s.sent >= from).min_by_key(|s| s.done) else {
            return Figure::Never;
        };
        Figure::between(episode.effective, ok.done, self.success_bound(episode, ok))
    }

    fn first_ok_after_heal(&self, episode: &Episode, clock: Option<Nanos>, impact: &Figure) -> Figure {
        if !episode.heals || *impact == Figure::None {
            return Figure::None;
        }
        let Some(healed) = clock else { return Figure::Never };
        let mine = self.samples.iter().filter(|s| needed(episode, s));
        mine.filter(|s| s.ok && s.done >= healed)
            .min_by_key(|s| s.done)
            .map_or(Figure::Never, |ok| {
                Figure::between(healed, ok.done, self.success_bound(episode, ok))
            })
    }

    /// A success says that the part worked then; it may have since the attempt was sent or the one before it.
    fn success_bound(&self, episode: &Episode, ok: &Sample) -> u64 {
        let before = self
            .samples
            .iter()
            .filter(|s| needed(episode, s) && s.sent < ok.sent)
            .map(|s| s.sent)
            .max();
        let gap = before.map_or(0, |before| ok.sent.0 - before.0);
        gap.saturating_add(ok.done.0.saturating_sub(ok.sent.0))
    }

    fn drained(&self, episode: &Episode, clock: Option<Nanos>) -> Figure {
        if self.class != Class::Deliver {
            return Figure::None;
        }
        let member = |delivery: &Delivery| self.member(delivery.session);
        drained(self.system, episode, clock, self.said.late, &member)
    }

    fn downtime(&self, episode: &Episode, shares: Option<&[Share]>, resolved: bool) -> Figure {
        let (Some(shares), true) = (shares, resolved) else {
            return Figure::Unresolved;
        };
        let (mut down, mut bound) = (Duration::ZERO, 0_u64);
        for share in shares {
            down += share
                .to
                .unwrap_or(episode.horizon)
                .min(episode.horizon)
                .since(share.from);
            bound = share.from_bound.saturating_add(share.to_bound).saturating_add(bound);
        }
        if shares.is_empty() {
            bound = self.spacing_at(episode.effective);
        }
        Figure::millis(millis(down), Nanos(bound).as_millis_f64())
    }

    fn lost(&self, episode: &Episode, shares: Option<&[Share]>, resolved: bool) -> Figure {
        let (Some(band), Some(shares), true) = (self.band, shares, resolved) else {
            return Figure::Unresolved;
        };
        let users: std::collections::BTreeSet<u64> =
            self.samples.iter().filter(|s| !s.probe).map(|s| s.session).collect();
        let stretches: Vec<Stretch> = shares
            .iter()
            .map(|share| {
                let to = share.to.unwrap_or(episode.horizon).min(episode.horizon);
                let inside = self.between(share.from, to);
                Stretch {
                    length: to.since(share.from),
                    bound: share.from_bound.saturating_add(share.to_bound),
                    operations: inside.len(),
                    bad: inside.iter().filter(|s| band.bad(s)).count(),
                    late: inside.iter().filter(|s| band.only_late(s)).count(),
                }
            })
            .collect();
        lost(&stretches, users.len())
    }

    /// `steady` with other success ratios; unresolved where a stretch has too few operations to tell such a ratio.
    fn steady_at(&self, episode: &Episode) -> BTreeMap<&'static str, Figure> {
        let hold = self.history.facts.hold;
        let stretch = self.between(episode.effective, episode.effective.plus(hold)).len();
        let told = |ratio: f64, found: &[Outage]| {
            if count(stretch) + 0.5 < 1.0 / (1.0 - ratio) {
                return Figure::Unresolved;
            }
            shares(episode, found).first().map_or(Figure::None, |share| {
                share.to.map_or(Figure::Never, |to| {
                    Figure::between(episode.effective, to, share.to_bound)
                })
            })
        };
        let each = self.stricter.iter();
        each.map(|(name, ratio, found)| (*name, told(*ratio, found))).collect()
    }
}

/// What of the outages falls into the episode: what lasted or began between its effect and its horizon. What begins
/// within its bound of the horizon is the next fault's.
fn shares(episode: &Episode, outages: &[Outage]) -> Vec<Share> {
    outages
        .iter()
        .filter(|o| o.from.plus(Duration::from_nanos(o.from_bound)) < episode.horizon || o.from <= episode.effective)
        .filter(|o| o.from < episode.horizon && o.to.is_none_or(|to| to > episode.effective))
        .map(|o| Share {
            from: o.from.max(episode.effective),
            to: o.to,
            from_bound: if o.from < episode.effective {
                o.from_bound.min(o.from.0.abs_diff(episode.effective.0))
            } else {
                o.from_bound
            },
            edge_bound: o.from_bound,
            to_bound: o.to_bound,
        })
        .collect()
}

/// The first instant from `clock` on from which a stretch of `hold` sees no outage, and that instant's bound.
fn first_stretch(outages: &[Outage], clock: Nanos, hold: Duration) -> (Option<Nanos>, u64) {
    let (mut at, mut bound) = (clock, 0);
    for outage in outages {
        if let Some(to) = outage.to.filter(|to| *to <= at) {
            // It may have ended later than it seems to have, and so after the clock's start.
            bound = bound.max(to.0.saturating_add(outage.to_bound).saturating_sub(at.0));
            continue;
        }
        if outage.from >= at.plus(hold) {
            break;
        }
        match outage.to {
            None => return (None, 0),
            Some(to) => (at, bound) = (to, outage.to_bound),
        }
    }
    (Some(at), bound)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of operations and users are far below 2^52"
)]
const fn count(number: usize) -> f64 {
    number as f64
}
