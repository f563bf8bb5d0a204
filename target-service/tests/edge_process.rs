//! The programs at the edge: what they print, what ends them, and their exit codes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A child that is gone when the test is.
struct Running(Child);

impl Running {
    fn start(dir: &Path, role: &str, text: &str) -> Self {
        let file = dir.join(format!("{role}.toml"));
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_target-service"));
        command.arg(role).arg("--config").arg(file);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        line
    }

    fn end(mut self) -> (Option<i32>, String) {
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

const GATEWAY: &str = "name = \"gw\"\nclient_listen = \"127.0.0.1:0\"\npeer_listen = \"127.0.0.1:0\"\n\
                       [nodes]\n1 = \"127.0.0.1:1\"\n";

#[test]
fn each_says_when_it_serves_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let page = "listen = \"127.0.0.1:0\"\nshards = 1\n[nodes]\n1 = \"127.0.0.1:1\"\n";
    for (role, text, ready) in [
        ("directory", "listen = \"127.0.0.1:0\"\n", "ready listen=127.0.0.1:"),
        ("gateway", GATEWAY, "ready client=127.0.0.1:"),
        ("status-page", page, "ready listen=127.0.0.1:"),
    ] {
        let mut running = Running::start(dir.path(), role, text);
        let line = running.line();
        assert!(line.starts_with(ready), "{role}: {line:?}");
        kill(Pid::from_raw(running.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{role}: {said}");
    }
}

#[test]
fn what_can_not_work_ends_with_2_and_says_what_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let page = "listen = \"127.0.0.1:0\"\nshards = 1\nask_ms = 500\nfresh_ms = 600\n[nodes]\n1 = \"127.0.0.1:1\"\n";
    for (role, text, words) in [
        (
            "gateway",
            GATEWAY.replace("name = \"gw\"", "name = \"\""),
            "name is empty",
        ),
        (
            "gateway",
            GATEWAY.replace("[nodes]\n1 = \"127.0.0.1:1\"\n", "nodes = {}\n"),
            "nodes is empty",
        ),
        ("gateway", format!("health_rule = \"maybe\"\n{GATEWAY}"), "fail_static"),
        ("gateway", format!("probe_ms = 0\n{GATEWAY}"), "probe_ms is 0"),
        (
            "gateway",
            format!("registry = {{ members = 65 }}\n{GATEWAY}"),
            "registry.members is 65",
        ),
        (
            "gateway",
            format!("{GATEWAY}[gateways]\nother = \"127.0.0.1:2\"\n"),
            "does not have gw",
        ),
        (
            "directory",
            "listen = \"127.0.0.1:0\"\nttl_ms = 0\n".to_owned(),
            "ttl_ms is 0",
        ),
        (
            "directory",
            "listen = \"127.0.0.1:0\"\nnonsense = 1\n".to_owned(),
            "nonsense",
        ),
        ("status-page", page.to_owned(), "fresh_ms is 600"),
        (
            "status-page",
            format!("plant = \"x\"\n{}", page.replace("600", "3000")),
            "has false-all-clear",
        ),
    ] {
        let (code, said) = Running::start(dir.path(), role, &text).end();
        assert_eq!(code, Some(2), "{role}: {said}");
        assert!(
            said.contains(words) && said.contains(&format!("{role}.toml")),
            "{role}: {said}"
        );
    }
}
