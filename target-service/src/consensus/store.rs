//! What `raft` reads: a view of the shard's durable log, and the snapshot that is on offer.

use std::cell::Cell;

use raft::{
    Error, GetEntriesContext, RaftState, Result, StorageError,
    eraftpb::{Entry, Snapshot},
};

use super::convert;
use crate::storage::{LogReadError, log::ShardLog};

/// One replica's log, as `raft` wants to see it.
#[derive(Debug)]
pub(super) struct Store {
    log: ShardLog,
    initial: RaftState,
    snapshot: Option<Snapshot>,
    /// Set when `raft` wanted a snapshot and there was none that is good enough.
    wanted: Cell<bool>,
}

impl Store {
    pub(super) fn new(log: ShardLog, initial: RaftState) -> Self {
        Self {
            log,
            initial,
            snapshot: None,
            wanted: Cell::new(false),
        }
    }

    pub(super) const fn log(&self) -> &ShardLog {
        &self.log
    }

    /// Whether `raft` asked for a snapshot, and there was none, since the last call.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// Offers a snapshot to whoever lags; `None` gives its memory back.
    pub(super) fn offer(&mut self, snapshot: Option<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// The index of the snapshot on offer.
    pub(super) fn offered(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|snapshot| snapshot.get_metadata().index)
    }
}

const fn read_error(error: LogReadError) -> Error {
    Error::Store(match error {
        LogReadError::Compacted => StorageError::Compacted,
        LogReadError::Unavailable => StorageError::Unavailable,
    })
}

impl raft::Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(&self, low: u64, high: u64, max: impl Into<Option<u64>>, _: GetEntriesContext) -> Result<Vec<Entry>> {
        let found = self.log.entries(low, high, max.into()).map_err(read_error)?;
        let converted = found.into_iter().map(convert::entry_from_wire);
        converted
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::Store(StorageError::Other(Box::new(error))))
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.log.term(index).map_err(read_error)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        // An older one would leave a gap between itself and the log.
        let least = request_index.max(self.log.base().0);
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= least => Ok(snapshot.clone()),
            _ => {
                self.wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
