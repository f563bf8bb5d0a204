//! The target itself: items in memory, behind the script.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::{
    PART,
    reaction::{LISTENER, Telling},
    script::Script,
};
use crate::{
    base::{Nanos, RunClock, Streams},
    history::ReadItem,
    system::{ScriptedEffect, ScriptedSpec},
    workload::{
        client::{Answered, CallFailure, OpClient, Put},
        payload,
    },
};

pub(super) struct ScriptedClient {
    spec: ScriptedSpec,
    clock: RunClock,
    script: OnceLock<Script>,
    telling: Arc<Telling>,
    state: Mutex<State>,
}

struct State {
    logs: BTreeMap<String, Vec<ReadItem>>,
    rng: ChaCha8Rng,
    served: Vec<Served>,
}

/// One attempt as the target itself saw it: the truth beside what the client recorded. One that was left without an answer is
/// not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// When it came.
    pub came: Nanos,
    /// When it was answered.
    pub answered: Nanos,
    /// Whether it was done; else it was refused.
    pub ok: bool,
    /// The log that it was for; empty for a request.
    pub log: String,
}

impl ScriptedClient {
    pub(super) fn new(spec: &ScriptedSpec, telling: Arc<Telling>, streams: &Streams) -> Self {
        Self {
            spec: spec.clone(),
            clock: telling.clock,
            script: OnceLock::new(),
            telling,
            state: Mutex::new(State {
                logs: BTreeMap::new(),
                rng: streams.stream("scripted"),
                served: Vec::new(),
            }),
        }
    }

    /// What it was asked for and answered, in the order of its answers. A target with outages that do something to its
    /// roles keeps count of it; any other has no use for that.
    pub(super) fn served(&self) -> Vec<Served> {
        self.state().served.clone()
    }

    fn reacts(&self) -> bool {
        self.spec.outages.iter().any(|outage| outage.reaction.is_some())
    }

    /// The script begins now; where it has begun before, it goes on.
    pub(super) fn begin(&self) -> Script {
        let script = || Script::new(&self.spec, self.clock.now());
        self.script.get_or_init(script).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt that arrives now meets: an answer after a while, or a failure.
    async fn meet(&self, log: &str) -> Result<(), CallFailure> {
        let came = self.clock.now();
        let met = self.undergo().await;
        if self.reacts() {
            let served = Served {
                came,
                answered: self.clock.now(),
                ok: met.is_ok(),
                log: log.to_owned(),
            };
            self.state().served.push(served);
        }
        met
    }

    async fn undergo(&self) -> Result<(), CallFailure> {
        let healthy = Duration::from_micros(self.spec.service_us);
        let effect = self.script.get().and_then(|script| script.effect_at(self.clock.now()));
        let wait = match effect {
            None => healthy,
            Some(ScriptedEffect::Dead {} | ScriptedEffect::Flapping { .. }) => {
                return Err(CallFailure::refused("dead"));
            }
            Some(ScriptedEffect::Silent {}) => std::future::pending().await,
            Some(ScriptedEffect::Errors { share }) => {
                if self.draw() < *share {
                    return Err(CallFailure::refused("error"));
                }
                healthy
            }
            Some(ScriptedEffect::Slow { factor }) => healthy.mul_f64(*factor),
        };
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// From 0 to 1, 1 excluded.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn draw(&self) -> f64 {
        (self.state().rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[async_trait]
impl OpClient for ScriptedClient {
    fn parts(&self) -> Vec<String> {
        vec![PART.to_owned()]
    }

    fn needs(&self, _log: &str) -> String {
        PART.to_owned()
    }

    fn shown_to(&self) -> Vec<u64> {
        if self.reacts() { vec![LISTENER] } else { Vec::new() }
    }

    async fn put(&self, put: &Put, _within: Duration) -> Answered<Option<u64>> {
        if let Err(failure) = self.meet(&put.log).await {
            return Answered::failed(failure);
        }
        let position = {
            let mut state = self.state();
            let log = state.logs.entry(put.log.clone()).or_default();
            let position = log.len() as u64 + 1;
            log.push(ReadItem {
                position,
                author: 0,
                item: Some(put.item),
                hash: payload::hash(&put.body),
            });
            position
        };
        if let (true, Some(script)) = (self.reacts(), self.script.get()) {
            let (telling, script, put) = (Arc::clone(&self.telling), script.clone(), put.clone());
            // It ends by itself with the showing, at most an outage later.
            tokio::spawn(async move { telling.show(&script, put, position).await });
        }
        Answered::ok(Some(position), Some(PART.to_owned()))
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        match self.meet("").await {
            Ok(()) => Answered::ok((), Some(PART.to_owned())),
            Err(failure) => Answered::failed(failure),
        }
    }

    async fn fence(&self, _within: Duration) -> Answered<()> {
        // An attempt that was given up was dropped before it took effect.
        Answered::ok((), None)
    }

    async fn read(&self, log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        let items = self.state().logs.get(log).cloned().unwrap_or_default();
        Answered::ok(items, None)
    }
}
