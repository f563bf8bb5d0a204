//! What the final read and the streams say about every promise to clients.
//!
//! The final read is linearizable and comes after all senders were fenced, so that nothing can still take effect:
//! a message that is not in it never will be.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::StoredMessage;

use super::{
    Violation,
    groups::{self, Memberships},
    records::{MessageKey, Records, body, key_of, stored_key},
    report,
};

/// Conversations as read in the end, by id.
pub type Histories = BTreeMap<u64, Vec<StoredMessage>>;

/// Judges everything that clients were promised. Empty is a pass.
#[must_use]
pub fn judge(records: &Records, histories: &Histories) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (&conversation, messages) in histories {
        history(records, conversation, messages, &mut violations);
    }
    nothing_lost(records, histories, &mut violations);
    let memberships = groups::memberships(records, histories, &mut violations);
    for &device in records.sessions.keys() {
        stream(records, histories, &memberships, device, &mut violations);
    }
    groups::changes(records, histories, &mut violations);
    groups::lists(records, histories, &memberships, &mut violations);
    violations
}

/// Positions without gaps, nothing twice, nothing that nobody sent, and each sender's messages in its order: a sender
/// waits for the answer before it sends the next.
fn history(records: &Records, conversation: u64, messages: &[StoredMessage], violations: &mut Vec<Violation>) {
    let mut seen = BTreeSet::new();
    let mut latest = BTreeMap::new();
    for (expected, message) in (1..).zip(messages) {
        let key = stored_key(message);
        let place = format!("position {} of conversation {conversation:x}", message.position);
        if message.position != expected {
            report(
                violations,
                "gap-free history",
                format!("{place} stands where {expected} belongs"),
            );
        }
        if message.change.is_some() {
            continue;
        }
        match records.sends.get(&key) {
            Some(sent)
                if sent.recipient == message.recipient
                    && message.body == body(key, sent.addressee())
                    && sent.conversation(key) == conversation => {}
            other => report(
                violations,
                "nothing invented",
                format!("{place} holds {key:?}; sent: {other:?}"),
            ),
        }
        if !seen.insert(key) {
            report(violations, "exactly once", format!("{place} holds {key:?} again"));
        }
        if let Some(before) = latest.insert((key.sender, key.device), key.client_id)
            && before > key.client_id
        {
            report(
                violations,
                "sender's order",
                format!("{place} holds {key:?} after {before}"),
            );
        }
    }
}

/// Every acknowledged send is where it was said to be.
fn nothing_lost(records: &Records, histories: &Histories, violations: &mut Vec<Violation>) {
    for (key, sent) in &records.sends {
        let Some(position) = sent.position else { continue };
        let conversation = sent.conversation(*key);
        let found = histories
            .get(&conversation)
            .and_then(|messages| messages.iter().find(|m| m.position == position))
            .map(stored_key);
        if found.as_ref() != Some(key) {
            let what = format!("{key:?} was acknowledged at {position} of {conversation:x}, which holds {found:?}");
            report(violations, "nothing acknowledged is lost", what);
        }
    }
}

/// A device has everything that it is owed, once, in the conversation's order.
fn stream(
    records: &Records,
    histories: &Histories,
    memberships: &Memberships,
    device: (u64, u32),
    violations: &mut Vec<Violation>,
) {
    let mut seen = BTreeSet::new();
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    for delivery in records.streams.get(&device).into_iter().flatten() {
        let key = key_of(delivery);
        let what = || format!("{device:?} received {key:?} as sequence {}", delivery.sequence);
        if !seen.insert(key) {
            report(
                violations,
                "delivered once",
                format!("{}, not for the first time", what()),
            );
        }
        let before = latest.insert(delivery.conversation, delivery.position);
        if before.is_some_and(|before| before >= delivery.position) {
            let what = format!("{} at position {} after {before:?}", what(), delivery.position);
            report(violations, "delivered in order", what);
        }
        let group = memberships.get(&delivery.conversation);
        if group.is_some_and(|group| !group.belongs(device.0, delivery.position)) {
            report(violations, "only members hear", what());
        }
        let stored = histories
            .get(&delivery.conversation)
            .and_then(|messages| messages.iter().find(|m| m.position == delivery.position))
            .map(stored_key);
        if stored != Some(key) {
            let what = format!("{} at position {}, where {stored:?} stands", what(), delivery.position);
            report(violations, "delivered what is stored", what);
        }
    }
    for (key, joined) in owed(records, histories, memberships, device) {
        if seen.contains(&key) {
            continue;
        }
        let promise = match joined {
            true => "nothing missed after joining",
            false if key.sender == device.0 => "own devices keep up",
            false => "everything is delivered",
        };
        report(violations, promise, format!("{device:?} never received {key:?}"));
    }
}

/// What a device is owed: everything committed for or by its user, or in a group while its user belonged to it, that was
/// first tried once the device was known. And whether it was the first of a stay in a group.
pub(crate) fn owed(
    records: &Records,
    histories: &Histories,
    memberships: &Memberships,
    device: (u64, u32),
) -> Vec<(MessageKey, bool)> {
    let Some(opened) = records.sessions.get(&device) else {
        return Vec::new();
    };
    let user = device.0;
    let stored = histories.values().flatten().filter(|it| it.change.is_none());
    let owed = stored.filter_map(|message| {
        let key = stored_key(message);
        let sent = records.sends.get(&key)?;
        if sent.tried_at < opened.at {
            return None;
        }
        if sent.group == 0 {
            return (sent.recipient == user || key.sender == user).then_some((key, false));
        }
        let stay = memberships.get(&sent.group)?.stay(user, message.position)?;
        Some((key, message.position == stay.joined + 1))
    });
    owed.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use firedrill_proto::chat::v1::Delivery;

    use super::*;
    use crate::chat::ids;

    const CONVERSATION: (u64, u64) = (1, 2);

    fn key(client_id: u64) -> MessageKey {
        MessageKey {
            sender: 1,
            device: 1,
            client_id,
        }
    }

    /// Two acknowledged messages from user 1 to user 2, stored and delivered; `spoil` makes it go wrong.
    fn judged(spoil: impl FnOnce(&mut Records, &mut Vec<StoredMessage>, &mut Vec<Delivery>)) -> Vec<&'static str> {
        let conversation = ids::conversation_id(CONVERSATION.0, CONVERSATION.1);
        let mut records = Records::default();
        records.opened((2, 1), 9, Duration::ZERO);
        let (mut stored, mut deliveries) = (Vec::new(), Vec::new());
        for id in 1..=2 {
            records.tried(key(id), 2, 0, Duration::from_secs(1));
            records.acknowledged(key(id), conversation, id);
            stored.push(StoredMessage {
                position: id,
                sender: 1,
                sender_device: 1,
                client_id: id,
                recipient: 2,
                body: body(key(id), 2),
                change: None,
            });
            deliveries.push(Delivery {
                sequence: id,
                conversation,
                position: id,
                sender: 1,
                sender_device: 1,
                client_id: id,
                body: body(key(id), 2),
            });
        }
        spoil(&mut records, &mut stored, &mut deliveries);
        records.streams.insert((2, 1), deliveries);
        let violations = judge(&records, &Histories::from([(conversation, stored)]));
        violations.into_iter().map(|v| v.promise).collect()
    }

    #[test]
    fn an_honest_service_passes() {
        assert!(judged(|_, _, _| {}).is_empty());
        // What was tried and never stored is nobody's loss, and what came before the device was known isn't owed.
        assert!(judged(|records, _, _| records.tried(key(3), 2, 0, Duration::ZERO)).is_empty());
        let late = judged(|records, _, deliveries| {
            records.opened((2, 1), 9, Duration::from_secs(2));
            deliveries.clear();
        });
        assert!(late.is_empty(), "{late:?}");
    }

    #[test]
    fn every_promise_can_be_broken() {
        assert_eq!(judged(|_, _, d| d.truncate(1)), ["everything is delivered"]);
        assert_eq!(
            judged(|_, stored, _| stored.truncate(1)),
            ["nothing acknowledged is lost", "delivered what is stored"]
        );
        let doubled = judged(|_, stored, _| {
            stored.push(StoredMessage {
                position: 3,
                ..stored[1].clone()
            });
        });
        assert_eq!(doubled, ["exactly once"]);
        let swapped = judged(|records, stored, d| {
            stored.swap(0, 1);
            (stored[0].position, stored[1].position) = (1, 2);
            d.clear();
            records.sessions.clear();
        });
        assert_eq!(
            swapped,
            [
                "sender's order",
                "nothing acknowledged is lost",
                "nothing acknowledged is lost"
            ]
        );
        assert_eq!(judged(|_, _, d| d.swap(0, 1)), ["delivered in order"]);
        assert_eq!(
            judged(|_, _, d| d.push(d[1].clone())),
            ["delivered once", "delivered in order"]
        );
        let invented = judged(|_, stored, _| stored[1].body = bytes::Bytes::from_static(b"other"));
        assert_eq!(invented, ["nothing invented"]);
        let gap = judged(|_, stored, _| {
            stored[1].position = 3;
        });
        assert!(gap.contains(&"gap-free history"), "{gap:?}");
    }
}
