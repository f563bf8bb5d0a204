//! Whoever carries codes to phones: how it is made to be slow or to fail, and how that shows.

use std::time::Duration;

use firedrill_proto::chat::v1::SetVerificationRequest;
use target_service::client::{CallError, Client};

use super::layout::node_name;
use crate::base::{RunClock, millis};

/// How long a node may take to agree.
const AGREE_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take to show, beyond the delay itself.
const SHOW_WITHIN: Duration = Duration::from_secs(6);
/// Between two tries to show it.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A number that no user of a run has: codes for it are asked for and never shown.
const NOBODY: &str = "+997000000001";
/// The service's word for a dependency that is down.
const DOWN: &str = "VERIFICATION_DOWN";

/// How the dependency is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) delay: Duration,
    pub(super) failing: bool,
}

/// Tells every node; one whose process isn't there starts as its configuration says, and needs no telling.
pub(super) async fn set(direct: &Client, manner: Manner) -> Result<String, String> {
    let direct = direct.with_timeout(AGREE_WITHIN);
    let nodes: Vec<u64> = direct.channels().nodes().collect();
    let mut told = Vec::new();
    for node in nodes {
        let request = SetVerificationRequest {
            delay_ms: u64::try_from(manner.delay.as_millis()).unwrap_or(u64::MAX),
            failing: manner.failing,
        };
        match direct.set_verification(node, request).await {
            Ok(before) => told.push(format!(
                "{} (before: {} ms, failing {})",
                node_name(node),
                before.delay_ms,
                before.failing
            )),
            Err(CallError::NotSent(_)) => {}
            Err(error) => return Err(format!("{} did not take it: {error}", node_name(node))),
        }
    }
    if told.is_empty() {
        return Err("no node was there to be told".to_owned());
    }
    Ok(format!("told {}", told.join(", ")))
}

/// Asks for a code, as somebody who wants to sign up would, until it is answered in this manner.
pub(super) async fn show(direct: &Client, manner: Manner) -> Result<String, String> {
    let clock = RunClock::start();
    let direct = direct.with_timeout(manner.delay.saturating_add(SHOW_WITHIN));
    let deadline = clock.now().plus(manner.delay.saturating_add(SHOW_WITHIN));
    loop {
        if let Err(error) = direct.refresh_routes().await {
            tracing::debug!(%error, "no shard map");
        }
        let asked = clock.now();
        let outcome = direct.request_code(NOBODY).await.outcome;
        let took = clock.now().since(asked);
        let seen = match &outcome {
            Ok(_) => format!("a code came in {:.1} ms", millis(took)),
            Err(error) => format!("a code was refused after {:.1} ms: {}", millis(took), error.word()),
        };
        let so = match &outcome {
            Ok(_) => !manner.failing && took >= manner.delay,
            // A code that takes longer than the service waits for one is refused too.
            Err(error) => error.word() == DOWN && (manner.failing || !manner.delay.is_zero()),
        };
        if so {
            return Ok(seen);
        }
        if clock.now() >= deadline {
            return Err(seen);
        }
        clock.sleep(AGAIN_AFTER).await;
    }
}
