//! A gateway put together: the client plane in front, the registry and its status on the back-end plane, and the word to
//! the directory.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::{
    GatewayStatusRequest, GatewayStatusResponse, RegistryAck, RegistryBatch, RegistryStatus,
    gateway_server::{Gateway, GatewayServer},
    registry_server::{Registry as RegistryService, RegistryServer},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::{
    GatewayConfig, VERSION,
    forward::Forward,
    lock,
    publish::{DoorState, keep_published},
    registry::{BATCH_BYTES_MAX, Registry},
    wanted,
};
use crate::{
    client::{ChannelOptions, Channels, Client, Directory},
    discovery::{Publication, Publisher},
    env::Clock,
    grpc::{ClientPlaneOptions, ServeError, serve_clients},
};

/// How long the directory may take for one call.
const DIRECTORY_WITHIN: Duration = Duration::from_millis(500);
/// HTTP/2 streams of one connection on the back-end plane.
const PEER_STREAMS_MAX: u32 = 64;
/// How long the last answers are waited for when it stops.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Serves a gateway on its two listeners until `stop` says so: then it first takes its door away, so that nobody who asks
/// from then on is sent here, ends the devices' streams, and answers what is in flight. Bounded.
///
/// # Errors
/// When a listener fails.
pub async fn serve_gateway(
    clients: TcpListener,
    peers: TcpListener,
    config: &GatewayConfig,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    // Later lives of a gateway have a later beginning. One whose clock went back is refused by the directory until the
    // clock has caught up, since it can't be told from a late word of an earlier life: which its log says.
    let generation = clock.wall_ms().max(1);
    let store = Client::new(Channels::new(config.nodes.clone(), ChannelOptions::default()))
        .with_silence_max(Duration::from_millis(config.silence_ms_max));
    let registry = Registry::start(config, generation, &clock);
    let directory = config.directory.as_ref().map(|at| Directory::new(at, DIRECTORY_WITHIN));
    let sessions = Arc::new(AtomicUsize::new(0));
    let door = Arc::new(Mutex::new(DoorState::default()));
    let advertised = config.advertise.clone();
    let publication = Publication {
        name: config.name.clone(),
        zone: config.zone.clone(),
        address: advertised.map_or_else(|| clients.local_addr().map(|at| at.to_string()), Ok)?,
        generation,
        lease: Duration::from_millis(config.lease_ms),
        healthy: true,
    };
    let publishing = tokio::spawn(keep_published(
        store.clone(),
        directory.clone(),
        Publisher::new(&config.name, config.publisher()),
        publication,
        Duration::from_millis(config.probe_ms),
        clock.clone(),
        door.clone(),
    ));

    let (close, closing) = watch::channel(false);
    let front = Arc::new(Forward {
        store,
        registry: registry.clone(),
        clock: clock.clone(),
        zone: config.zone.clone(),
        call_max: Duration::from_millis(config.call_ms_max),
        sessions: sessions.clone(),
        sessions_max: config.sessions_max,
        lane: AtomicU64::new(0),
        closing: closing.clone(),
    });
    let plane = Arc::new(Plane {
        config: config.clone(),
        registry,
        sessions,
        door,
        clock: clock.clone(),
    });
    let options = ClientPlaneOptions::default();
    let front = Box::pin(serve_clients(clients, front, options, wanted(closing.clone())));
    let back = Box::pin(serve_plane(peers, plane, options, closing));
    let both = async { tokio::try_join!(front, back).map(drop) };
    let goodbye = async {
        wanted(stop).await;
        publishing.abort();
        if let Some(directory) = &directory
            && let Err(error) = directory.withdraw(&config.name, generation).await
        {
            tracing::warn!(%error, "the directory was not told of the stop: the lease has to run out");
        }
        close.send_replace(true);
        clock.sleep(LAST_WORDS_WITHIN).await;
        Ok(())
    };
    let ended = tokio::select! {
        biased;
        ended = both => ended,
        ended = goodbye => ended,
    };
    publishing.abort();
    ended
}

async fn serve_plane(
    listener: TcpListener,
    plane: Arc<Plane>,
    options: ClientPlaneOptions,
    closing: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    Server::builder()
        .max_concurrent_streams(PEER_STREAMS_MAX)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .add_service(RegistryServer::from_arc(plane.clone()).max_decoding_message_size(BATCH_BYTES_MAX))
        .add_service(GatewayServer::from_arc(plane))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), wanted(closing))
        .await?;
    Ok(())
}

struct Plane {
    config: GatewayConfig,
    registry: Registry,
    sessions: Arc<AtomicUsize>,
    door: Arc<Mutex<DoorState>>,
    clock: Clock,
}

#[tonic::async_trait]
impl RegistryService for Plane {
    async fn exchange(&self, request: Request<RegistryBatch>) -> Result<Response<RegistryAck>, Status> {
        let batch = request.into_inner();
        if batch.from == self.config.name || !self.config.gateways.contains_key(&batch.from) {
            let (from, own) = (&batch.from, &self.config.name);
            return Err(Status::permission_denied(format!(
                "{from:?} is none of the other gateways that {own} knows: correct its name, or this gateway's list"
            )));
        }
        let dropped = self.registry.deliver(batch.envelopes);
        Ok(Response::new(RegistryAck { dropped }))
    }
}

#[tonic::async_trait]
impl Gateway for Plane {
    async fn gateway_status(
        &self,
        _: Request<GatewayStatusRequest>,
    ) -> Result<Response<GatewayStatusResponse>, Status> {
        let (door, seen) = (*lock(&self.door), self.registry.seen());
        Ok(Response::new(GatewayStatusResponse {
            name: self.config.name.clone(),
            zone: self.config.zone.clone(),
            version: VERSION.to_owned(),
            sessions: self.sessions.load(Ordering::Relaxed) as u64,
            sessions_max: self.config.sessions_max as u64,
            reaches_store: door.reaches,
            health_rule: self.config.health_rule.as_str().to_owned(),
            published: door.published,
            registry: Some(RegistryStatus {
                mode: self.config.registry.mode.as_str().to_owned(),
                members: seen.host.members as u64,
                own_sessions: seen.host.own_sessions as u64,
                sessions: seen.host.sessions as u64,
                queue: seen.host.queue as u64,
                queue_peak: seen.host.queue_peak as u64,
                queue_max: seen.host.queue_max as u64,
                dropped: seen.host.dropped,
                sent: seen.host.sent,
                received: seen.host.received,
                peers_up: seen.peers_up as u64,
                peers: seen.peers as u64,
            }),
            uptime_ms: u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX),
        }))
    }
}
