//! Helper processes for tests: this very test program, run again in a role.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::{ProcessBackend, ProcessConfig};
use crate::backend::disk::{self, DiskSpec};
use crate::backend::journal::{Journal, StateDir, unique_run};
use crate::backend::{Backend as _, NodeSpec, Ready};
use crate::base::{RunClock, Streams};

/// For what must come.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Names the role, a port and a folder.
pub(crate) const ROLE: &str = "FIREDRILL_TEST_ROLE";
/// The arguments with which this test program takes a role.
pub(crate) const ROLE_ARGS: [&str; 3] = ["--exact", "backend::process::testing::in_a_role", "--nocapture"];

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let clock = RunClock::start();
    tokio::select! {
        biased;
        done = what => done,
        () = clock.sleep(SOON) => panic!("did not happen in {SOON:?}"),
    }
}

/// A command that runs this test program in a role.
pub(crate) fn node(name: &str, role: &str, port: u16, folder: &Path) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        zone: String::new(),
        program: std::env::current_exe().unwrap(),
        args: ROLE_ARGS.map(str::to_owned).to_vec(),
        env: BTreeMap::from([(ROLE.to_owned(), format!("{role} {port} {}", folder.display()))]),
        dir: folder.join(name),
        disk: None,
        listens: if port == 0 {
            Vec::new()
        } else {
            vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]
        },
        ready: Ready::Line("ready".to_owned()),
        ready_within: SOON,
    }
}

/// A disk in `folder`.
pub(crate) fn disk_of(folder: &Path) -> DiskSpec {
    DiskSpec {
        mount: folder.join("disk"),
        below: folder.join("durable"),
        honest: true,
    }
}

/// Whether disks can be mounted; says so where they can't. A continuous-integration machine can, or is set up wrongly.
pub(crate) fn disks_here() -> bool {
    let Err(why) = disk::available() else { return true };
    assert!(
        std::env::var_os("CI").is_none(),
        "no disks can be mounted on this continuous-integration machine: {why}"
    );
    println!("skipped: {why}");
    false
}

/// A process backend in `folder`, which also holds the state directory.
pub(crate) async fn backend(folder: &Path, run: &str) -> ProcessBackend {
    std::fs::create_dir_all(folder).unwrap();
    let journal = Journal::create(folder, &unique_run(run), &StateDir::at(&folder.join("state"))).unwrap();
    ProcessBackend::start(ProcessConfig {
        system: "s".to_owned(),
        logs: folder.join("logs"),
        clock: RunClock::start(),
        streams: Streams::new(1),
        journal,
    })
    .await
    .unwrap()
}

/// Not a test of its own: what helper processes run. Without a role it has nothing to do.
#[test]
fn in_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.splitn(3, ' ');
    let (role, port) = (words.next().unwrap(), words.next().unwrap().parse::<u16>().unwrap());
    let folder = words.next().unwrap();
    match role {
        "echo" => echo(port),
        "relay" => relay(port),
        "stubborn" => {
            // SAFETY: ignoring a signal installs no handler.
            unsafe {
                nix::sys::signal::signal(nix::sys::signal::Signal::SIGTERM, nix::sys::signal::SigHandler::SigIgn)
            }
            .unwrap();
            echo(port);
        }
        "exit" => {
            eprintln!("no such luck");
            std::process::exit(3)
        }
        "silent" => wait_forever(),
        "harness" => harness(Path::new(folder)),
        "keeps" => super::disk_tests::keeps(Path::new(folder)),
        "finds_all" => super::disk_tests::finds_all(Path::new(folder)),
        "finds" => super::disk_tests::finds(Path::new(folder)),
        other => panic!("no role {other}"),
    }
}

pub(super) fn say(line: &str) {
    // The test runner may have begun a line of its own.
    println!("\n{line}");
    std::io::stdout().flush().unwrap();
}

pub(super) fn wait_forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn echo(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    say(&format!("ready {}", std::process::id()));
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        });
    }
}

/// Answers `ping` with `pong`. Another first line is an address to dial: what follows goes there, and the answers back.
fn relay(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        // Whatever breaks a connection ends its thread alone.
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut from = BufReader::new(stream.try_clone()?);
            let mut line = String::new();
            from.read_line(&mut line)?;
            if line.trim() == "ping" {
                return stream.write_all(b"pong\n");
            }
            let mut to = TcpStream::connect(line.trim())?;
            let (mut back, mut answers) = (stream, to.try_clone()?);
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            std::io::copy(&mut from, &mut to).map(|_| ())
        });
    }
}

/// A harness with a running and a frozen node, which waits to be killed.
fn harness(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let backend = backend(folder, "killed").await;
        let ports = backend.reserve_ports(2).await.unwrap();
        let mut first = node("n1", "echo", ports[0], folder);
        // Its disk outlives both where there can be one.
        first.disk = disk::available().is_ok().then(|| disk_of(folder));
        let one = backend.start(&first).await.unwrap();
        let two = backend.start(&node("n2", "echo", ports[1], folder)).await.unwrap();
        let frozen = backend
            .signal(&["n2".to_owned()], crate::backend::NodeSignal::Stop)
            .await;
        assert!(frozen.is_ok());
        say(&format!("ready {} {}", one.pid, two.pid));
        std::future::pending::<()>().await;
    });
}
