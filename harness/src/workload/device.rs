//! A device's side of its stream, without clock or network: what to show, what to acknowledge, when to give up on a
//! connection and ask for what is missing.
//!
//! Apply when the sequence is the next; ignore when it was seen; when one is missing, ask again from the cursor. The
//! server's heartbeat carries the last sequence, so that a lost tail is noticed as well.

use std::time::Duration;

use super::client::StreamEvent;
use crate::{base::Nanos, history::LOST_TO_A_GAP};

/// The server beats about once a second: after this long without a word the connection counts as dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The server says that there is more, and sends nothing for this long: ask again.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// Connections that show the same gap, before what follows it is shown all the same (and the gap is there to be judged).
const GAP_TRIES: u32 = 3;
/// Shown messages are acknowledged after this long...
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(500);
/// ... or when there are this many.
const ACKNOWLEDGE_COUNT: u64 = 16;

/// What a device does about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Shows the message.
    Show,
    /// Drops it: it has been shown.
    Repeated,
    /// Gives up on this connection and asks again from the cursor; says why.
    Reconnect(&'static str),
    /// The server says that the device is owed nothing beyond its cursor, and that is news.
    Current,
    /// Nothing to do.
    Nothing,
}

/// Where a device stands.
#[derive(Clone, Debug)]
pub struct Device {
    cursor: u64,
    incarnation: u64,
    connection: u32,
    acknowledged: u64,
    /// When the oldest showing that is not acknowledged happened.
    unacknowledged_since: Option<Nanos>,
    /// The sequence and incarnation at which the server last called the device current.
    current: Option<(u64, u64)>,
    heard: Nanos,
    /// Since when the server has had more and sent nothing.
    behind_since: Option<Nanos>,
    gap: Option<(u64, u32)>,
}

impl Device {
    /// A device that has shown everything up to `cursor`.
    #[must_use]
    pub const fn new(cursor: u64, incarnation: u64) -> Self {
        Self {
            cursor,
            incarnation,
            connection: 0,
            acknowledged: cursor,
            unacknowledged_since: None,
            current: None,
            heard: Nanos(0),
            behind_since: None,
            gap: None,
        }
    }

    /// The last sequence shown.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The incarnation that the cursor belongs to.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How often it has connected.
    #[must_use]
    pub const fn connection(&self) -> u32 {
        self.connection
    }

    /// True when the server has called it current at its cursor, on this connection.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.current == Some((self.cursor, self.incarnation))
    }

    /// Its stream is open.
    pub fn connected(&mut self, now: Nanos) {
        self.connection += 1;
        self.heard = now;
        self.behind_since = None;
        self.current = None;
    }

    /// It goes on after having been silent: what was sent meanwhile may still be there to be heard.
    pub const fn woke(&mut self, now: Nanos) {
        self.heard = now;
    }

    /// The server said something.
    pub fn hear(&mut self, event: &StreamEvent, now: Nanos) -> Reaction {
        self.heard = now;
        match event {
            StreamEvent::Delivery { sequence, .. } | StreamEvent::Notice { sequence, .. } => {
                self.hear_delivery(*sequence, now)
            }
            StreamEvent::Position {
                last_sequence,
                incarnation,
                current,
            } => self.hear_position(*last_sequence, *incarnation, *current, now),
        }
    }

    fn hear_delivery(&mut self, sequence: u64, now: Nanos) -> Reaction {
        self.behind_since = None;
        if sequence <= self.cursor {
            return Reaction::Repeated;
        }
        if sequence > self.cursor + 1 {
            let tries = match self.gap {
                Some((at, tries)) if at == self.cursor => tries + 1,
                _ => 1,
            };
            self.gap = Some((self.cursor, tries));
            if tries < GAP_TRIES {
                return Reaction::Reconnect(LOST_TO_A_GAP);
            }
        }
        self.gap = None;
        self.cursor = sequence;
        self.unacknowledged_since.get_or_insert(now);
        Reaction::Show
    }

    fn hear_position(&mut self, last: u64, incarnation: u64, current: bool, now: Nanos) -> Reaction {
        if incarnation != self.incarnation {
            // The server came back from a copy that may be older: what it assigns from here on is new.
            self.incarnation = incarnation;
            self.cursor = self.cursor.min(last);
            self.acknowledged = self.acknowledged.min(self.cursor);
        }
        if last > self.cursor {
            let since = *self.behind_since.get_or_insert(now);
            if now.since(since) >= BEHIND_MAX {
                return Reaction::Reconnect("behind");
            }
        } else {
            self.behind_since = None;
        }
        let news = Some((last, incarnation));
        if current && self.current != news {
            self.current = news;
            return Reaction::Current;
        }
        Reaction::Nothing
    }

    /// The sequence to acknowledge now; with `all`, without waiting for more to acknowledge together.
    #[must_use]
    pub fn acknowledge_due(&self, now: Nanos, all: bool) -> Option<u64> {
        let waiting = self.cursor.saturating_sub(self.acknowledged);
        let since = self.unacknowledged_since?;
        let due = all || waiting >= ACKNOWLEDGE_COUNT || now.since(since) >= ACKNOWLEDGE_AFTER;
        (waiting > 0 && due).then_some(self.cursor)
    }

    /// The server took an acknowledgement up to `sequence`.
    pub fn acknowledged(&mut self, sequence: u64, now: Nanos) {
        self.acknowledged = self.acknowledged.max(sequence.min(self.cursor));
        self.unacknowledged_since = (self.acknowledged < self.cursor).then_some(now);
    }

    /// The server did not take an acknowledgement: try again in a while.
    pub const fn acknowledge_failed(&mut self, now: Nanos) {
        self.unacknowledged_since = Some(now);
    }

    /// When to look again though nothing is heard. While an acknowledgement is under way, its end is heard of, and
    /// the next has to wait for it.
    #[must_use]
    pub fn look_again_at(&self, acknowledging: bool) -> Nanos {
        let silent = self.heard.plus(SILENCE_MAX);
        match self.unacknowledged_since {
            Some(since) if !acknowledging => silent.min(since.plus(ACKNOWLEDGE_AFTER)),
            _ => silent,
        }
    }

    /// True when nothing was heard for too long.
    #[must_use]
    pub fn is_silent(&self, now: Nanos) -> bool {
        now.since(self.heard) >= SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn delivery(sequence: u64) -> StreamEvent {
        StreamEvent::Delivery {
            sequence,
            conversation: 1,
            position: sequence,
            author: 2,
            body: Bytes::new(),
        }
    }

    fn position(last_sequence: u64, incarnation: u64, current: bool) -> StreamEvent {
        StreamEvent::Position {
            last_sequence,
            incarnation,
            current,
        }
    }

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    fn device(cursor: u64) -> Device {
        let mut device = Device::new(cursor, 1);
        device.connected(ms(0));
        device
    }

    #[test]
    fn the_next_is_shown_and_the_seen_is_dropped() {
        let mut device = device(3);
        assert_eq!(device.hear(&delivery(4), ms(1)), Reaction::Show);
        assert_eq!(device.hear(&delivery(4), ms(1)), Reaction::Repeated);
        assert_eq!(device.hear(&delivery(2), ms(1)), Reaction::Repeated);
        assert_eq!(device.cursor(), 4);
    }

    #[test]
    fn a_gap_is_asked_for_again_and_shown_when_it_stays() {
        let mut device = device(3);
        for _ in 1..GAP_TRIES {
            assert_eq!(device.hear(&delivery(6), ms(1)), Reaction::Reconnect("gap"));
            assert_eq!(device.cursor(), 3);
            device.connected(ms(2));
        }
        assert_eq!(device.hear(&delivery(6), ms(3)), Reaction::Show);
        assert_eq!(device.cursor(), 6);
    }

    #[test]
    fn a_lost_tail_is_noticed() {
        let mut device = device(3);
        assert_eq!(device.hear(&position(5, 1, false), ms(1000)), Reaction::Nothing);
        assert_eq!(device.hear(&position(5, 1, false), ms(2000)), Reaction::Nothing);
        assert_eq!(
            device.hear(&position(5, 1, false), ms(3000)),
            Reaction::Reconnect("behind")
        );
        device.connected(ms(3001));
        device.hear(&delivery(4), ms(3002));
        assert_eq!(
            device.hear(&position(5, 1, false), ms(4000)),
            Reaction::Nothing,
            "it moves"
        );
    }

    #[test]
    fn current_is_news_once_for_each_position_and_connection() {
        let mut device = device(3);
        assert_eq!(device.hear(&position(3, 1, true), ms(1)), Reaction::Current);
        assert!(device.is_current());
        assert_eq!(device.hear(&position(3, 1, true), ms(2)), Reaction::Nothing);
        device.hear(&delivery(4), ms(3));
        assert!(!device.is_current());
        assert_eq!(device.hear(&position(4, 1, true), ms(4)), Reaction::Current);
        device.connected(ms(5));
        assert!(!device.is_current());
        assert_eq!(device.hear(&position(4, 1, true), ms(6)), Reaction::Current);
    }

    #[test]
    fn a_false_current_is_recorded_as_it_was_said() {
        let mut device = device(3);
        assert_eq!(device.hear(&position(9, 1, true), ms(1)), Reaction::Current);
        assert!(!device.is_current(), "the device knows that it has not shown 9");
    }

    #[test]
    fn a_server_that_went_back_starts_anew() {
        let mut device = device(9);
        device.hear(&position(5, 2, false), ms(1));
        assert_eq!((device.cursor(), device.incarnation()), (5, 2));
        assert_eq!(device.hear(&delivery(6), ms(2)), Reaction::Show);
    }

    #[test]
    fn acknowledgements_wait_for_company_but_not_long() {
        let mut device = device(0);
        assert_eq!(device.acknowledge_due(ms(0), true), None);
        device.hear(&delivery(1), ms(10));
        assert_eq!(device.acknowledge_due(ms(11), false), None);
        assert_eq!(device.acknowledge_due(ms(11), true), Some(1));
        assert_eq!(device.look_again_at(false), ms(510));
        assert_eq!(
            device.look_again_at(true),
            ms(4010),
            "one under way is not looked for again and again"
        );
        assert_eq!(device.acknowledge_due(ms(510), false), Some(1));
        for sequence in 2..=16 {
            device.hear(&delivery(sequence), ms(11));
        }
        assert_eq!(device.acknowledge_due(ms(12), false), Some(16));
        device.acknowledged(16, ms(13));
        assert_eq!(device.acknowledge_due(ms(1000), true), None);
    }

    #[test]
    fn silence_is_noticed() {
        let mut device = device(0);
        device.hear(&position(0, 1, true), ms(1000));
        assert!(!device.is_silent(ms(4999)));
        assert!(device.is_silent(ms(5000)));
        assert_eq!(device.look_again_at(false), ms(5000));
    }

    proptest! {
        /// Over any at-least-once stream with gaps and reconnects, nothing is shown twice or out of order, and from a
        /// server that has everything everything is shown.
        #[test]
        fn everything_is_shown_once_and_in_order(
            noise in proptest::collection::vec((0..6u64, any::<bool>()), 0..200), total in 1..50u64,
        ) {
            let mut device = device(0);
            let mut shown = Vec::new();
            let mut next = 1u64;
            for (jump, back) in noise {
                let sequence = if back { next.saturating_sub(jump).max(1) } else { (next + jump / 5).min(total) };
                match device.hear(&delivery(sequence), ms(1)) {
                    Reaction::Show => shown.push(sequence),
                    Reaction::Reconnect(_) => device.connected(ms(2)),
                    _ => {}
                }
                next = device.cursor() + 1;
                if next > total { break; }
            }
            // Without more than GAP_TRIES of bad luck in a row nothing is skipped; what is shown only goes up.
            prop_assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
            for sequence in device.cursor() + 1..=total {
                prop_assert_eq!(device.hear(&delivery(sequence), ms(3)), Reaction::Show);
                shown.push(sequence);
            }
            prop_assert_eq!(device.cursor(), total);
        }
    }
}
