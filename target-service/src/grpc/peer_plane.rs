//! The back-end plane: what peers say to this node, on a listener of its own.

use std::future::Future;

use firedrill_proto::chat::v1::{
    DeliverSummary, PeerFrame,
    replication_server::{Replication, ReplicationServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

use super::peer_transport::{
    AGREED_HEADER, CLUSTER_HEADER, FRAME_BYTES_MAX, INCARNATION_HEADER, NODE_HEADER, PeerOptions, PeerSink,
    PeerTransport, WINDOW_BYTES,
};
use crate::node::PROTOCOL_HEADER;

/// Streams that one peer may hold open at once: its own, and a few that are about to be given up.
const STREAMS_MAX: u32 = 8;

/// Serves the back-end plane on `listener` until `shutdown` completes and the peers' streams have ended.
///
/// # Errors
/// When the listener fails.
pub async fn serve_peers<S: PeerSink>(
    listener: TcpListener,
    transport: PeerTransport,
    options: PeerOptions,
    sink: S,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let plane = ReplicationServer::new(PeerPlane { transport, sink }).max_decoding_message_size(FRAME_BYTES_MAX);
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .add_service(plane)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown)
        .await
}

/// Hands the frames of peers to the node.
#[derive(Clone, Debug)]
struct PeerPlane<S> {
    transport: PeerTransport,
    sink: S,
}

impl<S: PeerSink> PeerPlane<S> {
    /// Whether the stream's opener is the peer that it was when it was first heard.
    async fn identify(&self, from: u64, headers: &MetadataMap) -> Result<(), Status> {
        let Some(book) = self.transport.book() else {
            return Ok(());
        };
        let text = |header| headers.get(header).and_then(|value| value.to_str().ok());
        let cluster = text(CLUSTER_HEADER).unwrap_or_default();
        let incarnation = text(INCARNATION_HEADER)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| {
                let what = format!("the header {INCARNATION_HEADER} must hold the incarnation of node {from}");
                Status::failed_precondition(what)
            })?;
        // Who is another's node is told that first.
        let known = book.check(from, cluster, incarnation).await;
        known
            .and_then(|()| book.shares(from, text(PROTOCOL_HEADER)))
            .and_then(|()| book.agrees(from, text(AGREED_HEADER).unwrap_or_default()))
            .inspect_err(|why| tracing::warn!(from, why, "a peer is not heard"))
            .map_err(Status::failed_precondition)
    }

    fn check(&self, from: u64, frame: &PeerFrame) -> Result<(), Status> {
        let node = self.transport.node();
        if frame.from != from {
            let said = frame.from;
            return Err(Status::invalid_argument(format!(
                "a frame from node {said} on the stream of node {from}: one stream carries one node's messages"
            )));
        }
        if frame.to != node {
            let to = frame.to;
            return Err(Status::invalid_argument(format!(
                "a frame to node {to} reached node {node}: correct the peer addresses of node {from}"
            )));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl<S: PeerSink> Replication for PeerPlane<S> {
    async fn deliver(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<DeliverSummary>, Status> {
        let header = request.metadata().get(NODE_HEADER);
        let from = header
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| {
                Status::invalid_argument(format!("the header {NODE_HEADER} must hold the sender's node id"))
            })?;
        let unknown = || Status::permission_denied(format!("node {from} is no peer of node {}", self.transport.node()));
        if !self.transport.knows(from) {
            return Err(unknown());
        }
        self.identify(from, request.metadata()).await?;
        let incoming = self.transport.incoming(from).ok_or_else(unknown)?;
        let mut stream = request.into_inner();
        let mut frames = 0;
        while let Some(frame) = stream.message().await? {
            if !incoming.is_newest() {
                return Err(Status::aborted("a newer stream of this node took over"));
            }
            self.check(from, &frame)?;
            frames += 1;
            self.sink.deliver(from, frame.messages);
        }
        Ok(Response::new(DeliverSummary { frames }))
    }
}
