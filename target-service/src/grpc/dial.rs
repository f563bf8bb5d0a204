//! Connecting, in a way that tells a dead process from a silent network.
//!
//! A plain TCP connect says little: behind a proxy, a load balancer or a full accept queue it succeeds although nobody
//! serves. So a connection here counts as made once the other side has *spoken*: an HTTP/2 server sends its settings
//! before it has heard anything. Three outcomes follow. Refused, reset or closed: the process is gone, at once. Silence
//! until the timeout: the network is cut, or the process is frozen. A first byte: somebody serves. And because a
//! request is only written to a connection that was made, a failed dial proves that the request did not happen.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::{Service, http::Uri};

/// Why no connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// Refused, reset, or closed before the other side spoke: nobody serves there.
    Refused(String),
    /// Nothing was heard within the timeout: neither alive nor dead.
    TimedOut(String),
    /// The attempt failed here: no route, no such name, no descriptors left.
    Failed(String),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) | Self::TimedOut(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for DialError {}

/// Connects to `address` (`host:port`) and waits for the server's first byte, both within `timeout`.
///
/// # Errors
/// [`DialError`], which tells a dead peer from a silent one.
pub async fn dial(address: &str, timeout: Duration) -> Result<TcpStream, DialError> {
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut first = [0_u8; 1];
        match stream.peek(&mut first).await? {
            0 => Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "closed before the server spoke",
            )),
            _ => Ok(stream),
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(classify(address, &error)),
        Err(_) => {
            let waited = timeout.as_millis();
            Err(DialError::TimedOut(format!(
                "{address}: no word from the server within {waited} ms"
            )))
        }
    }
}

fn classify(address: &str, error: &io::Error) -> DialError {
    let what = format!("{address}: {error}");
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => DialError::Refused(what),
        io::ErrorKind::TimedOut => DialError::TimedOut(what),
        _ => DialError::Failed(what),
    }
}

/// [`dial`] as a connector for tonic's channels. The address is fixed: the URI only names the authority.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    address: Arc<str>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(address: &str, timeout: Duration) -> Self {
        Self {
            address: address.into(),
            timeout,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, timeout } = self.clone();
        Box::pin(async move { dial(&address, timeout).await.map(TokioIo::new) })
    }
}

/// Hands one connection that was already made to tonic, once.
#[derive(Debug)]
pub(crate) struct Ready(pub(crate) Option<TcpStream>);

impl Service<Uri> for Ready {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let used = || DialError::Failed("the connection was used up".to_owned());
        std::future::ready(self.0.take().map(TokioIo::new).ok_or_else(used))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert!(matches!(dial(&address, LONG).await, Err(DialError::Refused(_))));
    }

    #[tokio::test]
    async fn a_listener_that_closes_without_a_word_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (outcome, _) = tokio::join!(dial(&address, LONG), async {
            drop(listener.accept().await.unwrap());
        });
        assert!(matches!(outcome, Err(DialError::Refused(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let outcome = dial(&address, Duration::from_millis(30)).await;
        assert!(matches!(outcome, Err(DialError::TimedOut(_))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_server_that_speaks_is_reached_and_its_first_byte_is_not_eaten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (outcome, _) = tokio::join!(dial(&address, LONG), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"hi").await.unwrap();
        });
        let mut seen = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut outcome.unwrap(), &mut seen)
            .await
            .unwrap();
        assert_eq!(seen, b"hi");
    }
}
