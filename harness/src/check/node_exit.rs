//! Node exit: no process of the system died that this run did not kill.

use super::{Promise, Tally, words};
use crate::history::{History, ProcessChange, SystemView};

pub(super) struct NodeExit;

impl Promise for NodeExit {
    fn name(&self) -> &'static str {
        "node-exit"
    }

    fn about(&self) -> &'static str {
        "no process died that was not killed"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no process was started");
        let tear_down = history.tear_down();
        for process in &system.processes {
            match &process.change {
                ProcessChange::Started => tally.oblige(1),
                ProcessChange::Stopped { .. } | ProcessChange::Continued => {}
                ProcessChange::Ended { how, asked_for } => {
                    if !asked_for && process.at < tear_down {
                        tally.broken(process.at, || {
                            format!(
                                "{} (pid {}) ended by itself at {}: {how}",
                                process.node,
                                process.pid,
                                words::at(process.at)
                            )
                        });
                    }
                }
            }
        }
    }
}
