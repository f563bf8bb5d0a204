//! Runs the command as a user would, on small scenarios, each test in a folder of its own.

// Each test binary uses what it needs of this.
#![expect(dead_code, reason = "shared by several test binaries, none of which uses all of it")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than any small scenario takes on a busy machine; a test that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A small messaging system under a small load, with room for steps and more.
/// Its generator may be late, since tests run side by side and none of them is about figures.
pub(crate) fn small(steps: &str) -> String {
    format!(
        "version: 1
name: small
about: A small system for the tests of the command.
seed: 7
system: {{ kind: messaging, nodes: 3, shards: 2 }}
load:
  - send: {{ users: 20, devices: 1, size: 128B }}
    rate: 60/s
steady_state: {{ for: 1s, within: 60s, require: [\"send.success >= 99%\"] }}
steps:
{steps}
settle: {{ hold: 1s, within: 30s }}
expect: {{ promises: all }}
limits: {{ lag_p99: 250ms }}
"
    )
}

/// A folder with a scenario in it, where the command keeps its state too.
pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a scenario and returns its path.
    pub(crate) fn scenario(&self, yaml: &str) -> PathBuf {
        let path = self.path("scenario.yaml");
        fs::write(&path, yaml).expect("the folder is writable");
        path
    }

    /// The command, with its state in this folder and its working folder here.
    pub(crate) fn firedrill(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("FIREDRILL_STATE_DIR", self.path("state"))
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null());
        command
    }

    /// Runs a scenario to its end, into `out`.
    pub(crate) fn run(&self, yaml: &str) -> Output {
        let scenario = self.scenario(yaml);
        let scenario = scenario.to_str().expect("a temporary path is text");
        self.firedrill(&["run", scenario, "--out", "out"])
            .output()
            .expect("the command starts")
    }

    /// Starts a run and hands it over with its lines as they come.
    pub(crate) fn start(&self, yaml: &str) -> Running {
        let scenario = self.scenario(yaml);
        let scenario = scenario.to_str().expect("a temporary path is text");
        self.start_with(&["run", scenario, "--out", "out"])
    }

    /// Starts the command and hands it over with its lines as they come.
    pub(crate) fn start_with(&self, args: &[&str]) -> Running {
        let mut child = self
            .firedrill(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Running {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// `run.json` of the run in `out`.
    pub(crate) fn run_json(&self) -> Value {
        let path = self.path("out/run.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("run.json is JSON")
    }
}

/// A run under way.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Waits for a line that contains `words`.
    pub(crate) fn until(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with `{words}` ({error}); seen:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Its exit code, with a bound.
    pub(crate) fn wait(&mut self) -> i32 {
        let ended = waited_for(|| self.child.try_wait().expect("it is our child").is_some());
        assert!(ended, "the command did not end; seen:\n{}", self.seen.join("\n"));
        self.child.wait().expect("it is our child").code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its children end with it. Both calls fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until it is so, or patience ends.
#[expect(
    clippy::disallowed_methods,
    reason = "another process can only be asked again and again"
)]
pub(crate) fn waited_for(mut is_so: impl FnMut() -> bool) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The processes whose parent is, or was, the run that lives in `dir`: those that name the folder in their arguments.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(&needle) && arguments.contains("__node") {
            found.push(pid);
        }
    }
    found
}

/// The state letter of a process in /proc; none when it is gone.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The sockets, by inode, on which these processes listen.
pub(crate) fn listening(pids: &[u32]) -> std::collections::BTreeSet<String> {
    let sockets = pids
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten());
    let inodes: std::collections::BTreeSet<String> = sockets
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    all_listening().intersection(&inodes).cloned().collect()
}

/// The sockets, by inode, on which anybody listens.
pub(crate) fn all_listening() -> std::collections::BTreeSet<String> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    rows.filter_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        (*fields.get(3)? == LISTEN).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
    .collect()
}

/// What the command printed.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
