//! A run from its folder to its verdict: the sequence, and what follows every way out of it.

use std::{path::Path, time::SystemTime};

use tokio::{sync::watch, task::JoinSet};

use super::{
    drive::{Desk, Halt, Launch, Run, sequence},
    live::Ended,
    stage::{Common, Stage},
};
use crate::{
    backend::{
        journal::{Journal, StateDir, unique_run},
        process::{end_own, sweep},
    },
    base::{Nanos, RunClock},
    history::{self, FORMAT, HarnessKind, Header, Phase, Recorder, RecorderLimits, Subscription},
    plan::Plan,
    report,
    telemetry::Mirror,
    workload::StallWatch,
};

/// Starts a run in a task of its own. Its `ended` is set whatever happens, a panic included.
pub(super) fn spawn(launch: Launch) {
    let ended = launch.ended.clone();
    tokio::spawn(async move {
        let dir = launch.dir.clone();
        let outcome = tokio::spawn(whole(launch)).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let mut reasons = vec![format!("the run's own task failed: {error}; see {}", dir.display())];
                reasons.extend(heal_after_panic(&dir).await);
                failed(1, reasons)
            }
        };
        ended.send_replace(Some(outcome));
    });
}

/// Ends what the run in `dir` left behind when it panicked. Its harness still lives, so no sweep would touch it.
async fn heal_after_panic(dir: &Path) -> Vec<String> {
    let clock = RunClock::start();
    let pointers = StateDir::of_user().and_then(|state| Ok((state.pointers()?, state)));
    let (pointers, state) = match pointers {
        Ok(found) => found,
        Err(error) => {
            return vec![format!(
                "find what it left: {error}; run `firedrill heal` when this has ended"
            )];
        }
    };
    let mut left = Vec::new();
    for pointer in pointers.iter().filter(|pointer| pointer.journal.starts_with(dir)) {
        let (_, remains) = end_own(&pointer.run, None, clock).await;
        if remains.is_empty() {
            left.extend(state.remove(&pointer.run).err().map(|error| error.to_string()));
        }
        left.extend(remains);
    }
    left
}

fn failed(exit_code: i32, reasons: Vec<String>) -> Ended {
    Ended {
        verdict: "unknown".to_owned(),
        exit_code,
        reasons,
        ..Ended::default()
    }
}

async fn whole(launch: Launch) -> Ended {
    let Launch {
        plan,
        dir,
        recorder: publish,
        progress,
        phase,
        stopped,
        orders,
        ..
    } = launch;
    let (clock, origin) = (RunClock::start(), wall_clock());
    let header = match header(&plan, origin) {
        Ok(header) => header,
        Err(error) => return failed(1, vec![error]),
    };
    let opened = open(&dir, &plan, &header).await;
    let (recorder, journal, swept) = match opened {
        Ok(opened) => opened,
        Err(error) => return failed(1, vec![error]),
    };
    publish.send_replace(Some(recorder.clone()));
    let mirror = mirror(&header, origin, recorder.subscribe(0));
    let common = Common {
        dir: dir.clone(),
        clock,
        streams: plan.streams(),
        recorder: recorder.clone(),
        journal,
    };
    let desk = Desk {
        progress,
        phase,
        stopped,
        orders,
        told: Nanos(0),
        injected: 0,
        served: JoinSet::new(),
    };
    let mut run = Run {
        plan,
        clock,
        recorder: recorder.clone(),
        stages: Vec::new(),
        desk,
    };
    for text in swept {
        run.note(HarnessKind::Note, text);
    }
    let watch = StallWatch::start(recorder.clone(), clock);
    if let Err(error) = &watch {
        run.note(
            HarnessKind::Failure,
            format!("start the watch over the harness itself: {error}"),
        );
    }
    let result = run.play(&common).await;
    drop(watch);
    run.conclude(result, &common).await;
    drop(run);
    let mut ended = judge(&dir, &recorder).await;
    // The folder holds the history now; a controller that does many runs would hold all of them in memory.
    publish.send_replace(None);
    ended.at = clock.now();
    if let Some(mirror) = mirror {
        finish_mirror(mirror, ended.at, &ended.verdict).await;
    }
    ended
}

/// The folder's first files. Returns what earlier runs had left and was swept, in words.
async fn open(dir: &Path, plan: &Plan, header: &Header) -> Result<(Recorder, Journal, Vec<String>), String> {
    let state = StateDir::of_user().map_err(|error| error.to_string())?;
    let swept = sweep(&state, RunClock::start())
        .await
        .map_err(|error| error.to_string())?;
    let swept = swept.iter().filter(|run| !run.owned).map(|run| {
        format!(
            "swept what run {} had left: {} processes, {} acts",
            run.run,
            run.killed.len(),
            run.undone.len()
        )
    });
    let resolved = dir.join("scenario.resolved.yaml");
    std::fs::write(&resolved, plan.to_yaml()?).map_err(|error| format!("write {}: {error}", resolved.display()))?;
    let history = dir.join(history::FILE_NAME);
    let recorder =
        Recorder::create(&history, header.clone(), RecorderLimits::default()).map_err(|error| error.to_string())?;
    let journal = Journal::create(dir, &unique_run(&plan.scenario), &state).map_err(|error| error.to_string())?;
    Ok((recorder, journal, swept.collect()))
}

impl Run {
    async fn play(&mut self, common: &Common) -> Result<(), Halt> {
        for (number, spec) in self.plan.systems.clone().iter().enumerate() {
            let stage = Stage::build(number, spec, &self.plan, common.clone()).await?;
            self.stages.push(stage);
        }
        sequence(self).await
    }

    /// Heals, tears down, and writes down why the sequence was left early, if it was.
    async fn conclude(&mut self, result: Result<(), Halt>, common: &Common) {
        match &result {
            Ok(()) | Err(Halt::NotSteady) => {}
            Err(Halt::Interrupted) => self.note(HarnessKind::Interrupted, "asked to stop; healing"),
            Err(Halt::Failed(why)) => self.note(HarnessKind::Failure, why),
        }
        // A heal that failed is in the history with what was seen.
        let _ = self.heal_all().await;
        self.enter(Phase::TearDown);
        for index in 0..self.stages.len() {
            if let Err(left) = self.stages[index].close().await {
                self.note(HarnessKind::Dirty, left);
            }
        }
        self.stages.clear();
        if let Some(trouble) = self.recorder.trouble() {
            self.note(HarnessKind::Failure, trouble);
        }
        match common.journal.close() {
            Ok(true) => {}
            Ok(false) => self.note(
                HarnessKind::Dirty,
                "the undo journal holds acts that were not undone; run `firedrill heal`",
            ),
            Err(error) => self.note(HarnessKind::Failure, error.to_string()),
        }
    }
}

/// Judges what was recorded and writes the folder's other files.
async fn judge(dir: &Path, recorder: &Recorder) -> Ended {
    let (recorder, dir) = (recorder.clone(), dir.to_owned());
    let judged = tokio::task::spawn_blocking(move || conclude(&recorder, &dir)).await;
    match judged {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => failed(1, vec![error]),
        Err(error) => failed(1, vec![format!("the judging failed: {error}")]),
    }
}

fn conclude(recorder: &Recorder, dir: &Path) -> Result<Ended, String> {
    recorder.finish().map_err(|error| error.to_string())?;
    let recorded = recorder.recorded();
    let judgement = report::judge_events(recorded.header, recorded.events, None);
    report::write_all(&judgement, dir).map_err(|error| error.to_string())?;
    let document = report::document(&judgement);
    Ok(Ended {
        verdict: judgement.verdict().as_str().to_owned(),
        exit_code: i32::from(judgement.exit().code()),
        reasons: judgement.reasons.clone(),
        run_json: serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?,
        ..Ended::default()
    })
}

type Mirroring = (tokio::task::JoinHandle<Mirror>, watch::Sender<bool>);

/// Mirrors the history to a collector while it is written. Trouble with it never touches the run.
fn mirror(header: &Header, origin: SystemTime, mut history: Subscription) -> Option<Mirroring> {
    let mut mirror = Mirror::from_env(header, origin)
        .inspect_err(|error| tracing::warn!("{error}; the run goes on without an export"))
        .ok()??;
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                events = history.next() => match events {
                    Some(events) => events.iter().for_each(|event| mirror.on_event(event)),
                    None => return mirror,
                },
                _ = stopped.wait_for(|stopped| *stopped) => return mirror,
            }
        }
    });
    Some((task, stop))
}

async fn finish_mirror((task, stop): Mirroring, at: Nanos, verdict: &str) {
    stop.send_replace(true);
    if let Ok(mirror) = task.await {
        let dropped = mirror.finish(at, verdict).await;
        if dropped > 0 {
            tracing::warn!("{dropped} spans were not exported: the collector was too slow");
        }
    }
}

fn header(plan: &Plan, origin: SystemTime) -> Result<Header, String> {
    let started = jiff::Timestamp::try_from(origin).map_err(|error| format!("the host's clock can't be: {error}"))?;
    let uname = nix::sys::utsname::uname().map_err(|error| format!("ask what this host is: {error}"))?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = [
        ("firedrill", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("machine", uname.machine().to_string_lossy().into_owned()),
        ("cores", cores.to_string()),
        (
            "build",
            if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        ),
    ];
    Ok(Header {
        format: FORMAT.to_owned(),
        plan: serde_json::to_value(plan).map_err(|error| format!("write the plan as JSON: {error}"))?,
        started: started.to_string(),
        versions: versions
            .into_iter()
            .map(|(name, version)| (name.to_owned(), version))
            .collect(),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "when the run was, for people and for spans; nothing is measured by it"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
