//! What a node says of itself, in the words of histories.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{OperationPhase, PlacementStatus, Role, StatusResponse};

use super::layout::node_name;
use crate::{
    history::{GroupStatus, Move, MovePhase, NodeStatus, Placement},
    target::group_of,
};

/// A node's status. Digests are asked for elsewhere, since they cost a scan.
pub(super) fn translate(status: &StatusResponse) -> NodeStatus {
    let groups = status.shards.iter().map(|shard| GroupStatus {
        group: group_of(shard.shard),
        leader: shard.role() == Role::Leader,
        term: shard.term,
        commit: shard.commit,
        applied: shard.applied,
        digest: 0,
    });
    // Each replica counts what its shard owes: the leaders' counts together are the service's.
    let leading = status.shards.iter().filter(|shard| shard.role() == Role::Leader);
    let backlog = leading.map(|shard| shard.outbox_backlog + shard.delivery_backlog).sum();
    NodeStatus {
        groups: groups.collect(),
        backlog,
        placement: status.placement.as_ref().map(placement),
        gauges: gauges(status),
    }
}

fn placement(status: &PlacementStatus) -> Placement {
    let operations = status.operations.iter().filter_map(|it| it.operation.as_ref());
    Placement {
        epoch: status.epoch,
        moves: operations
            .map(|it| Move {
                id: it.id,
                group: group_of(it.shard),
                from: node_name(it.from),
                to: node_name(it.to),
                phase: match it.phase() {
                    OperationPhase::Done => MovePhase::Done,
                    OperationPhase::Aborting => MovePhase::Aborting,
                    OperationPhase::Aborted => MovePhase::Aborted,
                    _ => MovePhase::UnderWay,
                },
            })
            .collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and byte sizes far below 2^53")]
fn gauges(status: &StatusResponse) -> BTreeMap<String, f64> {
    let mut gauges = BTreeMap::new();
    let mut add = |name: &str, value: u64| {
        gauges.insert(name.to_owned(), value as f64);
    };
    if let Some(queues) = &status.queues {
        add("inbox", queues.inbox);
        add("proposals", queues.proposals);
        add("streams", queues.streams);
        add("refused", queues.refused);
    }
    if let Some(storage) = &status.storage {
        add("log_bytes", storage.log_bytes);
        add("syncs", storage.syncs);
        add("sync_us_p50", storage.sync_us_p50);
        add("sync_us_p99", storage.sync_us_p99);
    }
    gauges
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{QueueStatus, ShardStatus};

    use super::*;

    #[test]
    fn only_leaders_count_what_is_owed() {
        let shard = |shard, role: Role| ShardStatus {
            shard,
            role: role.into(),
            term: 7,
            commit: 20,
            applied: 19,
            outbox_backlog: 3,
            delivery_backlog: 4,
            ..ShardStatus::default()
        };
        let status = translate(&StatusResponse {
            shards: vec![shard(0, Role::Leader), shard(1, Role::Follower), shard(2, Role::Leader)],
            queues: Some(QueueStatus {
                inbox: 5,
                ..QueueStatus::default()
            }),
            ..StatusResponse::default()
        });
        assert_eq!(status.backlog, 14);
        assert_eq!(status.groups[1].group, "shard:1");
        assert!(status.groups[0].leader && !status.groups[1].leader);
        assert_eq!((status.groups[0].term, status.groups[0].applied), (7, 19));
        assert!((status.gauges["inbox"] - 5.0).abs() < f64::EPSILON);
    }
}
