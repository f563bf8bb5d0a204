//! The nodes' disks: mounted before a node first starts, kept while it is killed and started again, gone with the power.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::disk::{DiskSpec, Mounted, PowerLoss, Unsynced};
use crate::backend::journal::{Act, Journal};
use crate::backend::{BackendError, NodeSpec};

/// Every disk of a backend.
#[derive(Debug, Default)]
pub(super) struct Disks {
    mounted: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    disk: Mounted,
    spec: DiskSpec,
    /// Its line in the undo journal.
    seq: u64,
}

impl Disks {
    fn mounted(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts the disk of `node`, unless it has none or it is mounted; word of it is in the journal before. Blocks.
    ///
    /// # Errors
    /// When it can't be journalled or mounted; then it is not mounted.
    pub(super) fn mount(&self, node: &NodeSpec, journal: &Journal) -> Result<(), BackendError> {
        let Some(spec) = &node.disk else { return Ok(()) };
        if self.mounted().contains_key(&node.name) {
            return Ok(());
        }
        let act = Act::Mount {
            node: node.name.clone(),
            at: spec.mount.clone(),
        };
        let seq = journal.begin(act).map_err(|error| BackendError::Os {
            what: format!("{} {}", error.what, error.path.display()),
            source: error.source,
        })?;
        match Mounted::new(spec, journal.run()) {
            Ok(disk) => {
                let spec = spec.clone();
                self.mounted().insert(node.name.clone(), Entry { disk, spec, seq });
                Ok(())
            }
            Err(source) => {
                // A line lost here is undone once more by a sweep, which does no harm.
                let _ = journal.done(seq);
                Err(BackendError::Os {
                    what: format!("mount the disk of node `{}` at {}", node.name, spec.mount.display()),
                    source,
                })
            }
        }
    }

    /// Cuts the power of those of `nodes` that have a disk.
    pub(super) fn power_loss(&self, nodes: &[String]) -> Outage {
        let mounted = self.mounted();
        let (names, disks): (Vec<_>, Vec<_>) = nodes
            .iter()
            .filter_map(|node| Some((node.clone(), mounted.get(node)?.disk.disk().clone())))
            .unzip();
        let loss = PowerLoss::of(disks);
        let lost = names.into_iter().zip(loss.lost.iter().copied()).collect();
        Outage { loss: Some(loss), lost }
    }

    /// Unmounts the disk of `node`, if it has one, and forgets it: the next start mounts what is below anew. Blocks.
    ///
    /// # Errors
    /// When it is still mounted; it is in the journal then.
    pub(super) fn unmount(&self, node: &str, journal: &Journal) -> Result<(), BackendError> {
        // Bound first: the lock is not held while it is unmounted.
        let entry = self.mounted().remove(node);
        let Some(Entry { disk, spec, seq }) = entry else {
            return Ok(());
        };
        disk.unmount().map_err(|source| BackendError::Os {
            what: format!("unmount the disk of node `{node}` at {}", spec.mount.display()),
            source,
        })?;
        let _ = journal.done(seq);
        Ok(())
    }

    /// Unmounts all. Blocks. What could not be, in words.
    pub(super) fn unmount_all(&self, journal: &Journal) -> Vec<String> {
        let nodes: Vec<String> = self.mounted().keys().cloned().collect();
        nodes
            .iter()
            .filter_map(|node| self.unmount(node, journal).err())
            .map(|error| error.to_string())
            .collect()
    }
}

/// A power loss under way, until [`Outage::over`].
pub(super) struct Outage {
    loss: Option<PowerLoss>,
    lost: BTreeMap<String, Unsynced>,
}

impl Outage {
    /// Those who ran on the disks have been sent their end.
    pub(super) fn killed(&mut self) {
        self.loss = None;
    }

    /// What the disk of `node` says that it has lost; nothing when it has no disk.
    pub(super) fn told_of(&self, node: &str) -> Option<String> {
        let Unsynced { bytes, files, names } = self.lost.get(node)?;
        Some(format!(
            "; its disk lost {bytes} unsynced bytes of {files} files and {names} changes of names"
        ))
    }
}
