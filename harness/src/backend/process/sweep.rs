//! Ends what earlier runs left behind, and touches nothing else.
//!
//! A process is only ended when it carries the marker of a run whose harness is gone; the run must have left a pointer
//! in the user's state directory. A process that merely has a number that was once ours carries no such marker.

use std::time::Duration;

use super::pidfd::PidFd;
use crate::backend::disk;
use crate::backend::journal::{self, Act, JournalError, Pointer, StateDir, Undo};
use crate::backend::procfs::{self, ProcessId};
use crate::base::RunClock;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Looks at the process table this often: a process may have made another while it was being ended.
const PASSES_MAX: usize = 5;

/// What was found of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The run.
    pub run: String,
    /// True when its harness still runs: then nothing was touched.
    pub owned: bool,
    /// Processes that were ended.
    pub killed: Vec<u32>,
    /// What the run had done and not undone, in words, now undone.
    pub undone: Vec<String>,
    /// What could not be undone, in words: the host is dirty when there is any.
    pub left: Vec<String>,
}

/// Sweeps what every run left that has word of itself in `state`.
///
/// # Errors
/// When the state directory can not be read.
pub async fn sweep(state: &StateDir, clock: RunClock) -> Result<Vec<Swept>, JournalError> {
    let mut all = Vec::new();
    for pointer in state.pointers()? {
        let swept = sweep_run(&pointer, clock).await;
        if !swept.owned && swept.left.is_empty() {
            state.remove(&pointer.run)?;
        }
        all.push(swept);
    }
    Ok(all)
}

async fn sweep_run(pointer: &Pointer, clock: RunClock) -> Swept {
    let mut swept = Swept {
        run: pointer.run.clone(),
        owned: pointer.is_owned(),
        ..Swept::default()
    };
    if swept.owned {
        return swept;
    }
    // A restart of the machine has ended every process of the run.
    if pointer.is_of_this_boot() {
        let (killed, left) = end_own(&pointer.run, None, clock).await;
        swept.killed.extend(killed);
        swept.left.extend(left);
    }
    match journal::read(&pointer.journal) {
        Ok(replay) => swept.undone.extend(replay.undone.iter().map(in_words)),
        // The run's folder may have been deleted: its processes were found by their marker all the same.
        Err(error) => swept.undone.push(format!("without its journal: {error}")),
    }
    swept
}

/// Ends what a run left behind, in its own harness: of one system, or of all and their disks. What was ended, and in words what was not.
pub(crate) async fn end_own(run: &str, system: Option<&str>, clock: RunClock) -> (Vec<u32>, Vec<String>) {
    let mut killed = Vec::new();
    let of_system = |pid: u32| system.is_none_or(|system| procfs::system_of(pid).as_deref() == Some(system));
    let found = || -> Vec<ProcessId> {
        let marked = procfs::marked(run).into_iter();
        marked.filter(|process| of_system(process.pid)).collect()
    };
    for _ in 0..PASSES_MAX {
        let found = found();
        if found.is_empty() {
            break;
        }
        for process in found {
            if end(run, process, clock).await {
                killed.push(process.pid);
            }
        }
    }
    let mut left: Vec<String> = found()
        .iter()
        .map(|process| format!("process {} still runs", process.pid))
        .collect();
    if system.is_none() {
        left.extend(unmount_own(run));
    }
    (killed, left)
}

/// Unmounts the disks that a run has left, which are known by the run's id, with or without its journal. In words which it
/// could not.
fn unmount_own(run: &str) -> Vec<String> {
    let mounted = disk::mounted_by(run).unwrap_or_default();
    let failed = mounted.iter().filter_map(|at| disk::unmount(at).err());
    failed.map(|error| error.to_string()).collect()
}

/// Ends one process; false when it was not the run's any more, or does not end.
async fn end(run: &str, process: ProcessId, clock: RunClock) -> bool {
    let Ok(held) = PidFd::open(process.pid) else {
        return false;
    };
    // Looked at again now that it is held: it may have ended, and its number been given to another.
    if !process.is_alive() || procfs::marker_of(process.pid).as_deref() != Some(run) {
        return false;
    }
    held.kill().is_ok() && held.ended(clock, GONE_WITHIN).await
}

fn in_words(act: &Act) -> String {
    match act {
        Act::Start { node } => format!("node `{node}` was being started: ended"),
        Act::Started { node, process } => format!("node `{node}` ran as process {}: ended", process.pid),
        Act::Mount { node, at } => format!("the disk of node `{node}` was mounted at {}: unmounted", at.display()),
        Act::Fault {
            id,
            kind,
            targets,
            undo,
        } => {
            let how = match undo {
                Undo::EndProcesses => "ended with its processes",
                Undo::EndsWithHarness => "ended with the harness",
            };
            format!("fault {id} ({kind} on {}): {how}", targets.join(", "))
        }
    }
}
