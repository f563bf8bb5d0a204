//! What a controller leaves behind for the next one: in the run's journal, on disk before anything follows from it.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::roller::Rolling;
use crate::backend::journal::{Act, Journal};
use crate::system::Relocation;

/// What stands in the journal of an operation. The last note counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub(super) enum Note {
    /// The system is about to be asked for it, or was, where it has given it a number.
    Asked {
        /// For what.
        what: Relocation,
        /// The number.
        operation: Option<u64>,
    },
    /// How far the harness is with a roll-out.
    Rolling(Box<Rolling>),
}

/// The notes of one operation.
#[derive(Debug)]
pub(super) struct Notes {
    journal: Journal,
    id: String,
    /// The line of the last note.
    last: Mutex<Option<u64>>,
}

impl Notes {
    pub(super) const fn new(journal: Journal, id: String) -> Self {
        Self {
            journal,
            id,
            last: Mutex::new(None),
        }
    }

    /// Writes a note, which is on disk when this returns, in place of the one before.
    ///
    /// # Errors
    /// In words, when it is not on disk: then nothing may follow from it.
    pub(super) async fn write(&self, note: &Note) -> Result<(), String> {
        let act = Act::Operation {
            id: self.id.clone(),
            note: serde_json::to_value(note).map_err(|error| error.to_string())?,
        };
        let journal = self.journal.clone();
        let written = tokio::task::spawn_blocking(move || journal.begin(act)).await;
        let seq = written
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        if let Some(before) = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(seq) {
            // A line lost here leaves two notes, of which the later counts.
            let _ = self.journal.done(before);
        }
        Ok(())
    }

    /// The last note, from the disk and from nothing else.
    ///
    /// # Errors
    /// In words, when there is none that can be read.
    pub(super) async fn read(&self) -> Result<Note, String> {
        let journal = self.journal.clone();
        let read = tokio::task::spawn_blocking(move || journal.on_disk()).await;
        let replay = read
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let own = replay.undone.into_iter().rev().find_map(|act| match act {
            Act::Operation { id, note } if id == self.id => Some(note),
            _ => None,
        });
        let note = own.ok_or_else(|| format!("the journal has no note of {}", self.id))?;
        serde_json::from_value(note).map_err(|error| format!("the note of {} can't be read: {error}", self.id))
    }

    /// The operation has ended: nothing is left to go on with.
    pub(super) fn close(&self) {
        if let Some(last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A line lost here is a note of what a later run can't go on with anyway.
            let _ = self.journal.done(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::journal::StateDir;

    fn note(operation: Option<u64>) -> Note {
        Note::Asked {
            what: Relocation::MoveReplica {
                group: "shard:0".to_owned(),
                from: "n1".to_owned(),
                to: "n4".to_owned(),
            },
            operation,
        }
    }

    #[tokio::test]
    async fn the_last_note_is_read_back_from_the_disk_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("state"));
        let journal = Journal::create(dir.path(), "r1", &state).unwrap();
        let notes = Notes::new(journal.clone(), "1-move_replica".to_owned());
        assert!(notes.read().await.unwrap_err().contains("no note"));
        notes.write(&note(None)).await.unwrap();
        notes.write(&note(Some(7))).await.unwrap();
        let others = Notes::new(journal.clone(), "2-move_replica".to_owned());
        others.write(&note(Some(9))).await.unwrap();
        // Another that knows nothing but the file and its own name.
        let fresh = Notes::new(journal.clone(), "1-move_replica".to_owned());
        assert_eq!(fresh.read().await.unwrap(), note(Some(7)));
        notes.close();
        others.close();
        assert!(fresh.read().await.is_err());
        assert!(journal.close().unwrap(), "no note keeps a run's journal open");
    }
}
