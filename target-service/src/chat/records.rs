//! What stands behind each key. Stored as protobuf, so that a later version can add fields.

use bytes::Bytes;
use prost::Message;

/// The format of the records; another one is refused. 1 kept a stream for each device, 2 keeps a log for each user,
/// 3 has a checksum behind each record.
pub(super) const FORMAT: u32 = 3;

/// The shard's counters: everything that is not keyed.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Meta {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint32, tag = "2")]
    pub(super) shard: u32,
    #[prost(uint32, tag = "3")]
    pub(super) shards: u32,
    #[prost(uint64, tag = "4")]
    pub(super) applied_index: u64,
    #[prost(uint64, tag = "5")]
    pub(super) applied_term: u64,
    /// Log time, milliseconds: the greatest seen.
    #[prost(uint64, tag = "6")]
    pub(super) time_ms: u64,
    /// Accounts created; the last one's counter.
    #[prost(uint64, tag = "7")]
    pub(super) accounts: u64,
    /// Sessions opened; the last one's counter.
    #[prost(uint64, tag = "8")]
    pub(super) sessions: u64,
    #[prost(uint64, tag = "9")]
    pub(super) messages: u64,
    #[prost(uint64, tag = "10")]
    pub(super) outbox_backlog: u64,
    #[prost(uint64, tag = "11")]
    pub(super) delivery_backlog: u64,
    /// Items kept for accounts without devices.
    #[prost(uint64, tag = "12")]
    pub(super) pending: u64,
    /// Items for unknown accounts, ever; the last one's number.
    #[prost(uint64, tag = "13")]
    pub(super) dead_letters: u64,
    /// Deliveries appended to streams, ever.
    #[prost(uint64, tag = "14")]
    pub(super) delivered: u64,
    /// Deliveries that a plant has looked at; 0 without plants.
    #[prost(uint64, tag = "15")]
    pub(super) plant_deliveries: u64,
    /// The version of the protocol that the log has turned to; 0 is the first.
    #[prost(uint32, tag = "16")]
    pub(super) version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Account {
    #[prost(string, tag = "1")]
    pub(super) phone: String,
    #[prost(uint64, tag = "2")]
    pub(super) created_ms: u64,
    /// The last entry of the user's log.
    #[prost(uint64, tag = "4")]
    pub(super) last_entry: u64,
    /// Entries up to here are gone: every device has acknowledged them.
    #[prost(uint64, tag = "5")]
    pub(super) trimmed: u64,
    /// Its devices: bit n is device n.
    #[prost(uint32, tag = "6")]
    pub(super) devices: u32,
    /// Numbers in the user's address book.
    #[prost(uint64, tag = "7")]
    pub(super) contacts: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Device {
    #[prost(uint64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) nonce: u64,
    #[prost(uint64, tag = "3")]
    pub(super) acknowledged: u64,
    /// Entries of the user's log that are older than the device: its sequence n is entry base + n.
    #[prost(uint64, tag = "4")]
    pub(super) base: u64,
    #[prost(uint64, tag = "5")]
    pub(super) incarnation: u64,
    /// Nonces of the sessions before, newest last: a late repeat of one must not replace the session of today.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) old_nonces: Vec<u64>,
}

/// A code on its way to a new account.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Code {
    #[prost(string, tag = "1")]
    pub(super) code: String,
    #[prost(uint64, tag = "2")]
    pub(super) issued_ms: u64,
    /// Wrong ones shown since.
    #[prost(uint32, tag = "3")]
    pub(super) tries: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Conversation {
    #[prost(uint64, tag = "1")]
    pub(super) last_position: u64,
    /// The smaller user id.
    #[prost(uint64, tag = "2")]
    pub(super) low: u64,
    #[prost(uint64, tag = "3")]
    pub(super) high: u64,
    #[prost(bool, tag = "4")]
    pub(super) group: bool,
    #[prost(uint64, tag = "5")]
    pub(super) creator: u64,
    #[prost(uint64, tag = "6")]
    pub(super) members: u64,
    /// Whether others may join by themselves.
    #[prost(bool, tag = "7")]
    pub(super) open: bool,
    /// How many were removed and may not.
    #[prost(uint64, tag = "8")]
    pub(super) removed: u64,
}

/// Who belongs to a conversation, at its home. Of a direct one: whose marks have moved.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Member {
    /// The position of its joining.
    #[prost(uint64, tag = "1")]
    pub(super) joined: u64,
    #[prost(uint64, tag = "2")]
    pub(super) delivered: u64,
    #[prost(uint64, tag = "3")]
    pub(super) read: u64,
}

/// One conversation of a user, at the user's account.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Thread {
    #[prost(bool, tag = "1")]
    pub(super) group: bool,
    #[prost(uint64, tag = "2")]
    pub(super) peer: u64,
    #[prost(uint64, tag = "3")]
    pub(super) last_position: u64,
    #[prost(uint64, tag = "4")]
    pub(super) last_sender: u64,
    #[prost(uint64, tag = "5")]
    pub(super) last_ms: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) head: Bytes,
    /// How many records of unread messages there are.
    #[prost(uint64, tag = "7")]
    pub(super) unread: u64,
    #[prost(uint64, tag = "8")]
    pub(super) delivered: u64,
    #[prost(uint64, tag = "9")]
    pub(super) read: u64,
    #[prost(uint64, tag = "10")]
    pub(super) joined: u64,
    /// 0 for a member of today.
    #[prost(uint64, tag = "11")]
    pub(super) left: u64,
}

/// A contact and where it comes from.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ContactRecord {
    /// 0 while nobody has the number.
    #[prost(uint64, tag = "1")]
    pub(super) user: u64,
    #[prost(bool, tag = "2")]
    pub(super) imported: bool,
    #[prost(bool, tag = "3")]
    pub(super) matched: bool,
}

/// Somebody who has imported a number.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Interest {
    /// The importer's own number.
    #[prost(string, tag = "1")]
    pub(super) phone: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBody {
    #[prost(uint64, tag = "1")]
    pub(super) sender: u64,
    #[prost(uint32, tag = "2")]
    pub(super) device: u32,
    #[prost(uint64, tag = "3")]
    pub(super) client_id: u64,
    #[prost(uint64, tag = "4")]
    pub(super) recipient: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) body: Bytes,
    #[prost(uint64, tag = "6")]
    pub(super) time_ms: u64,
    /// At this position a group was changed; there is no message.
    #[prost(message, optional, tag = "7")]
    pub(super) change: Option<firedrill_proto::chat::v1::GroupChange>,
}

/// What a client id was used for.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Dedup {
    #[prost(uint64, tag = "1")]
    pub(super) conversation: u64,
    #[prost(uint64, tag = "2")]
    pub(super) position: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) body_hash: u64,
    #[prost(uint64, tag = "4")]
    pub(super) time_ms: u64,
}

/// A sending device.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sender {
    /// Client ids below this may have been forgotten; 0 when none was.
    #[prost(uint64, tag = "1")]
    pub(super) floor: u64,
    /// The newest session seen; older ones were replaced.
    #[prost(uint64, tag = "2")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct OutboxHead {
    #[prost(uint64, tag = "1")]
    pub(super) last_sequence: u64,
    #[prost(uint64, tag = "2")]
    pub(super) trimmed_through: u64,
}

/// A cumulative mark.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Mark {
    #[prost(uint64, tag = "1")]
    pub(super) through: u64,
}

/// A record whose presence is all it says.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Present {}

/// A delivery that the plant `reorder` holds back.
#[cfg(any(test, feature = "plants"))]
#[derive(Clone, PartialEq, Message)]
pub(super) struct Held {
    #[prost(uint64, tag = "1")]
    pub(super) time_ms: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) delivery: Option<firedrill_proto::chat::v1::Delivery>,
}
