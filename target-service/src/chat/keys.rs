//! How records are keyed. All live in one ordered table: a byte that names the space, then big-endian numbers, so that
//! byte order is numeric order and a prefix is a range.

use std::ops::RangeInclusive;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<u8>);

/// The kinds of record. The numbers stand in stored files: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Space {
    Meta = 0,
    AccountByPhone = 1,
    Account = 2,
    Device = 3,
    Stream = 4,
    Conversation = 5,
    Message = 6,
    Dedup = 7,
    DedupByTime = 8,
    Sender = 9,
    Outbox = 10,
    OutboxHead = 11,
    Inbox = 12,
    ConversationMark = 13,
    Fenced = 14,
    Pending = 15,
    DeadLetter = 16,
    #[cfg(any(test, feature = "plants"))]
    Held = 17,
}

impl Key {
    fn of(space: Space) -> Self {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(space as u8);
        Self(bytes)
    }

    fn u64(mut self, part: u64) -> Self {
        self.0.extend_from_slice(&part.to_be_bytes());
        self
    }

    fn u32(mut self, part: u32) -> Self {
        self.0.extend_from_slice(&part.to_be_bytes());
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shard's counters.
    pub(super) fn meta() -> Self {
        Self::of(Space::Meta)
    }

    /// Normalised phone number to user.
    pub(super) fn account_by_phone(phone: &str) -> Self {
        let mut key = Self::of(Space::AccountByPhone);
        key.0.extend_from_slice(phone.as_bytes());
        key
    }

    /// An account.
    pub(super) fn account(user: u64) -> Self {
        Self::of(Space::Account).u64(user)
    }

    /// A registered device.
    pub(super) fn device(user: u64, device: u32) -> Self {
        Self::of(Space::Device).u64(user).u32(device)
    }

    /// All devices of an account.
    pub(super) fn devices(user: u64) -> RangeInclusive<Self> {
        Self::device(user, 0)..=Self::device(user, u32::MAX)
    }

    /// One delivery in a device's stream.
    pub(super) fn stream(user: u64, device: u32, sequence: u64) -> Self {
        Self::of(Space::Stream).u64(user).u32(device).u64(sequence)
    }

    /// A conversation.
    pub(super) fn conversation(conversation: u64) -> Self {
        Self::of(Space::Conversation).u64(conversation)
    }

    /// One message of a conversation.
    pub(super) fn message(conversation: u64, position: u64) -> Self {
        Self::of(Space::Message).u64(conversation).u64(position)
    }

    /// What a client id was used for.
    pub(super) fn dedup(sender: u64, device: u32, client_id: u64) -> Self {
        Self::of(Space::Dedup).u64(sender).u32(device).u64(client_id)
    }

    /// The same, in the order in which it is forgotten.
    pub(super) fn dedup_by_time(time_ms: u64, sender: u64, device: u32, client_id: u64) -> Self {
        Self::of(Space::DedupByTime)
            .u64(time_ms)
            .u64(sender)
            .u32(device)
            .u64(client_id)
    }

    /// Everything that entered the order of forgetting at or before `time_ms`.
    pub(super) fn dedup_until(time_ms: u64) -> RangeInclusive<Self> {
        Self::of(Space::DedupByTime)..=Self::dedup_by_time(time_ms, u64::MAX, u32::MAX, u64::MAX)
    }

    /// A sending device, as its conversations' home knows it.
    pub(super) fn sender(user: u64, device: u32) -> Self {
        Self::of(Space::Sender).u64(user).u32(device)
    }

    /// An item for another shard.
    pub(super) fn outbox(to_shard: u32, sequence: u64) -> Self {
        Self::of(Space::Outbox).u32(to_shard).u64(sequence)
    }

    /// Where the outbox to a shard stands.
    pub(super) fn outbox_head(to_shard: u32) -> Self {
        Self::of(Space::OutboxHead).u32(to_shard)
    }

    /// All outbox heads.
    pub(super) fn outbox_heads() -> RangeInclusive<Self> {
        Self::outbox_head(0)..=Self::outbox_head(u32::MAX)
    }

    /// How much of another shard's outbox is accepted.
    pub(super) fn inbox(from_shard: u32) -> Self {
        Self::of(Space::Inbox).u32(from_shard)
    }

    /// How far a conversation has been accepted.
    pub(super) fn conversation_mark(conversation: u64) -> Self {
        Self::of(Space::ConversationMark).u64(conversation)
    }

    /// A session that can no longer act.
    pub(super) fn fenced(session: u64) -> Self {
        Self::of(Space::Fenced).u64(session)
    }

    /// The n-th item kept for an account without devices.
    pub(super) fn pending(user: u64, n: u64) -> Self {
        Self::of(Space::Pending).u64(user).u64(n)
    }

    /// The n-th item for an account that does not exist.
    pub(super) fn dead_letter(n: u64) -> Self {
        Self::of(Space::DeadLetter).u64(n)
    }

    /// A delivery that the plant `reorder` holds back.
    #[cfg(any(test, feature = "plants"))]
    pub(super) fn held(user: u64, device: u32) -> Self {
        Self::of(Space::Held).u64(user).u32(device)
    }

    /// All deliveries held back.
    #[cfg(any(test, feature = "plants"))]
    pub(super) fn all_held() -> RangeInclusive<Self> {
        Self::held(0, 0)..=Self::held(u64::MAX, u32::MAX)
    }
}

/// The number that starts at `at` in a key, if the key is that long.
pub(super) fn u64_at(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?))
}

/// The 32-bit number that starts at `at` in a key, if the key is that long.
pub(super) fn u32_at(key: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*key.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_numeric_order() {
        let ordered = [
            Key::meta(),
            Key::account_by_phone("12345"),
            Key::account(9),
            Key::device(1, 1),
            Key::stream(1, 1, 255),
            Key::stream(1, 1, 256),
            Key::stream(1, 2, 1),
            Key::stream(2, 1, 1),
            Key::dedup_by_time(255, 9, 9, 9),
            Key::dedup_by_time(256, 1, 1, 1),
            Key::outbox(1, 9),
            Key::outbox(2, 1),
        ];
        assert!(ordered.is_sorted());
        assert!(Key::dedup_until(255).contains(&ordered[8]));
        assert!(!Key::dedup_until(255).contains(&ordered[9]));
        assert_eq!(u64_at(Key::dedup_by_time(7, 8, 9, 10).bytes(), 9), Some(8));
        assert_eq!(u32_at(Key::device(7, 3).bytes(), 9), Some(3));
        assert_eq!(u64_at(&[1, 2], 0), None);
    }
}
