//! `delay`: what some send to others arrives late, in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::{Capability, Endpoint, LinkRule, Plane};
use crate::base::HumanDuration;
use crate::target::{self, NodeName, Roster, Target};

/// Whose bytes to whom are late. One way: a round trip between `from` and `to` grows by `delay` once, and by twice as
/// much where both names take in both nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// Who sends. On the client plane these are the nodes that answer late.
    pub from: Target,
    /// Who receives. On the client plane these are the nodes that clients' requests reach late.
    pub to: Target,
    /// How late.
    pub delay: HumanDuration,
    /// Up to this much later still, drawn anew for each piece.
    #[serde(default = "no_jitter")]
    pub jitter: HumanDuration,
    /// Which network.
    #[serde(default)]
    pub plane: Plane,
}

fn no_jitter() -> HumanDuration {
    HumanDuration::from_millis(0)
}

impl Verb for Delay {
    const INFO: VerbInfo = VerbInfo {
        name: "delay",
        group: Group::Network,
        summary: "what some send to others arrives late, with jitter, in order",
        evidence: "a byte sent through each half is late by what was asked; after the heal it is not",
        example: "delay: { from: all, to: all, delay: 100ms, jitter: 20ms }",
        needs: &[Capability::Delay],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        target::check(&self.from, roster)?;
        target::check(&self.to, roster)?;
        // Pure jitter may be none at all for the very byte that is to prove it.
        if self.delay.get().is_zero() {
            return Err(SpecError::Form(
                "a delay of 0s can not be proven: say how late at least, such as `delay: 10ms`".to_owned(),
            ));
        }
        let longest = HumanDuration::from_secs(60);
        for (name, value) in [("delay", self.delay), ("jitter", self.jitter)] {
            if value > longest {
                return Err(SpecError::Form(format!(
                    "`{name}: {value}` is more than {longest}: use `partition` for what does not arrive at all"
                )));
            }
        }
        Ok(())
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let (from, to) = (scene.nodes(&self.from)?, scene.nodes(&self.to)?);
        let rule = LinkRule {
            delay: self.delay.get(),
            jitter: self.jitter.get(),
            ..LinkRule::default()
        };
        // Clients are on both lists: late is what goes between them and the nodes named.
        let within = |endpoint: &Endpoint, names: &[NodeName]| match endpoint {
            Endpoint::Node(name) => names.contains(name),
            Endpoint::Clients(_) => true,
        };
        scene.rules(
            self.plane,
            rule,
            |sender, receiver| within(sender, &from) && within(receiver, &to),
            Vec::new(),
        )
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.from, &self.to]
    }

    fn plane(&self) -> Option<Plane> {
        Some(self.plane)
    }
}
