//! What is done to links. Faults that overlap are kept apart: a half of a link does what all of them ask for together,
//! and goes on doing what the others ask for when one is lifted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::evidence::Evidence;
use super::scene::Rules;
use crate::backend::{Backend, Direction, LinkId, LinkRule, ProbeResult};
use crate::base::{Nanos, RunClock, millis};

/// How long a byte must stay away to count as held, with one arriving meanwhile on a path left open.
const HELD_FOR: Duration = Duration::from_millis(10);
/// By this name distances are asked of links, among the faults.
const DISTANCE: &str = "distance";
/// How long a byte may take through a half that is open, on top of what it is delayed.
const THROUGH_WITHIN: Duration = Duration::from_secs(5);

/// One half of a link.
type Half = (LinkId, Direction);

/// The rules that faults have put on links.
#[derive(Clone)]
pub(super) struct Network {
    backend: Arc<dyn Backend>,
    clock: RunClock,
    asked: Arc<Mutex<Asked>>,
}

/// What each fault asks of each half.
type Asked = BTreeMap<Half, BTreeMap<String, LinkRule>>;

impl Network {
    pub(super) fn new(backend: Arc<dyn Backend>, clock: RunClock) -> Self {
        Self {
            backend,
            clock,
            asked: Arc::default(),
        }
    }

    /// Opens what is needed to watch these links, ahead of the instant at which they are cut.
    pub(super) async fn prepare(&self, rules: &Rules) {
        // A link that can not be watched now is found out when it is to be proven.
        let _ = self.backend.probe_links(&links_of(rules.keys()), HELD_FOR).await;
    }

    /// Puts `rules` in force for fault `id` until `expires`; the instant is returned. Proof is [`Network::proof`]'s.
    pub(super) async fn impose(&self, id: &str, rules: &Rules, expires: Nanos) -> Result<Nanos, String> {
        let merged: Vec<_> = {
            let mut asked = self.asked();
            for (half, rule) in rules {
                let rule = LinkRule {
                    expires: Some(expires),
                    ..*rule
                };
                asked.entry(half.clone()).or_default().insert(id.to_owned(), rule);
            }
            merged(&asked, rules.keys())
        };
        self.backend.set_rules(&merged).await.map_err(|error| error.to_string())
    }

    /// Has bytes be late wherever `rules` say, under whatever faults do, until the end.
    pub(super) async fn lay(&self, rules: &Rules) -> Result<(), String> {
        let merged: Vec<_> = {
            let mut asked = self.asked();
            for (half, rule) in rules {
                asked
                    .entry(half.clone())
                    .or_default()
                    .insert(DISTANCE.to_owned(), *rule);
            }
            merged(&asked, rules.keys())
        };
        let laid = self.backend.set_rules(&merged).await;
        laid.map(drop).map_err(|error| error.to_string())
    }

    /// How late a byte may be by what is asked of links beside cuts.
    fn latest(&self) -> Duration {
        let asked = self.asked();
        let late = asked
            .values()
            .map(|by| by.values().map(|rule| rule.delay + rule.jitter).sum());
        late.max().unwrap_or_default()
    }

    /// Shows that `rules` bite: bytes sent through them after `since` do not arrive, or arrive late.
    pub(super) async fn proof(&self, rules: &Rules, since: Nanos) -> Result<Evidence, String> {
        let links = links_of(rules.keys());
        let longest = rules
            .values()
            .map(|rule| rule.delay + rule.jitter)
            .max()
            .unwrap_or_default();
        let cuts = rules.values().any(|rule| rule.cut);
        // Where bytes are late anyway, one that is held is told from them by staying away longer.
        let held_for = HELD_FOR + self.latest();
        let within = if cuts { held_for } else { longest + THROUGH_WITHIN };
        let seen = self.probe(&links, within).await?;
        let mut slowest: Option<Duration> = None;
        for ((link, direction), rule) in rules {
            let half = seen[link].half(*direction);
            match half.arrived {
                Some(arrived) if rule.cut => {
                    return Err(format!(
                        "{link} {direction:?}: a byte came through {:.1} ms after it was sent, though it is cut",
                        millis(arrived.since(half.sent))
                    ));
                }
                Some(arrived) if arrived.since(half.sent) < rule.delay => {
                    return Err(format!(
                        "{link} {direction:?}: a byte took {:.1} ms, less than the {:.1} ms asked for",
                        millis(arrived.since(half.sent)),
                        millis(rule.delay)
                    ));
                }
                Some(arrived) => slowest = slowest.max(Some(arrived.since(half.sent))),
                None if rule.cut => {}
                None => {
                    return Err(format!(
                        "{link} {direction:?}: a byte did not come through in {within:?}, though it is only late by {:.1} ms",
                        millis(rule.delay)
                    ));
                }
            }
        }
        let count = rules.len();
        let text = match slowest {
            None => format!(
                "bytes sent through {count} halves of {} links did not arrive in {held_for:?}, on an open path they did",
                links.len()
            ),
            Some(slowest) => format!(
                "bytes sent through {count} halves of {} links were late as asked, the last by {:.1} ms",
                links.len(),
                millis(slowest)
            ),
        };
        Ok(Evidence { at: since, text })
    }

    /// Lifts what fault `id` asked for, and waits until bytes come through wherever nothing else holds them.
    pub(super) async fn lift(&self, id: &str, rules: &Rules) -> Result<Evidence, String> {
        let (merged, free) = {
            let mut asked = self.asked();
            for half in rules.keys() {
                if let Some(by) = asked.get_mut(half) {
                    by.remove(id);
                    if by.is_empty() {
                        asked.remove(half);
                    }
                }
            }
            let free: BTreeSet<Half> = rules.keys().filter(|half| !is_cut(&asked, half)).cloned().collect();
            (merged(&asked, rules.keys()), free)
        };
        let longest = merged
            .iter()
            .map(|(_, _, rule)| rule.delay + rule.jitter)
            .max()
            .unwrap_or_default();
        let lifted = self
            .backend
            .set_rules(&merged)
            .await
            .map_err(|error| error.to_string())?;
        let held = rules.len() - free.len();
        let also = match held {
            0 => String::new(),
            held => format!("; {held} halves are held by other faults"),
        };
        if free.is_empty() {
            return Ok(Evidence {
                at: lifted,
                text: format!("its rules are lifted{also}"),
            });
        }
        let links = links_of(free.iter());
        let deadline = self.clock.now().plus(longest + THROUGH_WITHIN);
        // A link of which the other half is still held never has both bytes through: it is asked in rounds.
        let mut missing = free;
        let mut at = lifted;
        loop {
            let within = if held == 0 {
                deadline.since(self.clock.now())
            } else {
                HELD_FOR + longest
            };
            let seen = self.probe(&links_of(missing.iter()), within).await?;
            missing.retain(|(link, direction)| match seen[link].half(*direction).arrived {
                Some(arrived) => {
                    at = at.max(arrived);
                    false
                }
                None => true,
            });
            if missing.is_empty() {
                return Ok(Evidence {
                    at,
                    text: format!("bytes come through all {} links again{also}", links.len()),
                });
            }
            if self.clock.now() >= deadline {
                let names: Vec<String> = missing.iter().map(|(link, half)| format!("{link} {half:?}")).collect();
                return Err(format!("nothing came through {} after the heal", names.join(", ")));
            }
        }
    }

    async fn probe(&self, links: &[LinkId], within: Duration) -> Result<BTreeMap<LinkId, ProbeResult>, String> {
        let seen = self
            .backend
            .probe_links(links, within)
            .await
            .map_err(|error| error.to_string())?;
        Ok(links.iter().cloned().zip(seen).collect())
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn links_of<'a>(halves: impl Iterator<Item = &'a Half>) -> Vec<LinkId> {
    let links: BTreeSet<LinkId> = halves.map(|(link, _)| link.clone()).collect();
    links.into_iter().collect()
}

fn is_cut(asked: &Asked, half: &Half) -> bool {
    asked.get(half).is_some_and(|by| by.values().any(|rule| rule.cut))
}

/// What all faults together ask of each of `halves`.
fn merged<'a>(asked: &Asked, halves: impl Iterator<Item = &'a Half>) -> Vec<(LinkId, Direction, LinkRule)> {
    halves
        .map(|half| {
            let rules = asked.get(half).into_iter().flat_map(BTreeMap::values);
            let rule = rules.fold(LinkRule::default(), |sum, rule| LinkRule {
                cut: sum.cut || rule.cut,
                delay: sum.delay + rule.delay,
                jitter: sum.jitter + rule.jitter,
                bytes_per_s: match (sum.bytes_per_s, rule.bytes_per_s) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                },
                expires: sum.expires.max(rule.expires),
            });
            (half.0.clone(), half.1, rule)
        })
        .collect()
}
