//! Which shard owns what, and which nodes hold it: a static map with an epoch.

use super::config::NodeConfig;
use crate::chat::ids;

/// A cluster of up to so many nodes holds every shard on every node.
const EVERYWHERE_UP_TO: usize = 5;

/// The shard map. It follows from the configuration alone, so that all nodes agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    epoch: u64,
    members: Vec<Vec<u64>>,
}

impl Routes {
    /// The map of the cluster that `config` describes.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Self {
        let nodes: Vec<u64> = config.peers.keys().copied().collect();
        let replicas = match nodes.len() {
            0..=EVERYWHERE_UP_TO => nodes.len(),
            _ => (config.replication_factor as usize).min(nodes.len()),
        };
        let members = (0..config.shards as usize)
            .map(|shard| {
                let mut members: Vec<u64> = (0..replicas).map(|i| nodes[(shard + i) % nodes.len()]).collect();
                members.sort_unstable();
                members
            })
            .collect();
        Self {
            epoch: config.epoch,
            members,
        }
    }

    /// The map's epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// The nodes that hold `shard`, in the order of their ids; none for a shard that doesn't exist.
    #[must_use]
    pub fn members(&self, shard: u32) -> &[u64] {
        self.members.get(shard as usize).map_or(&[], Vec::as_slice)
    }

    /// The shards that `node` holds.
    pub fn held_by(&self, node: u64) -> impl Iterator<Item = u32> {
        (0..self.shards()).filter(move |shard| self.members(*shard).contains(&node))
    }

    /// The shard of a user or a conversation.
    #[must_use]
    pub fn owner(&self, id: u64) -> u32 {
        ids::owner(id, self.shards())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::config;

    #[test]
    fn small_clusters_hold_everything_everywhere() {
        let routes = Routes::new(&config(1, 3, 4));
        assert!((0..4).all(|shard| routes.members(shard) == [1, 2, 3]));
        assert_eq!(routes.held_by(2).count(), 4);
        assert!(routes.members(4).is_empty());
    }

    #[test]
    fn larger_ones_spread_and_every_node_draws_the_same_map() {
        let routes = Routes::new(&config(1, 7, 14));
        assert_eq!(routes, Routes::new(&config(6, 7, 14)));
        assert_eq!(routes.members(0), [1, 2, 3]);
        assert_eq!(routes.members(6), [1, 2, 7]);
        assert!(
            (1..=7).all(|node| routes.held_by(node).count() == 6),
            "each holds its share"
        );
    }

    #[test]
    fn buckets_go_round_the_shards() {
        let routes = Routes::new(&config(1, 3, 4));
        assert_eq!(routes.owner(6 << 48 | 123), 2);
    }
}
