//! What `roll`, `upgrade` and `rollback` have in common: from their value to a roll-out of the nodes that there are.

use super::course::{Course, Ends, Work, check_within, within};
use super::gate::Gate;
use super::interrupt::{Blow, Interrupt, Victim};
use super::rollout::{By, OnRed, ROLL_PHASES, Rollout, steps};
use crate::base::{HumanDuration, did_you_mean};
use crate::fault::scene::{Action, Resolved, Scene};
use crate::fault::spec::SpecError;
use crate::system::RELEASES;
use crate::target::{self, Roster, Target};

/// The value of such a verb.
#[derive(Clone, Copy, Debug)]
pub(in crate::fault) struct Rolls<'a> {
    /// The release; none for what each runs anyway.
    pub(in crate::fault) to: Option<&'a str>,
    pub(in crate::fault) on: Option<&'a Target>,
    pub(in crate::fault) by: By,
    pub(in crate::fault) gate: &'a Gate,
    pub(in crate::fault) on_red: OnRed,
    pub(in crate::fault) interrupt: Option<&'a Interrupt>,
    pub(in crate::fault) ends: Option<Ends>,
    pub(in crate::fault) within: Option<HumanDuration>,
}

impl Rolls<'_> {
    pub(in crate::fault) fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        if let Some(on) = self.on {
            target::check(on, roster)?;
        }
        self.gate.check()?;
        check_within(self.within)?;
        if let Some(to) = self.to
            && !RELEASES.contains(&to)
        {
            return Err(SpecError::Form(format!(
                "there is no release `{to}`; {}",
                did_you_mean(to, RELEASES.iter().copied())
            )));
        }
        if let Some(interrupt) = self.interrupt {
            interrupt.check(ROLL_PHASES)?;
            if interrupt.with == Blow::Kill(Victim::PlacementLeader) {
                return Err(SpecError::Form(
                    "a roll-out is not kept by the placement group; kill `source` (the node whose turn it is) or `controller`"
                        .to_owned(),
                ));
            }
            if let Blow::Partition(_) = interrupt.with {
                return Err(SpecError::Form(
                    "source and target of a roll-out are one node; kill `source` or `controller`".to_owned(),
                ));
            }
        }
        Ok(())
    }

    pub(in crate::fault) fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let named = match self.on {
            Some(on) => scene.nodes(on)?,
            None => scene.all(),
        };
        // A spare that was never started has nothing to be restarted.
        let nodes: Vec<_> = named.into_iter().filter(|node| scene.running.contains(node)).collect();
        if nodes.is_empty() {
            return Err(SpecError::Nothing(
                "no node runs that it could be rolled over".to_owned(),
            ));
        }
        let runs = |node: &String| scene.seen.get(node).map(|status| status.release.clone());
        let says = |node: &String| Some((node.clone(), runs(node).filter(|it| !it.is_empty())?));
        let rollout = Rollout {
            steps: steps(&nodes, self.by, scene.roster),
            to: match self.to {
                Some(to) => nodes.iter().map(|node| (node.clone(), to.to_owned())).collect(),
                None => std::collections::BTreeMap::new(),
            },
            from: match self.to {
                Some(_) => nodes.iter().filter_map(says).collect(),
                None => std::collections::BTreeMap::new(),
            },
            gate: self.gate.health().cloned(),
            on_red: self.on_red,
        };
        Ok(Resolved {
            targets: nodes.clone(),
            affected: nodes,
            needs: Vec::new(),
            left_out: Vec::new(),
            action: Action::Operate(Box::new(Course {
                work: Work::Rolled(rollout),
                interrupt: self.interrupt.cloned(),
                within: within(self.within),
                ends: Ends::or_default(self.ends, self.interrupt.is_some()),
            })),
        })
    }
}
