//! Records of the journal: one line each, checksum first.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::procfs::ProcessId;

/// Something done to the host that must be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// A node's process is about to be started. It carries the run's marker; undone by killing it.
    Start {
        /// The node.
        node: String,
    },
    /// It was started.
    Started {
        /// The node.
        node: String,
        /// The process.
        process: ProcessId,
    },
    /// A node's disk is about to be mounted, under the run's id; undone by unmounting it.
    Mount {
        /// The node.
        node: String,
        /// Where.
        at: PathBuf,
    },
    /// A fault is about to be applied. Undone as said.
    Fault {
        /// The fault's id within the run.
        id: String,
        /// The verb.
        kind: String,
        /// Nodes or links.
        targets: Vec<String>,
        /// How it is undone.
        undo: Undo,
    },
}

/// How a fault is undone once the run that applied it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// By ending the run's processes, frozen ones included.
    EndProcesses,
    /// It ended with the run: links live in the harness.
    EndsWithHarness,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// Written and synced before the act.
    Begin {
        /// Counted up from 1.
        seq: u64,
        /// The act.
        #[serde(flatten)]
        act: Act,
    },
    /// The act is undone.
    Done {
        /// Of its beginning.
        seq: u64,
    },
}

impl Record {
    /// As a line, newline included.
    #[must_use]
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{:016x} {json}\n", xxh3_64(json.as_bytes()))
    }

    /// From a line without its newline; none when it is torn or altered.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let (sum, json) = line.split_at_checked(16)?;
        let json = json.strip_prefix(' ')?;
        if u64::from_str_radix(sum, 16).ok()? != xxh3_64(json.as_bytes()) {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}
