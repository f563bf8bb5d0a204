//! Which of a node's spans are kept: of each second's calls a few, and with each of them what the node did for it.
//!
//! A run is one trace, so a ratio drawn from the trace's id would keep all of its calls or none. Calls are counted
//! instead: [`BURST`] at once and [`PER_SECOND`] on the long run, whatever the load. What is left out is counted, and the
//! next call that is kept says how many went before it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use crate::env::Clock;

/// Calls of which spans are kept, in each second.
pub(super) const PER_SECOND: u32 = 20;
/// The same, at one instant after a quiet second.
pub(super) const BURST: u32 = 20;
/// On a kept call's span: how many calls went unrecorded since the one before.
pub(super) const LEFT_OUT: &str = "firedrill.calls_left_out";

/// The sampler of one process.
#[derive(Clone, Debug)]
pub(super) struct CallSampler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    room: Mutex<Room>,
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Room {
    /// When the room was last looked at.
    at: Duration,
    /// Calls that may be kept now, and fractions of one.
    calls: f64,
    /// Left out since the last one that was kept.
    left_out: i64,
}

impl CallSampler {
    pub(super) fn new(clock: Clock) -> Self {
        let room = Mutex::new(Room {
            at: clock.now(),
            calls: f64::from(BURST),
            left_out: 0,
        });
        Self(Arc::new(Shared {
            clock,
            room,
            left_out: AtomicU64::new(0),
        }))
    }

    /// Calls left out so far.
    pub(super) fn left_out(&self) -> u64 {
        self.0.left_out.load(Ordering::Relaxed)
    }

    /// Whether one more call is kept; how many went before it when it is.
    fn take(&self) -> Option<i64> {
        let now = self.0.clock.now();
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_sub(room.at).as_secs_f64();
        room.at = room.at.max(now);
        room.calls = since.mul_add(f64::from(PER_SECOND), room.calls).min(f64::from(BURST));
        if room.calls < 1.0 {
            room.left_out = room.left_out.saturating_add(1);
            self.0.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        room.calls -= 1.0;
        Some(std::mem::take(&mut room.left_out))
    }
}

impl ShouldSample for CallSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone());
        let parent = parent.filter(|parent| parent.is_valid());
        let kept = match &parent {
            // What is done for a call goes with the call, and nobody asked to see what a caller does not trace.
            Some(parent) if !parent.is_remote() || !parent.is_sampled() => parent.is_sampled().then_some(0),
            // What a node does of its own accord, such as its part of a delivery, is a step of no call.
            None if *kind != SpanKind::Server => None,
            _ => self.take(),
        };
        SamplingResult {
            decision: kept.map_or(SamplingDecision::Drop, |_| SamplingDecision::RecordAndSample),
            attributes: kept
                .filter(|left_out| *left_out > 0)
                .map(|left_out| KeyValue::new(LEFT_OUT, left_out))
                .into_iter()
                .collect(),
            trace_state: parent.map_or_else(TraceState::default, |parent| parent.trace_state().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};

    use super::*;

    fn caller(remote: bool, flags: TraceFlags) -> Context {
        let span = SpanContext::new(
            TraceId::from(7_u128),
            SpanId::from(9_u64),
            flags,
            remote,
            TraceState::default(),
        );
        Context::new().with_remote_span_context(span)
    }

    fn ask(sampler: &CallSampler, parent: &Context, kind: &SpanKind) -> Option<i64> {
        let answer = sampler.should_sample(Some(parent), TraceId::from(7_u128), "chat.send", kind, &[], &[]);
        let told = |attributes: &[KeyValue]| match attributes.first().map(|told| &told.value) {
            Some(opentelemetry::Value::I64(count)) => *count,
            _ => 0,
        };
        (answer.decision == SamplingDecision::RecordAndSample).then(|| told(&answer.attributes))
    }

    #[tokio::test(start_paused = true)]
    async fn a_loaded_second_keeps_its_share_and_says_what_it_left_out() {
        let clock = Clock::system();
        let sampler = CallSampler::new(clock.clone());
        let run = caller(true, TraceFlags::SAMPLED);
        let (mut kept, mut told) = (0_u32, 0_i64);
        // 300 calls a second, for ten seconds.
        for _ in 0..3000 {
            if let Some(left_out) = ask(&sampler, &run, &SpanKind::Server) {
                kept += 1;
                told += left_out;
            }
            clock.sleep(Duration::from_micros(3333)).await;
        }
        // Timers are rounded up to whole milliseconds, so it was a little longer than ten seconds.
        let most = BURST + PER_SECOND * u32::try_from(clock.now().as_secs() + 1).unwrap();
        assert!((PER_SECOND * 10..=most).contains(&kept), "{kept}");
        assert_eq!(u64::from(kept) + sampler.left_out(), 3000);
        let untold = i64::try_from(sampler.left_out()).unwrap() - told;
        assert!(
            (0..300).contains(&untold),
            "only the last few are not told yet: {untold}"
        );
        // A quiet second makes room for a burst, and for no more.
        clock.sleep(Duration::from_secs(60)).await;
        let burst = (0..500).filter(|_| ask(&sampler, &run, &SpanKind::Server).is_some());
        assert_eq!(burst.count(), BURST as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_goes_with_its_call() {
        let sampler = CallSampler::new(Clock::system());
        let (kept, left) = (caller(false, TraceFlags::SAMPLED), caller(false, TraceFlags::default()));
        for _ in 0..100 {
            assert_eq!(ask(&sampler, &kept, &SpanKind::Internal), Some(0), "its call was kept");
            assert_eq!(ask(&sampler, &left, &SpanKind::Internal), None, "its call was left out");
            let untraced = caller(true, TraceFlags::default());
            assert_eq!(
                ask(&sampler, &untraced, &SpanKind::Server),
                None,
                "its caller does not trace"
            );
            assert_eq!(
                ask(&sampler, &Context::new(), &SpanKind::Internal),
                None,
                "no caller at all"
            );
        }
        assert_eq!(sampler.left_out(), 0, "none of these took the room of a call");
        assert_eq!(
            ask(&sampler, &Context::new(), &SpanKind::Server),
            Some(0),
            "a call of its own"
        );
    }
}
