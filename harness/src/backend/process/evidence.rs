//! Proof that a signal did what it is for, seen from outside: in /proc, by waiting, and at the ports.

use std::net::SocketAddr;
use std::time::Duration;

use super::backend::{KERNEL_WITHIN, ProcessBackend};
use super::child::{Life, Process};
use super::connect::{Connect, connect};
use crate::backend::procfs::{self, ProcessId};
use crate::backend::{BackendError, NodeSignal, SignalEvidence};
use crate::base::Nanos;

/// How long a node that is asked to end may take.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long what a dead wrapper had made may take to let go of a node's ports.
const REFUSE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the ports of a node that ended, or the threads of a node that is to stop or go on.
const STATES_EVERY: Duration = Duration::from_millis(1);

impl ProcessBackend {
    pub(super) async fn evidence(
        &self,
        node: &str,
        process: &Process,
        listens: &[SocketAddr],
        signal: NodeSignal,
        sent: Nanos,
    ) -> Result<SignalEvidence, BackendError> {
        let (within, what) = match signal {
            NodeSignal::Kill | NodeSignal::PowerLoss => (KERNEL_WITHIN, "end by SIGKILL"),
            NodeSignal::Term => (END_WITHIN, "end after SIGTERM"),
            NodeSignal::Stop => (KERNEL_WITHIN, "stop of every thread"),
            NodeSignal::Cont => (KERNEL_WITHIN, "going on"),
        };
        let mut lives = process.life();
        let wanted = |life: &Life| match signal {
            NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term => matches!(life, Life::Ended { .. }),
            NodeSignal::Stop => matches!(life, Life::Stopped(_) | Life::Ended { .. }),
            NodeSignal::Cont => matches!(life, Life::Running(_) | Life::Ended { .. }),
        };
        let life = tokio::select! {
            biased;
            life = lives.wait_for(wanted) => life.map(|life| life.clone()).ok(),
            () = self.config.clock.sleep(within) => None,
        };
        let (states, settled) = self.states(process, signal, sent.plus(within)).await;
        let nothing = |seen: String| BackendError::NoEvidence {
            what: format!("node `{node}`: {what}"),
            within,
            seen,
        };
        // What the wrapper's program came to later than the wrapper is true since then.
        let life = life.map(|life| match life {
            Life::Stopped(at) => Life::Stopped(at.max(settled)),
            Life::Running(at) => Life::Running(at.max(settled)),
            ended @ Life::Ended { .. } => ended,
        });
        let (at, text) = match (signal, life) {
            (NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term, Some(Life::Ended { at, how })) => {
                if ProcessId::of(process.pid).is_some_and(|id| procfs::marker_of(id.pid).as_deref() == Some(self.run()))
                {
                    return Err(nothing(format!(
                        "the kernel reports {how}, and /proc/{} is there",
                        process.pid
                    )));
                }
                let (ports, since) = self.refused(node, listens).await?;
                (at.max(since), format!("process {} is gone ({how}){ports}", process.pid))
            }
            (NodeSignal::Stop, Some(Life::Stopped(at))) if !states.is_empty() && states.chars().all(is_stopped) => {
                let count = states.len();
                (
                    at,
                    format!(
                        "all {count} threads of process {} and what it made are in state T",
                        process.pid
                    ),
                )
            }
            (NodeSignal::Cont, Some(Life::Running(at))) if !states.is_empty() && !states.contains(is_stopped) => {
                let count = states.len();
                (
                    at,
                    format!("none of {count} threads of process {} is in state T", process.pid),
                )
            }
            (_, Some(life)) => return Err(nothing(format!("{life:?}, threads `{states}`"))),
            (_, None) => return Err(nothing(format!("threads `{states}`"))),
        };
        Ok(SignalEvidence {
            node: node.to_owned(),
            sent,
            // What was true before it was asked for was true when it was asked for.
            effective: at.max(sent),
            text,
        })
    }

    /// The states of the threads of a node's whole process group, once they are as `signal` wants them or `until` has
    /// come; and since when at the latest that is so, 0 when it was so at the first look.
    async fn states(&self, process: &Process, signal: NodeSignal, until: Nanos) -> (String, Nanos) {
        let clock = self.config.clock;
        let mut settled = Nanos(0);
        loop {
            let states = procfs::group_states(process.pid);
            let as_wanted = match signal {
                NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term => true,
                NodeSignal::Stop => states.chars().all(is_stopped),
                NodeSignal::Cont => !states.contains(is_stopped),
            };
            if as_wanted || clock.now() >= until {
                return (states, settled);
            }
            clock.sleep(STATES_EVERY).await;
            settled = clock.now();
        }
    }

    /// Asks every port that the node listened on until all refuse; fails when one goes on to answer. The ports in words,
    /// and since when at the latest that is so, 0 when it was so at the first look.
    async fn refused(&self, node: &str, listens: &[SocketAddr]) -> Result<(String, Nanos), BackendError> {
        let clock = self.config.clock;
        let until = clock.now().plus(REFUSE_WITHIN);
        let (mut text, mut settled) = (String::new(), Nanos(0));
        for address in listens {
            loop {
                let seen = connect(*address, clock).await;
                if matches!(seen, Connect::Refused) {
                    text.push_str(&format!(", {address} refuses"));
                    break;
                }
                if clock.now() >= until {
                    return Err(BackendError::NoEvidence {
                        what: format!("node `{node}` is dead: a refusal at {address}"),
                        within: REFUSE_WITHIN,
                        seen: format!("{seen:?}"),
                    });
                }
                clock.sleep(STATES_EVERY).await;
                settled = clock.now();
            }
        }
        Ok((text, settled))
    }
}

const fn is_stopped(state: char) -> bool {
    matches!(state, 'T' | 't')
}
