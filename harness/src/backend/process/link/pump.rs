//! One half of one connection: bytes from one socket to the other, under a rule that may change at any time.
//!
//! Nothing is lost and nothing overtakes: a cut holds bytes, the end of the stream and a reset alike, a delay stamps
//! each piece with the earliest instant at which it may leave. A reset is news that travels like bytes do: when the far
//! end of a half is found dead, the other half carries that back, under its own rule.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::backend::LinkRule;
use crate::base::{Nanos, RunClock};

/// Read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Held while a half is cut or its receiver is slow; beyond, the sender's own socket fills.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Held while a half delays: 100 ms of 40 MB/s.
const DELAYED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What both halves of a connection know. Index 0 is the forward half, 1 the backward one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnState {
    /// The source of this half was found reset by the other half.
    reset: [bool; 2],
    /// This half has handed on the end of its stream.
    ended: [bool; 2],
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both halves came to their end.
    Closed,
    /// A reset was handed on.
    Reset,
}

/// One half, and what it needs.
pub(super) struct Pump<'a> {
    pub(super) half: usize,
    pub(super) from: &'a TcpStream,
    pub(super) to: &'a TcpStream,
    pub(super) rules: watch::Receiver<LinkRule>,
    pub(super) conn: &'a watch::Sender<ConnState>,
    pub(super) clock: RunClock,
    pub(super) rng: ChaCha8Rng,
    pub(super) delivered: &'a AtomicU64,
}

struct Piece {
    due: Nanos,
    bytes: Vec<u8>,
    written: usize,
}

#[derive(Clone, Copy)]
enum Source {
    Open,
    Ended { due: Nanos, reset: bool },
}

/// What is on its way.
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    last_due: Nanos,
    source: Source,
    /// The source is known to be reset: what it had sent is still read, then comes the reset.
    broken: bool,
    /// The receiver is dead: nothing can be handed on any more.
    sink_dead: bool,
    /// The end of the stream was handed on.
    end_delivered: bool,
    /// The instant from which the bandwidth allows the next byte.
    free_at: Nanos,
}

impl Queue {
    /// When the next thing may leave; none when there is nothing.
    fn due(&self) -> Option<Nanos> {
        if self.sink_dead {
            return None;
        }
        match (self.pieces.front(), self.source) {
            (Some(piece), _) => Some(piece.due.max(self.free_at)),
            (None, Source::Ended { due, reset }) if reset || !self.end_delivered => Some(due),
            _ => None,
        }
    }

    fn may_read(&self, rule: &LinkRule) -> bool {
        let most = if rule.delay.is_zero() && rule.jitter.is_zero() {
            HELD_BYTES_MAX
        } else {
            DELAYED_BYTES_MAX
        };
        matches!(self.source, Source::Open) && !self.sink_dead && self.bytes < most
    }
}

impl Pump<'_> {
    /// Runs until the connection is over for both halves.
    pub(super) async fn run(mut self) -> End {
        let mut state = self.conn.subscribe();
        let mut buffer = vec![0; READ_BYTES];
        let mut queue = Queue {
            pieces: VecDeque::new(),
            bytes: 0,
            last_due: Nanos(0),
            source: Source::Open,
            broken: false,
            sink_dead: false,
            end_delivered: false,
            free_at: Nanos(0),
        };
        loop {
            let rule = *self.rules.borrow_and_update();
            let conn = *state.borrow_and_update();
            if conn.ended == [true, true] {
                return End::Closed;
            }
            if conn.reset[self.half] && !queue.broken {
                queue.broken = true;
                if matches!(queue.source, Source::Ended { .. }) {
                    self.end(&mut queue, &rule, true);
                }
            }
            let now = self.clock.now();
            let due = if rule.cut { None } else { queue.due() };
            let mut blocked = false;
            if due.is_some_and(|due| due <= now) {
                match self.deliver(&mut queue, &rule, now) {
                    Step::Again => {
                        // A long queue must not keep the other connections waiting.
                        tokio::task::consume_budget().await;
                        continue;
                    }
                    Step::Blocked => blocked = true,
                    Step::Over(end) => return end,
                }
            }
            let may_read = queue.may_read(&rule);
            tokio::select! {
                biased;
                changed = self.rules.changed() => if changed.is_err() { return End::Reset },
                _ = state.changed() => {}
                writable = self.to.writable(), if blocked => if writable.is_err() { self.sink_died(&mut queue) },
                () = self.clock.sleep_until(due.unwrap_or_default()), if due.is_some() && !blocked => {}
                readable = self.from.readable(), if may_read => {
                    let read = readable.and_then(|()| self.from.try_read(&mut buffer));
                    self.took(&mut queue, &rule, read, &buffer);
                }
            }
        }
    }

    /// Hands on the head of the queue.
    fn deliver(&self, queue: &mut Queue, rule: &LinkRule, now: Nanos) -> Step {
        let Some(piece) = queue.pieces.front_mut() else {
            let Source::Ended { reset, .. } = queue.source else {
                return Step::Again;
            };
            if reset {
                return Step::Over(End::Reset);
            }
            // The receiver may be gone already; then its own half says so.
            let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
            queue.end_delivered = true;
            self.conn.send_modify(|conn| conn.ended[self.half] = true);
            return Step::Again;
        };
        let rest = &piece.bytes[piece.written..];
        let most = rule
            .bytes_per_s
            .map_or(rest.len(), |rate| per_slice(rate).min(rest.len()));
        match self.to.try_write(&rest[..most]) {
            Ok(count) => {
                piece.written += count;
                queue.bytes -= count;
                if piece.written == piece.bytes.len() {
                    queue.pieces.pop_front();
                }
                self.wrote(queue, rule, count, now);
                Step::Again
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Blocked,
            Err(_) => {
                self.sink_died(queue);
                Step::Again
            }
        }
    }

    fn wrote(&self, queue: &mut Queue, rule: &LinkRule, count: usize, now: Nanos) {
        self.delivered.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(rate) = rule.bytes_per_s {
            let took = Duration::from_nanos((count as u64).saturating_mul(1_000_000_000) / rate.max(1));
            queue.free_at = queue.free_at.max(now).plus(took);
        }
    }

    /// Takes in what was read; hands it on at once where nothing holds it.
    fn took(&mut self, queue: &mut Queue, rule: &LinkRule, read: io::Result<usize>, buffer: &[u8]) {
        match read {
            Ok(0) => self.end(queue, rule, queue.broken),
            Ok(count) => {
                let mut bytes = &buffer[..count];
                if queue.pieces.is_empty() && rule.is_clear() && queue.last_due <= self.clock.now() {
                    match self.to.try_write(bytes) {
                        Ok(count) => {
                            bytes = &bytes[count..];
                            self.delivered.fetch_add(count as u64, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return self.sink_died(queue),
                    }
                }
                if !bytes.is_empty() {
                    let due = self.stamp(queue, rule);
                    queue.bytes += bytes.len();
                    queue.pieces.push_back(Piece {
                        due,
                        bytes: bytes.to_vec(),
                        written: 0,
                    });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.end(queue, rule, true),
        }
    }

    /// The source has come to its end.
    fn end(&mut self, queue: &mut Queue, rule: &LinkRule, reset: bool) {
        let due = self.stamp(queue, rule);
        queue.source = Source::Ended { due, reset };
    }

    /// When what comes now may leave: never before what came earlier.
    fn stamp(&mut self, queue: &mut Queue, rule: &LinkRule) -> Nanos {
        let jitter = match u64::try_from(rule.jitter.as_nanos()).unwrap_or(u64::MAX) {
            0 => 0,
            most => self.rng.random_range(0..=most),
        };
        let due = self.clock.now().plus(rule.delay).plus(Duration::from_nanos(jitter));
        queue.last_due = queue.last_due.max(due);
        queue.last_due
    }

    /// The receiver is dead: the other half carries that back.
    fn sink_died(&self, queue: &mut Queue) {
        queue.sink_dead = true;
        queue.pieces.clear();
        queue.bytes = 0;
        let other = 1 - self.half;
        self.conn.send_modify(|conn| conn.reset[other] = true);
    }
}

enum Step {
    Again,
    Blocked,
    Over(End),
}

/// A fiftieth of a second's worth, so that a limited half trickles rather than bursts.
fn per_slice(bytes_per_s: u64) -> usize {
    usize::try_from(bytes_per_s / 50).unwrap_or(usize::MAX).max(1)
}
