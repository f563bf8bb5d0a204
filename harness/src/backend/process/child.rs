//! One node's process: watched from its start to its end, by the kernel's own word.
//!
//! A thread waits for the kernel to say that the process ended, stopped or went on, so that the instant of each is known
//! to the kernel's precision and without polling. It is only reaped under the lock that signals are sent under: a
//! signal never reaches a later process of the same number.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::base::{Nanos, RunClock};
use crate::history::ProcessChange;

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs, since this instant.
    Running(Nanos),
    /// All its threads are stopped, since this instant.
    Stopped(Nanos),
    /// It has ended and is reaped.
    Ended {
        at: Nanos,
        /// `exit 0`, `signal 9`.
        how: String,
    },
}

/// A node's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    life: watch::Sender<Life>,
    /// Held while a signal is sent, and while the process is reaped.
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    reaped: bool,
    /// The run asked for its end.
    end_asked_for: bool,
    /// Stops that the run asked for and the kernel has not told of yet. Counted, not undone when it is asked to go on: that
    /// may come before the kernel's word on the stop is heard.
    stops_asked_for: u32,
}

impl Process {
    /// Watches the child `pid` of this process. `on_change` is called from the watching thread for each stop, each going on
    /// and, last, after the process is reaped, for its end.
    pub(super) fn watch(
        pid: u32,
        clock: RunClock,
        on_change: impl Fn(Nanos, ProcessChange) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let process = Arc::new(Self {
            pid,
            life: watch::Sender::new(Life::Running(clock.now())),
            gate: Mutex::default(),
        });
        let watched = Arc::clone(&process);
        std::thread::Builder::new()
            .name(format!("watch-{pid}"))
            .spawn(move || watched.follow(clock, on_change))?;
        Ok(process)
    }

    /// What is known now, and later.
    pub(super) fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// Sends a signal to the process and all that it has made, unless it has ended; false when it has. A node may be a
    /// wrapper, such as a shell: a freeze of the wrapper alone would leave the program serving.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let mut gate = self.gate();
        if gate.reaped {
            return Ok(false);
        }
        if matches!(signal, Signal::SIGKILL | Signal::SIGTERM) {
            gate.end_asked_for = true;
        }
        if signal == Signal::SIGSTOP {
            gate.stops_asked_for += 1;
        }
        let pid = pid_of(self.pid);
        // A node leads a process group of its own. A child that leads none is signalled alone.
        let sent = match killpg(pid, signal) {
            Err(Errno::ESRCH) => kill(pid, signal),
            sent => sent,
        };
        match sent {
            Ok(()) => Ok(true),
            // Ended, and about to be reaped.
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, clock: RunClock, on_change: impl Fn(Nanos, ProcessChange)) {
        let id = || Id::Pid(pid_of(self.pid));
        let any = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED;
        let how = loop {
            // Looked at first and taken after, so that the number is not free before the gate is shut.
            let seen = waitid(id(), any | WaitPidFlag::WNOWAIT);
            let at = clock.now();
            match seen {
                Ok(WaitStatus::Stopped(..)) => {
                    let _ = waitid(id(), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
                    let asked_for = std::mem::take(&mut self.gate().stops_asked_for) > 0;
                    on_change(at, ProcessChange::Stopped { asked_for });
                    self.life.send_replace(Life::Stopped(at));
                }
                Ok(WaitStatus::Continued(_)) => {
                    let _ = waitid(id(), WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG);
                    on_change(at, ProcessChange::Continued);
                    self.life.send_replace(Life::Running(at));
                }
                Ok(WaitStatus::Exited(_, code)) => break (at, format!("exit {code}")),
                Ok(WaitStatus::Signaled(_, signal, _)) => break (at, format!("signal {}", signal as i32)),
                Err(Errno::EINTR) => {}
                Ok(other) => break (at, format!("{other:?}")),
                Err(errno) => break (at, format!("lost from sight: {errno}")),
            }
        };
        let (at, how) = how;
        let asked_for = {
            let mut gate = self.gate();
            let _ = waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
            gate.reaped = true;
            gate.end_asked_for
        };
        on_change(
            at,
            ProcessChange::Ended {
                how: how.clone(),
                asked_for,
            },
        );
        self.life.send_replace(Life::Ended { at, how });
    }
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
