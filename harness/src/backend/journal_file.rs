//! The journal's file: appended and synced before each act, read back after a crash.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal_pointer::{Pointer, StateDir};
use super::journal_record::{Act, Record};
use crate::base::RunClock;

/// The file's name in a run's folder.
const FILE: &str = "undo.journal";
/// The largest journal that is read; a run of a day with a fault a second writes a tenth of it.
const BYTES_MAX: u64 = 256 << 20;

/// The journal could not be written or read. Nothing was done to the host.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {}: {source}", path.display())]
pub struct JournalError {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// A run's undo journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    run: String,
    path: PathBuf,
    state_dir: StateDir,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    next: u64,
    undone: BTreeMap<u64, Act>,
}

/// An id for a run called `name`, which no other run on this machine has: with the process, and the time to the
/// nanosecond. Whatever carries a run's id is ended with that run, so two that share one would end each other.
#[must_use]
pub fn unique_run(name: &str) -> String {
    let since_boot = RunClock::start().origin_monotonic_ns();
    format!("{name}-{}-{since_boot}", std::process::id())
}

impl Journal {
    /// Makes the journal of run `run` in `folder`, and the pointer to it. The run's id must be unique on this machine.
    ///
    /// # Errors
    /// When the folder already has one, or can not be written.
    pub fn create(folder: &Path, run: &str, state_dir: &StateDir) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let failed = |what, source| JournalError {
            what,
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| failed("make", source))?;
        let path = path.canonicalize().map_err(|source| failed("find", source))?;
        file.sync_all()
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|source| failed("sync", source))?;
        let pointer = Pointer::new(run, &path).map_err(|source| failed("name the owner of", source))?;
        state_dir.add(&pointer)?;
        Ok(Self {
            shared: Arc::new(Shared {
                run: run.to_owned(),
                path,
                state_dir: state_dir.clone(),
                open: Mutex::new(Open {
                    file,
                    next: 1,
                    undone: BTreeMap::new(),
                }),
            }),
        })
    }

    /// The run's id: the value of the marker of its processes.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.shared.run
    }

    /// Writes that `act` is about to be done; it is on disk when this returns. Blocks for the disk. The number returned
    /// is for [`Journal::done`].
    ///
    /// # Errors
    /// When it is not on disk: then don't do it.
    pub fn begin(&self, act: Act) -> Result<u64, JournalError> {
        self.begin_all(vec![act]).map(|seqs| seqs[0])
    }

    /// As [`Journal::begin`], for several acts and one sync.
    ///
    /// # Errors
    /// When they are not on disk: then don't do any of them.
    pub fn begin_all(&self, acts: Vec<Act>) -> Result<Vec<u64>, JournalError> {
        let mut open = self.open();
        let mut lines = String::new();
        let mut seqs = Vec::with_capacity(acts.len());
        for act in acts {
            let seq = open.next;
            open.next += 1;
            lines.push_str(&Record::Begin { seq, act: act.clone() }.to_line());
            open.undone.insert(seq, act);
            seqs.push(seq);
        }
        open.file
            .write_all(lines.as_bytes())
            .and_then(|()| open.file.sync_data())
            .map_err(|source| self.failed("write", source))?;
        Ok(seqs)
    }

    /// Writes that an act is undone. Not synced: undoing it once more does no harm.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn done(&self, seq: u64) -> Result<(), JournalError> {
        let mut open = self.open();
        if open.undone.remove(&seq).is_none() {
            return Ok(());
        }
        open.file
            .write_all(Record::Done { seq }.to_line().as_bytes())
            .map_err(|source| self.failed("write", source))
    }

    /// What is done and not undone.
    #[must_use]
    pub fn undone(&self) -> Vec<Act> {
        self.open().undone.values().cloned().collect()
    }

    /// Ends the journal: when everything is undone the pointer to it goes away, and true is returned.
    ///
    /// # Errors
    /// When the pointer could not be removed.
    pub fn close(&self) -> Result<bool, JournalError> {
        let clean = self.open().undone.is_empty();
        if clean {
            self.shared.state_dir.remove(&self.shared.run)?;
        }
        Ok(clean)
    }

    /// Ends the journal of a run of which nothing is left, although it doesn't say so of every act.
    ///
    /// # Errors
    /// When the pointer could not be removed.
    pub fn close_swept(&self) -> Result<(), JournalError> {
        self.shared.state_dir.remove(&self.shared.run)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> JournalError {
        JournalError {
            what,
            path: self.shared.path.clone(),
            source,
        }
    }
}

/// What a journal says after its run is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// What was begun and is not known to be undone, in order.
    pub undone: Vec<Act>,
    /// True when the last line was torn: the act after it never happened, since a line is whole on disk before its act.
    pub torn: bool,
}

/// Reads a journal that another run left.
///
/// # Errors
/// When it can not be read.
pub fn read(path: &Path) -> Result<Replay, JournalError> {
    let failed = |source| JournalError {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(replay(&bytes))
}

/// A line that is not as it was written is passed over: undoing too much is harmless, since only what carries the run's
/// own marker is ever touched.
fn replay(bytes: &[u8]) -> Replay {
    let mut undone = BTreeMap::new();
    let mut torn = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let record = line
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok())
            .and_then(Record::from_line);
        match record {
            Some(Record::Begin { seq, act }) => {
                undone.insert(seq, act);
            }
            Some(Record::Done { seq }) => {
                undone.remove(&seq);
            }
            None => torn = true,
        }
    }
    Replay {
        undone: undone.into_values().collect(),
        torn,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::journal::Undo;

    fn start(node: &str) -> Act {
        Act::Start { node: node.to_owned() }
    }

    fn freeze() -> Act {
        Act::Fault {
            id: "1-freeze".into(),
            kind: "freeze".into(),
            targets: vec!["n1".into()],
            undo: Undo::EndProcesses,
        }
    }

    #[test]
    fn what_is_not_done_is_read_back_and_the_pointer_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("state"));
        let journal = Journal::create(dir.path(), "r1", &state).unwrap();
        let one = journal.begin(start("n1")).unwrap();
        let two = journal.begin_all(vec![start("n2"), freeze()]).unwrap();
        journal.done(one).unwrap();
        journal.done(one).unwrap();
        let read = read(&dir.path().join(FILE)).unwrap();
        assert_eq!(read.undone, [start("n2"), freeze()]);
        assert!(!read.torn);
        assert!(!journal.close().unwrap());
        assert_eq!(state.pointers().unwrap().len(), 1);
        for seq in two {
            journal.done(seq).unwrap();
        }
        assert!(journal.close().unwrap());
        assert_eq!(state.pointers().unwrap(), []);
        assert!(
            Journal::create(dir.path(), "r1", &state).is_err(),
            "never over an old one"
        );
    }

    #[test]
    fn an_altered_line_is_not_believed() {
        let line = Record::Begin {
            seq: 1,
            act: start("n1"),
        }
        .to_line();
        assert!(Record::from_line(line.trim_end()).is_some());
        assert!(Record::from_line(&line.trim_end().replace("n1", "n2")).is_none());
        assert!(Record::from_line("").is_none());
        assert!(Record::from_line("é123456789abcdefg {}").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_torn_tail_loses_only_itself(count in 1usize..6, cut in 0usize..80) {
            let whole: Vec<String> = (1..=count)
                .map(|n| Record::Begin { seq: n as u64, act: start(&format!("n{n}")) }.to_line())
                .collect();
            let bytes = whole.concat();
            let cut = cut.min(bytes.len());
            let kept = &bytes.as_bytes()[..bytes.len() - cut];
            let mut end = 0;
            let lines = whole.iter().filter(|line| { end += line.len(); end <= kept.len() }).count();
            let replay = replay(kept);
            prop_assert_eq!(replay.undone.len(), lines);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = replay(&bytes);
        }
    }
}
