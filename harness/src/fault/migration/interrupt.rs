//! Where an operation is hit in the middle, and how.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seen::Seen;
use crate::base::{HumanDuration, did_you_mean};
use crate::fault::spec::SpecError;
use crate::fault::{FaultSpec, Kill, Partition};
use crate::target::Target;

/// How long whatever was done lasts unless said.
const BACK_AFTER: HumanDuration = HumanDuration::from_secs(2);

/// Hits an operation once, as soon as it is seen where `at` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    /// Where it has to be: a phase such as `catch_up`, or a share of its items such as `50%`. A phase that passes between two
    /// looks is taken for reached with the next one.
    pub at: Moment,
    /// What happens then.
    pub with: Blow,
    /// When what was killed is started again, or the network is whole again. 2s unless said. A controller is replaced at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_after: Option<HumanDuration>,
}

/// Where an operation has to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Moment {
    /// In this phase, or one that comes after it.
    Phase(String),
    /// With this many percent of its items done.
    Percent(u8),
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(number) = text.strip_suffix('%') {
            let percent = number
                .trim_end()
                .parse()
                .ok()
                .filter(|percent| (1..=100).contains(percent));
            return percent
                .map(Self::Percent)
                .ok_or_else(|| format!("`{text}` is no share of an operation; write 1% to 100%"));
        }
        let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if fits {
            return Ok(Self::Phase(text));
        }
        Err("a phase such as `catch_up`, or a share such as `50%`, is expected".to_owned())
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => f.write_str(phase),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Blow {
    /// SIGKILL.
    Kill(Victim),
    /// A cut of the network between nodes.
    Partition(Apart),
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// The node that holds what moves; the first of several.
    Source,
    /// The node that it comes to; the first of several.
    Target,
    /// The node that leads the placement group.
    PlacementLeader,
    /// Whoever asked for it and watches it. Another takes over from what stands in the journal.
    Controller,
}

/// Who can't reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// The source and the target each other.
    SourceFromTarget,
}

impl Interrupt {
    /// Whether there can be such a moment in an operation with these phases.
    ///
    /// # Errors
    /// Names the phases that there are.
    pub fn check(&self, phases: &[&str]) -> Result<(), SpecError> {
        match &self.at {
            Moment::Phase(phase) if !phases.contains(&phase.as_str()) => Err(SpecError::Form(format!(
                "`at: {phase}` is no phase of it; {}",
                did_you_mean(phase, phases.iter().copied())
            ))),
            _ => Ok(()),
        }
    }

    /// How long it lasts.
    pub(super) fn lasts(&self) -> Duration {
        self.back_after.unwrap_or(BACK_AFTER).get()
    }

    /// Whether the moment has come, in an operation whose phases come in this order; none where they come again and again.
    pub(super) fn is_due(&self, seen: &Seen, order: Option<&[&str]>) -> bool {
        match &self.at {
            Moment::Percent(percent) => {
                let (done, total) = (seen.done.items, seen.done.items_total);
                total > 0 && u128::from(done) * 100 >= u128::from(*percent) * u128::from(total)
            }
            Moment::Phase(wanted) => {
                let place = |name: &str| order.and_then(|order| order.iter().position(|it| *it == name));
                seen.entered.iter().any(|phase| {
                    let word = phase.split(' ').next().unwrap_or(phase);
                    word == wanted || place(word).zip(place(wanted)).is_some_and(|(is, wanted)| is > wanted)
                })
            }
        }
    }

    /// What that is as a fault, by who has which part now. None for the controller, who is no node.
    ///
    /// # Errors
    /// In words, when nobody has that part.
    pub(super) fn fault(&self, seen: &Seen) -> Result<Option<FaultSpec>, String> {
        let first =
            |nodes: &[String], what: &str| nodes.first().cloned().ok_or_else(|| format!("nobody is the {what}"));
        let node = match self.with {
            Blow::Kill(Victim::Controller) => return Ok(None),
            Blow::Kill(Victim::Source) => first(&seen.source, "source")?,
            Blow::Kill(Victim::Target) => first(&seen.target, "target")?,
            Blow::Kill(Victim::PlacementLeader) => first(seen.coordinator.as_slice(), "leader of the placement group")?,
            Blow::Partition(Apart::SourceFromTarget) => {
                let sides = [first(&seen.source, "source")?, first(&seen.target, "target")?];
                return Ok(Some(FaultSpec::Partition(Partition {
                    groups: Some(sides.map(Target::Node).into()),
                    ..Partition::default()
                })));
            }
        };
        Ok(Some(FaultSpec::Kill(Kill(Target::Node(node)))))
    }
}

/// The name of the fault that interrupts the operation `id`.
#[must_use]
pub fn interrupt_id(id: &str) -> String {
    format!("{id}-interrupt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Amounts;

    const PHASES: &[&str] = &["add_learner", "catch_up", "enter_joint"];

    fn interrupt(at: &str) -> Interrupt {
        let yaml = format!("{{ at: {at}, with: {{ kill: source }} }}");
        serde_saphyr::from_str(&yaml).unwrap()
    }

    fn entered(phases: &[&str]) -> Seen {
        Seen {
            entered: phases.iter().map(|it| (*it).to_owned()).collect(),
            source: vec!["n2".to_owned()],
            ..Seen::default()
        }
    }

    #[test]
    fn a_phase_is_reached_when_it_or_a_later_one_is_seen() {
        let at = interrupt("catch_up");
        assert!(!at.is_due(&entered(&["add_learner"]), Some(PHASES)));
        assert!(at.is_due(&entered(&["add_learner", "catch_up"]), Some(PHASES)));
        assert!(at.is_due(&entered(&["add_learner", "enter_joint"]), Some(PHASES)));
        // Phases that come again and again have no order.
        assert!(!interrupt("start").is_due(&entered(&["stop n1"]), None));
        assert!(interrupt("start").is_due(&entered(&["stop n1", "start n1"]), None));
    }

    #[test]
    fn a_share_is_reached_when_so_many_items_are_done() {
        let with = |items, items_total| Seen {
            done: Amounts {
                items,
                items_total,
                bytes: 0,
            },
            ..Seen::default()
        };
        let half = interrupt("50%");
        assert!(!half.is_due(&with(0, 0), None), "nothing is known yet");
        assert!(!half.is_due(&with(4, 10), None));
        assert!(half.is_due(&with(5, 10), None));
    }

    #[test]
    fn what_can_not_be_a_moment_is_refused() {
        for wrong in ["0%", "101%", "x%", "\"\"", "Catch Up"] {
            let yaml = format!("{{ at: {wrong}, with: {{ kill: source }} }}");
            assert!(serde_saphyr::from_str::<Interrupt>(&yaml).is_err(), "{wrong}");
        }
        let says = interrupt("catchup").check(PHASES).unwrap_err().to_string();
        assert!(says.contains("catch_up"), "{says}");
        assert_eq!(interrupt("catch_up").check(PHASES), Ok(()));
    }

    #[test]
    fn whoever_has_the_part_is_hit_and_nobody_else() {
        let fault = interrupt("50%").fault(&entered(&[])).unwrap();
        assert_eq!(fault, Some(FaultSpec::Kill(Kill(Target::Node("n2".to_owned())))));
        let target = Interrupt {
            with: Blow::Kill(Victim::Target),
            ..interrupt("50%")
        };
        assert!(target.fault(&entered(&[])).unwrap_err().contains("target"));
        let controller = Interrupt {
            with: Blow::Kill(Victim::Controller),
            ..interrupt("50%")
        };
        assert_eq!(controller.fault(&entered(&[])), Ok(None));
    }
}
