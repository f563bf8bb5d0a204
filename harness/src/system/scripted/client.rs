//! The target itself: items in memory, behind the script.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::{PART, script::Script};
use crate::{
    base::{RunClock, Streams},
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
    state: Mutex<State>,
}

struct State {
    logs: BTreeMap<String, Vec<ReadItem>>,
    rng: ChaCha8Rng,
}

impl ScriptedClient {
    pub(super) fn new(spec: &ScriptedSpec, clock: RunClock, streams: &Streams) -> Self {
        Self {
            spec: spec.clone(),
            clock,
            script: OnceLock::new(),
            state: Mutex::new(State {
                logs: BTreeMap::new(),
                rng: streams.stream("scripted"),
            }),
        }
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
    async fn meet(&self) -> Result<(), CallFailure> {
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

    async fn put(&self, put: &Put, _within: Duration) -> Answered<Option<u64>> {
        if let Err(failure) = self.meet().await {
            return Answered::failed(failure);
        }
        let mut state = self.state();
        let log = state.logs.entry(put.log.clone()).or_default();
        let position = log.len() as u64 + 1;
        log.push(ReadItem {
            position,
            author: 0,
            item: Some(put.item),
            hash: payload::hash(&put.body),
        });
        Answered::ok(Some(position), Some(PART.to_owned()))
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        match self.meet().await {
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
