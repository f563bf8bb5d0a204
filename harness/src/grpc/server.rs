//! firedrill.v1.Controller over a [`Controller`], with health and reflection beside it.

use std::{net::SocketAddr, path::PathBuf, pin::Pin, time::Duration};

use firedrill_proto::{
    DESCRIPTORS,
    firedrill::v1::{
        self as wire,
        controller_server::{Controller as Wire, ControllerServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::server::Router};

use super::convert;
use crate::controller::{Controller, RunError, StartRequest};

/// The longest life of a fault injected by hand, in milliseconds.
const LEASE_MS_MAX: u32 = 600_000;
/// The largest request: a scenario is at most 1 MiB.
const REQUEST_BYTES_MAX: usize = 2 << 20;

/// The front could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Only loopback is served: whoever reaches the controller can break what it started.
    #[error(
        "listen on {0}: not a loopback address; the controller takes orders from anyone who can reach it, so it is served on loopback only (reach it from elsewhere through an SSH tunnel)"
    )]
    NotLoopback(SocketAddr),
    /// The address could not be had.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// gRPC failed.
    #[error("serve the controller: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Reflection could not be built from the descriptors.
    #[error("serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves a controller on `address` until `until` is ready. `listening` is told the address that was bound.
///
/// # Errors
/// When the address is not loopback or can't be had, or gRPC fails.
pub async fn serve(
    controller: Controller,
    address: SocketAddr,
    listening: impl FnOnce(SocketAddr),
    until: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    listening(
        listener
            .local_addr()
            .map_err(|source| ServeError::Listen { address, source })?,
    );
    let router = router(controller).await?;
    router
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), until)
        .await?;
    Ok(())
}

/// All services of the front.
pub(super) async fn router(controller: Controller) -> Result<Router, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ControllerServer<Front>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let front = ControllerServer::new(Front { controller }).max_decoding_message_size(REQUEST_BYTES_MAX);
    Ok(tonic::transport::Server::builder()
        .concurrency_limit_per_connection(64)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(front))
}

/// Translates calls.
#[derive(Debug)]
pub struct Front {
    controller: Controller,
}

#[tonic::async_trait]
impl Wire for Front {
    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<wire::RunEvent, Status>> + Send>>;

    async fn start_run(
        &self,
        request: Request<wire::StartRunRequest>,
    ) -> Result<Response<wire::StartRunResponse>, Status> {
        let request = request.into_inner();
        let request = StartRequest {
            yaml: request.scenario_yaml,
            path: request.scenario_path,
            seed: request.seed,
            backend: request.backend,
            dir: (!request.out_dir.is_empty()).then(|| PathBuf::from(request.out_dir)),
        };
        let info = self
            .controller
            .start(request)
            .map_err(|error| convert::refusal(&error))?;
        Ok(Response::new(wire::StartRunResponse {
            run: info.id,
            dir: info.dir.display().to_string(),
        }))
    }

    async fn watch_run(
        &self,
        request: Request<wire::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let feed = self
            .controller
            .feed(&request.into_inner().run)
            .map_err(|error| convert::refusal(&error))?;
        let events = ReceiverStream::new(feed.follow()).map(|event| Ok(convert::event(event)));
        Ok(Response::new(Box::pin(events)))
    }

    async fn abort_run(
        &self,
        request: Request<wire::AbortRunRequest>,
    ) -> Result<Response<wire::AbortRunResponse>, Status> {
        self.controller
            .abort(&request.into_inner().run)
            .map_err(|error| convert::refusal(&error))?;
        Ok(Response::new(wire::AbortRunResponse {}))
    }

    async fn get_run(&self, request: Request<wire::GetRunRequest>) -> Result<Response<wire::Run>, Status> {
        let info = self
            .controller
            .get(&request.into_inner().run)
            .map_err(|error| convert::refusal(&error))?;
        Ok(Response::new(convert::run(info)))
    }

    async fn list_runs(
        &self,
        _request: Request<wire::ListRunsRequest>,
    ) -> Result<Response<wire::ListRunsResponse>, Status> {
        let runs = self.controller.list().into_iter().map(convert::run).collect();
        Ok(Response::new(wire::ListRunsResponse { runs }))
    }

    async fn inject(&self, request: Request<wire::InjectRequest>) -> Result<Response<wire::InjectResponse>, Status> {
        let request = request.into_inner();
        if request.lease_ms == 0 || request.lease_ms > LEASE_MS_MAX {
            let text = format!(
                "lease_ms is {}; give 1 to {LEASE_MS_MAX}: a fault undoes itself",
                request.lease_ms
            );
            return Err(convert::refusal(&RunError::Invalid(text)));
        }
        let lease = Duration::from_millis(u64::from(request.lease_ms));
        let injected = self
            .controller
            .inject(&request.run, &request.step_yaml, lease)
            .await
            .map_err(|error| convert::refusal(&error))?;
        Ok(Response::new(wire::InjectResponse {
            fault: injected.id,
            outcome: injected.outcome,
            targets: injected.targets,
            evidence: injected.evidence,
        }))
    }

    async fn heal(&self, request: Request<wire::HealRequest>) -> Result<Response<wire::HealResponse>, Status> {
        let request = request.into_inner();
        let fault = (!request.fault.is_empty()).then_some(request.fault.as_str());
        let healed = self
            .controller
            .heal(&request.run, fault)
            .await
            .map_err(|error| convert::refusal(&error))?;
        Ok(Response::new(wire::HealResponse { healed }))
    }

    async fn list_faults(
        &self,
        _request: Request<wire::ListFaultsRequest>,
    ) -> Result<Response<wire::ListFaultsResponse>, Status> {
        let faults = crate::fault::ALL.iter().map(convert::fault_kind).collect();
        Ok(Response::new(wire::ListFaultsResponse { faults }))
    }
}
