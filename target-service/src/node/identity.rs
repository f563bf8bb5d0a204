//! Whose data folder this is.
//!
//! A vote and an acknowledged entry bind the node that gave them, and they are in its folder. A folder under another id
//! would vote again with what it holds, and an emptied folder under the old id would forget what it promised. So the
//! first start writes down whose folder it is, together with a number that no other folder has (its incarnation); later
//! starts refuse a folder that is another's, and peers refuse a node that comes back with another incarnation.
//!
//! That leaves two founders whose folders are lost together: neither remembers the other's incarnation, and two of three
//! would be a majority that knows nothing. So an empty folder is not made a founder's unless that was asked for at this very
//! start. A node that is no founder needs no leave: it has no vote until those who have let it in.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::config::NodeConfig;
use crate::env::{Clock, Disk, DiskError, Streams, read_all, replace};

/// The file, below the data folder.
const FILE: &str = "identity";

/// What the folder says of itself. Written once, when a node starts in it for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The node.
    pub node: u64,
    /// The cluster that it belongs to.
    pub cluster: String,
    /// Tells this folder from any other that the node ever had. Never 0, below 2^63.
    pub incarnation: u64,
}

/// A folder that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    /// The file is there and says nothing.
    #[error("{FILE} in the data folder can't be read: {0}; keep the folder for a post-mortem")]
    Unreadable(String),
    /// The folder has a log, and doesn't say whose.
    #[error(
        "the data folder holds {0} and no {FILE}: whose it is can't be told, and a node must not guess what it voted"
    )]
    Missing(String),
    /// A founder's folder is empty, and nobody asked for a new cluster.
    #[error(
        "the data folder is empty, and node {0} is a founder of cluster {1:?}: if the cluster is new, start each founder \
         once with --bootstrap; if the folder was lost, give it back, or leave node {0} gone, add a node under an id that \
         was never used (in peers, not in founders) and move its replicas there"
    )]
    NotFounding(u64, String),
    /// The folder is another node's.
    #[error(
        "the data folder belongs to node {0} of cluster {1:?}, this is node {2} of cluster {3:?}: give each node its own folder"
    )]
    Foreign(u64, String, u64, String),
}

impl Identity {
    /// The identity of the folder on `disk`: the one that stands there, or a new one if the folder was never used.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(config: &NodeConfig, disk: &dyn Disk, clock: &Clock) -> Result<Self, IdentityError> {
        if !disk.exists(FILE)? {
            return Self::first(config, disk, clock);
        }
        let bytes = read_all(&*disk.open(FILE)?)?;
        let text = String::from_utf8(bytes).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        let found: Self = toml::from_str(&text).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        if (found.node, &found.cluster) != (config.node, &config.cluster) {
            let (node, cluster) = (config.node, config.cluster.clone());
            return Err(IdentityError::Foreign(found.node, found.cluster, node, cluster));
        }
        Ok(found)
    }

    fn first(config: &NodeConfig, disk: &dyn Disk, clock: &Clock) -> Result<Self, IdentityError> {
        for dir in super::recover::DIRS {
            disk.create_dir(dir)?;
            if let Some(name) = disk.list(dir)?.first() {
                return Err(IdentityError::Missing(format!("{dir}/{name}")));
            }
        }
        if config.founding().contains(&config.node) {
            if !config.bootstrap {
                return Err(IdentityError::NotFounding(config.node, config.cluster.clone()));
            }
        } else {
            tracing::info!(
                node = config.node,
                "no founder: it holds nothing until replicas are moved to it"
            );
        }
        // Two folders of one node have the same seed, but not the same hour of birth.
        let mut rng = Streams::new(config.seed).stream(&format!("identity/{}", config.node));
        let born = [clock.wall_ms().to_le_bytes(), rng.random::<u64>().to_le_bytes()].concat();
        let identity = Self {
            node: config.node,
            cluster: config.cluster.clone(),
            incarnation: (xxh3_64(&born) >> 1).max(1),
        };
        let text = toml::to_string(&identity).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        replace(disk, FILE, text.as_bytes())?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        env::{SimDisk, WallClock},
        node::tests::config,
    };

    struct At(u64);

    impl WallClock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    fn open(config: &NodeConfig, disk: &SimDisk, wall_ms: u64) -> Result<Identity, String> {
        let clock = Clock::new(Arc::new(At(wall_ms)));
        Identity::open(config, &disk.attach(), &clock).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_folder_keeps_its_identity_through_a_power_loss_and_another_folder_has_another() {
        let (config, disk) = (config(1, 3, 1), SimDisk::new());
        let first = open(&config, &disk, 1000).unwrap();
        disk.power_loss(&mut Streams::new(1).stream("power"));
        assert_eq!(open(&config, &disk, 2000), Ok(first.clone()));
        let emptied = open(&config, &SimDisk::new(), 2000).unwrap();
        assert_eq!(emptied.node, first.node);
        assert_ne!(emptied.incarnation, first.incarnation);
    }

    #[tokio::test]
    async fn an_empty_folder_founds_nothing_unless_that_is_asked_for() {
        let (mut config, disk) = (config(1, 3, 1), SimDisk::new());
        config.bootstrap = false;
        let refused = open(&config, &disk, 1000).unwrap_err();
        assert!(refused.contains("node 1 is a founder of cluster \"\""), "{refused}");
        assert!(!disk.exists("identity").unwrap());
        config.bootstrap = true;
        let founded = open(&config, &disk, 1000).unwrap();
        config.bootstrap = false;
        assert_eq!(
            open(&config, &disk, 2000),
            Ok(founded),
            "a founded folder needs no leave"
        );
        config.founders = vec![2, 3];
        assert_eq!(open(&config, &SimDisk::new(), 2000).map(|it| it.node), Ok(1));
    }

    #[tokio::test]
    async fn the_folder_of_another_node_or_cluster_is_refused_by_name() {
        let disk = SimDisk::new();
        open(&config(1, 3, 1), &disk, 1000).unwrap();
        let refused = open(&config(2, 3, 1), &disk, 1000).unwrap_err();
        assert!(refused.contains("belongs to node 1"), "{refused}");
        let mut other = config(1, 3, 1);
        other.cluster = "other".to_owned();
        let refused = open(&other, &disk, 1000).unwrap_err();
        assert!(refused.contains("node 1 of cluster \"other\""), "{refused}");
    }

    #[tokio::test]
    async fn a_folder_with_a_log_and_no_identity_is_refused() {
        let disk = SimDisk::new();
        disk.create_dir("log").unwrap();
        disk.create("log/000000000001.wal").unwrap();
        let refused = open(&config(1, 3, 1), &disk, 1000).unwrap_err();
        assert!(refused.contains("log/000000000001.wal"), "{refused}");
        let disk = SimDisk::new();
        disk.create("identity").unwrap().append(b"node = ").unwrap();
        assert!(
            open(&config(1, 3, 1), &disk, 1000)
                .unwrap_err()
                .contains("can't be read")
        );
    }
}
