//! What moves: how the placement group is asked for it, and what the nodes say of how far it is.

use std::{collections::BTreeSet, time::Duration};

use firedrill_proto::chat::v1::{MoveReplicaRequest, OperationPhase, OperationStatus, PlacementStatus};
use target_service::client::Client;
use tokio::task::JoinSet;

use super::layout::{node_id, node_name};
use crate::{
    base::RunClock,
    history::{Amounts, MigrationEnd},
    system::{Relocation, Standing, Taken},
};

/// How long the placement group may take to be led by somebody who takes the operation.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Who says nothing within this long, after another has, is not waited for: it may be frozen.
const OTHERS_WITHIN: Duration = Duration::from_millis(25);

/// Asks one node after the other until the leader of the placement group has taken it. The same again is answered with the
/// same operation while that goes on.
pub(super) async fn begin(direct: &Client, what: &Relocation) -> Result<Taken, String> {
    let clock = RunClock::start();
    let deadline = clock.now().plus(TAKEN_WITHIN);
    let direct = direct.with_timeout(Duration::from_secs(2));
    let nodes: BTreeSet<u64> = direct.channels().nodes().collect();
    let request = request(what)?;
    loop {
        let mut refusals = Vec::new();
        for node in &nodes {
            match direct.move_replica(*node, request).await {
                Ok(taken) => {
                    return Ok(Taken {
                        operation: taken.operation,
                        text: format!("{} took operation {}", node_name(*node), taken.operation),
                    });
                }
                Err(error) => refusals.push(format!("{}: {error}", node_name(*node))),
            }
        }
        if clock.now() >= deadline {
            return Err(format!("no node took it: {}", refusals.join("; ")));
        }
        clock.sleep(ASK_EVERY).await;
    }
}

fn request(what: &Relocation) -> Result<MoveReplicaRequest, String> {
    let Relocation::MoveReplica { group, from, to } = what;
    let shard = group.strip_prefix("shard:").and_then(|shard| shard.parse().ok());
    let node = |name: &str| node_id(name).ok_or_else(|| format!("there is no node {name}"));
    Ok(MoveReplicaRequest {
        shard: shard.ok_or_else(|| format!("there is no group {group}"))?,
        from: node(from)?,
        to: node(to)?,
        dry_run: false,
    })
}

/// How far operation `number` is, by the newest map that any node knows; none when no node knows of it.
pub(super) async fn standing(direct: &Client, number: u64) -> Option<Standing> {
    let words = words(direct).await;
    newest(&words, number)
}

/// What the nodes say, each with its name. Who is slow is left out.
async fn words(direct: &Client) -> Vec<(String, PlacementStatus)> {
    let clock = RunClock::start();
    let mut asking = JoinSet::new();
    for node in direct.channels().nodes() {
        let direct = direct.clone();
        asking.spawn(async move { (node, direct.status(node).await) });
    }
    let mut words = Vec::new();
    let mut until = None;
    loop {
        let answer = tokio::select! {
            biased;
            answer = asking.join_next() => answer,
            () = async { match until { Some(at) => clock.sleep_until(at).await, None => std::future::pending().await } } => break,
        };
        match answer {
            Some(Ok((node, Ok(status)))) => {
                until = until.or_else(|| Some(clock.now().plus(OTHERS_WITHIN)));
                words.extend(status.placement.map(|placement| (node_name(node), placement)));
            }
            Some(_) => {}
            None => break,
        }
    }
    words
}

fn newest(words: &[(String, PlacementStatus)], number: u64) -> Option<Standing> {
    let knows = |placement: &PlacementStatus| -> Option<OperationStatus> {
        let own = |it: &&OperationStatus| it.operation.as_ref().is_some_and(|it| it.id == number);
        placement.operations.iter().find(own).cloned()
    };
    let known = words
        .iter()
        .filter_map(|(node, placement)| Some((node, placement, knows(placement)?)));
    // A leader of the placement group that says how far it is comes before others that know the same map.
    let (node, placement, status) =
        known.max_by_key(|(_, placement, status)| (placement.version, status.progress.is_some()))?;
    let operation = status.operation?;
    let progress = status.progress.unwrap_or_default();
    let coordinators = words.iter().filter(|(_, placement)| placement.leader != 0);
    let coordinator = coordinators.max_by_key(|(_, placement)| (placement.term, placement.version));
    Some(Standing {
        phase: operation.phase().as_str_name().to_lowercase(),
        done: Amounts {
            items: progress.matched,
            items_total: progress.last,
            bytes: progress.bytes,
        },
        source: vec![node_name(operation.from)],
        target: vec![node_name(operation.to)],
        coordinator: coordinator.map(|(_, placement)| node_name(placement.leader)),
        ended: match operation.phase() {
            OperationPhase::Done => Some((
                MigrationEnd::Completed,
                format!(
                    "{node} says that operation {number} is done, in epoch {}",
                    placement.epoch
                ),
            )),
            OperationPhase::Aborted => Some((
                MigrationEnd::Aborted,
                format!("{node} says that operation {number} was aborted: {}", operation.reason),
            )),
            _ => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{MoveReport, PlacementOperation};

    use super::*;

    fn word(node: &str, version: u64, phase: OperationPhase, progress: Option<u64>) -> (String, PlacementStatus) {
        let operation = PlacementOperation {
            id: 5,
            shard: 1,
            from: 2,
            to: 4,
            phase: phase.into(),
            ..PlacementOperation::default()
        };
        let placement = PlacementStatus {
            version,
            epoch: version,
            term: 3,
            leader: 2,
            operations: vec![OperationStatus {
                operation: Some(operation),
                progress: progress.map(|matched| MoveReport {
                    matched,
                    last: 10,
                    bytes: 700,
                    ..MoveReport::default()
                }),
            }],
            ..PlacementStatus::default()
        };
        (node.to_owned(), placement)
    }

    #[test]
    fn the_newest_map_counts_and_of_those_the_one_that_knows_most() {
        let words = [
            word("n1", 8, OperationPhase::CatchUp, None),
            word("n2", 8, OperationPhase::CatchUp, Some(6)),
            word("n3", 7, OperationPhase::AddLearner, Some(9)),
        ];
        let standing = newest(&words, 5).unwrap();
        assert_eq!(standing.phase, "catch_up");
        assert_eq!(
            (standing.done.items, standing.done.items_total, standing.done.bytes),
            (6, 10, 700)
        );
        assert_eq!(
            (standing.source, standing.target),
            (vec!["n2".to_owned()], vec!["n4".to_owned()])
        );
        assert_eq!(standing.coordinator.as_deref(), Some("n2"));
        assert_eq!(standing.ended, None);
        assert!(newest(&words, 6).is_none());
    }

    #[test]
    fn an_end_is_told_with_who_says_so() {
        let (how, text) = newest(&[word("n1", 9, OperationPhase::Done, None)], 5)
            .unwrap()
            .ended
            .unwrap();
        assert_eq!(how, MigrationEnd::Completed);
        assert!(text.contains("n1 says") && text.contains("epoch 9"), "{text}");
        let aborted = newest(&[word("n1", 9, OperationPhase::Aborted, None)], 5).unwrap();
        assert_eq!(aborted.ended.unwrap().0, MigrationEnd::Aborted);
    }
}
