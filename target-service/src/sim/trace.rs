//! What happened, as lines and as one digest: two runs of a seed must agree on every line.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use xxhash_rust::xxh3::Xxh3Default;

use crate::env::Clock;

/// Lines kept, when they are asked for; the digest covers all.
const LINES_MAX: usize = 4_000_000;

/// A shared trace.
#[derive(Clone)]
pub(crate) struct Trace {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hash: Xxh3Default,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(clock: Clock, keep_lines: bool) -> Self {
        let inner = Inner {
            hash: Xxh3Default::new(),
            events: 0,
            lines: keep_lines.then(Vec::new),
        };
        Self {
            clock,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Adds an event, now.
    pub(crate) fn event(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9} {what}", self.clock.now().as_micros());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.hash.update(line.as_bytes());
        inner.hash.update(b"\n");
        inner.events += 1;
        if let Some(lines) = &mut inner.lines
            && lines.len() < LINES_MAX
        {
            lines.push(line);
        }
    }

    /// The digest, the number of events, and the lines if they were kept.
    pub(crate) fn finish(&self) -> (u64, u64, Vec<String>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (
            inner.hash.digest(),
            inner.events,
            inner.lines.take().unwrap_or_default(),
        )
    }
}
