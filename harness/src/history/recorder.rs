//! Where everything that happens is handed in.
//!
//! [`Recorder::record`] appends to a log in memory and returns; a thread of its own brings the log to disk. Whoever
//! watches a run follows the same log with a cursor. So there is one order of events, and nobody waits for a disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Answer, GroupChange,
    event::{Event, HarnessEvent, HarnessKind, Header},
    reader::{HistoryError, Recorded},
    writer::Writer,
};

/// How long an event waits at most before it can be read from the file.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Events handed to the disk at a time.
const BATCH: usize = 1024;
/// Events in one piece of the log: growing never copies more than this.
const CHUNK: usize = 4096;

/// How much a recorder holds.
#[derive(Clone, Copy, Debug)]
pub struct RecorderLimits {
    /// Most bytes of events in memory, by estimate. Beyond, events are dropped and the history says so, which makes
    /// the run inconclusive.
    pub bytes: usize,
}

impl Default for RecorderLimits {
    fn default() -> Self {
        Self { bytes: 2 << 30 }
    }
}

/// The one way to write a run's history. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    header: Header,
    path: Option<PathBuf>,
    limits: RecorderLimits,
    state: Mutex<State>,
    wake_writer: Condvar,
    grown: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    chunks: Vec<Vec<Arc<Event>>>,
    length: usize,
    bytes: usize,
    dropped: u64,
    closed: bool,
    failed: Option<io::Error>,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// A recorder that writes to a new file at `path`, the header first.
    ///
    /// # Errors
    /// When the file exists or can't be made.
    pub fn create(path: &Path, header: Header, limits: RecorderLimits) -> Result<Self, HistoryError> {
        let io = |source| HistoryError::Io {
            path: path.to_owned(),
            source,
        };
        let mut writer = Writer::create(path).map_err(io)?;
        writer.header(&header).map_err(io)?;
        writer.flush().map_err(io)?;
        let recorder = Self::new(header, Some(path.to_owned()), limits);
        let shared = Arc::clone(&recorder.shared);
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write_all(&shared, writer))
            .map_err(io)?;
        recorder.shared.lock().writer = Some(thread);
        Ok(recorder)
    }

    /// A recorder without a file.
    #[must_use]
    pub fn in_memory(header: Header) -> Self {
        Self::new(header, None, RecorderLimits::default())
    }

    fn new(header: Header, path: Option<PathBuf>, limits: RecorderLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                header,
                path,
                limits,
                state: Mutex::default(),
                wake_writer: Condvar::new(),
                grown: watch::Sender::new(0),
            }),
        }
    }

    /// Appends an event. Never waits for the disk. After [`Recorder::finish`] it is ignored.
    pub fn record(&self, event: Event) {
        let bytes = estimate(&event);
        let length = {
            let mut state = self.shared.lock();
            if state.closed {
                return;
            }
            if state.dropped > 0 || state.bytes + bytes > self.shared.limits.bytes {
                state.dropped += 1;
                if state.dropped > 1 {
                    return;
                }
                let text = format!(
                    "the history is full at {} MiB: what happens from here on is not recorded",
                    self.shared.limits.bytes >> 20
                );
                state.push(Event::Harness(HarnessEvent {
                    at: event.at(),
                    kind: HarnessKind::Failure,
                    text,
                }));
            } else {
                state.bytes += bytes;
                state.push(event);
            }
            state.length
        };
        // The writer wakes by itself; it is hurried only when a whole batch waits.
        if length.is_multiple_of(BATCH) {
            self.shared.wake_writer.notify_one();
        }
        self.shared.grown.send_replace(length);
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().length
    }

    /// True before the first event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.shared.header
    }

    /// Up to `max` events from the `from`th on.
    #[must_use]
    pub fn slice(&self, from: usize, max: usize) -> Vec<Arc<Event>> {
        self.shared.lock().slice(from, max)
    }

    /// A cursor that follows the log from its first event (`from` = 0) or a later one.
    #[must_use]
    pub fn subscribe(&self, from: usize) -> Subscription {
        Subscription {
            grown: self.shared.grown.subscribe(),
            next: from,
            recorder: self.clone(),
        }
    }

    /// What went wrong with writing so far: events dropped for want of room, or a disk that failed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        if let Some(error) = &state.failed {
            return Some(format!("the history could not be written: {error}"));
        }
        (state.dropped > 0).then(|| format!("{} events were not recorded: the history is full", state.dropped))
    }

    /// Ends the history: nothing is recorded any more, and the file is whole and durable when this returns.
    ///
    /// # Errors
    /// When the file could not be written; the events are still in memory through [`Recorder::recorded`].
    pub fn finish(&self) -> Result<(), HistoryError> {
        let thread = {
            let mut state = self.shared.lock();
            state.closed = true;
            state.writer.take()
        };
        self.shared.wake_writer.notify_all();
        self.shared.grown.send_modify(|_| {});
        let ended_well = thread.is_none_or(|thread| thread.join().is_ok());
        let failed = self.shared.lock().failed.take();
        match (failed, &self.shared.path) {
            (Some(source), Some(path)) => Err(HistoryError::Io {
                path: path.clone(),
                source,
            }),
            (None, Some(path)) if !ended_well => Err(HistoryError::Malformed {
                path: path.clone(),
                problem: "its writer ended early: the file is not whole".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// A copy of everything recorded so far, for judging.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        let events = self.slice(0, usize::MAX);
        Recorded {
            header: self.shared.header.clone(),
            events: events.iter().map(|event| Event::clone(event)).collect(),
            torn: None,
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("path", &self.shared.path)
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}

/// Follows a history while it is written.
#[derive(Debug)]
pub struct Subscription {
    recorder: Recorder,
    grown: watch::Receiver<usize>,
    next: usize,
}

impl Subscription {
    /// The next events, at most 1024 at a time, waiting for one if there is none yet; none when the history has ended.
    pub async fn next(&mut self) -> Option<Vec<Arc<Event>>> {
        loop {
            self.grown.mark_unchanged();
            let (events, closed) = {
                let state = self.recorder.shared.lock();
                (state.slice(self.next, BATCH), state.closed)
            };
            if !events.is_empty() {
                self.next += events.len();
                return Some(events);
            }
            if closed || self.grown.changed().await.is_err() {
                return None;
            }
        }
    }
}

impl Shared {
    /// A panic elsewhere never loses the history.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, event: Event) {
        let event = Arc::new(event);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(event),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(event);
                self.chunks.push(chunk);
            }
        }
        self.length += 1;
    }

    fn slice(&self, from: usize, max: usize) -> Vec<Arc<Event>> {
        let chunks = self.chunks.iter().skip(from / CHUNK);
        chunks.flatten().skip(from % CHUNK).take(max).cloned().collect()
    }
}

/// The writer's thread. An error stops writing and is kept; the run goes on in memory and ends with that error.
fn write_all(shared: &Shared, mut writer: Writer) {
    let outcome = loop {
        match write_once(shared, &mut writer) {
            Ok(false) => {}
            Ok(true) => break writer.finish(),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = outcome {
        shared.lock().failed = Some(error);
    }
}

/// Writes what is there, waits for more for at most [`FLUSH_EVERY`]; true when the history is closed and all is written.
fn write_once(shared: &Shared, writer: &mut Writer) -> io::Result<bool> {
    loop {
        let (events, closed) = {
            let state = shared.lock();
            (state.slice(writer.written(), BATCH), state.closed)
        };
        if events.is_empty() {
            if closed {
                return Ok(true);
            }
            break;
        }
        for event in &events {
            writer.append(event)?;
        }
    }
    writer.flush()?;
    let state = shared.lock();
    let seen = writer.written();
    let _waited = shared
        .wake_writer
        .wait_timeout_while(state, FLUSH_EVERY, |state| !state.closed && state.length < seen + BATCH)
        .unwrap_or_else(PoisonError::into_inner);
    Ok(false)
}

fn changes_estimate(changes: &[GroupChange]) -> usize {
    changes.iter().map(|change| 64 + change.users.len() * 8).sum()
}

/// About how much memory an event takes.
fn estimate(event: &Event) -> usize {
    let heap = match event {
        Event::Op(op) => op.system.len() + op.needs.len() + op.groups.len() * 64 + 64,
        Event::Shown(shown) => shown.system.len() + shown.log.len(),
        Event::Observed(seen) => seen
            .status
            .as_ref()
            .map_or(0, |s| s.groups.len() * 80 + s.gauges.len() * 64),
        Event::Read(read) => read.items.len() * 48 + changes_estimate(&read.changes),
        Event::Told(told) => match &told.answer {
            Answer::Log { items, changes, .. } => items.len() * 48 + changes_estimate(changes),
            Answer::Contacts { contacts } => contacts.len() * 48,
            Answer::Threads { threads, .. } => threads.len() * 128,
            Answer::Presence { devices, .. } => devices.len() * 24,
        },
        _ => 128,
    };
    size_of::<Event>() + 32 + heap
}
