//! What follows a run that does not end as it should.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{
    drive::{Halt, Launch, Run},
    live::{Ended, Tick},
    stage::{Common, lease_of},
    whole::{Playing, dirty, spawn_to_play},
};
use crate::{
    backend::{
        journal::{Act, StateDir},
        process::Swept,
        procfs::{self, MARKER},
    },
    base::RunClock,
    history,
    plan::{self, Plan},
    scenario,
};

const SCENARIO: &str = "\
version: 1
name: panics
about: Nothing of it is ever played.
system: { kind: messaging, nodes: 3, shards: 1 }
load:
  - send: { users: 5, devices: 1, size: 128B }
    rate: 5/s
steps:
  - at: 1s
    kill: leader
    heal_after: 4s
";

fn plan(yaml: &str) -> Plan {
    let loaded = scenario::read("panics.yaml", yaml).unwrap_or_else(|error| panic!("{}", error.render(false)));
    plan::plan(&loaded, None, "process").unwrap()
}

/// Plays `play` in place of the sequence and returns how that ended.
async fn ended(dir: &Path, play: for<'a> fn(&'a mut Run, &'a Common) -> Playing<'a>) -> Ended {
    let run = dir.join("run");
    fs::create_dir(&run).unwrap();
    let (ended, mut told) = watch::channel(None);
    let (_stop, stopped) = watch::channel(false);
    let (_orders, inbox) = mpsc::channel(1);
    let launch = Launch {
        plan: plan(SCENARIO),
        dir: run,
        state: StateDir::at(&dir.join("state")),
        recorder: watch::Sender::new(None),
        progress: watch::Sender::new(Tick::default()),
        phase: watch::Sender::new(None),
        ended,
        stopped,
        orders: inbox,
    };
    spawn_to_play(launch, play);
    let clock = RunClock::start();
    tokio::select! {
        biased;
        ended = told.wait_for(Option::is_some) => ended.unwrap().clone().unwrap(),
        () = clock.sleep(Duration::from_secs(60)) => panic!("the run did not end"),
    }
}

fn document(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join("run/run.json")).unwrap()).unwrap()
}

/// Starts a process with the run's marker that nobody holds, and panics.
fn leaves_a_process<'a>(_: &'a mut Run, common: &'a Common) -> Playing<'a> {
    Box::pin(async {
        common.journal.begin(Act::Start { node: "n1".into() }).unwrap();
        // Where the test finds it: nothing else carries this run's marker.
        fs::write(common.dir.join("marker"), common.journal.run()).unwrap();
        let orphan = std::process::Command::new("sleep")
            .arg("600")
            .env(MARKER, common.journal.run())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        drop(orphan);
        panic!("on purpose")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_healed_judged_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ended(dir.path(), leaves_a_process).await;
    assert_eq!(ended.exit_code, 1, "{:?}", ended.reasons);
    assert!(
        ended.reasons.iter().any(|reason| reason.contains("on purpose")),
        "{:?}",
        ended.reasons
    );
    let run = fs::read_to_string(dir.path().join("run/marker")).unwrap();
    assert_eq!(procfs::marked(&run), [], "what it had started is ended");
    assert_eq!(StateDir::at(&dir.path().join("state")).pointers().unwrap(), []);
    let recorded = history::read(&dir.path().join("run").join(history::FILE_NAME)).unwrap();
    assert_eq!(recorded.torn, None, "the history is finished");
    assert_eq!(document(dir.path())["exit_code"], 1);
}

/// Leaves a pointer that can't be removed, and panics.
fn leaves_a_pointer<'a>(_: &'a mut Run, common: &'a Common) -> Playing<'a> {
    Box::pin(async {
        let runs = common.dir.join("../state/runs");
        let pointer = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(&pointer).unwrap();
        fs::create_dir_all(pointer.join("a")).unwrap();
        panic!("on purpose")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_that_leaves_something_says_that_the_host_is_dirty() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ended(dir.path(), leaves_a_pointer).await;
    assert_eq!(ended.exit_code, 8, "{:?}", ended.reasons);
    for word in ["on purpose", "firedrill heal"] {
        assert!(
            ended.reasons.iter().any(|reason| reason.contains(word)),
            "{:?}",
            ended.reasons
        );
    }
    assert_eq!(document(dir.path())["exit_code"], 8);
}

fn is_stopped<'a>(_: &'a mut Run, _: &'a Common) -> Playing<'a> {
    Box::pin(async { Err(Halt::Interrupted) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_asked_to_stop_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ended = ended(dir.path(), is_stopped).await;
    assert_eq!((ended.exit_code, ended.interrupted), (130, true), "{:?}", ended.reasons);
}

#[test]
fn what_could_not_be_swept_is_said_with_its_remedy() {
    let swept = |left: &[&str]| Swept {
        run: "old".into(),
        left: left.iter().map(|left| (*left).to_owned()).collect(),
        ..Swept::default()
    };
    assert_eq!(dirty(&[swept(&[])]), None);
    let text = dirty(&[swept(&[]), swept(&["process 9 still runs"])]).unwrap();
    for part in ["run old", "process 9", "firedrill heal"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn no_lease_is_shorter_than_what_the_plan_asks_for() {
    let long = plan(&SCENARIO.replace("heal_after: 4s", "heal_after: 2h"));
    assert!(lease_of(&long) > Duration::from_secs(2 * 3600), "{:?}", lease_of(&long));
}
