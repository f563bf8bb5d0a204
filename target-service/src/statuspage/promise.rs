//! The promise: a status page gives no false all-clear, and is not silent while the service is down.
//!
//! "We are back and running at 100 %" means: 100 % of sessions, and nothing undelivered. Who says it sooner sends
//! everybody back into a service that is not there.

use std::time::Duration;

use super::board::Said;

/// How it really was, from `at` until the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// From when.
    pub at: Duration,
    /// Whether users were served, their sessions back and nothing undelivered beyond what is always under way.
    pub well: bool,
}

/// What was heard of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it was asked.
    pub at: Duration,
    /// What it said; none when it said nothing.
    pub said: Option<Said>,
}

/// How the promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It said that all is well while that had not been so for longer than it may take to notice.
    FalseAllClear {
        /// When it said so.
        at: Duration,
        /// Since when it was not so.
        since: Duration,
    },
    /// It said nothing while all was not well.
    Silent {
        /// When it was asked.
        at: Duration,
        /// Since when all was not well.
        since: Duration,
    },
}

/// The first breach in what was `heard`, both in order of time. `notice_within` is how long the page may take to see what
/// has happened; towards an all-clear it has no such grace.
#[must_use]
pub fn false_all_clear(truth: &[Truth], heard: &[Heard], notice_within: Duration) -> Option<Breach> {
    heard.iter().find_map(|heard| {
        let now = truth.partition_point(|truth| truth.at <= heard.at).checked_sub(1)?;
        if truth[now].well {
            return None;
        }
        let run = truth[..=now].iter().rev().take_while(|truth| !truth.well).last()?;
        let (at, since) = (heard.at, run.at);
        match heard.said {
            Some(Said::AllClear) if at.saturating_sub(since) > notice_within => {
                Some(Breach::FalseAllClear { at, since })
            }
            None if at.saturating_sub(since) > notice_within => Some(Breach::Silent { at, since }),
            _ => None,
        }
    })
}
