//! A replica whose state is damaged is set aside: it is not served, does not vote, and its file is kept as it was found.
//! The rest of the node goes on, since every replica has a file of its own. (The log is shared: a node whose log is damaged
//! ends, and says where.)
//!
//! A note beside the file keeps later starts from opening it. The way back is a new replica on another node: once the
//! placement group has moved the damaged one away, file and note are forgotten together, and this node can be given the shard
//! again, from nothing. Who removed the note by hand would find the damage again, or serve it.

use firedrill_proto::chat::v1::{Goodbye, QuarantinedReplica, peer_message::Message};
use serde::{Deserialize, Serialize};

use super::{
    recover::{STATE_DIR, state_file},
    run::{Node, NodeError},
};
use crate::{
    chat::ChatError,
    env::{Disk, DiskResult, read_all, replace},
    storage::StorageError,
};

/// What is known of the damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantined {
    pub(super) shard: u32,
    /// Below the data folder.
    pub(super) file: String,
    /// An offset in bytes or a record's key; empty when the database doesn't say.
    #[serde(default)]
    pub(super) at: String,
    pub(super) what: String,
}

fn note(shard: u32) -> String {
    format!("{}.quarantined", state_file(shard))
}

/// Removes the note of a shard that this node holds no more: a replica that comes here later begins with nothing of it.
pub(super) fn forget(disk: &dyn Disk, shard: u32) -> DiskResult<()> {
    let name = note(shard);
    if disk.exists(&name)? {
        disk.remove(&name)?;
        disk.sync_dir(STATE_DIR)?;
    }
    Ok(())
}

impl Quarantined {
    /// What `error` says of a damaged replica; `None` when it concerns the whole node.
    pub(super) fn of(shard: u32, error: &NodeError) -> Option<Self> {
        let own = state_file(shard);
        let (at, what) = match error {
            NodeError::Storage(StorageError::Damaged { file, what }) if *file == own => (String::new(), what.clone()),
            NodeError::Storage(StorageError::Corrupt { file, offset, what }) if *file == own => {
                (format!("byte {offset}"), what.clone())
            }
            NodeError::Chat { shard: of, source } if *of == shard && source.is_damage() => match source {
                ChatError::Damaged { key, reason } => (format!("record {key}"), reason.clone()),
                other => (String::new(), other.to_string()),
            },
            _ => return None,
        };
        let file = own;
        Some(Self { shard, file, at, what })
    }

    /// The note that an earlier start left.
    pub(super) fn read(disk: &dyn Disk, shard: u32) -> DiskResult<Option<Self>> {
        let name = note(shard);
        if !disk.exists(&name)? {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&read_all(&*disk.open(&name)?)?).into_owned();
        // Whatever the note says, it is there.
        let unreadable = |error: toml::de::Error| Self {
            shard,
            file: state_file(shard),
            at: String::new(),
            what: format!("{name} is there and can't be read: {error}"),
        };
        Ok(Some(toml::from_str(&text).unwrap_or_else(unreadable)))
    }

    /// Leaves the note, and tells.
    pub(super) fn write(&self, disk: &dyn Disk) -> DiskResult<()> {
        let text = toml::to_string(self).unwrap_or_default();
        replace(disk, &note(self.shard), text.as_bytes())?;
        tracing::error!(
            shard = self.shard,
            file = self.file,
            at = self.at,
            what = self.what,
            "a replica is quarantined: keep its file for a post-mortem, and place the replica on another node"
        );
        Ok(())
    }

    pub(super) fn status(&self) -> QuarantinedReplica {
        QuarantinedReplica {
            shard: self.shard,
            file: self.file.clone(),
            at: self.at.clone(),
            what: self.what.clone(),
        }
    }
}

impl Node {
    /// Sets a replica aside if that is all that `outcome` asks for.
    pub(super) fn contain(&mut self, outcome: Result<(), NodeError>) -> Result<(), NodeError> {
        let Err(error) = outcome else { return Ok(()) };
        let NodeError::Chat { shard: id, .. } = error else {
            return Err(error);
        };
        let Some(found) = Quarantined::of(id, &error) else {
            return Err(error);
        };
        let Some(mut shard) = self.shards.remove(&id) else {
            return Ok(());
        };
        if shard.replica.is_leader() {
            // Nobody has to wait for a timeout.
            let others = shard
                .replica
                .voters()
                .into_iter()
                .filter(|node| *node != self.config.node);
            for peer in others {
                let goodbye = Goodbye {
                    term: shard.replica.term(),
                    ..Goodbye::default()
                };
                self.net.send(peer, id, Message::Goodbye(goodbye));
            }
        }
        shard.step_down();
        // Closed before the note is written, so that the file is the one that is found.
        drop(shard);
        self.incoming.forget(id);
        found.write(&*self.disk).map_err(StorageError::from)?;
        self.quarantined.insert(id, found);
        Ok(())
    }

    /// Why this node doesn't serve a shard that exists.
    pub(super) fn not_held(&self, shard: u32) -> String {
        let node = self.config.node;
        match self.quarantined.get(&shard) {
            Some(found) => format!("shard {shard} is quarantined at node {node}: {} is damaged", found.file),
            None => format!("shard {shard} is not held by node {node}"),
        }
    }
}
