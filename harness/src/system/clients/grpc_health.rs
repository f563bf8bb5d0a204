//! Asks the gRPC health service. SERVING is a success.

use std::time::Duration;

use async_trait::async_trait;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    ClientNode, ClientOptions,
    channels::{Channels, broken},
    rotation::Rotation,
};
use crate::{
    history::ReadItem,
    workload::client::{Answered, CallFailure, OpClient, Put},
};

pub(super) struct GrpcHealth {
    nodes: Rotation,
    channels: Channels,
    service: String,
}

impl GrpcHealth {
    pub(super) fn new(nodes: Vec<ClientNode>, options: &ClientOptions) -> Self {
        Self {
            channels: Channels::new(&nodes),
            nodes: Rotation::new(nodes),
            service: options.path.clone(),
        }
    }
}

#[async_trait]
impl OpClient for GrpcHealth {
    fn parts(&self) -> Vec<String> {
        Vec::new()
    }

    fn needs(&self, _log: &str) -> String {
        String::new()
    }

    async fn put(&self, _put: &Put, _within: Duration) -> Answered<Option<u64>> {
        Answered::failed(super::not_taken("grpc_health"))
    }

    async fn request(&self, _within: Duration) -> Answered<()> {
        let Some(attempt) = self.nodes.try_current() else {
            return Answered::failed(CallFailure::refused("no nodes"));
        };
        let channel = match self.channels.to(attempt.index(), attempt.node()) {
            Ok(channel) => channel,
            Err(failure) => return Answered::failed(failure),
        };
        let by = Some(attempt.node().name.clone());
        let request = HealthCheckRequest {
            service: self.service.clone(),
        };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {
                attempt.went_well();
                Answered::ok((), by)
            }
            Ok(answer) => Answered {
                result: Err(CallFailure::refused(answer.get_ref().status().as_str_name())),
                by,
            },
            Err(status) => Answered::failed(judge(&status)),
        }
    }

    async fn fence(&self, _within: Duration) -> Answered<()> {
        // Nothing is ever put.
        Answered::ok((), None)
    }

    async fn read(&self, _log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        Answered::failed(super::not_taken("grpc_health"))
    }
}

fn judge(status: &Status) -> CallFailure {
    if let Some(failure) = broken(status) {
        return failure;
    }
    match status.code() {
        // The service is not known there, and will not be.
        Code::NotFound | Code::Unimplemented => CallFailure {
            retryable: false,
            ..CallFailure::refused(format!("{:?}", status.code()))
        },
        code => CallFailure::unknown(format!("{code:?}")),
    }
}
