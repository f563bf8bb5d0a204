//! Which folder each peer has: a peer that comes back with another one has forgotten what it voted, and is not heard. Neither
//! is one whose configuration differs where all must be the same: its state would come to differ from everybody else's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    env::{Disk, DiskError, read_all, replace},
    node::{Identity, PROTOCOL_HEADER, Protocols},
};

/// The file, below the data folder: a line `node incarnation` for each peer that was ever heard.
const FILE: &str = "peers";

/// The incarnations of the peers, as this node first heard of them.
#[derive(Debug)]
pub(crate) struct PeerBook {
    own: Identity,
    /// What this node is configured with and every peer must be too.
    agreed: BTreeMap<String, String>,
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<u64, u64>>,
    /// Held while a peer is written down.
    writing: tokio::sync::Mutex<()>,
    /// The versions of the protocol that this node speaks.
    speaks: Protocols,
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
    /// Opens the book on `disk`, which may have none yet. `agreed` is what all nodes must be configured with alike.
    pub(crate) fn open(
        own: Identity,
        agreed: BTreeMap<String, String>,
        speaks: Protocols,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, PeerBookError> {
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
        Ok(Self {
            own,
            agreed,
            speaks,
            disk,
            known,
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// What this node says of itself.
    pub(crate) const fn own(&self) -> &Identity {
        &self.own
    }

    /// What this node is configured with and every peer must be too: `key=value`, parted by blanks.
    pub(crate) fn agreed(&self) -> String {
        let pairs = self.agreed.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    /// Whether `peer`, which says [`PeerBook::agreed`] of itself, is configured as this node is. What only one of the two
    /// says is not compared: the other is of a version that doesn't have it.
    pub(crate) fn agrees(&self, peer: u64, said: &str) -> Result<(), String> {
        for (key, theirs) in said.split(' ').filter_map(|pair| pair.split_once('=')) {
            match self.agreed.get(key) {
                Some(ours) if ours != theirs => {
                    let node = self.own.node;
                    return Err(format!(
                        "{key} is {theirs} at node {peer} and {ours} at node {node}: it has to be the same at every node, \
                         or replicas come to differ: give both the value that the cluster was started with"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The versions that this node speaks.
    pub(crate) const fn speaks(&self) -> Protocols {
        self.speaks
    }

    /// Whether `peer`, which says that it speaks `said`, shares a version of the protocol with this node. Who says nothing
    /// speaks the first.
    pub(crate) fn shares(&self, peer: u64, said: Option<&str>) -> Result<(), String> {
        let ours = self.speaks;
        let theirs = match said {
            None => Protocols::FIRST,
            Some(text) => Protocols::parse(text)
                .ok_or_else(|| format!("{PROTOCOL_HEADER} of node {peer} is {text:?}: it says `2` or `1-2`"))?,
        };
        match ours.shared(theirs) {
            Some(_) => Ok(()),
            None => Err(format!(
                "node {peer} speaks version {theirs} of the protocol and node {} version {ours}: they share none; update the \
                 older of the two first",
                self.own.node
            )),
        }
    }

    /// Whether `peer`, which says to be `cluster`'s and of `incarnation`, is the one that was first heard. One that was
    /// never heard is written down first.
    pub(crate) async fn check(&self, peer: u64, cluster: &str, incarnation: u64) -> Result<(), String> {
        if cluster != self.own.cluster {
            let ours = &self.own.cluster;
            return Err(format!(
                "node {peer} is of cluster {cluster:?}, this is cluster {ours:?}"
            ));
        }
        if let Some(judged) = self.judge(peer, incarnation) {
            return judged;
        }
        // One after the other, and on a thread that may wait for a disk: neither peers that are known nor anybody's calls
        // wait for it.
        let _alone = self.writing.lock().await;
        if let Some(judged) = self.judge(peer, incarnation) {
            return judged;
        }
        let mut more = self.known().clone();
        more.insert(peer, incarnation);
        let lines = more.iter().map(|(node, incarnation)| format!("{node} {incarnation}\n"));
        let (text, disk) = (lines.collect::<String>(), Arc::clone(&self.disk));
        let failed =
            |why: &dyn std::fmt::Display| format!("the incarnation of node {peer} can't be written down: {why}");
        let written = tokio::task::spawn_blocking(move || replace(&*disk, FILE, text.as_bytes()));
        let written = written.await.map_err(|error| failed(&error))?;
        written.map_err(|error| failed(&error))?;
        *self.known() = more;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        // Every critical section leaves the map whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said of a peer that was heard before; `None` of one that was not.
    fn judge(&self, peer: u64, incarnation: u64) -> Option<Result<(), String>> {
        let first = *self.known().get(&peer)?;
        if first == incarnation {
            return Some(Ok(()));
        }
        Some(Err(format!(
            "node {peer} came back with another data folder, which knows nothing of what it promised: \
             give it its folder back, or another node id"
        )))
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
        let agreed = [("shards", "4"), ("state.outbox_max", "1000")];
        let agreed = agreed.map(|(key, value)| (key.to_owned(), value.to_owned()));
        PeerBook::open(own, agreed.into(), Protocols::ALL, Arc::new(disk.attach())).unwrap()
    }

    #[test]
    fn a_peer_that_is_configured_otherwise_is_named_with_the_key_and_both_values() {
        let book = book(&SimDisk::new());
        assert_eq!(book.agrees(2, &book.agreed()), Ok(()));
        assert_eq!(
            book.agrees(2, "shards=4 state.invented=9"),
            Ok(()),
            "of a later version"
        );
        assert_eq!(book.agrees(2, ""), Ok(()), "of an earlier one");
        let refused = book.agrees(2, "shards=4 state.outbox_max=10").unwrap_err();
        assert!(
            refused.contains("state.outbox_max is 10 at node 2 and 1000 at node 1"),
            "{refused}"
        );
    }

    #[test]
    fn a_peer_that_shares_no_version_is_refused_with_both() {
        let book = book(&SimDisk::new());
        for said in [None, Some("1"), Some("2"), Some("1-2"), Some("2-3")] {
            assert_eq!(book.shares(2, said), Ok(()), "{said:?}");
        }
        let refused = book.shares(2, Some("3-4")).unwrap_err();
        assert!(
            refused.contains("node 2 speaks version 3-4") && refused.contains("node 1 version 1-2"),
            "{refused}"
        );
        assert!(book.shares(2, Some("two")).is_err());
    }

    #[tokio::test]
    async fn peers_that_come_together_are_all_written_down() {
        let disk = SimDisk::new();
        let book = Arc::new(book(&disk));
        let mut checks = tokio::task::JoinSet::new();
        for peer in 2..=9 {
            let book = Arc::clone(&book);
            checks.spawn(async move { book.check(peer, "c", 10 * peer).await });
        }
        while let Some(checked) = checks.join_next().await {
            assert_eq!(checked.unwrap(), Ok(()));
        }
        disk.power_loss(&mut Streams::new(1).stream("power"));
        let again = self::book(&disk);
        for peer in 2..=9 {
            assert!(again.check(peer, "c", 1).await.is_err(), "{peer} was forgotten");
        }
    }

    #[tokio::test]
    async fn a_peer_is_held_to_its_first_incarnation_through_a_power_loss() {
        let disk = SimDisk::new();
        let first = book(&disk);
        assert_eq!(first.check(2, "c", 20).await, Ok(()));
        assert_eq!(first.check(3, "c", 30).await, Ok(()));
        assert!(first.check(2, "c", 21).await.is_err());
        disk.power_loss(&mut Streams::new(1).stream("power"));
        let again = book(&disk);
        assert_eq!(again.check(2, "c", 20).await, Ok(()));
        assert!(
            again
                .check(3, "c", 31)
                .await
                .unwrap_err()
                .contains("another data folder")
        );
        assert!(again.check(2, "d", 20).await.unwrap_err().contains("cluster \"d\""));
    }

    #[tokio::test]
    async fn a_peer_that_can_not_be_written_down_is_not_heard() {
        let disk = SimDisk::new();
        let book = book(&disk);
        disk.fail_next_sync("peers");
        assert!(book.check(2, "c", 20).await.is_err());
        assert_eq!(book.check(2, "c", 21).await, Ok(()), "nothing was noted");
    }
}
