//! `firedrill run`: rehearses scenarios, shows how it goes, and ends with the verdict.
//!
//! It speaks to a controller in its own process through the same gRPC as a stranger would.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use firedrill_proto::firedrill::v1::{
    AbortRunRequest, RunEnded, StartRunRequest, WatchRunRequest, controller_client::ControllerClient, run_event::Event,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::transport::Channel;

use super::{
    batch::{self, Job},
    output::{Format, colour, note, out, out_json},
    runtime, scenarios,
    watch::Watch,
};
use crate::{
    backend::{
        journal::{self, Act, StateDir},
        procfs,
    },
    base::Exit,
    controller::Controller,
    grpc, plan,
    scenario::{self, Loaded},
    system,
};

const EXAMPLES: &str = "\
Examples:
  firedrill run scenarios/outages/whatsapp-2014-vlan.yaml
                                            the main job: exit 0 is a pass, everything is in runs/
  firedrill run leader-kill --seed 7        by name, from the folder scenarios/, with another seed
  firedrill run leader-kill --repeat 5 --out /tmp/five
                                            five seeds in a row, and what each figure comes to over them
  firedrill run scenarios/fault/*.yaml --format github
                                            in CI: one line of annotation for each run that is no pass

A run's folder holds run.json, history.jsonl.zst, scenario.resolved.yaml, report.html, junit.xml, series.csv,
latency.hlog, trace.otlp.json and the nodes' logs.
Several runs end with a table: each recovery figure's extremes, median and its interval (six seeds or more), p95. It is
in DIR/summary.json as well (DIR is --out, else a new runs/batch-N), and `firedrill compare` lays two such folders
beside each other. --format json prints one document: run.json, or of several runs the summary with each run.json in it.
Ctrl-C heals what is broken, judges what there is, and ends with 130; a second one ends at once, with 8, and says what
was not healed. Several runs end with the worst exit code.";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Scenario files, or names of scenarios in the folder scenarios/
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// Where the nodes run: see `firedrill list backends`
    #[arg(long, default_value = crate::backend::ALL[0].name)]
    backend: String,
    /// The seed of everything random, instead of the scenario's own
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run, counting up from the first; instead of the scenario's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: Option<u32>,
    /// The run's folder, unless said runs/<scenario>/<seed>; of several runs DIR/<scenario>/<seed> below a summary.json,
    /// unless said in a new runs/batch-N
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Args {
    /// One run of one scenario.
    pub(super) fn of(scenario: String, seed: u64, backend: String, out: Option<PathBuf>, format: Format) -> Self {
        Self {
            scenarios: vec![scenario],
            backend,
            seed: Some(seed),
            repeat: Some(1),
            out,
            format,
        }
    }
}

/// The runs to be, and the folder above them when they are several.
struct Batch {
    jobs: Vec<Job>,
    top: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Exit {
    match jobs(args) {
        Ok(batch) => runtime::block_on(run_all(args, batch)),
        Err(exit) => exit,
    }
}

/// Everything that can be refused is refused here, before the first run starts.
fn jobs(args: &Args) -> Result<Batch, Exit> {
    let mut jobs = Vec::new();
    for name in &args.scenarios {
        let path = scenarios::find(name).unwrap_or_else(|| name.into());
        let loaded = scenario::load(&path).map_err(|error| {
            note(&error.render(colour()));
            Exit::Invalid
        })?;
        let first = plan::plan(&loaded, args.seed, &args.backend).map_err(|error| {
            note(&format!("{}: {error}", path.display()));
            error.exit()
        })?;
        if let Some(missing) = first.systems.iter().find_map(system::missing) {
            note(&format!("{}: {missing}", path.display()));
            return Err(Exit::Capability);
        }
        for offset in 0..u64::from(args.repeat.unwrap_or(first.repeat)) {
            jobs.push(job(&loaded, &first.scenario, first.seed.wrapping_add(offset)));
        }
    }
    if let Some(twice) = batch::repeated(&jobs) {
        note(&format!(
            "{} with seed {} is asked for twice, and would be the same run; name it once, or use --repeat for more seeds",
            twice.scenario, twice.seed
        ));
        return Err(Exit::Usage);
    }
    let top = batch::place(&mut jobs, args.out.as_deref()).map_err(|error| {
        note(&error);
        Exit::Internal
    })?;
    if let Some(taken) = jobs
        .iter()
        .filter_map(|job| job.dir.as_deref())
        .find(|dir| holds_anything(dir))
    {
        note(&format!(
            "{} is not empty: name a new folder with --out, an old run is never written over",
            taken.display()
        ));
        return Err(Exit::Usage);
    }
    Ok(Batch { jobs, top })
}

fn holds_anything(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn job(loaded: &Loaded, scenario: &str, seed: u64) -> Job {
    Job {
        yaml: loaded.text.clone(),
        path: loaded.path.clone(),
        scenario: scenario.to_owned(),
        seed,
        dir: None,
    }
}

async fn run_all(args: &Args, Batch { jobs, top }: Batch) -> Exit {
    // Listened to once: a signal between two runs ends the batch too.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            note(&format!("failed to listen for Ctrl-C and SIGTERM: {error}"));
            return Exit::Internal;
        }
    };
    let controller = Controller::new();
    let (mut client, _served) = match grpc::embed(controller.clone()).await {
        Ok(embedded) => embedded,
        Err(error) => {
            note(&format!("failed to start the controller: {error}"));
            return Exit::Internal;
        }
    };
    let several = jobs.len() > 1;
    let mut done = Vec::new();
    let mut stopped = None;
    for job in jobs {
        if signals.seen() {
            stopped = Some((Exit::Interrupted, "interrupted between two runs".to_owned()));
            break;
        }
        if several && args.format == Format::Human {
            note(&format!("\n{} seed {}", job.scenario, job.seed));
        }
        let (dir, ended) = match one(args, &mut client, &job, &mut signals).await {
            Ok(ended) => ended,
            Err(status) => {
                let why = format!("failed to run {} seed {}: {}", job.path, job.seed, status.message());
                note(&why);
                stopped = Some((Exit::Internal, why));
                break;
            }
        };
        let exit = u8::try_from(ended.exit_code)
            .ok()
            .and_then(Exit::from_code)
            .unwrap_or(Exit::Internal);
        show(args.format, &job, &dir, &ended);
        done.push(batch::Outcome {
            job,
            dir,
            exit,
            verdict: ended.verdict,
            run_json: serde_json::from_str(&ended.run_json).unwrap_or_default(),
        });
        // A signal that came while the run was already being judged changes its verdict no more, but ends the batch.
        if signals.seen() {
            stopped = Some((Exit::Interrupted, "interrupted".to_owned()));
            break;
        }
    }
    controller.shut_down().await;
    let (exit, why) = stopped.unzip();
    let exit = Exit::worst(done.iter().map(|outcome| outcome.exit).chain(exit));
    let summary = batch::summary(&done, exit, why.as_deref());
    let written = top.as_deref().map_or(Ok(()), |top| batch::write(&summary, top));
    if several {
        note(&batch::table(&done, exit));
    }
    if args.format == Format::Json {
        out_json(&batch::document(&done, summary, several));
    }
    match written {
        Ok(()) => exit,
        Err(error) => {
            note(&error);
            Exit::worst([exit, Exit::Internal])
        }
    }
}

/// Ctrl-C and SIGTERM, counted over the whole command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    count: u32,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            count: 0,
        })
    }

    /// Waits for the next; how many there were with it.
    async fn next(&mut self) -> u32 {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.count += 1;
        self.count
    }

    /// Whether there was one.
    fn seen(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for signal in [&mut self.interrupt, &mut self.terminate] {
            if signal.poll_recv(&mut context).is_ready() {
                self.count += 1;
            }
        }
        self.count > 0
    }
}

/// One run, watched to its end. A first signal heals and ends it; a second ends without healing.
async fn one(
    args: &Args,
    client: &mut ControllerClient<Channel>,
    job: &Job,
    signals: &mut Signals,
) -> Result<(PathBuf, RunEnded), tonic::Status> {
    let request = StartRunRequest {
        scenario_yaml: job.yaml.clone(),
        scenario_path: job.path.clone(),
        seed: Some(job.seed),
        backend: args.backend.clone(),
        out_dir: job
            .dir
            .as_deref()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default(),
    };
    let started = client.start_run(request).await?.into_inner();
    let run = started.run;
    let dir = PathBuf::from(started.dir);
    let mut events = client
        .watch_run(WatchRunRequest { run: run.clone() })
        .await?
        .into_inner();
    let mut watch = match args.format {
        Format::Human => Watch::new(std::io::stderr().is_terminal()),
        Format::Json | Format::Github => Watch::silent(),
    };
    loop {
        let count = tokio::select! {
            biased;
            count = signals.next() => count,
            event = events.message() => {
                let Some(event) = event? else {
                    return Err(tonic::Status::internal("the run's events ended before the run did"));
                };
                watch.on_event(&event);
                if let Some(Event::Ended(ended)) = event.event {
                    return Ok((dir, ended));
                }
                continue;
            }
        };
        if count > 1 {
            watch.close();
            note(&unhealed(&dir));
            // Not 130, which says that all was healed.
            std::process::exit(i32::from(Exit::HealFailed.code()));
        }
        note("healing and ending; once more ends at once, without healing");
        client.abort_run(AbortRunRequest { run: run.clone() }).await?;
    }
}

/// What a run in `dir` leaves when it is ended without healing, and the remedy.
fn unhealed(dir: &Path) -> String {
    let pointers = StateDir::of_user()
        .and_then(|state| state.pointers())
        .unwrap_or_default();
    let mut text = "ended without healing".to_owned();
    for pointer in pointers.iter().filter(|pointer| pointer.journal.starts_with(dir)) {
        let processes: Vec<String> = procfs::marked(&pointer.run)
            .iter()
            .map(|process| process.pid.to_string())
            .collect();
        text.push_str(&format!(
            "\n  run {}: the kernel ends its processes with this one ({})",
            pointer.run,
            processes.join(", ")
        ));
        for act in journal::read(&pointer.journal)
            .map(|read| read.undone)
            .unwrap_or_default()
        {
            match act {
                Act::Fault { id, targets, .. } => {
                    text.push_str(&format!("\n  fault {id} on {} was not healed", targets.join(", ")));
                }
                Act::Mount { at, .. } => {
                    text.push_str(&format!("\n  {} stays mounted, and serves nobody", at.display()))
                }
                Act::Start { .. } | Act::Started { .. } => {}
            }
        }
    }
    text + &format!(
        "\n  {} is not judged; run `firedrill check` on it for what can be told\nrun `firedrill heal`: it ends what is left and says so",
        dir.display()
    )
}

fn show(format: Format, job: &Job, dir: &Path, ended: &RunEnded) {
    match format {
        _ if ended.run_json.is_empty() => {
            for reason in &ended.reasons {
                note(&format!("failed to run {}: {reason}", job.path));
            }
        }
        Format::Human => {
            out(if std::io::stdout().is_terminal() {
                &ended.summary_coloured
            } else {
                &ended.summary
            });
            out(&format!("\n{}\n", dir.join("report.html").display()));
        }
        // One document, once all have ended.
        Format::Json => {}
        Format::Github => out(&batch::annotation(job, dir, ended)),
    }
}
