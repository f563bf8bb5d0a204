//! A roll-out as it is to go: which nodes in which step, as what, and what happens when a gate is red.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::Health;
use crate::target::{NodeName, Roster};

/// How many nodes make a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum By {
    /// This many percent of the nodes, at least one.
    Percent(u8),
    /// Those of one zone.
    Zone,
}

impl TryFrom<String> for By {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "zone" {
            return Ok(Self::Zone);
        }
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        percent
            .filter(|percent| (1..=100).contains(percent))
            .map(Self::Percent)
            .ok_or_else(|| format!("`{text}` is no step of a roll-out; write a share such as 25%, or `zone`"))
    }
}

impl From<By> for String {
    fn from(by: By) -> Self {
        match by {
            By::Percent(percent) => format!("{percent}%"),
            By::Zone => "zone".to_owned(),
        }
    }
}

/// What happens when a gate is red, or a node does not come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRed {
    /// The roll-out stops where it is.
    #[default]
    Stop,
    /// The nodes that it has been at are taken back to what they were, the latest first.
    Rollback,
}

/// A roll-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The nodes of each step, in their order.
    pub steps: Vec<Vec<NodeName>>,
    /// What each is to run. Who is not in it stays what it is.
    pub to: BTreeMap<NodeName, String>,
    /// What each said that it ran when the roll-out began.
    pub from: BTreeMap<NodeName, String>,
    /// What has to hold after each step.
    pub gate: Option<Health>,
    /// What happens when it does not.
    pub on_red: OnRed,
}

/// The phases of a roll-out; each stands before the node or the step that it is of.
pub(in crate::fault) const ROLL_PHASES: &[&str] = &["stop", "start", "catch_up", "lead", "gate", "back"];

impl Rollout {
    /// How many nodes it has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.steps.iter().map(Vec::len).sum()
    }
}

/// Deals nodes over the steps of a roll-out.
#[must_use]
pub(in crate::fault) fn steps(nodes: &[NodeName], by: By, roster: &Roster) -> Vec<Vec<NodeName>> {
    match by {
        By::Zone => {
            let mut zones: Vec<(&str, Vec<NodeName>)> = Vec::new();
            for node in roster.nodes.iter().filter(|node| nodes.contains(&node.name)) {
                match zones.iter_mut().find(|(zone, _)| *zone == node.zone) {
                    Some((_, of_zone)) => of_zone.push(node.name.clone()),
                    None => zones.push((&node.zone, vec![node.name.clone()])),
                }
            }
            zones.into_iter().map(|(_, nodes)| nodes).collect()
        }
        By::Percent(percent) => {
            let until = |step: usize| {
                (nodes.len() * step * usize::from(percent))
                    .div_ceil(100)
                    .min(nodes.len())
            };
            let all = (1..).map(|step| (until(step - 1), until(step)));
            all.take_while(|(from, _)| *from < nodes.len())
                .filter(|(from, to)| to > from)
                .map(|(from, to)| nodes[from..to].to_vec())
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::RosterNode;

    fn roster(count: usize, zones: &[&str]) -> Roster {
        Roster {
            nodes: (0..count)
                .map(|i| RosterNode {
                    name: format!("n{}", i + 1),
                    zone: zones[i % zones.len()].to_owned(),
                })
                .collect(),
            ..Roster::default()
        }
    }

    fn sizes(count: usize, by: &str) -> Vec<usize> {
        let roster = roster(count, &["a", "b"]);
        let nodes: Vec<String> = roster.nodes.iter().map(|node| node.name.clone()).collect();
        let steps = steps(&nodes, By::try_from(by.to_owned()).unwrap(), &roster);
        assert_eq!(steps.concat().len(), count, "everybody has a turn, and one");
        steps.iter().map(Vec::len).collect()
    }

    #[test]
    fn nodes_are_dealt_by_shares_or_by_zones() {
        assert_eq!(sizes(4, "25%"), [1, 1, 1, 1]);
        assert_eq!(sizes(5, "20%"), [1, 1, 1, 1, 1]);
        assert_eq!(sizes(3, "50%"), [2, 1]);
        assert_eq!(sizes(7, "34%"), [3, 2, 2]);
        assert_eq!(sizes(3, "1%"), [1, 1, 1]);
        assert_eq!(sizes(4, "100%"), [4]);
        assert_eq!(sizes(5, "zone"), [3, 2]);
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for wrong in ["0%", "101%", "node", "", "%", "-5%"] {
            assert!(By::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
