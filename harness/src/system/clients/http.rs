//! Asks for a path by HTTP/1.1. A 2xx status is a success.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    ClientNode, ClientOptions,
    http1::{Answer, Http1},
    rotation::Rotation,
};
use crate::{
    history::ReadItem,
    workload::client::{Answered, CallFailure, OpClient, Put},
};

pub(super) struct Http {
    nodes: Rotation,
    http: Http1,
    path: String,
}

impl Http {
    pub(super) fn new(nodes: Vec<ClientNode>, options: &ClientOptions) -> Self {
        let path = if options.path.is_empty() { "/" } else { &options.path };
        Self {
            nodes: Rotation::new(nodes),
            http: Http1::default(),
            path: path.to_owned(),
        }
    }
}

#[async_trait]
impl OpClient for Http {
    fn parts(&self) -> Vec<String> {
        Vec::new()
    }

    fn needs(&self, _log: &str) -> String {
        String::new()
    }

    async fn put(&self, _put: &Put, _within: Duration) -> Answered<Option<u64>> {
        Answered::failed(super::not_taken("http"))
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        let Some(attempt) = self.nodes.try_current() else {
            return Answered::failed(CallFailure::refused("no nodes"));
        };
        let by = Some(attempt.node().name.clone());
        let answer = match self.http.get(attempt.node().address, &self.path).await {
            Ok(answer) => answer,
            Err(failure) => return Answered::failed(failure),
        };
        match judge(&answer) {
            None => {
                attempt.went_well();
                Answered::ok((), by)
            }
            Some(failure) => Answered {
                result: Err(failure),
                by,
            },
        }
    }

    async fn fence(&self, _within: Duration) -> Answered<()> {
        // Nothing is ever put.
        Answered::ok((), None)
    }

    async fn read(&self, _log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        Answered::failed(super::not_taken("http"))
    }
}

/// What is wrong with an answer, if anything. A 4xx and a 503 say that nothing was done; of another 5xx nobody knows.
fn judge(answer: &Answer) -> Option<CallFailure> {
    let reason = format!("status {}", answer.status.as_u16());
    match answer.status.as_u16() {
        200..300 => None,
        429 | 503 => Some(CallFailure::refused(reason)),
        400..500 => Some(CallFailure {
            retryable: false,
            ..CallFailure::refused(reason)
        }),
        _ => Some(CallFailure::unknown(reason)),
    }
}
