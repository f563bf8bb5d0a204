//! Notices when the harness itself stood still: stopped, swapped out or starved.
//!
//! A thread of its own beats on the run's clock. A beat that comes much too late means that nothing else of this process
//! can be trusted to have been on time either: the history says so, and the run is inconclusive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    base::{Nanos, RunClock, millis},
    history::{Event, HarnessEvent, HarnessKind, Recorder},
};

const BEAT: Duration = Duration::from_millis(50);
/// A beat that is later than this is a stall.
pub const STALL_MIN: Duration = Duration::from_millis(500);

/// Beats until it is dropped. One for each run, started with it.
#[derive(Debug)]
pub struct StallWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StallWatch {
    /// Starts to beat.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub fn start(recorder: Recorder, clock: RunClock) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("stall-watch".to_owned())
            .spawn(move || {
                let mut due = clock.now().plus(BEAT);
                while !stopped.load(Ordering::Relaxed) {
                    clock.block_until(due);
                    let now = clock.now();
                    if let Some(event) = beat(due, now) {
                        recorder.record(event);
                    }
                    due = now.plus(BEAT);
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a beat; a panic in it has been reported by the panic's own message.
            let _ended = thread.join();
        }
    }
}

/// What a beat that was `due` and came `now` means.
fn beat(due: Nanos, now: Nanos) -> Option<Event> {
    let late = now.since(due);
    (late >= STALL_MIN).then(|| {
        Event::Harness(HarnessEvent {
            at: now,
            kind: HarnessKind::Stalled,
            text: format!(
                "the harness stood still for {:.0} ms, from {:.0} ms to {:.0} ms of the run",
                millis(late + BEAT),
                due.minus(BEAT).as_millis_f64(),
                now.as_millis_f64()
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::history::{FORMAT, Header};

    #[test]
    fn only_a_late_beat_is_a_stall() {
        assert_eq!(beat(Nanos::from_millis(1000), Nanos::from_millis(1499)), None);
        assert_eq!(beat(Nanos::from_millis(1000), Nanos::from_millis(900)), None);
        let Some(Event::Harness(stalled)) = beat(Nanos::from_millis(1000), Nanos::from_millis(4000)) else {
            panic!("three seconds late");
        };
        assert_eq!(stalled.kind, HarnessKind::Stalled);
        assert_eq!(stalled.at, Nanos::from_millis(4000));
        assert!(
            stalled.text.contains("3050 ms, from 950 ms to 4000 ms"),
            "{}",
            stalled.text
        );
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let recorder = Recorder::in_memory(Header {
            format: FORMAT.to_owned(),
            plan: serde_json::Value::Null,
            started: String::new(),
            versions: BTreeMap::new(),
        });
        let watch = StallWatch::start(recorder, RunClock::start()).expect("a thread");
        let stopped = Arc::clone(&watch.stop);
        drop(watch);
        assert_eq!(Arc::strong_count(&stopped), 1, "its thread is gone");
    }
}
