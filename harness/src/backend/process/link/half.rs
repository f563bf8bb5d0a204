//! One half of a link: its rule, its lease, and a count of what it delivered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::backend::LinkRule;
use crate::base::RunClock;

/// One half of a link.
#[derive(Debug, Default)]
pub(super) struct Half {
    rule: Arc<watch::Sender<LinkRule>>,
    delivered: AtomicU64,
    lease: Mutex<Option<AbortHandle>>,
}

impl Half {
    /// Puts `rule` in force; it lifts itself when it expires. Call it on the links' runtime: its only thread also runs
    /// the pumps, so that the rule holds for every byte from the call's return on.
    pub(super) fn set(&self, rule: LinkRule, clock: RunClock) {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = lease.take() {
            earlier.abort();
        }
        self.rule.send_replace(rule);
        if let Some(expires) = rule.expires {
            let sender = Arc::clone(&self.rule);
            let task = tokio::spawn(async move {
                clock.sleep_until(expires).await;
                sender.send_replace(LinkRule::default());
            });
            *lease = Some(task.abort_handle());
        }
    }

    /// The rule, as it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<LinkRule> {
        self.rule.subscribe()
    }

    /// Bytes handed on so far.
    pub(super) const fn delivered(&self) -> &AtomicU64 {
        &self.delivered
    }

    /// Bytes handed on so far.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}
