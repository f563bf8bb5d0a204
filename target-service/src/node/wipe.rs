//! Emptying a node's folder for good: only of the node that was meant, and only if the cluster can do without.
//!
//! A node that is gone leaves each of its shards with the other voters, which need a majority of all voters, the missing one
//! included. So those others are asked first; whoever doesn't answer counts as lost, and so does a replica that follows nobody
//! or lies far behind. The placement group is a shard in this.

use std::{collections::BTreeSet, sync::Arc};

use firedrill_proto::chat::v1::{Role, StatusResponse};

use super::{
    config::NodeConfig,
    identity::{Identity, IdentityError},
    recover,
    routes::placement_nodes,
};
use crate::env::{Disk, DiskError, replace};

/// Says that a wipe has begun, until it has ended.
const UNFINISHED: &str = "wiping";
/// Entries that a replica may lie behind the leader's commit and still counts.
const BEHIND_MAX: u64 = 1024;

/// Why a folder is not emptied.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The disk failed.
    #[error("the disk failed to {0}")]
    Disk(#[from] DiskError),
    /// The folder is another node's, or nobody's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The folder is empty, or can't be told whose.
    #[error("the data folder is not node {0}'s: it has no identity")]
    Nobody(u64),
    /// The cluster can't do without.
    #[error(
        "{what} would be left with {left:?} of its voters {voters:?}, and needs {needed} of them: bring the others back first, \
         or move its replicas to other nodes"
    )]
    Quorum {
        /// Which group.
        what: String,
        /// Its voters.
        voters: Vec<u64>,
        /// Those that are well, without the node.
        left: Vec<u64>,
        /// How many it needs.
        needed: usize,
    },
    /// Nobody who was asked knows a group.
    #[error("nobody who was asked holds {0}: ask the nodes that do")]
    Unknown(String),
}

/// Whether the cluster can do without `config.node`, by what the other nodes say of themselves.
///
/// # Errors
/// Names the first group that could not.
pub fn may_go(config: &NodeConfig, others: &[StatusResponse]) -> Result<(), WipeError> {
    let me = config.node;
    let others: Vec<&StatusResponse> = others.iter().filter(|status| status.node != me).collect();
    for shard in 0..config.shards {
        let reports: Vec<_> = others
            .iter()
            .flat_map(|status| status.shards.iter().map(move |report| (status.node, report)))
            .filter(|(_, report)| report.shard == shard)
            .collect();
        // Whoever was in the latest term knows best, and of these whoever has the most.
        let best = reports.iter().max_by_key(|(_, report)| (report.term, report.commit));
        let Some((_, best)) = best else {
            return Err(WipeError::Unknown(format!("shard {shard}")));
        };
        let voters: BTreeSet<u64> = best.voters.iter().copied().collect();
        let well = reports.iter().filter(|(node, report)| {
            let follows = report.leader != 0 && report.term == best.term;
            let votes = matches!(report.role(), Role::Leader | Role::Follower);
            voters.contains(node) && follows && votes && report.applied + BEHIND_MAX >= best.commit
        });
        let left: BTreeSet<u64> = well.map(|(node, _)| *node).collect();
        enough(&format!("shard {shard}"), me, &voters, &left)?;
    }
    let council: BTreeSet<u64> = placement_nodes(config).into_iter().collect();
    let sits = |status: &&StatusResponse| {
        let placement = status.placement.clone().unwrap_or_default();
        council.contains(&status.node) && placement.leader != 0 && placement.role() != Role::Unspecified
    };
    let left = others.iter().copied().filter(sits).map(|status| status.node);
    enough("the placement group", me, &council, &left.collect())
}

fn enough(what: &str, me: u64, voters: &BTreeSet<u64>, left: &BTreeSet<u64>) -> Result<(), WipeError> {
    let needed = voters.len() / 2 + 1;
    if !voters.contains(&me) || left.len() >= needed {
        return Ok(());
    }
    Err(WipeError::Quorum {
        what: what.to_owned(),
        voters: voters.iter().copied().collect(),
        left: left.iter().copied().collect(),
        needed,
    })
}

/// Empties the folder of `config.node`, whose process is down. From the first step on no node starts in it; a wipe that is
/// interrupted is done again from the start.
///
/// # Errors
/// [`WipeError`].
pub fn wipe(config: &NodeConfig, disk: &Arc<dyn Disk>, others: &[StatusResponse]) -> Result<(), WipeError> {
    if !disk.exists(UNFINISHED)? && !Identity::exists(&**disk)? {
        return Err(WipeError::Nobody(config.node));
    }
    if Identity::exists(&**disk)? {
        Identity::read(config, &**disk)?;
    }
    may_go(config, others)?;
    replace(&**disk, UNFINISHED, b"")?;
    Identity::forget(&**disk)?;
    for dir in recover::DIRS {
        disk.create_dir(dir)?;
        for name in disk.list(dir)? {
            disk.remove(&format!("{dir}/{name}"))?;
        }
        disk.sync_dir(dir)?;
    }
    for name in disk.list("")? {
        // The lock is this process's; what else is there is not the service's.
        if name == "peers" {
            disk.remove(&name)?;
        }
    }
    disk.remove(UNFINISHED)?;
    Ok(disk.sync_dir("")?)
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{PlacementStatus, ShardStatus};

    use super::*;
    use crate::{
        env::{Clock, SimDisk, Streams},
        node::tests::config,
    };

    fn says(node: u64, voters: &[u64], leader: u64, applied: u64) -> StatusResponse {
        let shard = ShardStatus {
            role: Role::Follower.into(),
            term: 3,
            leader,
            commit: applied,
            applied,
            voters: voters.to_vec(),
            ..ShardStatus::default()
        };
        StatusResponse {
            node,
            shards: vec![shard],
            placement: Some(PlacementStatus {
                role: Role::Follower.into(),
                leader: 1,
                ..PlacementStatus::default()
            }),
            ..StatusResponse::default()
        }
    }

    fn refused(config: &NodeConfig, others: &[StatusResponse]) -> String {
        may_go(config, others).unwrap_err().to_string()
    }

    #[test]
    fn a_node_may_go_while_the_others_are_a_majority() {
        let three = config(3, 3, 1);
        let all = [1, 2, 3];
        assert!(may_go(&three, &[says(1, &all, 1, 9), says(2, &all, 1, 9)]).is_ok());
        let one = refused(&three, &[says(1, &all, 1, 9)]);
        assert!(
            one.contains("shard 0 would be left with [1] of its voters [1, 2, 3], and needs 2"),
            "{one}"
        );
        // Its own word doesn't count.
        assert!(may_go(&three, &[says(1, &all, 1, 9), says(3, &all, 1, 9)]).is_err());
        let leaderless = refused(&three, &[says(1, &all, 1, 9), says(2, &all, 0, 9)]);
        assert!(leaderless.contains("left with [1]"), "{leaderless}");
        let behind = refused(&three, &[says(1, &all, 1, 9000), says(2, &all, 1, 9)]);
        assert!(behind.contains("left with [1]"), "{behind}");
        assert!(refused(&three, &[]).contains("nobody who was asked holds shard 0"));
        // Moved away, it is no voter any more; but it may still belong to the placement group.
        let others = [1, 2, 4];
        assert!(may_go(&three, &[says(1, &others, 1, 9), says(2, &others, 1, 9)]).is_ok());
        let council = refused(&three, &[says(1, &others, 1, 9)]);
        assert!(
            council.contains("the placement group would be left with [1]"),
            "{council}"
        );
        let alone = config(1, 1, 1);
        assert!(refused(&alone, &[]).contains("nobody"), "the only copy");
    }

    #[tokio::test]
    async fn only_the_folder_that_was_meant_is_emptied_and_nothing_starts_in_half_of_one() {
        let (mut config, others) = (config(3, 3, 1), [says(1, &[1, 2, 3], 1, 9), says(2, &[1, 2, 3], 1, 9)]);
        for calls in 1..40 {
            let disk = SimDisk::new();
            let attached: Arc<dyn Disk> = Arc::new(disk.attach());
            Identity::open(&config, &*attached, &Clock::system()).unwrap();
            for name in ["log/1", "state/a", "state/b", "peers"] {
                attached.create(name).unwrap().sync().unwrap();
            }
            for dir in ["", "log", "state"] {
                attached.sync_dir(dir).unwrap();
            }
            config.node = 2;
            let wrong = wipe(&config, &attached, &others).unwrap_err().to_string();
            assert!(wrong.contains("belongs to node 3"), "{wrong}");
            config.node = 3;
            disk.cut_power_after(calls, Streams::new(calls).stream("cut"));
            let wiped = wipe(&config, &attached, &others);
            disk.disarm();
            disk.power_loss(&mut Streams::new(calls).stream("power"));
            let attached: Arc<dyn Disk> = Arc::new(disk.attach());
            let left = ["log", "state"].map(|dir| attached.list(dir).unwrap().len());
            config.bootstrap = false;
            let starts = Identity::open(&config, &*attached, &Clock::system());
            config.bootstrap = true;
            match wiped {
                Ok(()) => assert!(left == [0, 0] && starts.is_err(), "{left:?}"),
                Err(_) => {
                    assert!(
                        left == [1, 2] || starts.is_err(),
                        "half of it is there, and a node starts"
                    );
                    let again = wipe(&config, &attached, &others);
                    assert!(matches!(again, Ok(()) | Err(WipeError::Nobody(3))), "{again:?}");
                }
            }
        }
        let nobody = wipe(&config, &(Arc::new(SimDisk::new()) as Arc<dyn Disk>), &others).unwrap_err();
        assert!(matches!(nobody, WipeError::Nobody(3)), "{nobody}");
    }
}
