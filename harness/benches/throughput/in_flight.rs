//! A number of clients, each of which waits for its answer before it asks again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use firedrill::base::RunClock;
use tokio::task::JoinSet;

use crate::common::Result;

/// A client that was refused waits this long, so that refusals don't become the load.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What clients attempt.
#[async_trait]
pub(crate) trait Attempts: Send + Sync {
    /// One attempt by the `client`th; true when it was acknowledged.
    async fn attempt(&self, client: usize) -> bool;
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// For how long it was looked at.
    lasts: Duration,
    /// How long each acknowledged attempt took that ended meanwhile.
    pub(crate) took: Vec<Duration>,
    /// Attempts that were not acknowledged.
    pub(crate) failed: u64,
}

impl Measured {
    pub(crate) fn add(&mut self, other: Self) {
        self.lasts += other.lasts;
        self.took.extend(other.took);
        self.failed += other.failed;
    }

    /// Acknowledged attempts a second.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.lasts.as_secs_f64()
    }
}

/// Holds `clients` attempts in flight, and measures for as long as `lasts`, after a warm-up.
pub(crate) async fn hold(
    clock: RunClock,
    attempts: &Arc<dyn Attempts>,
    clients: usize,
    warm_up: Duration,
    lasts: Duration,
) -> Result<Measured> {
    let from = clock.now().plus(warm_up);
    let until = from.plus(lasts);
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let attempts = Arc::clone(attempts);
        tasks.spawn(async move {
            let mut measured = Measured::default();
            loop {
                let sent = clock.now();
                if sent >= until {
                    return measured;
                }
                let acknowledged = attempts.attempt(client).await;
                let done = clock.now();
                let counts = done >= from && done < until;
                if acknowledged && counts {
                    measured.took.push(done.since(sent));
                } else if !acknowledged {
                    measured.failed += u64::from(counts);
                    clock.sleep(AFTER_FAILURE).await;
                }
            }
        });
    }
    let mut all = Measured::default();
    while let Some(ended) = tasks.join_next().await {
        all.add(ended?);
    }
    all.lasts = lasts;
    if all.took.is_empty() {
        return Err(format!(
            "{clients} clients got no acknowledgement in {lasts:?}, and {} refusals",
            all.failed
        )
        .into());
    }
    Ok(all)
}
