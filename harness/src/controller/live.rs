//! A run as it is watched: from its beginning, and then as it happens.

use std::path::PathBuf;

use tokio::sync::{mpsc, watch};

use crate::{
    base::Nanos,
    history::{self, Event, FaultChange, FaultEvent, HarnessKind, PhaseEvent, Recorder},
    workload::Progress,
};

/// How many events wait for a slow watcher; the feed then waits for it, and the run does not.
const BUFFER: usize = 256;

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
pub enum LiveEvent {
    /// The run entered a phase.
    Phase(PhaseEvent),
    /// A fault moved on.
    Fault(FaultEvent),
    /// How the load goes. Older ones are skipped for a slow watcher.
    Progress(Tick),
    /// The harness noticed something.
    Note {
        /// When.
        at: Nanos,
        /// What.
        text: String,
        /// False for what is merely worth knowing.
        warning: bool,
    },
    /// The run ended; nothing follows.
    Ended(Ended),
}

/// How the load goes at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// When.
    pub at: Nanos,
    /// All systems' classes together.
    pub progress: Progress,
    /// Faults that last.
    pub faults_active: u32,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// When.
    pub at: Nanos,
    /// `pass`, `fail` or `unknown`.
    pub verdict: String,
    /// As in the command's contract.
    pub exit_code: i32,
    /// Why it is not a pass.
    pub reasons: Vec<String>,
    /// `run.json`, whole; empty when the run did not come to be judged.
    pub run_json: String,
    /// What a person reads; empty when the run did not come to be judged.
    pub summary: String,
    /// The same with a terminal's colours.
    pub summary_coloured: String,
    /// Whether it ended because it was asked to.
    pub interrupted: bool,
}

/// What a run shows of itself while it goes on.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its folder.
    pub dir: PathBuf,
    /// Its history, once it has one and until it is judged: then its folder holds it.
    pub recorder: watch::Receiver<Option<Recorder>>,
    /// The last tick.
    pub progress: watch::Receiver<Tick>,
    /// Set once, at its end.
    pub ended: watch::Receiver<Option<Ended>>,
}

impl Feed {
    /// Follows the run from its beginning to its end.
    #[must_use]
    pub fn follow(self) -> mpsc::Receiver<LiveEvent> {
        let (events, follower) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            // An error means that the watcher has gone.
            let _ = self.run(&events).await;
        });
        follower
    }

    async fn run(mut self, events: &mpsc::Sender<LiveEvent>) -> Result<(), mpsc::error::SendError<LiveEvent>> {
        if let Some(recorder) = self.recorder().await {
            let mut history = recorder.subscribe(0);
            let mut ticking = true;
            loop {
                tokio::select! {
                    biased;
                    batch = history.next() => {
                        let Some(batch) = batch else { break };
                        for event in batch.iter().filter_map(|event| told(event)) {
                            events.send(event).await?;
                        }
                    }
                    changed = self.progress.changed(), if ticking => {
                        ticking = changed.is_ok();
                        let tick = self.progress.borrow_and_update().clone();
                        events.send(LiveEvent::Progress(tick)).await?;
                    }
                }
            }
        } else {
            for event in self.written().await {
                events.send(event).await?;
            }
        }
        let ended = self
            .ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|ended| ended.clone());
        let ended = ended.unwrap_or_else(|| Ended {
            verdict: "unknown".to_owned(),
            exit_code: 1,
            reasons: vec!["the controller ended before the run did".to_owned()],
            ..Ended::default()
        });
        events.send(LiveEvent::Ended(ended)).await
    }

    /// What the folder of an ended run tells; nothing when the run ended before it had a history.
    async fn written(&self) -> Vec<LiveEvent> {
        let path = self.dir.join(history::FILE_NAME);
        let read = tokio::task::spawn_blocking(move || {
            if !path.exists() {
                return Ok(Vec::new());
            }
            let recorded = history::read(&path).map_err(|error| error.to_string())?;
            Ok(recorded.events.iter().filter_map(told).collect())
        });
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        read.unwrap_or_else(|error: String| {
            vec![LiveEvent::Note {
                at: Nanos(0),
                text: format!("what happened can't be told again: {error}"),
                warning: true,
            }]
        })
    }

    /// The recorder; none when the run ended before it had one, or is judged.
    async fn recorder(&mut self) -> Option<Recorder> {
        tokio::select! {
            biased;
            recorder = self.recorder.wait_for(Option::is_some) => recorder.ok().and_then(|recorder| recorder.clone()),
            _ = self.ended.wait_for(Option::is_some) => None,
        }
    }
}

fn told(event: &Event) -> Option<LiveEvent> {
    match event {
        Event::Phase(event) => Some(LiveEvent::Phase(event.clone())),
        Event::Fault(event) => Some(LiveEvent::Fault(event.clone())),
        Event::Harness(event) => Some(LiveEvent::Note {
            at: event.at,
            text: event.text.clone(),
            warning: event.kind != HarnessKind::Note,
        }),
        _ => None,
    }
}

/// A fault's change in one word, and what was seen.
#[must_use]
pub fn change_in_words(change: &FaultChange) -> (&'static str, &str) {
    match change {
        FaultChange::Requested => ("requested", ""),
        FaultChange::Installed { evidence, .. } => ("installed", evidence),
        FaultChange::Skipped { reason } => ("skipped", reason),
        FaultChange::Indeterminate { reason } => ("indeterminate", reason),
        FaultChange::HealRequested => ("heal_requested", ""),
        FaultChange::Healed { evidence, .. } => ("healed", evidence),
        FaultChange::HealFailed { reason } => ("heal_failed", reason),
    }
}
