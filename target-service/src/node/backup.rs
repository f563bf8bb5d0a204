//! Backups as operators ask for them: begun, told of and ended here, written by `backup::Writer` at each tick.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{BackupAction, BackupPhase, BackupRequest, BackupResponse, BackupStatus, LogEntry};

use super::{
    api::{Answer, Reason, Refusal},
    run::Node,
    shard::RETRY_BUSY,
};
use crate::{
    backup::{Manifest, Phase, Writer, WriterError},
    chat::{Applied, Machine},
};

/// Longest id of a backup.
const ID_MAX: usize = 64;

/// What this node has of backups.
#[derive(Debug, Default)]
pub(super) struct Backups {
    running: Option<Writer>,
    /// How the last one ended.
    last: Option<BackupStatus>,
}

impl Backups {
    /// The backup that is taken, or was last.
    pub(super) fn status(&self) -> Option<BackupStatus> {
        let Some(writer) = &self.running else {
            return self.last.clone();
        };
        let phase = match writer.phase() {
            Phase::Copying => BackupPhase::Copying,
            Phase::Following => BackupPhase::Following,
            Phase::Done => BackupPhase::Finished,
        };
        Some(status(writer, phase, String::new()))
    }

    /// Whether what `shard` applies is wanted.
    pub(super) fn follows(&self, shard: u32) -> bool {
        self.running.as_ref().is_some_and(|writer| writer.follows(shard))
    }

    fn ended(&mut self, outcome: Result<Phase, WriterError>) {
        let Some(writer) = &self.running else { return };
        match outcome {
            Ok(Phase::Done) => {
                let (_, shards, bytes) = writer.progress();
                tracing::info!(id = writer.id(), shards, bytes, "backup finished");
                self.last = Some(status(writer, BackupPhase::Finished, String::new()));
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(id = writer.id(), %error, "backup failed");
                self.last = Some(status(writer, BackupPhase::Failed, error.to_string()));
            }
        }
        self.running = None;
    }

    /// Adds what a shard has applied. A backup that can't be taken is no reason for the node to end.
    pub(super) fn add(&mut self, machine: &Machine, entries: Vec<LogEntry>, applied: &Applied) {
        if let Some(writer) = &mut self.running
            && let Err(error) = writer.applied(machine, entries, applied)
        {
            self.ended(Err(error));
        }
    }

    /// A shard is no longer this node's to copy.
    pub(super) fn lost(&mut self, shard: u32, why: &str) {
        if self.follows(shard) {
            self.ended(Err(WriterError::GaveUp(format!("shard {shard} {why}: take it again"))));
        }
    }
}

fn status(writer: &Writer, phase: BackupPhase, error: String) -> BackupStatus {
    let (done, shards, bytes) = writer.progress();
    BackupStatus {
        id: writer.id().to_owned(),
        phase: phase.into(),
        shards_done: u32::try_from(done).unwrap_or(u32::MAX),
        shards: u32::try_from(shards).unwrap_or(u32::MAX),
        bytes,
        error,
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=ID_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

impl Node {
    /// What an operator asks of a backup.
    pub(super) fn backup(&mut self, request: &BackupRequest) -> Answer<BackupResponse> {
        let id = &request.id;
        if !is_id(id) {
            let message = format!("{id:?} is no id of a backup: 1 to {ID_MAX} of a-z, 0-9, - and _");
            return Err(Refusal::new(Reason::Invalid, message));
        }
        let same = self.backups.status().is_some_and(|status| status.id == *id);
        match request.action() {
            BackupAction::BackupStart => {
                let failed = self
                    .backups
                    .status()
                    .is_some_and(|it| it.phase() == BackupPhase::Failed);
                if !same || failed {
                    self.begin_backup(request)?;
                }
            }
            BackupAction::BackupFinish | BackupAction::BackupAbort if !same => {
                return Err(Refusal::new(
                    Reason::Invalid,
                    format!("this node takes no backup {id:?}"),
                ));
            }
            BackupAction::BackupFinish => {
                if let Some(writer) = &mut self.backups.running {
                    writer.finish();
                }
            }
            BackupAction::BackupAbort => {
                self.backups
                    .ended(Err(WriterError::GaveUp("it was aborted".to_owned())));
            }
            BackupAction::Unspecified => {
                return Err(Refusal::new(Reason::Invalid, "it says neither START, FINISH nor ABORT"));
            }
        }
        Ok(BackupResponse {
            status: self.backups.status(),
        })
    }

    fn begin_backup(&mut self, request: &BackupRequest) -> Answer<()> {
        let Some(disk) = self.backup_disk.clone() else {
            let message = "no backup can be taken at this node: its configuration has no backup_dir";
            return Err(Refusal::new(Reason::Invalid, message));
        };
        if let Some(writer) = &self.backups.running {
            let message = format!("backup {:?} is being taken", writer.id());
            return Err(Refusal::new(Reason::Overloaded, message).after(10 * RETRY_BUSY));
        }
        let mut until: BTreeMap<u32, u64> = BTreeMap::new();
        for (&id, shard) in &self.shards {
            until.insert(id, shard.replica.commit());
        }
        for point in &request.at_least {
            let index = until.entry(point.shard).or_default();
            *index = point.index.max(*index);
        }
        let manifest = Manifest {
            format: Manifest::FORMAT,
            id: request.id.clone(),
            node: self.config.node,
            cluster: self.config.cluster.clone(),
            shards: self.config.shards,
            map_version: self.map.version,
            epoch: self.map.epoch,
            agreed: self.config.agreed(),
            began_ms: self.clock.wall_ms(),
            ended_ms: 0,
            parts: Vec::new(),
        };
        let machines = self.shards.values().map(|shard| &shard.machine);
        let rate = (self.config.backup_bytes_per_second, self.clock.now());
        match Writer::begin(disk, manifest, machines, &until, request.hold, rate) {
            Ok(writer) => {
                tracing::info!(id = request.id, shards = self.shards.len(), "backup begins");
                self.backups.running = Some(writer);
                Ok(())
            }
            Err(error @ WriterError::Exists(_)) => Err(Refusal::new(Reason::Invalid, error.to_string())),
            Err(error) => Err(Refusal::new(Reason::Overloaded, error.to_string()).after(10 * RETRY_BUSY)),
        }
    }

    /// Writes what may be written by now.
    pub(super) fn step_backup(&mut self) {
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        if let Some(writer) = &mut self.backups.running {
            let stepped = writer.step(now, wall_ms);
            self.backups.ended(stepped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_folder_and_nothing_else() {
        assert!(is_id("2026-11-28_a") && is_id(&"a".repeat(64)));
        for bad in ["", "..", "a/b", "A", "a b", "é", &"a".repeat(65)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
