//! The program: what it prints, what ends it, and its exit codes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use target_service::client::{ChannelOptions, Channels, Client};

const PROGRAM: &str = env!("CARGO_BIN_EXE_target-service");

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// A configuration of one node alone, which leads whatever it has.
fn config(dir: &Path, client: &str) -> String {
    let peer = free_address();
    let file = dir.join("node.toml");
    let data = dir.join("data");
    let text = format!(
        "node = 1\nzone = \"a\"\nclient_listen = {client:?}\npeer_listen = {peer:?}\ndata_dir = {data:?}\nshards = 2\n\
         [peers]\n1 = {peer:?}\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A child that is gone when the test is.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        line
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(args: &[&str]) -> (Option<i32>, String) {
    Running::start(Command::new(PROGRAM).args(args)).end()
}

#[test]
fn it_says_when_it_serves_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let client = free_address();
    let file = config(dir.path(), &client);
    let mut node = Running::start(Command::new(PROGRAM).args(["--config", &file, "--bootstrap"]));
    let line = node.line();
    assert!(
        line.starts_with(&format!("ready client={client} peer=127.0.0.1:")),
        "{line:?}"
    );
    assert!(line.ends_with(" node=1\n"), "{line:?}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let status = runtime.block_on(async {
        let channels = Channels::new([(1, client)].into(), ChannelOptions::default());
        Client::new(channels)
            .with_timeout(std::time::Duration::from_secs(30))
            .status(1)
            .await
            .unwrap()
    });
    assert_eq!((status.node, status.zone.as_str(), status.shards.len()), (1, "a", 2));

    kill(node.pid(), Signal::SIGTERM).unwrap();
    let (code, said) = node.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_can_not_work_is_2_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = config(dir.path(), &address);
    let (code, said) = ended(&["--config", &file]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("client_listen") && said.contains(&address), "{said}");

    let (code, said) = ended(&["--config", &file, "--node", "7"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("node is 7") && said.contains("node.toml"), "{said}");

    let absent = dir.path().join("absent.toml");
    let (code, said) = ended(&["--config", absent.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(said.contains("absent.toml"), "{said}");

    let (code, said) = ended(&["--config", &file, "--die-with-parent", "1"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--die-with-parent 1"), "{said}");
}

#[test]
fn an_empty_folder_is_founded_once_and_a_lost_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), &free_address());
    let serves = |more: &[&str]| {
        let mut node = Running::start(Command::new(PROGRAM).args(["--config", &file]).args(more));
        assert!(node.line().starts_with("ready "), "it serves");
        kill(node.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(node.end().0, Some(0));
    };
    let refused = || {
        let (code, said) = ended(&["--config", &file]);
        assert_eq!(code, Some(70), "{said}");
        assert!(said.contains("is a founder") && said.contains("--bootstrap"), "{said}");
    };
    refused();
    // A permit is as good as the argument, and is used up.
    let permit = dir.path().join("permit");
    fs::write(&permit, "").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("bootstrap_permit = {permit:?}\n{text}")).unwrap();
    serves(&[]);
    assert!(!permit.exists());
    serves(&[]);
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    refused();
    serves(&["--bootstrap"]);
}

#[test]
fn a_disk_that_can_not_be_used_is_70() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), &free_address());
    fs::write(dir.path().join("data"), "no directory").unwrap();
    let (code, said) = ended(&["--config", &file]);
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("data"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn it_dies_with_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), &free_address());
    let script = "\"$0\" --config \"$1\" --bootstrap --die-with-parent $$ & wait";
    let mut parent = Running::start(Command::new("sh").args(["-c", script, PROGRAM, &file]));
    assert!(parent.line().starts_with("ready "), "it serves");
    kill(parent.pid(), Signal::SIGKILL).unwrap();
    // Its end closes the pipe that it inherited; if it lived on, this would wait for ever and fail by the test's own
    // time limit.
    let mut rest = String::new();
    parent.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
