//! A run from its folder to its verdict: the sequence, and what follows every way out of it.

use std::{path::Path, pin::Pin, time::SystemTime};

use tokio::{sync::watch, task::JoinSet};

use super::{
    caught::caught,
    drive::{Desk, Halt, Launch, Run, sequence},
    live::Ended,
    stage::{Common, Stage},
};
use crate::{
    backend::{
        journal::{Journal, StateDir, unique_run},
        process::{Swept, end_own, sweep},
    },
    base::{Exit, Nanos, RunClock},
    history::{self, Event, FORMAT, HarnessEvent, HarnessKind, Header, Phase, Recorder, RecorderLimits, Subscription},
    plan::Plan,
    report,
    telemetry::Mirror,
    workload::StallWatch,
};

/// What a run does between its first and its last file.
type Play = for<'a> fn(&'a mut Run, &'a Common) -> Playing<'a>;
pub(super) type Playing<'a> = Pin<Box<dyn Future<Output = Result<(), Halt>> + Send + 'a>>;

/// Starts a run in a task of its own. Its `ended` is set whatever happens, a panic included.
pub(super) fn spawn(launch: Launch) {
    spawn_to_play(launch, |run, common| Box::pin(run.play(common)));
}

pub(super) fn spawn_to_play(launch: Launch, play: Play) {
    let ended = launch.ended.clone();
    tokio::spawn(async move {
        let dir = launch.dir.clone();
        let outcome = caught(whole(launch, play)).await.unwrap_or_else(|panic| {
            let reason = format!("the run's own task panicked: {panic}; see {}", dir.display());
            failed(Exit::Internal, reason)
        });
        ended.send_replace(Some(outcome));
    });
}

fn failed(exit: Exit, reason: String) -> Ended {
    Ended {
        verdict: "unknown".to_owned(),
        exit_code: i32::from(exit.code()),
        reasons: vec![reason],
        ..Ended::default()
    }
}

async fn whole(launch: Launch, play: Play) -> Ended {
    let Launch {
        plan,
        dir,
        state,
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
        Err(error) => return failed(Exit::Internal, error),
    };
    let opened = open(&dir, &plan, &header, &state).await;
    let (recorder, journal, swept) = match opened {
        Ok(opened) => opened,
        Err((exit, error)) => return failed(exit, error),
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
    let result = caught(play(&mut run, &common))
        .await
        .unwrap_or_else(|panic| Err(Halt::Failed(format!("the run panicked: {panic}"))));
    drop(watch);
    let interrupted = result == Err(Halt::Interrupted);
    if let Err(panic) = caught(run.conclude(result)).await {
        run.note(HarnessKind::Failure, format!("the healing panicked: {panic}"));
    }
    run.stages.clear();
    run.leave_nothing(&common.journal).await;
    drop(run);
    let mut ended = judge(&dir, &recorder).await;
    ended.interrupted = interrupted;
    // The folder holds the history now; a controller that does many runs would hold all of them in memory.
    publish.send_replace(None);
    ended.at = clock.now();
    if let Some(mirror) = mirror {
        finish_mirror(mirror, ended.at, &ended.verdict).await;
    }
    ended
}

/// The folder's first files. Returns what earlier runs had left and was swept, in words.
async fn open(
    dir: &Path,
    plan: &Plan,
    header: &Header,
    state: &StateDir,
) -> Result<(Recorder, Journal, Vec<String>), (Exit, String)> {
    let swept = sweep(state, RunClock::start())
        .await
        .map_err(|error| (Exit::HealFailed, format!("sweep what earlier runs left: {error}")))?;
    if let Some(dirty) = dirty(&swept) {
        return Err((Exit::HealFailed, dirty));
    }
    let (recorder, journal) = first_files(dir, plan, header, state).map_err(|error| (Exit::Internal, error))?;
    let swept = swept.iter().filter(|run| !run.owned).map(|run| {
        format!(
            "swept what run {} had left: {} processes, {} acts",
            run.run,
            run.killed.len(),
            run.undone.len()
        )
    });
    Ok((recorder, journal, swept.collect()))
}

/// Why this host can't be used for a run: what an earlier one left and nobody could undo. It would be measured too.
pub(super) fn dirty(swept: &[Swept]) -> Option<String> {
    let left: Vec<String> = swept
        .iter()
        .filter(|run| !run.left.is_empty())
        .map(|run| format!("run {} left: {}", run.run, run.left.join(", ")))
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "this host is dirty, and could not be swept: {}; end what is named by hand, then run `firedrill heal`",
            left.join("; ")
        )
    })
}

fn first_files(dir: &Path, plan: &Plan, header: &Header, state: &StateDir) -> Result<(Recorder, Journal), String> {
    let resolved = dir.join("scenario.resolved.yaml");
    std::fs::write(&resolved, plan.to_yaml()?).map_err(|error| format!("write {}: {error}", resolved.display()))?;
    let history = dir.join(history::FILE_NAME);
    let recorder =
        Recorder::create(&history, header.clone(), RecorderLimits::default()).map_err(|error| error.to_string())?;
    let journal = Journal::create(dir, &unique_run(&plan.scenario), state).map_err(|error| error.to_string())?;
    Ok((recorder, journal))
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
    async fn conclude(&mut self, result: Result<(), Halt>) {
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
    }

    /// Closes the journal. What it still holds then was passed by: a panic went through whoever was to undo it.
    async fn leave_nothing(&self, journal: &Journal) {
        let closed = match journal.close() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (ended, left) = end_own(journal.run(), None, self.clock).await;
                self.note(
                    HarnessKind::Note,
                    format!("ended what was left of the run: {} processes", ended.len()),
                );
                for left in &left {
                    self.note(HarnessKind::Dirty, format!("{left}; end it, then run `firedrill heal`"));
                }
                if left.is_empty() { journal.close_swept() } else { Ok(()) }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            self.note(HarnessKind::Dirty, format!("{error}; run `firedrill heal`"));
        }
    }
}

/// Judges what was recorded and writes the folder's other files.
async fn judge(dir: &Path, recorder: &Recorder) -> Ended {
    let (recorder, dir) = (recorder.clone(), dir.to_owned());
    let judged = tokio::task::spawn_blocking(move || conclude(&recorder, &dir)).await;
    match judged {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => failed(Exit::Internal, error),
        Err(error) => failed(Exit::Internal, format!("the judging failed: {error}")),
    }
}

fn conclude(recorder: &Recorder, dir: &Path) -> Result<Ended, String> {
    let unfinished = recorder.finish().err();
    let mut recorded = recorder.recorded();
    // What happened is in memory all the same: it is judged, and said to be in no file.
    if let Some(error) = unfinished {
        recorded.events.push(Event::Harness(HarnessEvent {
            at: recorded.events.last().map(Event::at).unwrap_or_default(),
            kind: HarnessKind::Failure,
            text: format!("the history could not be finished, and `firedrill check` won't say the same: {error}"),
        }));
    }
    let judgement = report::judge_events(recorded.header, recorded.events, None);
    report::write_all(&judgement, dir).map_err(|error| error.to_string())?;
    let document = report::document(&judgement);
    Ok(Ended {
        verdict: judgement.verdict().as_str().to_owned(),
        exit_code: i32::from(judgement.exit().code()),
        reasons: judgement.reasons.clone(),
        summary: report::summary(&judgement, false),
        summary_coloured: report::summary(&judgement, true),
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
    let directory = std::env::current_dir().map_err(|error| format!("ask for the working folder: {error}"))?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = [
        ("firedrill", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("machine", uname.machine().to_string_lossy().into_owned()),
        ("cores", cores.to_string()),
        // The scenario's path in the plan is as it was given, from here.
        ("directory", directory.display().to_string()),
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
