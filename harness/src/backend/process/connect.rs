//! Whether somebody listens at an address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::base::RunClock;

/// How long a connection attempt on loopback may take to be accepted or refused.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// What came of knocking.
#[derive(Debug)]
pub(super) enum Connect {
    Accepted,
    Refused,
    Nothing,
}

/// Connects, and hangs up at once.
pub(super) async fn connect(address: SocketAddr, clock: RunClock) -> Connect {
    tokio::select! {
        biased;
        connected = TcpStream::connect(address) => match connected {
            Ok(_) => Connect::Accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Connect::Refused,
            Err(_) => Connect::Nothing,
        },
        () = clock.sleep(CONNECT_WITHIN) => Connect::Nothing,
    }
}
