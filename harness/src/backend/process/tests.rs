//! The backend with real processes: what it says of them is asked of the kernel again.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::testing::{SOON, backend, node, soon};
use super::{ProcessBackend, sweep};
use crate::backend::disk;
use crate::backend::journal::{self, StateDir};
use crate::backend::procfs::{self, ProcessId};
use crate::backend::{Backend as _, BackendError, LinkId, NodeSignal};
use crate::base::RunClock;
use crate::history::ProcessChange;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn gone(process: ProcessId) {
    let clock = RunClock::start();
    soon(async {
        while process.is_alive() {
            clock.sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_starts_freezes_goes_on_dies_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r1").await;
    let mut events = backend.process_events();
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let spec = node("n1", "echo", port, dir.path());
    let started = backend.start(&spec).await.unwrap();
    assert_eq!(started.line.as_deref(), Some(&*format!("ready {}", started.pid)));
    assert!(started.ready >= started.at);
    assert_eq!(procfs::marker_of(started.pid).as_deref(), Some(backend.run()));
    assert!(matches!(
        backend.start(&spec).await,
        Err(BackendError::AlreadyRunning(_))
    ));

    let n1 = names(&["n1"]);
    let frozen = backend.signal(&n1, NodeSignal::Stop).await.unwrap().remove(0);
    assert!(
        frozen.effective >= frozen.sent && frozen.text.contains("state T"),
        "{frozen:?}"
    );
    assert!(procfs::thread_states(started.pid).chars().all(|state| state == 'T'));
    backend
        .signal(&n1, NodeSignal::Stop)
        .await
        .expect("freezing twice is freezing");
    backend.signal(&n1, NodeSignal::Cont).await.unwrap();
    assert!(!procfs::thread_states(started.pid).contains('T'));

    backend.signal(&n1, NodeSignal::Stop).await.unwrap();
    let dead = backend.signal(&n1, NodeSignal::Kill).await.unwrap().remove(0);
    assert!(
        dead.text.contains("signal 9") && dead.text.contains("refuses"),
        "{dead:?}"
    );
    assert!(matches!(
        backend.signal(&n1, NodeSignal::Kill).await,
        Err(BackendError::NotRunning { how, .. }) if how == "signal 9"
    ));
    let again = backend.start(&spec).await.unwrap();
    assert_ne!(again.pid, started.pid);
    let report = backend.tear_down().await.unwrap();
    assert_eq!((report.stopped, report.left), (n1, vec![]));
    assert!(ProcessId::of(again.pid).is_none());
    assert!(matches!(backend.start(&spec).await, Err(BackendError::Closed)));

    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event.change);
    }
    let ended = |how: &str| ProcessChange::Ended {
        how: how.to_owned(),
        asked_for: true,
    };
    assert_eq!(
        seen,
        [
            ProcessChange::Started,
            ProcessChange::Stopped { asked_for: true },
            ProcessChange::Continued,
            ProcessChange::Stopped { asked_for: true },
            ended("signal 9"),
            ProcessChange::Started,
            ended("signal 15")
        ]
    );
    let replay = journal::read(&dir.path().join("undo.journal")).unwrap();
    assert_eq!(replay.undone, [], "every start is undone");
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r2").await;
    let mut events = backend.process_events();
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let started = backend.start(&node("n1", "echo", port, dir.path())).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(started.pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(events.recv().await.unwrap().change, ProcessChange::Started);
    let event = soon(events.recv()).await.unwrap();
    assert_eq!(
        event.change,
        ProcessChange::Ended {
            how: "signal 9".into(),
            asked_for: false
        }
    );
}

#[tokio::test]
async fn many_are_killed_at_one_instant_or_none_is() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r3").await;
    let ports = backend.reserve_ports(2).await.unwrap();
    for (name, port) in ["n1", "n2"].iter().zip(&ports) {
        backend.start(&node(name, "echo", *port, dir.path())).await.unwrap();
    }
    let error = backend
        .signal(&names(&["n1", "n9"]), NodeSignal::Kill)
        .await
        .unwrap_err();
    assert!(matches!(error, BackendError::UnknownNode(name) if name == "n9"));
    let both = backend.signal(&names(&["n1", "n2"]), NodeSignal::Kill).await.unwrap();
    assert_eq!(both[0].sent, both[1].sent);
}

#[tokio::test]
async fn a_node_that_ends_early_or_says_nothing_is_not_ready_and_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r4").await;
    let error = backend.start(&node("n1", "exit", 0, dir.path())).await.unwrap_err();
    let BackendError::NotReady { why, log, .. } = &error else {
        panic!("{error}")
    };
    assert!(why.contains("exit 3") && log.contains("no such luck"), "{error}");

    let mut silent = node("n2", "silent", 0, dir.path());
    silent.ready_within = std::time::Duration::from_millis(300);
    let error = backend.start(&silent).await.unwrap_err();
    assert!(error.to_string().contains("nothing within 300ms"), "{error}");
    assert_eq!(procfs::marked(backend.run()), []);

    let mut missing = node("n3", "echo", 0, dir.path());
    missing.program = "/no/such/program".into();
    let error = backend.start(&missing).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let replay = journal::read(&dir.path().join("undo.journal")).unwrap();
    assert_eq!(replay.undone, []);
}

#[tokio::test]
async fn a_node_is_ready_when_its_port_is() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r5").await;
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let mut spec = node("n1", "echo", port, dir.path());
    spec.ready = crate::backend::Ready::Tcp(spec.listens[0]);
    backend.start(&spec).await.unwrap();
    let link = backend
        .open_link(LinkId::clients("all", "n1"), spec.listens[0])
        .await
        .unwrap();
    let mut client = TcpStream::connect(link).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    soon(client.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"hello");
    backend.signal(&names(&["n1"]), NodeSignal::Kill).await.unwrap();
    let after = soon(client.read(&mut bytes)).await;
    assert!(matches!(after, Ok(0) | Err(_)), "its death is seen through the link");
}

#[tokio::test]
async fn a_node_that_ignores_being_asked_is_killed_at_tear_down() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r6").await;
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let started = backend.start(&node("n1", "stubborn", port, dir.path())).await.unwrap();
    let report = backend.tear_down().await.unwrap();
    assert_eq!((report.killed, report.left), (names(&["n1"]), vec![]));
    assert!(ProcessId::of(started.pid).is_none());
    assert_eq!(
        backend.tear_down().await.unwrap(),
        Default::default(),
        "once more is nothing more"
    );
}

/// A node behind a shell, and the process of the program itself.
async fn wrapped(backend: &ProcessBackend, folder: &Path, role: &str, script: &str) -> (u32, ProcessId) {
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let mut spec = node("n1", role, port, folder);
    let program = std::mem::replace(&mut spec.program, "/bin/sh".into());
    let mut args = vec!["-c".to_owned(), script.to_owned(), program.display().to_string()];
    args.append(&mut spec.args);
    spec.args = args;
    let started = backend.start(&spec).await.unwrap();
    let line = started.line.unwrap();
    let program = line.strip_prefix("ready ").unwrap().parse().unwrap();
    assert_ne!(program, started.pid, "the shell did not stay");
    (started.pid, ProcessId::of(program).unwrap())
}

#[tokio::test]
async fn a_freeze_of_a_wrapper_freezes_the_program_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r9").await;
    let (_, program) = wrapped(&backend, dir.path(), "echo", r#""$0" "$@"; true"#).await;
    let n1 = names(&["n1"]);
    backend.signal(&n1, NodeSignal::Stop).await.unwrap();
    let states = procfs::thread_states(program.pid);
    assert!(
        !states.is_empty() && states.chars().all(|state| state == 'T'),
        "{states}"
    );
    backend.signal(&n1, NodeSignal::Cont).await.unwrap();
    assert!(!procfs::thread_states(program.pid).contains('T'));
    backend.signal(&n1, NodeSignal::Kill).await.unwrap();
    gone(program).await;
}

#[tokio::test]
async fn what_outlives_its_wrapper_is_ended_at_tear_down() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r10").await;
    let script = r#"trap 'exit 0' TERM; "$0" "$@" & while :; do wait; done"#;
    let (wrapper, program) = wrapped(&backend, dir.path(), "stubborn", script).await;
    let report = backend.tear_down().await.unwrap();
    assert!(report.left.is_empty(), "{report:?}");
    assert!(ProcessId::of(wrapper).is_none() && !program.is_alive());
}

#[tokio::test]
async fn nodes_die_with_a_backend_that_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r7").await;
    let port = backend.reserve_ports(1).await.unwrap()[0];
    let started = backend.start(&node("n1", "echo", port, dir.path())).await.unwrap();
    let process = ProcessId::of(started.pid).unwrap();
    drop(backend);
    gone(process).await;
}

/// A harness in a process of its own: its process, and those of its nodes, the second of which is frozen.
async fn harness_to_kill(folder: &Path) -> (tokio::process::Child, Vec<ProcessId>) {
    let spec = node("harness", "harness", 0, folder);
    let mut child = tokio::process::Command::new(&spec.program)
        .args(&spec.args)
        .envs(&spec.env)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    soon(async {
        while !line.starts_with("ready") {
            line.clear();
            let count = tokio::io::AsyncBufReadExt::read_line(&mut output, &mut line)
                .await
                .unwrap();
            assert!(count > 0, "the harness ended early");
        }
    })
    .await;
    let pids = line.split_whitespace().skip(1).map(|pid| pid.parse().unwrap());
    let nodes = pids.map(|pid| ProcessId::of(pid).expect("runs")).collect();
    (child, nodes)
}

#[tokio::test]
async fn killing_the_harness_ends_its_nodes_frozen_ones_too_and_the_next_start_sweeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, nodes) = harness_to_kill(dir.path()).await;
    let state = StateDir::at(&dir.path().join("state"));
    let run = state.pointers().unwrap()[0].run.clone();
    let clock = RunClock::start();
    let swept = sweep(&state, clock).await.unwrap();
    assert!(
        swept[0].owned && swept[0].killed.is_empty(),
        "a live harness keeps its own"
    );
    assert!(nodes.iter().all(|node| node.is_alive()));

    // A process that the harness's death does not reach: it carries the marker and has no dying parent.
    let orphan = marked_child(&run);
    // And two that must be left alone: no marker at all, and another run's.
    let (foreign, other) = (marked_child(""), marked_child("somebody-else"));
    child.kill().await.unwrap();
    for node in &nodes {
        gone(*node).await;
    }
    let with_disk = disk::available().is_ok();
    assert_eq!(disk::mounted_by(&run).unwrap().len(), usize::from(with_disk));
    let swept = sweep(&state, clock).await.unwrap();
    assert_eq!(swept.len(), 1);
    assert_eq!(swept[0].run, run);
    assert_eq!(swept[0].killed, [orphan.id()]);
    assert!(swept[0].left.is_empty());
    assert!(swept[0].undone.iter().any(|text| text.contains("n2")), "{swept:?}");
    assert_eq!(swept[0].undone.iter().any(|text| text.contains("unmounted")), with_disk);
    assert!(disk::mounted_by(&run).unwrap().is_empty());
    assert_eq!(sweep(&state, clock).await.unwrap(), [], "nothing is left to sweep");
    for mut process in [foreign, other] {
        assert!(process.try_wait().unwrap().is_none(), "not ours, not touched");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let mut orphan = orphan;
    orphan.wait().unwrap();
}

fn marked_child(run: &str) -> std::process::Child {
    let mut command = std::process::Command::new("sleep");
    command.arg(SOON.as_secs().to_string()).env_remove(procfs::MARKER);
    if !run.is_empty() {
        command.env(procfs::MARKER, run);
    }
    command.spawn().unwrap()
}
