//! A standing connection of our own through a link, to see whether bytes get through.
//!
//! It goes through the same listener, the same pumps and the same rules as everybody's, but ends at a socket that the
//! backend holds itself, so that both halves can be watched from both ends without the node's help.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::backend::{Direction, HalfProbe, ProbeResult};
use crate::base::{Nanos, RunClock};

/// How long opening the connection may take while the link is open.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// A socket that has not dialled yet, and where its far end will arrive.
pub(super) struct Dialling {
    socket: TcpSocket,
    far: TcpListener,
}

impl Dialling {
    /// Prepares a connection; [`Dialling::port`] must be known to the link as one of ours before it dials.
    pub(super) async fn new() -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = TcpSocket::new_v4()?;
        socket.bind(any)?;
        Ok(Self {
            socket,
            far: TcpListener::bind(any).await?,
        })
    }

    /// The port it dials from.
    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Where the link must dial on to.
    pub(super) fn far_end(&self) -> io::Result<SocketAddr> {
        self.far.local_addr()
    }

    /// Dials; none when the link holds new connections back.
    pub(super) async fn dial(self, link: SocketAddr, clock: RunClock) -> io::Result<Option<Probe>> {
        let open = async {
            let near = self.socket.connect(link).await?;
            let (far, _) = self.far.accept().await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            Ok(Probe {
                ends: [End::new(near), End::new(far)],
                round: 0,
            })
        };
        tokio::select! {
            biased;
            opened = open => opened.map(Some),
            () = clock.sleep(OPEN_WITHIN) => Ok(None),
        }
    }
}

/// An open probe connection.
pub(super) struct Probe {
    /// The end that dialled, and the end that was dialled.
    ends: [End; 2],
    round: u64,
}

struct End {
    stream: TcpStream,
    partial: Vec<u8>,
}

impl Probe {
    /// Sends a frame each way and waits for both, until `over` is ready.
    pub(super) async fn round(&mut self, clock: RunClock, over: impl Future<Output = ()>) -> io::Result<ProbeResult> {
        self.round += 1;
        let round = self.round;
        let [near, far] = &mut self.ends;
        let mut sent = [Nanos(0); 2];
        for (slot, end) in sent.iter_mut().zip([&mut *near, &mut *far]) {
            *slot = clock.now();
            end.stream.write_all(&round.to_be_bytes()).await?;
        }
        let mut arrived = [None; 2];
        tokio::pin!(over);
        while arrived.iter().any(Option::is_none) {
            let [forward, backward] = arrived;
            tokio::select! {
                biased;
                seen = far.take(round), if forward.is_none() => {
                    seen?;
                    arrived[0] = Some(clock.now());
                }
                seen = near.take(round), if backward.is_none() => {
                    seen?;
                    arrived[1] = Some(clock.now());
                }
                () = &mut over => break,
            }
        }
        let half = |direction: Direction| HalfProbe {
            sent: sent[direction as usize],
            arrived: arrived[direction as usize],
        };
        Ok(ProbeResult {
            forward: half(Direction::Forward),
            backward: half(Direction::Backward),
        })
    }
}

impl End {
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
        }
    }

    /// Waits for the frame of `round`; earlier ones, held by a cut until now, are passed over. Cancel-safe.
    async fn take(&mut self, round: u64) -> io::Result<()> {
        loop {
            while self.partial.len() >= 8 {
                let frame: Vec<u8> = self.partial.drain(..8).collect();
                if frame == round.to_be_bytes() {
                    return Ok(());
                }
            }
            if self.stream.read_buf(&mut self.partial).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
