//! What operators ask of the placement of shards.

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, MoveReplicaRequest, MoveReplicaResponse,
};

use super::{
    calls::{Client, admin},
    error::CallError,
};

impl Client {
    /// Asks `node`, who should lead the placement group, to start moving one replica. A refusal names the leader, where the
    /// node knows it.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn move_replica(&self, node: u64, request: MoveReplicaRequest) -> Result<MoveReplicaResponse, CallError> {
        let call = |channel, request| async move { admin(channel).move_replica(request).await };
        self.at(node, request, call).await
    }

    /// Asks `node`, who should lead the placement group, to abort an operation.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn abort_operation(&self, node: u64, operation: u64) -> Result<AbortOperationResponse, CallError> {
        let call = |channel, request| async move { admin(channel).abort_operation(request).await };
        self.at(node, AbortOperationRequest { operation }, call).await
    }
}
