//! The status page over gRPC. What it says, it says from memory: no question is asked on behalf of whoever asks it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    RebaseRequest, RebaseResponse, Said as Word, SayRequest, SayResponse,
    status_page_server::{SERVICE_NAME, StatusPage, StatusPageServer},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::ServingStatus;

use super::{PageConfig, lock, wanted, watch::Watch};
use crate::{
    env::Clock,
    grpc::ServeError,
    statuspage::{Board, Said},
};

/// Serves a status page on `listener` until `stop` says so.
///
/// # Errors
/// When the listener fails.
pub async fn serve_page(
    listener: TcpListener,
    config: &PageConfig,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let board = Arc::new(Mutex::new(Watch::board(config)));
    let watching = tokio::spawn(Watch::new(config, board.clone(), &clock).run());
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(4)))
        .add_service(StatusPageServer::new(Page { board, clock }))
        .add_service(health)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), wanted(stop))
        .await;
    watching.abort();
    served?;
    Ok(())
}

struct Page {
    board: Arc<Mutex<Board>>,
    clock: Clock,
}

const fn word(said: Said) -> Word {
    match said {
        Said::AllClear => Word::AllClear,
        Said::Degraded => Word::Degraded,
        Said::Down => Word::Down,
        Said::Unknown => Word::Unknown,
    }
}

#[tonic::async_trait]
impl StatusPage for Page {
    async fn say(&self, _: Request<SayRequest>) -> Result<Response<SayResponse>, Status> {
        let now = self.clock.now();
        let statement = lock(&self.board).say(now);
        let ago = |at| u64::try_from(now.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(SayResponse {
            said: word(statement.said).into(),
            seen_ms_ago: statement.as_of.map(ago),
            sessions: statement.sessions,
            sessions_before: statement.sessions_before,
            backlog: statement.backlog,
            reasons: statement.reasons,
        }))
    }

    async fn rebase(&self, _: Request<RebaseRequest>) -> Result<Response<RebaseResponse>, Status> {
        lock(&self.board).rebase(self.clock.now());
        Ok(Response::new(RebaseResponse {}))
    }
}
