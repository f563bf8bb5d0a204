//! HTTP/1.1 with kept connections, told apart by when they broke: before anything was written, or after.
//!
//! hyper does the protocol. Connections are our own to keep: whether an attempt can have had an effect hangs on whether
//! its request left, and a pool of a library hides that.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::workload::client::CallFailure;

/// The largest answer that is read; of a larger one the outcome is unknown.
const ANSWER_MAX: usize = 4 << 20;
/// Connections kept for each node while nobody uses them; more are closed after use.
const KEPT_MAX: usize = 256;

type Sender = SendRequest<Full<Bytes>>;

/// An answer.
#[derive(Clone, Debug)]
pub(in crate::system) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Connections to the nodes of one system. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::system) struct Http1 {
    kept: Arc<Mutex<BTreeMap<SocketAddr, Vec<Sender>>>>,
}

impl Http1 {
    pub(super) async fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, CallFailure> {
        self.call(address, Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&self, address: SocketAddr, path: &str, json: Bytes) -> Result<Answer, CallFailure> {
        self.call(address, Method::POST, path, json).await
    }

    /// One request and its answer. A kept connection that turns out to be closed before the request left is replaced
    /// by another: that is the same attempt.
    async fn call(&self, address: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<Answer, CallFailure> {
        let mut request = request(address, method, path, body)?;
        loop {
            let kept = self.kept().get_mut(&address).and_then(Vec::pop);
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => dial(address).await?,
            };
            if sender.ready().await.is_err() {
                if fresh {
                    return Err(CallFailure::refused("connection closed"));
                }
                continue;
            }
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    // It never left.
                    Some(unsent) if !fresh => {
                        request = unsent;
                        continue;
                    }
                    Some(_) => return Err(CallFailure::refused("connection closed")),
                    None => return Err(CallFailure::unknown("connection lost")),
                },
            };
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|_| CallFailure::unknown("answer cut short"))?.to_bytes();
            self.keep(address, sender);
            return Ok(Answer { status, body });
        }
    }

    fn keep(&self, address: SocketAddr, sender: Sender) {
        let mut kept = self.kept();
        let idle = kept.entry(address).or_default();
        if !sender.is_closed() && idle.len() < KEPT_MAX {
            idle.push(sender);
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Vec<Sender>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(address: SocketAddr) -> Result<Sender, CallFailure> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| not_connected(&error))?;
    // A refusal here shows at the first write.
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| CallFailure::refused("connection closed"))?;
    // Ends when the sender is dropped or the connection breaks; either shows at the sender.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%address, %error, "connection ended");
        }
    });
    Ok(sender)
}

/// Why there is no connection, in a few stable words.
pub(super) fn not_connected(error: &std::io::Error) -> CallFailure {
    use std::io::ErrorKind;
    CallFailure::refused(match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset => "connection reset",
        ErrorKind::TimedOut => "connect timed out",
        _ => "not connected",
    })
}

fn request(address: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, CallFailure> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "firedrill");
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(body)).map_err(|_| CallFailure {
        retryable: false,
        ..CallFailure::refused("path is not one")
    })
}
