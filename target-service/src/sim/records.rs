//! What clients were told, kept as it happens.
//!
//! What can be judged at once is: a stream's sequence, a repeated answer, an account's id. The rest waits for the final
//! read ([`super::judge`]).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use firedrill_proto::chat::v1::{Delivery, Position};
use xxhash_rust::xxh3::xxh3_64;

use super::{Violation, report};
use crate::chat::ids;

/// A device: its user and its number.
pub type Device = (u64, u32);

/// A message, by what its sender chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// The sending user.
    pub sender: u64,
    /// The sending device.
    pub device: u32,
    /// The sender's number for it, rising with each new message.
    pub client_id: u64,
}

/// A send, from the first attempt on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The receiving user.
    pub recipient: u64,
    /// When it was first tried.
    pub tried_at: Duration,
    /// The position that was acknowledged, if it was.
    pub position: Option<u64>,
}

/// A session that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub session: u64,
    /// When the client knew.
    pub at: Duration,
}

/// Everything clients saw.
#[derive(Debug, Default)]
pub struct Records {
    users: BTreeMap<String, u64>,
    /// Sessions by device.
    pub sessions: BTreeMap<Device, Opened>,
    /// Sends by key, acknowledged or not.
    pub sends: BTreeMap<MessageKey, Sent>,
    /// What each device received, in order.
    pub streams: BTreeMap<Device, Vec<Delivery>>,
    violations: Vec<Violation>,
}

/// The body of a message: it tells whose it is, and its length varies.
#[must_use]
pub fn body(key: MessageKey, recipient: u64) -> Bytes {
    let mut text = format!("{}/{}/{}>{recipient}:", key.sender, key.device, key.client_id).into_bytes();
    let length = text.len() + usize::try_from(xxh3_64(&text) % 200).unwrap_or(0);
    text.resize(length, b'.');
    text.into()
}

impl Records {
    /// Notes what was wrong.
    pub fn violation(&mut self, promise: &'static str, what: String) {
        report(&mut self.violations, promise, what);
    }

    /// What was wrong so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// A phone number has this user id, as a node said.
    pub fn signed_up(&mut self, phone: &str, user: u64) {
        if let Some((other, _)) = self.users.iter().find(|(p, u)| **u == user && *p != phone) {
            let what = format!("user {user} is both {other} and {phone}");
            self.violation("one id a phone", what);
        }
        let known = *self.users.entry(phone.to_owned()).or_insert(user);
        if known != user {
            self.violation("one id a phone", format!("{phone} was user {known}, now {user}"));
        }
    }

    /// A session was opened.
    pub fn opened(&mut self, device: Device, session: u64, at: Duration) {
        if let Some((other, _)) = self
            .sessions
            .iter()
            .find(|(d, s)| s.session == session && **d != device)
        {
            let what = format!("session {session:x} belongs to {other:?} and {device:?}");
            self.violation("sessions differ", what);
        }
        self.sessions.insert(device, Opened { session, at });
    }

    /// A send is tried for the first time.
    pub fn tried(&mut self, key: MessageKey, recipient: u64, tried_at: Duration) {
        let sent = Sent {
            recipient,
            tried_at,
            position: None,
        };
        self.sends.insert(key, sent);
    }

    /// A send was acknowledged, perhaps again.
    pub fn acknowledged(&mut self, key: MessageKey, conversation: u64, position: u64) {
        let Some(sent) = self.sends.get_mut(&key) else { return };
        let first = *sent.position.get_or_insert(position);
        let expected = ids::conversation_id(key.sender, sent.recipient);
        if first != position {
            let what = format!("{key:?} was acknowledged at {first}, then at {position}");
            self.violation("same answer again", what);
        }
        if conversation != expected {
            let what = format!("{key:?} belongs to conversation {expected:x}, not {conversation:x}");
            self.violation("same answer again", what);
        }
    }

    /// The last sequence that a device received.
    #[must_use]
    pub fn last_sequence(&self, device: Device) -> u64 {
        self.streams
            .get(&device)
            .and_then(|s| s.last())
            .map_or(0, |d| d.sequence)
    }

    /// A device received something on its stream.
    pub fn delivered(&mut self, device: Device, delivery: Delivery) {
        let last = self.last_sequence(device);
        if delivery.sequence != last + 1 {
            let what = format!("{device:?} received sequence {} after {last}", delivery.sequence);
            self.violation("gap-free streams", what);
        }
        let key = key_of(&delivery);
        match self.sends.get(&key) {
            Some(sent) if sent.recipient == device.0 && body(key, sent.recipient) == delivery.body => {}
            other => {
                let what = format!(
                    "{device:?} received {key:?} with {} bytes; sent: {other:?}",
                    delivery.body.len()
                );
                self.violation("nothing invented", what);
            }
        }
        if delivery.sequence > last {
            self.streams.entry(device).or_default().push(delivery);
        }
    }

    /// A device was told where its stream stands.
    pub fn position(&mut self, device: Device, position: &Position) {
        let last = self.last_sequence(device);
        // A deposed leader may lag behind, as long as it doesn't claim to be current.
        let wrong = position.current && position.last_sequence > last;
        if wrong || position.incarnation != 1 {
            let what = format!("{device:?} has {last} and was told {position:?}");
            self.violation("honest positions", what);
        }
    }

    /// How many sends were acknowledged.
    #[must_use]
    pub fn acknowledged_sends(&self) -> usize {
        self.sends.values().filter(|s| s.position.is_some()).count()
    }

    /// How many deliveries arrived.
    #[must_use]
    pub fn deliveries(&self) -> usize {
        self.streams.values().map(Vec::len).sum()
    }

    /// The conversations that anything was tried in, with their two users.
    #[must_use]
    pub fn conversations(&self) -> BTreeMap<u64, (u64, u64)> {
        let pairs = self.sends.iter().map(|(key, sent)| {
            let (a, b) = (key.sender.min(sent.recipient), key.sender.max(sent.recipient));
            (ids::conversation_id(a, b), (a, b))
        });
        pairs.collect()
    }
}

/// The key of a delivered message.
#[must_use]
pub fn key_of(delivery: &Delivery) -> MessageKey {
    MessageKey {
        sender: delivery.sender,
        device: delivery.sender_device,
        client_id: delivery.client_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MessageKey = MessageKey {
        sender: 1,
        device: 1,
        client_id: 5,
    };

    fn delivery(sequence: u64) -> Delivery {
        Delivery {
            sequence,
            conversation: ids::conversation_id(1, 2),
            position: sequence,
            sender: 1,
            sender_device: 1,
            client_id: 5,
            body: body(KEY, 2),
        }
    }

    fn promises(act: impl FnOnce(&mut Records)) -> Vec<&'static str> {
        let mut records = Records::default();
        records.tried(KEY, 2, Duration::ZERO);
        act(&mut records);
        records.violations().iter().map(|v| v.promise).collect()
    }

    #[test]
    fn an_honest_service_is_not_accused() {
        let seen = promises(|records| {
            records.signed_up("10001", 1);
            records.signed_up("10002", 2);
            records.signed_up("10001", 1);
            records.acknowledged(KEY, ids::conversation_id(2, 1), 1);
            records.acknowledged(KEY, ids::conversation_id(2, 1), 1);
            records.delivered((2, 1), delivery(1));
            let position = Position {
                last_sequence: 1,
                incarnation: 1,
                current: true,
            };
            records.position((2, 1), &position);
        });
        assert!(seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn lies_are_seen() {
        assert_eq!(promises(|r| r.delivered((2, 1), delivery(2))), ["gap-free streams"]);
        assert_eq!(promises(|r| r.delivered((3, 1), delivery(1))), ["nothing invented"]);
        let mut corrupt = delivery(1);
        corrupt.body = Bytes::from_static(b"x");
        assert_eq!(promises(|r| r.delivered((2, 1), corrupt)), ["nothing invented"]);
        let twice = |r: &mut Records| {
            r.delivered((2, 1), delivery(1));
            r.delivered((2, 1), delivery(1));
        };
        assert_eq!(promises(twice), ["gap-free streams"]);
        let moved = |r: &mut Records| {
            r.acknowledged(KEY, ids::conversation_id(1, 2), 1);
            r.acknowledged(KEY, ids::conversation_id(1, 2), 2);
        };
        assert_eq!(promises(moved), ["same answer again"]);
        let split = |r: &mut Records| {
            r.signed_up("10001", 1);
            r.signed_up("10001", 2);
        };
        assert_eq!(promises(split), ["one id a phone"]);
        let early = Position {
            last_sequence: 4,
            incarnation: 1,
            current: true,
        };
        assert_eq!(promises(|r| r.position((2, 1), &early)), ["honest positions"]);
    }
}
