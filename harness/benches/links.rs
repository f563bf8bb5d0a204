//! What a link in user space adds to a direct TCP connection on loopback: time to a small request, and bytes a second.
//!
//! Both ways are measured in turn, so that whatever else the machine does meets both alike.

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

use common::{About, Bench, Distribution, Result, Table, show};
use firedrill::{
    backend::{LinkId, process::LinkNet},
    base::RunClock,
};

/// A small request, and its answer.
const SMALL: usize = 64;
/// Bytes written at a time when as many as possible are sent.
const CHUNK: usize = 64 << 10;
/// Answers that are not counted: connections and caches warm up.
const WARM_UP: u32 = 200;
/// No answer takes longer: a benchmark that hangs ends instead.
const WITHIN: Duration = Duration::from_secs(30);

const ABOUT: About = About {
    name: "links",
    measures: "what a link adds to a direct TCP connection on loopback",
};

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

async fn measure(bench: &Bench) -> Result<()> {
    let net = LinkNet::start(bench.clock, bench.streams).await?;
    if bench.args.wants("requests") {
        let direct = serve(echo)?;
        let linked = net.open(LinkId::clients("bench", "echo"), direct).await?;
        let requests = bench.args.rounds(300, 20_000);
        bench.print(&latency(bench.clock, [direct, linked], requests)?);
    }
    if bench.args.wants("transfers") {
        let direct = serve(sink)?;
        let linked = net.open(LinkId::clients("bench", "sink"), direct).await?;
        let transfers = bench.args.rounds(3, 20).min(1000);
        let bytes = if bench.args.quick { 8 << 20 } else { 256 << 20 };
        bench.print(&throughput(bench.clock, [direct, linked], transfers, bytes)?);
    }
    net.close().await;
    Ok(())
}

/// Serves two connections, the direct one and the one of the link, each on a thread that ends with it.
fn serve(connection: fn(TcpStream) -> std::io::Result<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().take(2).flatten() {
            // Its end is the client's end, which says itself what went wrong.
            thread::spawn(move || connection(stream));
        }
    });
    Ok(address)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; SMALL];
    loop {
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)?;
    }
}

/// Reads as many bytes as the first eight say, then answers with one.
fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; CHUNK];
    loop {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let mut left = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        while left > 0 {
            let most = left.min(bytes.len());
            match stream.read(&mut bytes[..most])? {
                0 => return Ok(()),
                count => left -= count,
            }
        }
        stream.write_all(&[1])?;
    }
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    Ok(stream)
}

/// Times of small requests, the direct way and the linked one in turn; who goes first changes as well.
fn latency(clock: RunClock, ways: [SocketAddr; 2], requests: u32) -> Result<Table> {
    let mut streams = [dial(ways[0])?, dial(ways[1])?];
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + requests {
        for turn in 0..2 {
            let way = (round as usize + turn) % 2;
            let mut bytes = [round.to_le_bytes()[0]; SMALL];
            let sent = clock.now();
            streams[way].write_all(&bytes)?;
            streams[way].read_exact(&mut bytes)?;
            let took = clock.now().since(sent);
            if bytes != [round.to_le_bytes()[0]; SMALL] {
                return Err("an answer is not what was sent".into());
            }
            if round >= WARM_UP {
                samples[way].push(took);
            }
        }
    }
    let [direct, linked] = samples.map(Distribution::of);
    let mut table = Table::new(
        format!("A request of {SMALL} bytes and its answer, on one connection, direct and linked in turn"),
        &[&["way"][..], &Distribution::HEAD].concat(),
    );
    table.row("direct", direct.cells());
    table.row("through a link", linked.cells());
    let quantiles = [0, 500, 950, 990, 1000].map(|per_mille| (direct.at(per_mille), linked.at(per_mille)));
    let cells = |compare: fn(Duration, Duration) -> String| {
        let cells = quantiles.map(|pair| match pair {
            (Some(direct), Some(linked)) => compare(direct, linked),
            _ => "–".to_owned(),
        });
        std::iter::once(String::new()).chain(cells)
    };
    table.row(
        "the link adds",
        cells(|direct, linked| show(linked.saturating_sub(direct))),
    );
    table.row(
        "ratio",
        cells(|direct, linked| format!("{:.2}", linked.as_secs_f64() / direct.as_secs_f64())),
    );
    Ok(table)
}

/// Bytes a second, the direct way and the linked one in turn.
fn throughput(clock: RunClock, ways: [SocketAddr; 2], transfers: u32, bytes: u64) -> Result<Table> {
    let mut streams = [dial(ways[0])?, dial(ways[1])?];
    let chunk = vec![0x5a; CHUNK];
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..transfers {
        for turn in 0..2 {
            let way = (round as usize + turn) % 2;
            let began = clock.now();
            streams[way].write_all(&bytes.to_le_bytes())?;
            for _ in 0..bytes / CHUNK as u64 {
                streams[way].write_all(&chunk)?;
            }
            streams[way].read_exact(&mut [0])?;
            let took = clock.now().since(began);
            rates[way].push(mebibytes(bytes) / took.as_secs_f64());
        }
    }
    for rates in &mut rates {
        rates.sort_by(f64::total_cmp);
    }
    let mut table = Table::new(
        format!(
            "{transfers} transfers of {:.0} MiB each, on one connection, direct and linked in turn, in MiB/s",
            mebibytes(bytes)
        ),
        &["way", "slowest", "median", "fastest"],
    );
    let figures = rates.map(|rates| [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]]);
    let [direct, linked] = figures;
    table.row("direct", direct.map(|rate| format!("{rate:.0}")));
    table.row("through a link", linked.map(|rate| format!("{rate:.0}")));
    let ratios = [0, 1, 2].map(|i| format!("{:.2}", linked[i] / direct[i]));
    table.row("ratio", ratios);
    table.note("Sender and receiver are threads of this process; all links of a backend share one more.");
    Ok(table)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
