//! How records are keyed. All live in one ordered table: a byte that names the space, then big-endian numbers, so that
//! byte order is numeric order and a prefix is a range.

use std::ops::RangeInclusive;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<u8>);

/// The kinds of record. The numbers stand in stored files: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Space {
    Meta = 0,
    AccountByPhone = 1,
    Account = 2,
    Device = 3,
    // 4 was the streams of single devices.
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
    // 15 was what was kept for accounts without devices.
    DeadLetter = 16,
    #[cfg(any(test, feature = "plants"))]
    Held = 17,
    Entry = 18,
    Code = 19,
    CodeByTime = 20,
    Thread = 21,
    Unread = 22,
    Member = 23,
    Removed = 24,
    Contact = 25,
    Interest = 26,
    Interested = 27,
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

    /// One entry of a user's log.
    pub(super) fn entry(user: u64, number: u64) -> Self {
        Self::of(Space::Entry).u64(user).u64(number)
    }

    /// The code that was carried to a phone.
    pub(super) fn code(phone: &str) -> Self {
        let mut key = Self::of(Space::Code);
        key.0.extend_from_slice(phone.as_bytes());
        key
    }

    /// The same, in the order in which it is forgotten.
    pub(super) fn code_by_time(issued_ms: u64, phone: &str) -> Self {
        let mut key = Self::of(Space::CodeByTime).u64(issued_ms);
        key.0.extend_from_slice(phone.as_bytes());
        key
    }

    /// Every code issued at or before `issued_ms`.
    pub(super) fn codes_until(issued_ms: u64) -> RangeInclusive<Self> {
        Self::of(Space::CodeByTime)..=Self::code_by_time(issued_ms, "\u{7f}")
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

    /// A user's conversation.
    pub(super) fn thread(user: u64, conversation: u64) -> Self {
        Self::of(Space::Thread).u64(user).u64(conversation)
    }

    /// A message that a user has not read.
    pub(super) fn unread(user: u64, conversation: u64, position: u64) -> Self {
        Self::of(Space::Unread).u64(user).u64(conversation).u64(position)
    }

    /// A member of a conversation.
    pub(super) fn member(conversation: u64, user: u64) -> Self {
        Self::of(Space::Member).u64(conversation).u64(user)
    }

    /// All members of a conversation.
    pub(super) fn members(conversation: u64) -> RangeInclusive<Self> {
        Self::member(conversation, 0)..=Self::member(conversation, u64::MAX)
    }

    /// Somebody who was removed from an open group.
    pub(super) fn removed(conversation: u64, user: u64) -> Self {
        Self::of(Space::Removed).u64(conversation).u64(user)
    }

    /// A contact of a user.
    pub(super) fn contact(user: u64, phone: &str) -> Self {
        let mut key = Self::of(Space::Contact).u64(user);
        key.0.extend_from_slice(phone.as_bytes());
        key
    }

    /// The contacts of a user from `phone` on.
    pub(super) fn contacts(user: u64, phone: &str) -> RangeInclusive<Self> {
        Self::contact(user, phone)..=Self::contact(user, "\u{7f}")
    }

    /// The number in the key of a contact.
    pub(super) fn phone_of_contact(key: &[u8]) -> &str {
        key.get(9..)
            .and_then(|phone| std::str::from_utf8(phone).ok())
            .unwrap_or_default()
    }

    /// An account that has imported a number which is signed up here. The number's length keeps numbers apart of which
    /// one begins with the other.
    pub(super) fn interest(phone: &str, importer: u64) -> Self {
        Self::of_phone(Space::Interest, phone).u64(importer)
    }

    /// All accounts that have imported a number.
    pub(super) fn all_interest(phone: &str) -> RangeInclusive<Self> {
        Self::interest(phone, 0)..=Self::interest(phone, u64::MAX)
    }

    /// How many these are.
    pub(super) fn interested(phone: &str) -> Self {
        Self::of_phone(Space::Interested, phone)
    }

    fn of_phone(space: Space, phone: &str) -> Self {
        let mut key = Self::of(space).u32(u32::try_from(phone.len()).unwrap_or(u32::MAX));
        key.0.extend_from_slice(phone.as_bytes());
        key
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

    /// The n-th item for an account that does not exist.
    pub(super) fn dead_letter(n: u64) -> Self {
        Self::of(Space::DeadLetter).u64(n)
    }

    /// A delivery that the plant `reorder` holds back.
    #[cfg(any(test, feature = "plants"))]
    pub(super) fn held(user: u64) -> Self {
        Self::of(Space::Held).u64(user)
    }

    /// All deliveries held back.
    #[cfg(any(test, feature = "plants"))]
    pub(super) fn all_held() -> RangeInclusive<Self> {
        Self::held(0)..=Self::held(u64::MAX)
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
            Key::dedup_by_time(255, 9, 9, 9),
            Key::dedup_by_time(256, 1, 1, 1),
            Key::outbox(1, 9),
            Key::outbox(2, 1),
            Key::entry(1, 255),
            Key::entry(1, 256),
            Key::entry(2, 1),
            Key::code_by_time(7, "99999"),
            Key::code_by_time(8, "11111"),
        ];
        assert!(ordered.is_sorted());
        assert!(Key::dedup_until(255).contains(&ordered[4]));
        assert!(!Key::dedup_until(255).contains(&ordered[5]));
        assert!(Key::codes_until(7).contains(&ordered[11]) && !Key::codes_until(7).contains(&ordered[12]));
        assert_eq!(u64_at(Key::dedup_by_time(7, 8, 9, 10).bytes(), 9), Some(8));
        assert_eq!(u32_at(Key::device(7, 3).bytes(), 9), Some(3));
        assert_eq!(u64_at(&[1, 2], 0), None);
    }
}
