//! The directory over gRPC.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    DirectoryStatusRequest, DirectoryStatusResponse, DistortRequest, DistortResponse, DistortionKind, GatewayDoor,
    PublishRequest, PublishResponse, ResolveRequest, ResolveResponse, WithdrawRequest, WithdrawResponse,
    discovery_server::{Discovery, DiscoveryServer, SERVICE_NAME},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::ServingStatus;

use super::{DirectoryConfig, lock, wanted};
use crate::{
    discovery::{Directory, Distortion, Door, Publication, PublishError},
    env::Clock,
    grpc::ServeError,
};

/// Longest distortion: no fault outlives who asked for it by more.
const DISTORTION_MAX: Duration = Duration::from_secs(3600);
/// Largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// HTTP/2 streams of one connection.
const STREAMS_MAX: u32 = 1024;

/// Serves a directory on `listener` until `stop` says so.
///
/// # Errors
/// When the listener fails.
pub async fn serve_directory(
    listener: TcpListener,
    config: &DirectoryConfig,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let desk = Desk {
        directory: Arc::new(Mutex::new(Directory::new(config.options()))),
        clock,
    };
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(4)))
        .add_service(DiscoveryServer::new(desk).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(health)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), wanted(stop))
        .await?;
    Ok(())
}

struct Desk {
    directory: Arc<Mutex<Directory>>,
    clock: Clock,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn refused(error: &PublishError) -> Status {
    let why = error.to_string();
    match error {
        PublishError::Outlived { .. } => Status::failed_precondition(why),
        PublishError::Full { .. } => Status::resource_exhausted(why),
        PublishError::Invalid(_) => Status::invalid_argument(why),
    }
}

#[tonic::async_trait]
impl Discovery for Desk {
    async fn resolve(&self, _: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let answer = lock(&self.directory).resolve(self.clock.now());
        let door = |door: Door| GatewayDoor {
            name: door.name,
            zone: door.zone,
            address: door.address,
        };
        Ok(Response::new(ResolveResponse {
            doors: answer.doors.into_iter().map(door).collect(),
            ttl_ms: millis(answer.ttl),
            kept: answer.kept,
        }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let request = request.into_inner();
        let door = request
            .door
            .ok_or_else(|| Status::invalid_argument("there is no door in it"))?;
        let said = Publication {
            name: door.name,
            zone: door.zone,
            address: door.address,
            generation: request.generation,
            lease: Duration::from_millis(request.lease_ms),
            healthy: request.healthy,
        };
        let now = self.clock.now();
        let done = lock(&self.directory).publish(&said, now);
        done.map(|()| Response::new(PublishResponse {}))
            .map_err(|error| refused(&error))
    }

    async fn withdraw(&self, request: Request<WithdrawRequest>) -> Result<Response<WithdrawResponse>, Status> {
        let WithdrawRequest { name, generation } = request.into_inner();
        let done = lock(&self.directory).withdraw(&name, generation);
        done.map(|()| Response::new(WithdrawResponse {}))
            .map_err(|error| refused(&error))
    }

    async fn distort(&self, request: Request<DistortRequest>) -> Result<Response<DistortResponse>, Status> {
        let request = request.into_inner();
        let lasts = Duration::from_millis(request.for_ms);
        let kind = DistortionKind::try_from(request.kind)
            .map_err(|_| Status::invalid_argument(format!("{} is no kind of distortion", request.kind)))?;
        let distortion = match kind {
            DistortionKind::None => None,
            DistortionKind::Empty => Some(Distortion::Empty),
            DistortionKind::Stale => Some(Distortion::Stale),
            DistortionKind::Poison if request.address.is_empty() => {
                return Err(Status::invalid_argument("a poisoned answer needs an address"));
            }
            DistortionKind::Poison => Some(Distortion::Poison(request.address)),
            DistortionKind::Without => Some(Distortion::Without(request.names.into_iter().collect())),
            DistortionKind::Ttl if request.ttl_ms == 0 => {
                return Err(Status::invalid_argument(
                    "ttl_ms is 0: an answer is remembered for some time",
                ));
            }
            DistortionKind::Ttl => Some(Distortion::Ttl(Duration::from_millis(request.ttl_ms))),
        };
        if distortion.is_some() && (lasts.is_zero() || lasts > DISTORTION_MAX) {
            return Err(Status::invalid_argument(format!(
                "for_ms is {}: a distortion lasts from 1 to {} ms",
                request.for_ms,
                DISTORTION_MAX.as_millis()
            )));
        }
        let now = self.clock.now();
        lock(&self.directory).distort(distortion, now + lasts, now);
        Ok(Response::new(DistortResponse {}))
    }

    async fn directory_status(
        &self,
        _: Request<DirectoryStatusRequest>,
    ) -> Result<Response<DirectoryStatusResponse>, Status> {
        let now = self.clock.now();
        let directory = lock(&self.directory);
        let counts = directory.counts();
        let distortion = match directory.distortion(now) {
            None => DistortionKind::None,
            Some(Distortion::Empty) => DistortionKind::Empty,
            Some(Distortion::Stale) => DistortionKind::Stale,
            Some(Distortion::Poison(_)) => DistortionKind::Poison,
            Some(Distortion::Without(_)) => DistortionKind::Without,
            Some(Distortion::Ttl(_)) => DistortionKind::Ttl,
        };
        Ok(Response::new(DirectoryStatusResponse {
            live: directory.live(now) as u64,
            asked: counts.asked,
            answered_empty: counts.answered_empty,
            published: counts.published,
            withdrawn: counts.withdrawn,
            refused: counts.refused,
            distortion: distortion.into(),
        }))
    }
}
