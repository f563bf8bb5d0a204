//! What operators, and the harness, ask of one node. Its calls have a small room of their own, so that a node that is
//! full of clients still says how it fares.

use std::sync::Arc;

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AuditRequest, AuditResponse, DigestRequest, DigestResponse,
    FenceRequest, FenceResponse, MoveReplicaRequest, MoveReplicaResponse, RampLoginsRequest, RampLoginsResponse,
    SetVerificationRequest, SetVerificationResponse, StatusRequest, StatusResponse, TransferLeaderRequest,
    TransferLeaderResponse, admin_server::Admin,
};
use tonic::{Request, Response, Status};
use tracing::{debug_span, info_span};

use super::client_plane::Front;
use crate::node::ClientApi;

/// Operators' calls in flight.
const CALLS_MAX: usize = 64;

/// The Admin service of one node.
#[derive(Clone)]
pub(crate) struct AdminPlane(Front);

impl AdminPlane {
    pub(crate) fn new(api: Arc<dyn ClientApi>) -> Self {
        Self(Front::new(api, CALLS_MAX))
    }
}

#[tonic::async_trait]
impl Admin for AdminPlane {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let span = debug_span!("chat.status", otel.kind = "server");
        let answer = self.0.call(span, request, |api, request, call| async move {
            api.status(request, call).await
        });
        answer.await
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let (shard, to) = (request.get_ref().shard, request.get_ref().to);
        let span = info_span!("chat.transfer_leader", otel.kind = "server", shard, to);
        let run = |api: Arc<dyn ClientApi>, request, call| async move { api.transfer_leader(request, call).await };
        self.0.call(span, request, run).await
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<FenceResponse>, Status> {
        let (shard, sessions) = (request.get_ref().shard, request.get_ref().sessions.len());
        let span = info_span!("chat.fence", otel.kind = "server", shard, sessions);
        let answer = self.0.call(span, request, |api, request, call| async move {
            api.fence(request, call).await
        });
        answer.await
    }

    async fn set_verification(
        &self,
        request: Request<SetVerificationRequest>,
    ) -> Result<Response<SetVerificationResponse>, Status> {
        let (delay_ms, failing) = (request.get_ref().delay_ms, request.get_ref().failing);
        let span = info_span!("chat.set_verification", otel.kind = "server", delay_ms, failing);
        let run = |api: Arc<dyn ClientApi>, request, call| async move { api.set_verification(request, call).await };
        self.0.call(span, request, run).await
    }

    async fn move_replica(
        &self,
        request: Request<MoveReplicaRequest>,
    ) -> Result<Response<MoveReplicaResponse>, Status> {
        let MoveReplicaRequest { shard, from, to, .. } = *request.get_ref();
        let span = info_span!("chat.move_replica", otel.kind = "server", shard, from, to);
        let run = |api: Arc<dyn ClientApi>, request, call| async move { api.move_replica(request, call).await };
        self.0.call(span, request, run).await
    }

    async fn abort_operation(
        &self,
        request: Request<AbortOperationRequest>,
    ) -> Result<Response<AbortOperationResponse>, Status> {
        let operation = request.get_ref().operation;
        let span = info_span!("chat.abort_operation", otel.kind = "server", operation);
        let run = |api: Arc<dyn ClientApi>, request, call| async move { api.abort_operation(request, call).await };
        self.0.call(span, request, run).await
    }

    async fn ramp_logins(&self, request: Request<RampLoginsRequest>) -> Result<Response<RampLoginsResponse>, Status> {
        let asked = request.get_ref();
        let (from, to, over_ms) = (asked.from_per_second, asked.to_per_second, asked.over_ms);
        let span = info_span!("chat.ramp_logins", otel.kind = "server", from, to, over_ms);
        let answer = self.0.call(span, request, |api, request, call| async move {
            api.ramp_logins(request, call).await
        });
        answer.await
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        let span = debug_span!("chat.audit", otel.kind = "server");
        let answer = self.0.call(span, request, |api, request, call| async move {
            api.audit(request, call).await
        });
        answer.await
    }

    async fn digest(&self, request: Request<DigestRequest>) -> Result<Response<DigestResponse>, Status> {
        let span = info_span!("chat.digest", otel.kind = "server", shard = request.get_ref().shard);
        let answer = self.0.call(span, request, |api, request, call| async move {
            api.digest(request, call).await
        });
        answer.await
    }
}
