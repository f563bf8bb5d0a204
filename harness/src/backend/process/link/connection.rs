//! One connection through a link: held while the link is cut, dialled on, pumped, and ended as it ended.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::half::Half;
use super::pump::{ConnState, End, Pump};
use crate::base::{RunClock, Streams};

/// How long dialling the upstream may take; on loopback it is answered at once or never.
const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// What a connection needs of its link.
pub(super) struct Context<'a> {
    pub(super) halves: &'a [Half; 2],
    pub(super) upstream: SocketAddr,
    pub(super) clock: RunClock,
    pub(super) streams: Streams,
    /// The link's name and the connection's number: names its random streams.
    pub(super) name: String,
}

/// Serves an accepted connection to its end. `resets` moves when all connections of the link are to be reset.
pub(super) async fn serve(client: TcpStream, context: Context<'_>, mut resets: watch::Receiver<u64>) {
    // Whoever gave up while the link was cut has never been heard of on the other side.
    tokio::select! {
        biased;
        _ = resets.changed() => return reset(&client),
        () = wait_for_handshake(&context) => {}
    }
    if gave_up(&client).await {
        return reset(&client);
    }
    let Some(upstream) = dial(&context).await else {
        return reset(&client);
    };
    let _ = client.set_nodelay(true);
    let _ = upstream.set_nodelay(true);
    let conn = watch::Sender::new(ConnState::default());
    let pump = |half: usize| Pump {
        half,
        from: if half == 0 { &client } else { &upstream },
        to: if half == 0 { &upstream } else { &client },
        rules: context.halves[half].subscribe(),
        conn: &conn,
        clock: context.clock,
        rng: context.streams.stream(&format!("link:{}:{half}", context.name)),
        delivered: context.halves[half].delivered(),
    };
    let end = tokio::select! {
        biased;
        _ = resets.changed() => End::Reset,
        end = pump(0).run() => end,
        end = pump(1).run() => end,
    };
    if end == End::Reset {
        reset(&client);
        reset(&upstream);
    }
}

/// A handshake needs both directions: it waits while either is cut, and takes as long as both delay.
async fn wait_for_handshake(context: &Context<'_>) {
    let mut rules = context.halves.each_ref().map(Half::subscribe);
    loop {
        let [forward, backward] = rules.each_mut().map(|rule| *rule.borrow_and_update());
        if !forward.cut && !backward.cut {
            let round_trip = forward.delay + backward.delay;
            if !round_trip.is_zero() {
                context.clock.sleep(round_trip).await;
            }
            return;
        }
        let [forward, backward] = &mut rules;
        tokio::select! {
            biased;
            changed = forward.changed() => if changed.is_err() { return },
            changed = backward.changed() => if changed.is_err() { return },
        }
    }
}

/// True when the client has closed or reset by now.
async fn gave_up(client: &TcpStream) -> bool {
    tokio::select! {
        biased;
        ready = client.ready(Interest::READABLE) => ready.map_or(true, |ready| ready.is_read_closed()),
        () = std::future::ready(()) => false,
    }
}

async fn dial(context: &Context<'_>) -> Option<TcpStream> {
    tokio::select! {
        biased;
        dialled = TcpStream::connect(context.upstream) => dialled.ok(),
        () = context.clock.sleep(DIAL_WITHIN) => None,
    }
}

/// Closing `stream` from now on sends a reset.
pub(super) fn reset(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
