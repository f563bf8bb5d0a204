//! Which shard owns what, and which nodes hold it: a map with an epoch. It begins with what the configuration says, and
//! follows the placement group's map from there.

use firedrill_proto::chat::v1::PlacementMap;

use super::config::NodeConfig;
use crate::chat::ids;

/// The placement group's number among the shards of a node, on the wire and in the log.
pub const PLACEMENT: u32 = u32::MAX;

/// Most nodes that hold the placement group.
const PLACEMENT_NODES_MAX: usize = 5;

/// The nodes that hold the placement group: the first ones of the founders, for good.
pub(super) fn placement_nodes(config: &NodeConfig) -> Vec<u64> {
    config.founding().into_iter().take(PLACEMENT_NODES_MAX).collect()
}

/// The shard map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    epoch: u64,
    members: Vec<Vec<u64>>,
    /// For each shard, the epoch before which routes lead to a node that holds it no more.
    since: Vec<u64>,
}

impl Routes {
    /// The map of the cluster that `config` describes: all nodes draw the same.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Self {
        let nodes = config.founding();
        let replicas = match nodes.len() {
            few if few <= config.everywhere_up_to => few,
            _ => (config.replication_factor as usize).min(nodes.len()),
        };
        let members: Vec<Vec<u64>> = (0..config.shards as usize)
            .map(|shard| {
                let mut members: Vec<u64> = (0..replicas).map(|i| nodes[(shard + i) % nodes.len()]).collect();
                members.sort_unstable();
                members
            })
            .collect();
        Self {
            epoch: config.epoch,
            since: vec![config.epoch; members.len()],
            members,
        }
    }

    /// What a map of the placement group says.
    #[must_use]
    pub fn of(map: &PlacementMap) -> Self {
        Self {
            epoch: map.epoch,
            members: map.shards.iter().map(|placed| placed.members.clone()).collect(),
            since: map.shards.iter().map(|placed| placed.since_epoch).collect(),
        }
    }

    /// Whether a route to `shard` of the epoch `epoch` is none of this map: it is older than the last node that left the
    /// shard, or newer than the map. 0 is no route at all.
    #[must_use]
    pub fn is_stale(&self, shard: u32, epoch: u64) -> bool {
        let since = self.since.get(shard as usize).copied().unwrap_or(self.epoch);
        epoch != 0 && !(since..=self.epoch).contains(&epoch)
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
    fn who_comes_later_changes_nothing_of_how_the_cluster_began() {
        let mut grown = config(1, 4, 4);
        grown.founders = vec![3, 1, 2];
        assert_eq!(Routes::new(&grown), Routes::new(&config(1, 3, 4)));
        assert_eq!(placement_nodes(&grown), [1, 2, 3]);
    }

    #[test]
    fn a_route_is_stale_once_a_node_has_left_its_shard_and_no_other() {
        let mut map = crate::placement::founded(3, vec![vec![1, 2, 3]; 2]);
        map.epoch = 5;
        map.shards[1].since_epoch = 5;
        let routes = Routes::of(&map);
        let stale = |shard| {
            (0..7)
                .filter(|epoch| routes.is_stale(shard, *epoch))
                .collect::<Vec<_>>()
        };
        assert_eq!(stale(0), [1, 2, 6]);
        assert_eq!(stale(1), [1, 2, 3, 4, 6]);
    }

    #[test]
    fn buckets_go_round_the_shards() {
        let routes = Routes::new(&config(1, 3, 4));
        assert_eq!(routes.owner(6 << 48 | 123), 2);
    }
}
