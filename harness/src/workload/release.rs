//! Releases operations at the instants that their schedules fixed, and runs what they start.
//!
//! On the real clock a thread of its own sleeps to each instant, since a timer of the runtime rounds to a millisecond and
//! comes when the runtime has time. On a virtual clock it is a task. Neither ever waits for an answer.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
};

use super::{Lever, WorkloadError, schedule::Agenda};
use crate::base::RunClock;

/// How long the releasing thread sleeps at most before it looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Threads that clients and devices run on.
const WORKERS: usize = 2;

/// Where a workload's tasks run: threads of their own, so that whoever drives the run can't make the load late.
#[derive(Debug)]
pub(crate) struct Executor {
    handle: Handle,
    owned: Option<Runtime>,
}

impl Executor {
    /// Threads of its own; on a virtual clock, the runtime that it is called on.
    pub(crate) fn new(clock: &RunClock) -> Result<Self, WorkloadError> {
        if clock.is_virtual() {
            return Ok(Self {
                handle: Handle::current(),
                owned: None,
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("load")
            .enable_all()
            .build()
            .map_err(|e| WorkloadError(format!("failed to start the load's threads: {e}")))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            owned: Some(runtime),
        })
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` here and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, WorkloadError> {
        let ended = self.handle.spawn(work).await;
        ended.map_err(|e| WorkloadError(format!("a task of the load ended early: {e}")))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(runtime) = self.owned.take() {
            // Must not block: this may be dropped on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// The releasing, until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Release {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    task: Option<tokio::task::AbortHandle>,
}

impl Release {
    /// Calls `submit` with each instant and the number of its schedule, at that instant. `submit` must not block. What
    /// follows the pace follows `lever`.
    pub(crate) fn start(
        executor: &Executor,
        clock: RunClock,
        mut agenda: Agenda,
        lever: Arc<Lever>,
        mut submit: impl FnMut(crate::base::Nanos, usize) + Send + 'static,
    ) -> Result<Self, WorkloadError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut paced = Paced::new(lever, &clock);
        if clock.is_virtual() {
            let task = executor.handle.spawn(async move {
                while let Some(due) = agenda.next_due() {
                    let due_now = tokio::select! {
                        biased;
                        () = clock.sleep_until(due) => true,
                        // An error can't be: the sender is the lever's, which `paced` holds.
                        _ = paced.asked.changed() => false,
                    };
                    if due_now {
                        let Some((at, number)) = agenda.take() else { break };
                        paced.released(&agenda, number);
                        submit(at, number);
                    } else {
                        paced.follow(&mut agenda, clock.now());
                    }
                }
            });
            return Ok(Self {
                stop,
                thread: None,
                task: Some(task.abort_handle()),
            });
        }
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("release".to_owned())
            .spawn(move || {
                sharpen_timers();
                release(clock, &mut agenda, &mut paced, &stopped, &mut submit);
            })
            .map_err(|e| WorkloadError(format!("failed to start the releasing thread: {e}")))?;
        Ok(Self {
            stop,
            thread: Some(thread),
            task: None,
        })
    }

    /// Releases nothing more. Blocks for as long as one look, at most.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic's own message; the schedule has stopped either way.
            let _ended = thread.join();
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Follows a lever.
struct Paced {
    lever: Arc<Lever>,
    asked: watch::Receiver<f64>,
}

impl Paced {
    fn new(lever: Arc<Lever>, clock: &RunClock) -> Self {
        let mut asked = lever.asked();
        // What was asked for before there was anything to release is asked for still.
        asked.mark_changed();
        lever.keeps(Some((1.0, clock.now())));
        Self { lever, asked }
    }

    fn follow(&mut self, agenda: &mut Agenda, now: crate::base::Nanos) {
        let factor = *self.asked.borrow_and_update();
        agenda.pace(factor, now);
        self.lever.keeps(Some((factor, now)));
    }

    fn released(&self, agenda: &Agenda, number: usize) {
        if agenda.is_paced(number) {
            self.lever.released();
        }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.lever.keeps(None);
    }
}

fn release(
    clock: RunClock,
    agenda: &mut Agenda,
    paced: &mut Paced,
    stopped: &AtomicBool,
    submit: &mut impl FnMut(crate::base::Nanos, usize),
) {
    while let Some(due) = agenda.next_due() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let now = clock.now();
        if now < due && paced.asked.has_changed().unwrap_or(false) {
            paced.follow(agenda, now);
            continue;
        }
        if now < due {
            clock.block_until(due.min(now.plus(LOOK_EVERY)));
            continue;
        }
        if let Some((at, number)) = agenda.take() {
            paced.released(agenda, number);
            submit(at, number);
        }
    }
}

/// Asks the system to wake this thread when it said, rather than up to 50 µs later together with others.
fn sharpen_timers() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_timerslack(1) {
        tracing::debug!(%error, "timers keep their default slack");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        base::{Nanos, Streams},
        workload::{Schedule, ScheduleSpec},
    };

    fn agenda(start: Nanos, per_s: f64) -> Agenda {
        let mut agenda = Agenda::default();
        let spec = ScheduleSpec::Constant { per_s };
        agenda.add(Schedule::new(&spec, start, &Streams::new(1), "x").expect("valid"));
        agenda
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_virtual_clock_instants_are_exact() {
        let clock = RunClock::start_virtual();
        let executor = Executor::new(&clock).expect("the runtime");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let (agenda, lever) = (agenda(Nanos::from_millis(10), 100.0), Arc::default());
        let mut release = Release::start(&executor, clock, agenda, lever, move |at, _| {
            sink.lock().expect("unpoisoned").push((at, clock.now()));
        })
        .expect("started");
        clock.sleep(Duration::from_millis(105)).await;
        release.stop();
        clock.sleep(Duration::from_millis(100)).await;
        let seen = seen.lock().expect("unpoisoned");
        let expected: Vec<_> = (1..=10)
            .map(|n| (Nanos::from_millis(n * 10), Nanos::from_millis(n * 10)))
            .collect();
        assert_eq!(*seen, expected);
    }

    #[test]
    fn on_the_real_clock_nothing_is_early_skipped_or_late_for_good() {
        let clock = RunClock::start();
        let executor = Executor::new(&clock).expect("threads");
        let (sender, receiver) = std::sync::mpsc::channel();
        let (agenda, lever) = (agenda(clock.now(), 2000.0), Arc::default());
        let mut release = Release::start(&executor, clock, agenda, lever, move |at, _| {
            // The test has ended when nobody listens.
            let _sent = sender.send((at, clock.now()));
        })
        .expect("started");
        let seen: Vec<(Nanos, Nanos)> = receiver.iter().take(200).collect();
        release.stop();
        assert!(seen.iter().all(|(at, now)| now >= at));
        assert!(
            seen.windows(2)
                .all(|pair| pair[1].0.since(pair[0].0) == Duration::from_micros(500))
        );
    }
}
