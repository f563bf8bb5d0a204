//! Replicas that move: how the placement group is asked for it, and how it shows that it is done.

use std::{collections::BTreeSet, time::Duration};

use firedrill_proto::chat::v1::{MoveReplicaRequest, OperationPhase, PlacementOperation};
use target_service::client::Client;

use super::layout::{node_id, node_name};
use crate::base::RunClock;

/// How long the placement group may take to be led by somebody who takes the move.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a move may take.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// Between two questions: the error bound of the instant at which it was done.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A move as it is asked for.
pub(super) fn request(group: &str, from: &str, to: &str) -> Result<MoveReplicaRequest, String> {
    let shard = group.strip_prefix("shard:").and_then(|shard| shard.parse().ok());
    let node = |name: &str| node_id(name).ok_or_else(|| format!("there is no node {name}"));
    Ok(MoveReplicaRequest {
        shard: shard.ok_or_else(|| format!("there is no group {group}"))?,
        from: node(from)?,
        to: node(to)?,
        dry_run: false,
    })
}

/// Asks one node after the other until the leader of the placement group has taken it.
pub(super) async fn begin(direct: &Client, request: MoveReplicaRequest) -> Result<String, String> {
    let clock = RunClock::start();
    let deadline = clock.now().plus(TAKEN_WITHIN);
    let direct = direct.with_timeout(Duration::from_secs(2));
    let nodes: BTreeSet<u64> = direct.channels().nodes().collect();
    loop {
        let mut refusals = Vec::new();
        for node in &nodes {
            match direct.move_replica(*node, request).await {
                Ok(taken) => return Ok(format!("{} took operation {}", node_name(*node), taken.operation)),
                Err(error) => refusals.push(format!("{}: {error}", node_name(*node))),
            }
        }
        if clock.now() >= deadline {
            return Err(format!("no node took it: {}", refusals.join("; ")));
        }
        clock.sleep(ASK_EVERY).await;
    }
}

/// Waits until some node's map says that the move is done.
pub(super) async fn done(direct: &Client, request: MoveReplicaRequest) -> Result<String, String> {
    let clock = RunClock::start();
    let deadline = clock.now().plus(DONE_WITHIN);
    let nodes: BTreeSet<u64> = direct.channels().nodes().collect();
    loop {
        let mut last: Option<PlacementOperation> = None;
        for node in &nodes {
            let Ok(status) = direct.status(*node).await else {
                continue;
            };
            let placement = status.placement.unwrap_or_default();
            let operations = placement.operations.into_iter().filter_map(|it| it.operation);
            let own = operations.filter(|it| (it.shard, it.from, it.to) == (request.shard, request.from, request.to));
            let Some(newest) = own.max_by_key(|it| it.id) else {
                continue;
            };
            match newest.phase() {
                OperationPhase::Done => {
                    return Ok(format!(
                        "{} says that operation {} is done, in epoch {}",
                        node_name(*node),
                        newest.id,
                        placement.epoch
                    ));
                }
                OperationPhase::Aborted => return Err(format!("it was aborted: {}", newest.reason)),
                _ => last = Some(newest),
            }
        }
        if clock.now() >= deadline {
            let stands = last.map_or_else(
                || "no node knows of it".to_owned(),
                |it| format!("it is in phase {}", it.phase().as_str_name()),
            );
            return Err(format!("it was not done within {} s: {stands}", DONE_WITHIN.as_secs()));
        }
        clock.sleep(ASK_EVERY).await;
    }
}
