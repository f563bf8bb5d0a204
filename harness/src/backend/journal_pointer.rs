//! Where runs that are not over leave word of themselves.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal_file::JournalError;
use crate::backend::procfs::{self, ProcessId};

/// The variable that says where, in place of the user's own state directory.
const OVERRIDE: &str = "FIREDRILL_STATE_DIR";
/// The most pointers looked at.
const POINTERS_MAX: usize = 10_000;

/// A run that is not over, or was not when it died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The run's id: the value of the marker of its processes.
    pub run: String,
    /// Its journal.
    pub journal: PathBuf,
    /// The harness that runs it.
    pub owner: ProcessId,
    /// The boot of the machine in which that process lives.
    pub boot: String,
}

impl Pointer {
    pub(super) fn new(run: &str, journal: &Path) -> io::Result<Self> {
        Ok(Self {
            run: run.to_owned(),
            journal: journal.to_owned(),
            owner: ProcessId::own()?,
            boot: procfs::boot_id(),
        })
    }

    /// Whether its harness still runs: then what it did is its own to undo.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.is_of_this_boot() && self.owner.is_alive()
    }

    /// Whether the machine has not been restarted since: after a restart no process of the run is left.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == procfs::boot_id()
    }
}

/// The directory that holds pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    runs: PathBuf,
}

impl StateDir {
    /// In a directory of the caller's choice.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self {
            runs: directory.join("runs"),
        }
    }

    /// The user's own: `FIREDRILL_STATE_DIR`, else `firedrill` in `XDG_STATE_HOME`, else in `~/.local/state`.
    ///
    /// # Errors
    /// When none of the variables says where.
    pub fn of_user() -> Result<Self, JournalError> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        var(OVERRIDE)
            .or_else(|| Some(var("XDG_STATE_HOME")?.join("firedrill")))
            .or_else(|| Some(var("HOME")?.join(".local/state/firedrill")))
            .map(|directory| Self::at(&directory))
            .ok_or_else(|| JournalError {
                what: "find a state directory:",
                path: PathBuf::from("~/.local/state/firedrill"),
                source: io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("HOME is not set; say where with {OVERRIDE}"),
                ),
            })
    }

    /// Every pointer that can be read, by run. One that can not is somebody else's file, and is left alone.
    ///
    /// # Errors
    /// When the directory is there and can not be read.
    pub fn pointers(&self) -> Result<Vec<Pointer>, JournalError> {
        let entries = match fs::read_dir(&self.runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("read", &self.runs, source)),
        };
        let mut pointers: Vec<Pointer> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .take(POINTERS_MAX)
            .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
            .collect();
        pointers.sort_by(|a, b| a.run.cmp(&b.run));
        Ok(pointers)
    }

    /// Writes a pointer, synced.
    pub(super) fn add(&self, pointer: &Pointer) -> Result<(), JournalError> {
        let path = self.path_of(&pointer.run);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.runs)?;
            let part = path.with_extension("part");
            let mut file = File::create(&part)?;
            file.write_all(&serde_json::to_vec_pretty(pointer)?)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.runs)?.sync_all()
        };
        write().map_err(|source| failed("write", &path, source))
    }

    /// Removes the pointer of a run. Not an error when there is none.
    ///
    /// # Errors
    /// When it is there and can not be removed.
    pub fn remove(&self, run: &str) -> Result<(), JournalError> {
        let path = self.path_of(run);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Run ids become file names; anything else in them is replaced.
    fn path_of(&self, run: &str) -> PathBuf {
        let name: String = run
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        self.runs.join(format!("{name}.json"))
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_kept_by_run_and_strange_files_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        assert_eq!(state.pointers().unwrap(), []);
        let pointer = Pointer::new("../b", Path::new("/x/undo.journal")).unwrap();
        state.add(&pointer).unwrap();
        state
            .add(&Pointer {
                run: "a".into(),
                ..pointer.clone()
            })
            .unwrap();
        fs::write(dir.path().join("runs/strange.json"), "{").unwrap();
        let runs: Vec<String> = state.pointers().unwrap().into_iter().map(|p| p.run).collect();
        assert_eq!(runs, ["../b", "a"]);
        assert!(pointer.is_owned());
        state.remove("../b").unwrap();
        state.remove("../b").unwrap();
        assert_eq!(state.pointers().unwrap().len(), 1);
        assert!(dir.path().join("runs/strange.json").exists());
    }

    #[test]
    fn a_run_of_another_boot_or_process_is_not_owned() {
        let pointer = Pointer::new("a", Path::new("/x")).unwrap();
        let rebooted = Pointer {
            boot: "other".into(),
            ..pointer.clone()
        };
        assert!(!rebooted.is_owned());
        let mut reused = pointer;
        reused.owner.start_ticks += 1;
        assert!(!reused.is_owned(), "the number is in use by another process");
    }
}
