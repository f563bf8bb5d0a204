//! etcd 3.4 or later, over its own gRPC API.
//!
//! A put is a transaction: it creates the key unless it is there, and unless the run has put up its fence. So a put that
//! is tried again takes effect once, its position is the revision that created the key, and nothing takes effect behind
//! the fence, however long it was on its way.
//!
//! - `api`: the messages.
//! - `status`: what a node says of itself.

mod api;
#[cfg(test)]
pub(super) mod fake;
mod status;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use self::api::{
    Compare, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TARGET_CREATE, TxnRequest,
    TxnResponse,
};
use super::{
    ClientNode,
    channels::{Channels, broken},
    rotation::Rotation,
};
use crate::{
    history::ReadItem,
    workload::{
        client::{Answered, CallFailure, OpClient, Put},
        payload,
    },
};

pub(super) use status::status;

/// The one replicated group.
pub const GROUP: &str = "etcd";
/// The key that no put goes beyond.
const FENCE: &str = "firedrill/fence";
/// Keys in one page of a read.
const PAGE: i64 = 500;
/// Keys of one log that are read at most; a log of more is not read to its end.
const KEYS_MAX: usize = 2_000_000;
/// The largest answer: a page of the largest bodies.
const ANSWER_MAX: usize = 64 << 20;
/// Characters of a message of etcd's that a history keeps.
const REASON_MAX: usize = 80;

/// A client of one cluster.
pub(super) struct Etcd {
    nodes: Rotation,
    channels: Channels,
}

impl Etcd {
    pub(super) fn new(nodes: Vec<ClientNode>) -> Self {
        Self {
            channels: Channels::new(&nodes),
            nodes: Rotation::new(nodes),
        }
    }

    /// One attempt on the node that is asked now.
    async fn ask<Q, A>(&self, method: &'static str, question: Q) -> Answered<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let Some(attempt) = self.nodes.try_current() else {
            return Answered::failed(CallFailure::refused("no nodes"));
        };
        let channel = match self.channels.to(attempt.index(), attempt.node()) {
            Ok(channel) => channel,
            Err(failure) => return Answered::failed(failure),
        };
        let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
        let asked = async {
            grpc.ready()
                .await
                .map_err(|error| Status::from_error(Box::new(error)))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let path = PathAndQuery::from_static(method);
            grpc.unary(Request::new(question), path, codec).await
        };
        let result = asked
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| judge(&status));
        let by = result.is_ok().then(|| attempt.node().name.clone());
        // A request that is refused for what it is would be refused by every node.
        if result.as_ref().map_or_else(|failure| !failure.retryable, |_| true) {
            attempt.went_well();
        }
        Answered { result, by }
    }

    async fn read_all(&self, log: &str) -> Answered<Vec<ReadItem>> {
        let prefix = prefix(log);
        let (mut key, range_end) = (Bytes::from(prefix.clone()), after_prefix(&prefix));
        let mut revision = 0;
        let mut items = Vec::new();
        loop {
            // All pages are of the revision of the first one, so together they are one moment.
            let question = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit: PAGE,
                revision,
            };
            let page: Answered<RangeResponse> = self.ask("/etcdserverpb.KV/Range", question).await;
            let (page, by) = match page.result {
                Ok(answer) => (answer, page.by),
                Err(failure) => return Answered::failed(failure),
            };
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            items.extend(page.kvs.iter().map(item));
            match last {
                _ if !page.more => {
                    items.sort_unstable_by_key(|item| item.position);
                    return Answered::ok(items, by);
                }
                Some(last) if revision != 0 && items.len() < KEYS_MAX => {
                    key = [&last[..], &[0]].concat().into();
                }
                _ => return Answered::failed(CallFailure::refused("log not read to its end")),
            }
        }
    }
}

#[async_trait]
impl OpClient for Etcd {
    fn parts(&self) -> Vec<String> {
        vec![GROUP.to_owned()]
    }

    fn needs(&self, _log: &str) -> String {
        GROUP.to_owned()
    }

    async fn put(&self, put: &Put, _within: Duration) -> Answered<Option<u64>> {
        let key = Bytes::from(format!("{}{:016x}", prefix(&put.log), put.item));
        let absent = |key: &Bytes| Compare {
            target: TARGET_CREATE,
            key: key.clone(),
            create_revision: Some(0),
        };
        let question = TxnRequest {
            compare: vec![absent(&key), absent(&Bytes::from_static(FENCE.as_bytes()))],
            success: vec![RequestOp {
                put: Some(PutRequest {
                    key: key.clone(),
                    value: put.body.clone(),
                }),
                range: None,
            }],
            failure: vec![RequestOp {
                range: Some(RangeRequest {
                    key,
                    ..RangeRequest::default()
                }),
                put: None,
            }],
        };
        let answered: Answered<TxnResponse> = self.ask("/etcdserverpb.KV/Txn", question).await;
        let by = answered.by;
        match answered.result.map(|answer| placed(&answer)) {
            Ok(Some(position)) => Answered::ok(Some(position), by),
            Ok(None) => Answered::failed(CallFailure {
                retryable: false,
                ..CallFailure::refused("fenced")
            }),
            Err(failure) => Answered::failed(failure),
        }
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        Answered::failed(super::not_taken("etcd"))
    }

    async fn fence(&self, _within: Duration) -> Answered<()> {
        let question = PutRequest {
            key: Bytes::from_static(FENCE.as_bytes()),
            value: Bytes::from_static(b"1"),
        };
        let answered: Answered<PutResponse> = self.ask("/etcdserverpb.KV/Put", question).await;
        Answered {
            result: answered.result.map(|_| ()),
            by: answered.by,
        }
    }

    async fn read(&self, log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        self.read_all(log).await
    }
}

/// Where the key was created; none when there is a fence instead.
fn placed(answer: &TxnResponse) -> Option<u64> {
    let revision = if answer.succeeded {
        answer.header.as_ref()?.revision
    } else {
        let there = answer.responses.iter().find_map(|response| response.range.as_ref())?;
        there.kvs.first()?.create_revision
    };
    u64::try_from(revision).ok()
}

/// What etcd refuses before it proposes anything surely does not happen. Everything else may: a time-out, a change of
/// leader, a lost connection.
fn judge(status: &Status) -> CallFailure {
    if let Some(failure) = broken(status) {
        return failure;
    }
    let reason: String = status.message().chars().take(REASON_MAX).collect();
    match status.code() {
        Code::ResourceExhausted => CallFailure::refused(reason),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => CallFailure {
            retryable: false,
            ..CallFailure::refused(reason)
        },
        _ => CallFailure::unknown(reason),
    }
}

fn item(kv: &KeyValue) -> ReadItem {
    ReadItem {
        position: u64::try_from(kv.create_revision).unwrap_or(0),
        author: 0,
        item: payload::decode(&kv.value),
        hash: payload::hash(&kv.value),
    }
}

fn prefix(log: &str) -> String {
    format!("firedrill/{log}/")
}

/// The first key behind all that begin with `prefix`, which ends with a slash.
fn after_prefix(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_refused_before_it_is_proposed_surely_did_not_happen() {
        for (status, surely_not, retryable) in [
            (Status::unavailable("etcdserver: leader changed"), false, true),
            (Status::deadline_exceeded("etcdserver: request timed out"), false, true),
            (Status::resource_exhausted("etcdserver: too many requests"), true, true),
            (Status::invalid_argument("etcdserver: key is not provided"), true, false),
            (Status::unknown("raft proposal dropped"), false, true),
        ] {
            let failure = judge(&status);
            assert_eq!(
                (failure.surely_not, failure.retryable),
                (surely_not, retryable),
                "{status}"
            );
            assert_eq!(failure.reason, status.message());
        }
    }

    #[test]
    fn a_prefix_holds_its_own_keys_only() {
        let prefix = prefix("k:0-1");
        let end = after_prefix(&prefix);
        let is_in = |key: &str| key.as_bytes() >= prefix.as_bytes() && key.as_bytes() < &end[..];
        assert!(is_in(&format!("{prefix}ffff")) && is_in(&format!("{prefix}0")));
        assert!(!is_in("firedrill/k:0-10/0") && !is_in("firedrill/k:0-2/0"));
    }
}
