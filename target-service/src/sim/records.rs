//! What clients were told, kept as it happens.
//!
//! What can be judged at once is: a stream's sequence, a repeated answer, an account's id. The rest waits for the final
//! read ([`super::judge`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use firedrill_proto::chat::v1::{
    Contact, Delivery, GroupChangeKind, Notice, OpenResponse, Position, StoredMessage, Thread, notice::What,
};
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
    /// The receiving user; 0 for a group.
    pub recipient: u64,
    /// The group that it goes to; 0 for a user.
    pub group: u64,
    /// When it was first tried.
    pub tried_at: Duration,
    /// The position that was acknowledged, if it was.
    pub position: Option<u64>,
}

impl Sent {
    /// The conversation that it belongs to, `key` being its own.
    #[must_use]
    pub fn conversation(&self, key: MessageKey) -> u64 {
        match self.group {
            0 => ids::conversation_id(key.sender, self.recipient),
            group => group,
        }
    }

    /// What its body names as its addressee.
    #[must_use]
    pub const fn addressee(&self) -> u64 {
        if self.group == 0 { self.recipient } else { self.group }
    }
}

/// A change of a group, from the first attempt on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The group.
    pub group: u64,
    /// What was asked for.
    pub kind: GroupChangeKind,
    /// Whom it concerns, unless that is the actor.
    pub users: Vec<u64>,
    /// The position that was acknowledged, if it was.
    pub position: Option<u64>,
}

/// What one user's lists said in the end.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    /// Conversations.
    pub threads: Vec<Thread>,
    /// Contacts.
    pub contacts: Vec<Contact>,
    /// Of each group: the positions that the user may read; `None` when it may not.
    pub histories: BTreeMap<u64, Option<Vec<u64>>>,
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
    /// Changes of groups by key, acknowledged or not.
    pub changes: BTreeMap<MessageKey, Change>,
    /// Most members of a group.
    pub group_max: u64,
    /// Numbers that each user has imported, or tried to.
    pub importing: BTreeMap<u64, BTreeSet<String>>,
    /// Numbers whose import was acknowledged.
    imported: BTreeMap<u64, BTreeSet<String>>,
    /// The marks (delivered, read) that were acknowledged, by conversation and user.
    pub acquitted: BTreeMap<(u64, u64), (u64, u64)>,
    /// What each user's lists said in the end.
    pub finals: BTreeMap<u64, Finals>,
    /// The last sequence of each device, messages or not.
    sequences: BTreeMap<Device, u64>,
    /// The marks that each device was told of, by conversation and user.
    told: BTreeMap<(Device, u64, u64), (u64, u64)>,
    /// How often the app was opened: current, and with what a node had.
    pub opens: (u64, u64),
    /// How often a client was told that its route is of another epoch: of an older one than the node's, and of a newer one.
    pub stale_routes: (u64, u64),
    /// Entries that were no messages.
    notices: u64,
    violations: Vec<Violation>,
}

/// The body of a message: it tells whose it is, and its length varies.
#[must_use]
pub fn body(key: MessageKey, addressee: u64) -> Bytes {
    let mut text = format!("{}/{}/{}>{addressee}:", key.sender, key.device, key.client_id).into_bytes();
    let length = text.len() + usize::try_from(xxh3_64(&text) % 200).unwrap_or(0);
    text.resize(length, b'.');
    text.into()
}

impl Records {
    /// Nothing yet, of groups of at most `group_max` members.
    #[must_use]
    pub fn new(group_max: u64) -> Self {
        Self {
            group_max,
            ..Self::default()
        }
    }

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
    pub fn tried(&mut self, key: MessageKey, recipient: u64, group: u64, tried_at: Duration) {
        let sent = Sent {
            recipient,
            group,
            tried_at,
            position: None,
        };
        self.sends.insert(key, sent);
    }

    /// A send was acknowledged, perhaps again.
    pub fn acknowledged(&mut self, key: MessageKey, conversation: u64, position: u64) {
        let Some(sent) = self.sends.get_mut(&key) else { return };
        let first = *sent.position.get_or_insert(position);
        let expected = sent.conversation(key);
        if first != position {
            let what = format!("{key:?} was acknowledged at {first}, then at {position}");
            self.violation("same answer again", what);
        }
        if conversation != expected {
            let what = format!("{key:?} belongs to conversation {expected:x}, not {conversation:x}");
            self.violation("same answer again", what);
        }
    }

    /// A change of a group was acknowledged.
    pub fn changed(&mut self, key: MessageKey, group: u64, position: u64, members: u64) {
        let Some(change) = self.changes.get_mut(&key) else {
            return;
        };
        change.position = Some(position);
        let expected = change.group;
        if group != expected {
            self.violation(
                "same answer again",
                format!("{key:?} changed {group:x} instead of {expected:x}"),
            );
        }
        if members > self.group_max {
            let what = format!("{key:?} was told of {members} members, at most {}", self.group_max);
            self.violation("groups have a limit", what);
        }
    }

    /// A user's marks were acknowledged. They never go back.
    pub fn acquitted(&mut self, conversation: u64, user: u64, delivered: u64, read: u64) {
        let known = self.acquitted.entry((conversation, user)).or_default();
        let before = *known;
        *known = (delivered.max(before.0), read.max(before.1));
        if delivered < before.0 || read < before.1 || read > delivered {
            let what = format!("{user} in {conversation:x}: {before:?}, then {delivered} and {read}");
            self.violation("receipts go forward", what);
        }
    }

    /// An import is tried.
    pub fn importing(&mut self, user: u64, phones: &[String]) {
        self.importing.entry(user).or_default().extend(phones.iter().cloned());
    }

    /// An import was acknowledged.
    pub fn imported(&mut self, user: u64, phones: &[String]) {
        self.imported.entry(user).or_default().extend(phones.iter().cloned());
    }

    /// The phone number of a user.
    #[must_use]
    pub fn phone_of(&self, user: u64) -> Option<&str> {
        let known = self.users.iter().find(|(_, known)| **known == user);
        known.map(|(phone, _)| phone.as_str())
    }

    /// Numbers that `user` has imported, that have an account, and that `contacts` doesn't name with it.
    #[must_use]
    pub fn missing_contacts(&self, user: u64, contacts: &[Contact]) -> Vec<&str> {
        let found: BTreeSet<(&str, u64)> = contacts.iter().map(|it| (it.phone.as_str(), it.user)).collect();
        let imported = self.imported.get(&user).into_iter().flatten();
        imported
            .filter(|phone| {
                let owner = self.users.get(*phone);
                owner.is_some_and(|owner| *owner != user && !found.contains(&(phone.as_str(), *owner)))
            })
            .map(String::as_str)
            .collect()
    }

    /// The groups that anything was tried in.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<u64> {
        self.changes.values().map(|change| change.group).collect()
    }

    /// The last position of each conversation that a device was shown.
    #[must_use]
    pub fn furthest(&self, device: Device) -> BTreeMap<u64, u64> {
        let shown = self.streams.get(&device).into_iter().flatten();
        shown.map(|it| (it.conversation, it.position)).collect()
    }

    /// A client was told that its route is of another epoch; `newer` when the node's is the newer one.
    pub fn stale_route(&mut self, newer: bool) {
        self.stale_routes.0 += u64::from(newer);
        self.stale_routes.1 += u64::from(!newer);
    }

    /// The app was opened, by a device that had received `before` when it asked.
    pub fn opened_app(&mut self, device: Device, before: u64, page: &OpenResponse) {
        if !page.current {
            self.opens.1 += 1;
            return;
        }
        self.opens.0 += 1;
        if page.last_sequence < before {
            let what = format!("{device:?} had {before} and was shown a current {}", page.last_sequence);
            self.violation("honest positions", what);
        }
    }

    /// A device was shown something that is no message.
    pub fn noticed(&mut self, device: Device, notice: &Notice) {
        self.in_sequence(device, notice.sequence);
        self.notices += 1;
        if let Some(What::Receipt(it)) = &notice.what {
            let known = self.told.entry((device, it.conversation, it.user)).or_default();
            let before = *known;
            *known = (it.delivered, it.read);
            if it.delivered < before.0 || it.read < before.1 {
                let what = format!("{device:?} was told {before:?} and then {it:?}");
                self.violation("receipts go forward", what);
            }
        }
    }

    /// How many entries were no messages.
    #[must_use]
    pub const fn notices(&self) -> u64 {
        self.notices
    }

    /// Sequences have no gaps. Whether this one is new.
    fn in_sequence(&mut self, device: Device, sequence: u64) -> bool {
        let last = self.last_sequence(device);
        if sequence != last + 1 {
            let what = format!("{device:?} received sequence {sequence} after {last}");
            self.violation("gap-free streams", what);
        }
        self.sequences.insert(device, sequence.max(last));
        sequence > last
    }

    /// The last sequence that a device received.
    #[must_use]
    pub fn last_sequence(&self, device: Device) -> u64 {
        self.sequences.get(&device).copied().unwrap_or(0)
    }

    /// A device received a message on its stream.
    pub fn delivered(&mut self, device: Device, delivery: Delivery) {
        let fresh = self.in_sequence(device, delivery.sequence);
        let key = key_of(&delivery);
        match self.sends.get(&key) {
            Some(sent) if body(key, sent.addressee()) != delivery.body => {
                let what = format!("{device:?} received {key:?} with other {} bytes", delivery.body.len());
                self.violation("nothing invented", what);
            }
            // Who belongs to a group is only known in the end.
            Some(sent) if sent.group == 0 && sent.recipient != device.0 && key.sender != device.0 => {
                let what = format!("{device:?} received {key:?}, which was for {}", sent.recipient);
                self.violation("nobody else's", what);
            }
            Some(_) => {}
            None => {
                let what = format!("{device:?} received {key:?}, which nobody sent");
                self.violation("nothing invented", what);
            }
        }
        if fresh {
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

    /// The direct conversations that anything was tried in, with their two users.
    #[must_use]
    pub fn conversations(&self) -> BTreeMap<u64, (u64, u64)> {
        let pairs = self
            .sends
            .iter()
            .filter(|(_, sent)| sent.group == 0)
            .map(|(key, sent)| {
                let (a, b) = (key.sender.min(sent.recipient), key.sender.max(sent.recipient));
                (ids::conversation_id(a, b), (a, b))
            });
        pairs.collect()
    }
}

/// The key of a stored message or change.
#[must_use]
pub const fn stored_key(message: &StoredMessage) -> MessageKey {
    MessageKey {
        sender: message.sender,
        device: message.sender_device,
        client_id: message.client_id,
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
        records.tried(KEY, 2, 0, Duration::ZERO);
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
        assert_eq!(promises(|r| r.delivered((3, 1), delivery(1))), ["nobody else's"]);
        let told = |delivered, sequence| Notice {
            sequence,
            what: Some(What::Receipt(firedrill_proto::chat::v1::Receipt {
                delivered,
                ..Default::default()
            })),
        };
        let back = |r: &mut Records| {
            r.noticed((2, 1), &told(5, 1));
            r.noticed((2, 1), &told(4, 2));
        };
        assert_eq!(promises(back), ["receipts go forward"]);
        assert_eq!(promises(|r| r.acquitted(1, 2, 3, 4)), ["receipts go forward"]);
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
