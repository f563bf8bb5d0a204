//! `discovery`: the directory answers something else than it knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::base::HumanDuration;
use crate::system::{Answering, Errand};
use crate::target::{self, NodeName, Roster, Target};

/// The longest that clients can be told to remember an answer.
const TTL_MAX: HumanDuration = HumanDuration::from_secs(3600);

/// What whoever looks for a gateway is told. One of the three. What clients remember they go on using: a fault shows once
/// that is too old, and its end likewise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Another answer than the true one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Untrue>,
    /// These gateways are left out, as if they had withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw: Option<Vec<NodeName>>,
    /// The true answer, to be remembered for this long, whether there is somebody in it or nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
}

/// An answer that is not true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Untrue {
    /// There is nobody.
    Empty,
    /// What was true when it began, whoever comes and goes.
    Stale,
    /// Everybody is where nobody listens.
    Poison,
}

impl Verb for Discovery {
    const INFO: VerbInfo = VerbInfo {
        name: "discovery",
        group: Group::Discovery,
        summary: "the directory tells whoever looks for a gateway something else than it knows",
        evidence: "whoever asks it is answered so; after the heal it answers what it knows",
        example: "discovery: { answer: empty }",
        needs: &[Capability::Discovery],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        let form = |text: String| Err(SpecError::Form(text));
        match (&self.answer, &self.withdraw, &self.ttl) {
            (Some(_), None, None) => Ok(()),
            (None, Some(names), None) if names.is_empty() => {
                form("`withdraw` is empty; name the gateways that are left out".to_owned())
            }
            (None, Some(names), None) => {
                for name in names {
                    target::check(&Target::Gateway(name.clone()), roster)?;
                }
                Ok(())
            }
            (None, None, Some(ttl)) if ttl.get().is_zero() || *ttl > TTL_MAX => form(format!(
                "`ttl: {ttl}` does not fit; write more than 0s and at most {TTL_MAX}"
            )),
            (None, None, Some(_)) => Ok(()),
            _ => form("write one of `answer`, `withdraw` and `ttl`, such as `answer: empty`".to_owned()),
        }
    }

    fn resolve(&self, _: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let answering = match (&self.answer, &self.withdraw, &self.ttl) {
            (Some(Untrue::Stale), ..) => Answering::Stale,
            (Some(Untrue::Poison), ..) => Answering::Poison,
            (_, Some(names), _) => Answering::Without(names.clone()),
            (_, _, Some(ttl)) => Answering::Ttl(ttl.get()),
            _ => Answering::Empty,
        };
        Ok(Resolved {
            targets: self.withdraw.clone().unwrap_or_else(|| vec!["directory".to_owned()]),
            affected: Vec::new(),
            left_out: Vec::new(),
            needs: Vec::new(),
            action: Action::Errand(Errand::Directory(answering)),
        })
    }

    fn targets(&self) -> Vec<&Target> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::RosterNode;

    fn roster() -> Roster {
        Roster {
            gateways: vec![RosterNode {
                name: "gw-a-1".to_owned(),
                zone: "a".to_owned(),
            }],
            ..Roster::default()
        }
    }

    #[test]
    fn it_has_exactly_one_form() {
        let check = |yaml: &str| {
            let spec: Discovery = serde_saphyr::from_str(yaml).expect("it reads");
            spec.check(&roster()).map_err(|error| error.to_string())
        };
        for good in ["answer: poison", "withdraw: [gw-a-1]", "ttl: 30s"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, says) in [
            ("{}", "one of"),
            ("{ answer: stale, ttl: 3s }", "one of"),
            ("withdraw: []", "name the gateways"),
            ("withdraw: [gw-b-1]", "gw-a-1"),
            ("ttl: 0s", "more than 0s"),
        ] {
            let error = check(bad).expect_err("refused");
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
