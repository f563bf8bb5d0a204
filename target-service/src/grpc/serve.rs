//! The client plane's listener: which services stand on it, and the bounds they share.

use std::{future::Future, sync::Arc, time::Duration};

use firedrill_proto::chat::v1::{
    admin_server::{AdminServer, SERVICE_NAME as ADMIN},
    messaging_server::{MessagingServer, SERVICE_NAME as MESSAGING},
};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::ServingStatus;

use super::{admin_plane::AdminPlane, client_plane::Front};
use crate::node::ClientApi;

/// Bounds of the client plane.
#[derive(Clone, Copy, Debug)]
pub struct ClientPlaneOptions {
    /// Calls of clients in flight at this node, over all connections; one more is refused at once. A device's stream
    /// counts only until it has started: how many of those there may be is the node's own bound.
    pub calls_max: usize,
    /// HTTP/2 streams of one connection, each a call in flight or a device's stream.
    pub streams_per_connection: u32,
    /// Largest request, in bytes.
    pub request_bytes_max: usize,
    /// What one stream may have on its way unread, in bytes.
    pub stream_window_bytes: u32,
    /// What one connection may have on its way unread, in bytes: a device that stopped reading holds at most one
    /// stream's window of it, so that it takes hundreds of them to stall their neighbours.
    pub connection_window_bytes: u32,
    /// A ping is sent at this interval, so that vanished clients are noticed.
    pub keepalive_interval: Duration,
    /// A ping that is not answered within this time ends the connection.
    pub keepalive_timeout: Duration,
}

impl Default for ClientPlaneOptions {
    fn default() -> Self {
        Self {
            calls_max: 8192,
            streams_per_connection: 16_384,
            request_bytes_max: 256 << 10,
            stream_window_bytes: 64 << 10,
            connection_window_bytes: 16 << 20,
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(4),
        }
    }
}

/// What went wrong with a listener.
pub type ServeError = Box<dyn std::error::Error + Send + Sync>;

/// Serves Messaging, Admin, health and reflection on `listener` until `shutdown` completes and what is in flight ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve_clients(
    listener: TcpListener,
    api: Arc<dyn ClientApi>,
    options: ClientPlaneOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in [MESSAGING, ADMIN] {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(firedrill_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(MESSAGING)
        .with_service_name(ADMIN)
        .with_service_name("grpc.health.v1.Health")
        .build_v1()?;
    let messaging = MessagingServer::new(Front::new(api.clone(), options.calls_max))
        .max_decoding_message_size(options.request_bytes_max);
    let admin = AdminServer::new(AdminPlane::new(api)).max_decoding_message_size(options.request_bytes_max);
    let told = async {
        shutdown.await;
        for service in ["", MESSAGING, ADMIN] {
            reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
    };
    Server::builder()
        .max_concurrent_streams(options.streams_per_connection)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        // A node that was frozen wakes up to hundreds of calls whose callers gave up meanwhile: their resets are no
        // attack, and must not cost the connection of all the others.
        .http2_max_pending_accept_reset_streams(Some(options.streams_per_connection as usize))
        .http2_max_local_error_reset_streams(Some(options.streams_per_connection as usize))
        .add_service(messaging)
        .add_service(admin)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), told)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::FenceRequest;
    use prost::Message as _;

    use super::*;
    use crate::chat::validate::FENCE_SESSIONS_MAX;

    #[test]
    fn the_largest_fence_fits_into_a_request() {
        let request = FenceRequest {
            shard: u32::MAX,
            sessions: vec![u64::MAX; FENCE_SESSIONS_MAX],
            epoch: u64::MAX,
        };
        assert!(request.encoded_len() <= ClientPlaneOptions::default().request_bytes_max);
    }
}
