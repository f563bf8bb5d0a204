//! What a promise is, and what judging it can say.

use serde::{Deserialize, Serialize};

use crate::{
    base::Nanos,
    history::{History, SystemView},
};

/// What a promise came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Not exercised: nothing of the history obliges it. Never a pass.
    NotJudged,
    /// Every obligation was kept.
    Pass,
    /// No obligation is known to be broken, but some could not be told.
    Unknown,
    /// Broken, with a witness.
    Fail,
}

impl Verdict {
    /// The word of run.json.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJudged => "not-judged",
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

/// What judging one promise found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The promise.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// How many obligations were judged.
    pub obligations: u64,
    /// How many were broken.
    pub broken: u64,
    /// The smallest breach, in plain words.
    pub witness: Option<String>,
    /// Why it is unknown or was not judged.
    pub reason: Option<String>,
}

/// Something that a service owes, judged on a history.
pub trait Promise: Sync {
    /// Its stable name, in kebab-case.
    fn name(&self) -> &'static str;
    /// What it says, in one sentence.
    fn about(&self) -> &'static str;
    /// Judges it for one system. Never panics, however odd the history; linear or n log n in its length.
    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally);
}

/// Counts what a promise finds. The smallest witness is the earliest breach: what came first needs the least to explain.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    obligations: u64,
    broken: u64,
    earliest: Option<(Nanos, String)>,
    unsure: Option<String>,
    not_exercised: Option<String>,
    several_systems: Option<String>,
}

impl Tally {
    /// A tally whose witnesses name the system, where there are several.
    pub(super) fn of(history: &History, system: &SystemView) -> Self {
        Self {
            several_systems: (history.systems.len() > 1).then(|| format!("{}: ", system.name)),
            ..Self::default()
        }
    }

    /// `count` more obligations were judged.
    pub const fn oblige(&mut self, count: u64) {
        self.obligations += count;
    }

    /// An obligation was broken at `at`. The words are made only where they are needed.
    pub fn broken(&mut self, at: Nanos, words: impl FnOnce() -> String) {
        self.broken += 1;
        if self.earliest.as_ref().is_none_or(|(earliest, _)| at < *earliest) {
            let system = self.several_systems.as_deref().unwrap_or_default();
            self.earliest = Some((at, format!("{system}{}", words())));
        }
    }

    /// Some obligations can't be told, and why. The first reason stays.
    pub fn unsure(&mut self, reason: impl FnOnce() -> String) {
        if self.unsure.is_none() {
            self.unsure = Some(reason());
        }
    }

    /// Why nothing was judged, should nothing be.
    pub fn needs(&mut self, reason: &str) {
        self.not_exercised = Some(reason.to_owned());
    }

    pub(super) fn finding(self, name: &'static str) -> Finding {
        let verdict = match (self.broken, &self.unsure, self.obligations) {
            (1.., _, _) => Verdict::Fail,
            (0, Some(_), _) => Verdict::Unknown,
            (0, None, 0) => Verdict::NotJudged,
            (0, None, 1..) => Verdict::Pass,
        };
        let witness = self.earliest.map(|(_, words)| match self.broken {
            0 | 1 => words,
            more => format!("{words}; and {} more", more - 1),
        });
        Finding {
            name,
            verdict,
            obligations: self.obligations,
            broken: self.broken,
            witness,
            reason: match verdict {
                Verdict::NotJudged => Some(
                    self.not_exercised
                        .unwrap_or_else(|| "nothing in this run obliges it".to_owned()),
                ),
                Verdict::Unknown => self.unsure,
                Verdict::Pass | Verdict::Fail => None,
            },
        }
    }
}

/// Judges every promise of `promises` over all systems: fail beats unknown beats pass, obligations add up.
#[must_use]
pub fn judge(history: &History, promises: &[&dyn Promise]) -> Vec<Finding> {
    promises
        .iter()
        .map(|promise| {
            history
                .systems
                .values()
                .map(|system| {
                    let mut tally = Tally::of(history, system);
                    promise.judge(history, system, &mut tally);
                    tally.finding(promise.name())
                })
                .reduce(worse)
                .unwrap_or_else(|| Tally::default().finding(promise.name()))
        })
        .collect()
}

fn worse(a: Finding, b: Finding) -> Finding {
    let (mut worst, other) = if a.verdict >= b.verdict { (a, b) } else { (b, a) };
    worst.obligations += other.obligations;
    worst.broken += other.broken;
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_beats_unknown_beats_pass_and_nothing_is_no_pass() {
        let tally = Tally::default;
        assert_eq!(tally().finding("x").verdict, Verdict::NotJudged);
        let mut some = tally();
        some.oblige(3);
        assert_eq!(some.clone().finding("x").verdict, Verdict::Pass);
        some.unsure(|| "half".to_owned());
        assert_eq!(some.clone().finding("x").verdict, Verdict::Unknown);
        some.broken(Nanos(7), || "late".to_owned());
        some.broken(Nanos(3), || "early".to_owned());
        let found = some.finding("x");
        assert_eq!(found.verdict, Verdict::Fail);
        assert_eq!(found.witness.as_deref(), Some("early; and 1 more"));
        let mut passed = tally();
        passed.oblige(2);
        let both = worse(passed.finding("x"), found);
        assert_eq!((both.verdict, both.obligations), (Verdict::Fail, 5));
    }
}
