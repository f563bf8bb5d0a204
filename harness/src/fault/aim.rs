//! Whom a fault hits, asked of the system once more when the act is due.
//!
//! A fault is armed some time before its instant, so that what takes time is done by then. Who leads may change until
//! then. So the nodes are asked again in the last few milliseconds, and what was resolved is kept only when it is still so;
//! else it is resolved anew. The instant itself is kept: who does not answer in time is taken at its earlier word, and
//! the fault says from when the oldest word is that it rests on.

use std::time::Duration;

use super::nodes::Nodes;
use crate::base::Nanos;
use crate::target::Observations;

/// How long before its instant a fault asks again: several times what an answer takes on one host, and a small part of
/// what an election does.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(8);

/// What the nodes say of themselves, and since when at the latest that is so.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// The latest word of each node that said any.
    pub(super) seen: Observations,
    /// When the question was asked whose answer is the oldest of these.
    pub(super) since: Nanos,
}

impl Words {
    /// Whether they are as good as new at `at`.
    pub(super) fn fresh_at(&self, at: Nanos) -> bool {
        at.since(self.since) <= ASK_AGAIN
    }
}

impl Nodes {
    /// Asks every node, all at once, until all have answered or said that they won't.
    pub(super) async fn words(&self) -> Words {
        let since = self.clock.now();
        Words {
            seen: self.observe().await,
            since,
        }
    }

    /// Asks every node again until `by`. Whoever has not answered by then is taken at its word of `earlier`.
    pub(super) async fn words_again(&self, earlier: &Words, by: Nanos) -> Words {
        let since = self.clock.now();
        let mut asking = self.ask_all();
        let mut words = earlier.clone();
        let mut silent = 0;
        loop {
            tokio::select! {
                biased;
                answer = asking.join_next() => match answer {
                    Some(Ok((name, Some(status)))) => {
                        words.seen.insert(name, status);
                    }
                    // It said that it says nothing: what it said before stands for nothing any more.
                    Some(Ok((name, None))) => {
                        words.seen.remove(&name);
                    }
                    Some(Err(_)) => silent += 1,
                    None => break,
                },
                () = self.clock.sleep_until(by) => {
                    silent += asking.len();
                    break;
                }
            }
        }
        if silent == 0 {
            words.since = since;
        }
        words
    }
}
