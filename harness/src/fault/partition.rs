//! `partition`: parts of the system can not reach each other.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::{Endpoint, Plane};
use crate::target::{self, NodeName, Roster, Target};

/// Who can not reach whom. Exactly one of `groups`, `from` with `to`, and `all_nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Nodes of different groups can not reach each other; nodes of no group reach everybody. A node that two targets
    /// name belongs to the first. On the client plane, clients stay with the first group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Target>>,
    /// One way: what these send to `to` does not arrive; the other way stays open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Target>,
    /// One way: what `from` sends to these does not arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// Every node from every other; on the client plane, clients from every node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_nodes: bool,
    /// Which network.
    #[serde(default)]
    pub plane: Plane,
}

/// The three forms of a partition, once it is known to be one of them.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// Apart from each other.
    Groups(&'a [Target]),
    /// One way.
    OneWay(&'a Target, &'a Target),
    /// Every node alone.
    AllNodes,
}

impl Partition {
    /// Its form.
    ///
    /// # Errors
    /// When it is none or more than one of the three.
    pub fn form(&self) -> Result<Form<'_>, SpecError> {
        match (&self.groups, &self.from, &self.to, self.all_nodes) {
            (Some(groups), None, None, false)
                if groups.contains(&Target::Minority) && groups.contains(&Target::Majority) =>
            {
                Err(SpecError::Form(
                    "`minority` and `majority` are chosen apart from each other and may overlap: write `all` for the \
                     rest, as in `groups: [minority, all]`"
                        .to_owned(),
                ))
            }
            (Some(groups), None, None, false) if groups.len() >= 2 => Ok(Form::Groups(groups)),
            (Some(groups), None, None, false) => Err(SpecError::Form(format!(
                "a partition needs at least two groups, and `groups` has {}: add the other side, or use `isolate`",
                groups.len()
            ))),
            (None, Some(from), Some(to), false) => match self.plane {
                Plane::BackEnd => Ok(Form::OneWay(from, to)),
                plane => Err(SpecError::Form(format!(
                    "`from` and `to` are nodes, so `plane: {}` does not apply: leave `plane` out, or use `isolate` to \
                     cut clients off",
                    plane.name()
                ))),
            },
            (None, None, None, true) => Ok(Form::AllNodes),
            _ => Err(SpecError::Form(
                "a partition is exactly one of `groups: [..]`, `from` with `to`, and `all_nodes: true`".to_owned(),
            )),
        }
    }
}

impl Verb for Partition {
    const INFO: VerbInfo = VerbInfo {
        name: "partition",
        group: Group::Network,
        summary: "parts of the system can not reach each other: groups apart, one way, or every node alone",
        evidence: "a byte sent through each half that is cut does not arrive while one on a path left open does; after \
                   the heal it arrives",
        example: "partition: { groups: [minority, all] }",
        needs: &[],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        self.form()?;
        for target in self.targets() {
            target::check(target, roster)?;
        }
        Ok(())
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let form = self.form()?;
        let (apart, affected) = match form {
            Form::Groups(targets) => {
                let mut groups = Vec::with_capacity(targets.len());
                for target in targets {
                    groups.push(scene.nodes(target)?);
                }
                let sides = Sides::of(&groups);
                let affected = sides.affected(self.plane);
                (Apart::Sides(sides), affected)
            }
            Form::OneWay(from, to) => {
                let (from, to) = (scene.nodes(from)?, scene.nodes(to)?);
                let affected = from.clone();
                (Apart::OneWay { from, to }, affected)
            }
            Form::AllNodes => (Apart::Everybody, scene.all()),
        };
        scene.cut(self.plane, |from, to| apart.is_cut(from, to), affected)
    }

    fn targets(&self) -> Vec<&Target> {
        let groups = self.groups.iter().flatten();
        groups.chain(&self.from).chain(&self.to).collect()
    }

    fn plane(&self) -> Option<Plane> {
        Some(self.plane)
    }
}

/// Who is apart from whom, by name.
enum Apart {
    Sides(Sides),
    OneWay { from: Vec<NodeName>, to: Vec<NodeName> },
    Everybody,
}

impl Apart {
    /// Whether what `from` sends to `to` is held.
    fn is_cut(&self, from: &Endpoint, to: &Endpoint) -> bool {
        match self {
            Self::Sides(sides) => match (sides.of_endpoint(from), sides.of_endpoint(to)) {
                (Some(from), Some(to)) => from != to,
                _ => false,
            },
            Self::OneWay {
                from: senders,
                to: receivers,
            } => {
                let within = |endpoint: &Endpoint, names: &[NodeName]| match endpoint {
                    Endpoint::Node(name) => names.contains(name),
                    Endpoint::Clients(_) => false,
                };
                within(from, senders) && within(to, receivers)
            }
            Self::Everybody => true,
        }
    }
}

/// Each node's side; a node that was named twice is on the first.
struct Sides {
    of: BTreeMap<NodeName, usize>,
}

impl Sides {
    fn of(groups: &[Vec<NodeName>]) -> Self {
        let mut of = BTreeMap::new();
        for (side, nodes) in groups.iter().enumerate() {
            for node in nodes {
                of.entry(node.clone()).or_insert(side);
            }
        }
        Self { of }
    }

    /// Clients stay with the first group.
    fn of_endpoint(&self, endpoint: &Endpoint) -> Option<usize> {
        match endpoint {
            Endpoint::Node(name) => self.of.get(name).copied(),
            Endpoint::Clients(_) => Some(0),
        }
    }

    /// Whom the cut takes away: from the others, every side but the largest; from the clients, which stay with the first
    /// group, every other group.
    fn affected(&self, plane: Plane) -> Vec<NodeName> {
        let mut affected = match plane {
            Plane::Client => Vec::new(),
            Plane::BackEnd | Plane::All => self.outside_the_largest(),
        };
        if plane != Plane::BackEnd {
            let away = self.of.iter().filter(|(_, side)| **side != 0);
            affected.extend(away.map(|(node, _)| node.clone()));
        }
        affected.sort_unstable();
        affected.dedup();
        affected
    }

    /// The nodes of every side but the largest (the last of several).
    fn outside_the_largest(&self) -> Vec<NodeName> {
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for side in self.of.values() {
            *sizes.entry(*side).or_default() += 1;
        }
        let largest = sizes
            .into_iter()
            .max_by_key(|(side, size)| (*size, *side))
            .map(|(side, _)| side);
        let outside = self.of.iter().filter(|(_, side)| Some(**side) != largest);
        outside.map(|(node, _)| node.clone()).collect()
    }
}
