//! What stands behind each key. Stored as protobuf, so that a later version can add fields.

use bytes::Bytes;
use prost::Message;

/// The format of the records; another one is refused.
pub(super) const FORMAT: u32 = 1;

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
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Account {
    #[prost(string, tag = "1")]
    pub(super) phone: String,
    #[prost(uint64, tag = "2")]
    pub(super) created_ms: u64,
    /// Items kept until the first device registers, numbered from 1 to this.
    #[prost(uint64, tag = "3")]
    pub(super) pending: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Device {
    #[prost(uint64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) nonce: u64,
    #[prost(uint64, tag = "3")]
    pub(super) acknowledged: u64,
    #[prost(uint64, tag = "4")]
    pub(super) last_sequence: u64,
    #[prost(uint64, tag = "5")]
    pub(super) incarnation: u64,
    /// Nonces of the sessions before, newest last: a late repeat of one must not replace the session of today.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) old_nonces: Vec<u64>,
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
    /// The highest client id that was forgotten.
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
