//! The part of etcd's own API that the client speaks: messages of `etcdserverpb` and `mvccpb`, with the numbers that
//! their definitions give the fields. Alternatives of a `oneof` are optional fields here, which is the same on the wire.

/// Before every answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct Header {
    #[prost(int64, tag = "3")]
    pub(in crate::system::clients) revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::system::clients) key: bytes::Bytes,
    #[prost(int64, tag = "2")]
    pub(in crate::system::clients) create_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(in crate::system::clients) value: bytes::Bytes,
}

/// Linearizable unless it asks otherwise, which this one can't.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::system::clients) key: bytes::Bytes,
    /// The first key behind; empty for one key alone.
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::system::clients) range_end: bytes::Bytes,
    #[prost(int64, tag = "3")]
    pub(in crate::system::clients) limit: i64,
    /// 0 for the latest.
    #[prost(int64, tag = "4")]
    pub(in crate::system::clients) revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::system::clients) header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::system::clients) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(in crate::system::clients) more: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::system::clients) key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::system::clients) value: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::system::clients) header: Option<Header>,
}

/// True when a key's figure equals a value.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct Compare {
    /// [`TARGET_CREATE`].
    #[prost(int32, tag = "2")]
    pub(in crate::system::clients) target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(in crate::system::clients) key: bytes::Bytes,
    /// 0 for a key that is not there.
    #[prost(int64, optional, tag = "5")]
    pub(in crate::system::clients) create_revision: Option<i64>,
}

/// What is compared is the revision that created the key.
pub(in crate::system::clients) const TARGET_CREATE: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct RequestOp {
    #[prost(message, optional, tag = "1")]
    pub(in crate::system::clients) range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::system::clients) put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(in crate::system::clients) range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct TxnRequest {
    /// All must hold.
    #[prost(message, repeated, tag = "1")]
    pub(in crate::system::clients) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::system::clients) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::system::clients) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::system::clients) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::system::clients) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(in crate::system::clients) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::system::clients) responses: Vec<ResponseOp>,
}
