//! Which folder each peer has: a peer that comes back with another one has forgotten what it voted, and is not heard.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    env::{Disk, DiskError, read_all, replace},
    node::Identity,
};

/// The file, below the data folder: a line `node incarnation` for each peer that was ever heard.
const FILE: &str = "peers";

/// The incarnations of the peers, as this node first heard of them.
#[derive(Debug)]
pub(crate) struct PeerBook {
    own: Identity,
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<u64, u64>>,
}

/// A book that can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerBookError {
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    #[error(
        "{FILE} in the data folder says {0:?}, which is no node and its incarnation; keep the folder for a post-mortem"
    )]
    Unreadable(String),
}

impl PeerBook {
    /// Opens the book on `disk`, which may have none yet.
    pub(crate) fn open(own: Identity, disk: Arc<dyn Disk>) -> Result<Self, PeerBookError> {
        let mut known = BTreeMap::new();
        if disk.exists(FILE)? {
            let text = read_all(&*disk.open(FILE)?)?;
            for line in String::from_utf8_lossy(&text).lines() {
                let pair = line.split_once(' ');
                let pair = pair.and_then(|(node, incarnation)| Some((node.parse().ok()?, incarnation.parse().ok()?)));
                let Some((node, incarnation)) = pair else {
                    return Err(PeerBookError::Unreadable(line.to_owned()));
                };
                known.insert(node, incarnation);
            }
        }
        let known = Mutex::new(known);
        Ok(Self { own, disk, known })
    }

    /// What this node says of itself.
    pub(crate) const fn own(&self) -> &Identity {
        &self.own
    }

    /// Whether `peer`, which says to be `cluster`'s and of `incarnation`, is the one that was first heard. One that was
    /// never heard is written down first.
    pub(crate) fn check(&self, peer: u64, cluster: &str, incarnation: u64) -> Result<(), String> {
        if cluster != self.own.cluster {
            let ours = &self.own.cluster;
            return Err(format!(
                "node {peer} is of cluster {cluster:?}, this is cluster {ours:?}"
            ));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&peer) {
            Some(first) if *first == incarnation => Ok(()),
            Some(_) => Err(format!(
                "node {peer} came back with another data folder, which knows nothing of what it promised: \
                 give it its folder back, or another node id"
            )),
            None => {
                let mut more = known.clone();
                more.insert(peer, incarnation);
                let lines = more.iter().map(|(node, incarnation)| format!("{node} {incarnation}\n"));
                let written = replace(&*self.disk, FILE, lines.collect::<String>().as_bytes());
                written.map_err(|error| format!("the incarnation of node {peer} can't be written down: {error}"))?;
                *known = more;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{SimDisk, Streams};

    fn book(disk: &SimDisk) -> PeerBook {
        let own = Identity {
            node: 1,
            cluster: "c".to_owned(),
            incarnation: 7,
        };
        PeerBook::open(own, Arc::new(disk.attach())).unwrap()
    }

    #[test]
    fn a_peer_is_held_to_its_first_incarnation_through_a_power_loss() {
        let disk = SimDisk::new();
        let first = book(&disk);
        assert_eq!(first.check(2, "c", 20), Ok(()));
        assert_eq!(first.check(3, "c", 30), Ok(()));
        assert!(first.check(2, "c", 21).is_err());
        disk.power_loss(&mut Streams::new(1).stream("power"));
        let again = book(&disk);
        assert_eq!(again.check(2, "c", 20), Ok(()));
        assert!(again.check(3, "c", 31).unwrap_err().contains("another data folder"));
        assert!(again.check(2, "d", 20).unwrap_err().contains("cluster \"d\""));
    }

    #[test]
    fn a_peer_that_can_not_be_written_down_is_not_heard() {
        let disk = SimDisk::new();
        let book = book(&disk);
        disk.fail_next_sync("peers");
        assert!(book.check(2, "c", 20).is_err());
        assert_eq!(book.check(2, "c", 21), Ok(()), "nothing was noted");
    }
}
