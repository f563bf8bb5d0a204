//! What a fault finds when its moment has come, and what is then to be done, in a backend's primitives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::spec::SpecError;
use crate::backend::{Direction, Endpoint, LinkId, LinkRule, Plane};
use crate::system::Errand;
use crate::target::{self, NodeName, Observations, Roster, Target};

/// Rules by half of a link.
pub type Rules = BTreeMap<(LinkId, Direction), LinkRule>;

/// The system at one moment.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Who there is.
    pub roster: &'a Roster,
    /// What the nodes say of themselves.
    pub seen: &'a Observations,
    /// The nodes that run.
    pub running: &'a BTreeSet<NodeName>,
    /// The links that are open.
    pub links: &'a [LinkId],
    /// The fault's own random stream.
    pub rng: &'a mut ChaCha8Rng,
}

/// What is to be done, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// What is to be done.
    pub action: Action,
    /// Nodes, or directed pairs such as `n1->n2/back_end`, for people.
    pub targets: Vec<String>,
    /// The nodes that are taken from the rest: what they lead is taken away.
    pub affected: Vec<NodeName>,
    /// What is taken away beyond that.
    pub needs: Vec<String>,
    /// Nodes that were named and are not hit, since they don't run.
    pub left_out: Vec<NodeName>,
}

impl Resolved {
    /// What the clients do, which hits no node.
    pub(super) fn of_clients(action: Action) -> Self {
        Self {
            action,
            targets: vec!["clients".to_owned()],
            affected: Vec::new(),
            needs: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Kill these, all at one instant; undone by starting them.
    Kill(Vec<NodeName>),
    /// Take the power from these and their disks, all at one instant; undone by starting them.
    PowerLoss(Vec<NodeName>),
    /// Ask these to end; undone by starting them.
    Stop(Vec<NodeName>),
    /// Freeze these; undone by resuming them.
    Freeze(Vec<NodeName>),
    /// Ask these to end and start them again at once.
    Restart(Vec<NodeName>),
    /// Put these rules on links; undone by lifting them.
    Rules(Rules),
    /// Put these rules on links and lift them, again and again.
    Flap {
        /// The rules of each burst.
        rules: Rules,
        /// How long each burst lasts.
        on: Duration,
        /// How long it is whole in between.
        off: Duration,
        /// How many bursts.
        times: u32,
    },
    /// Have the leader of a group hand over.
    Transfer {
        /// The group.
        group: String,
        /// To whom.
        to: NodeName,
    },
    /// Have the clients ask for a multiple of what they do; undone by having them ask for what they did.
    Load {
        /// How many times their rate.
        factor: f64,
    },
    /// Ask the system itself for it; undone by asking it to end it.
    Errand(Errand),
    /// Have devices fall silent; undone by having them go on.
    Doze {
        /// Which share of them.
        share: f64,
    },
    /// Have devices drop their sessions and log in again.
    Relaunch {
        /// Which share of them.
        share: f64,
    },
}

impl Scene<'_> {
    /// The nodes that `target` names at this moment.
    ///
    /// # Errors
    /// What does not exist, and when nobody leads.
    pub fn nodes(&mut self, target: &Target) -> Result<Vec<NodeName>, SpecError> {
        Ok(target::resolve(target, self.roster, self.seen, self.rng)?)
    }

    /// Every node.
    #[must_use]
    pub fn all(&self) -> Vec<NodeName> {
        self.roster.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The nodes that may hold a group.
    #[must_use]
    pub fn holders(&self, group: &str) -> BTreeSet<NodeName> {
        self.roster.groups.get(group).cloned().unwrap_or_default()
    }

    /// An action on those of the target's nodes that run.
    ///
    /// # Errors
    /// When none of them does.
    pub fn on_running(&mut self, target: &Target, action: fn(Vec<NodeName>) -> Action) -> Result<Resolved, SpecError> {
        let named = self.nodes(target)?;
        let (running, left_out): (Vec<_>, Vec<_>) = named.iter().cloned().partition(|name| self.running.contains(name));
        if running.is_empty() {
            return Err(SpecError::Nothing(format!("of {} none runs", named.join(", "))));
        }
        Ok(Resolved {
            targets: running.clone(),
            affected: running.clone(),
            needs: Vec::new(),
            left_out,
            action: action(running),
        })
    }

    /// Cuts what `is_cut(from, to)` says, on the links of `plane`.
    ///
    /// # Errors
    /// When that is nothing.
    pub fn cut(
        &self,
        plane: Plane,
        is_cut: impl Fn(&Endpoint, &Endpoint) -> bool,
        affected: Vec<NodeName>,
    ) -> Result<Resolved, SpecError> {
        let cut = LinkRule {
            cut: true,
            ..LinkRule::default()
        };
        self.rules(plane, cut, is_cut, affected)
    }

    /// Puts `rule` on whatever goes from one to the other where `applies(from, to)`, whichever of them dialled.
    ///
    /// # Errors
    /// When that is nothing.
    pub fn rules(
        &self,
        plane: Plane,
        rule: LinkRule,
        applies: impl Fn(&Endpoint, &Endpoint) -> bool,
        affected: Vec<NodeName>,
    ) -> Result<Resolved, SpecError> {
        let mut rules = Rules::new();
        let mut pairs = BTreeSet::new();
        for link in self.links.iter().filter(|link| plane.covers(link.plane)) {
            let (dialler, dialled) = (&link.from, Endpoint::Node(link.to.clone()));
            for (direction, from, to) in [
                (Direction::Forward, dialler, &dialled),
                (Direction::Backward, &dialled, dialler),
            ] {
                if applies(from, to) {
                    rules.insert((link.clone(), direction), rule);
                    pairs.insert(format!("{from}->{to}/{}", link.plane.name()));
                }
            }
        }
        if rules.is_empty() {
            return Err(SpecError::Nothing(format!(
                "nobody on the {} plane is on different sides of it",
                plane.name()
            )));
        }
        Ok(Resolved {
            action: Action::Rules(rules),
            targets: pairs.into_iter().collect(),
            affected,
            needs: Vec::new(),
            left_out: Vec::new(),
        })
    }
}
