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
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Channel;

use super::{
    batch::{self, Job},
    output::{Format, colour, note, out},
    runtime, scenarios,
    watch::Watch,
};
use crate::{
    base::Exit,
    controller::Controller,
    grpc, plan, report,
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
Several runs end with a table: each recovery figure's extremes, median and its interval (six seeds or more), p95. With
--out it is in summary.json as well, and `firedrill compare` lays two such folders beside each other.
Ctrl-C heals what is broken, judges what there is, and ends with 130. Several runs end with the worst exit code.";

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
    /// The run's folder; several runs get DIR/<scenario>/<seed>/ and a summary. Unless said: runs/<scenario>/<seed>
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    let jobs = match jobs(args) {
        Ok(jobs) => jobs,
        Err(exit) => return exit,
    };
    runtime::block_on(run_all(args, jobs))
}

/// Everything that can be refused is refused here, before the first run starts.
fn jobs(args: &Args) -> Result<Vec<Job>, Exit> {
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
        if let Some(missing) = first.systems.iter().find_map(system::missing_program) {
            note(&format!("{}: {missing}", path.display()));
            return Err(Exit::Capability);
        }
        for offset in 0..u64::from(args.repeat.unwrap_or(first.repeat)) {
            jobs.push(job(&loaded, &first.scenario, first.seed.wrapping_add(offset)));
        }
    }
    batch::place(&mut jobs, args.out.as_deref());
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
    Ok(jobs)
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

async fn run_all(args: &Args, jobs: Vec<Job>) -> Exit {
    let controller = Controller::new();
    let (mut client, _served) = match grpc::embed(controller.clone()).await {
        Ok(embedded) => embedded,
        Err(error) => {
            note(&format!("failed to start the controller: {error}"));
            return Exit::Internal;
        }
    };
    let mut done = Vec::new();
    let several = jobs.len() > 1;
    let mut stopped = false;
    for job in jobs {
        if several && args.format == Format::Human {
            note(&format!("\n{} seed {}", job.scenario, job.seed));
        }
        let (dir, ended, interrupted) = match one(args, &mut client, &job).await {
            Ok(ended) => ended,
            Err(status) => {
                note(&format!("failed to run {}: {}", job.path, status.message()));
                return Exit::Internal;
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
        if interrupted {
            stopped = true;
            break;
        }
    }
    controller.shut_down().await;
    if several && let Err(error) = batch::summarise(&done, args.out.as_deref()) {
        note(&error);
    }
    let ends = done.iter().map(|outcome| outcome.exit);
    Exit::worst(ends.chain(stopped.then_some(Exit::Interrupted)))
}

/// One run, watched to its end, and whether it was interrupted. A first signal heals and ends it; a second leaves the healing to the next sweep.
async fn one(
    args: &Args,
    client: &mut ControllerClient<Channel>,
    job: &Job,
) -> Result<(PathBuf, RunEnded, bool), tonic::Status> {
    let failed = |what: &str, error: std::io::Error| tonic::Status::internal(format!("{what}: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed("listen for Ctrl-C", error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed("listen for SIGTERM", error))?;
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
    let mut events = client
        .watch_run(WatchRunRequest { run: run.clone() })
        .await?
        .into_inner();
    let mut watch = match args.format {
        Format::Human => Watch::new(std::io::stderr().is_terminal()),
        Format::Json | Format::Github => Watch::silent(),
    };
    let mut signals = 0_u32;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => signals += 1,
            _ = terminate.recv() => signals += 1,
            event = events.message() => {
                let Some(event) = event? else {
                    return Err(tonic::Status::internal("the run's events ended before the run did"));
                };
                watch.on_event(&event);
                if let Some(Event::Ended(ended)) = event.event {
                    return Ok((PathBuf::from(started.dir), ended, signals > 0));
                }
                continue;
            }
        }
        if signals > 1 {
            watch.close();
            note("ended without healing: the nodes end with this process, `firedrill heal` sweeps the rest");
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        note("healing and ending; once more ends at once");
        client.abort_run(AbortRunRequest { run: run.clone() }).await?;
    }
}

fn show(format: Format, job: &Job, dir: &Path, ended: &RunEnded) {
    match format {
        Format::Human if ended.run_json.is_empty() => {
            for reason in &ended.reasons {
                note(&format!("failed to judge the run: {reason}"));
            }
        }
        // Judged again from the folder: what a person reads is what `firedrill check` will say.
        Format::Human => match report::judge(dir) {
            Ok(judgement) => {
                out(&report::summary(&judgement, std::io::stdout().is_terminal()));
                out(&format!("\n{}\n", dir.join("report.html").display()));
            }
            Err(error) => note(&format!("failed to read the run back: {error}")),
        },
        Format::Json => out(&format!("{}\n", ended.run_json.trim_end())),
        Format::Github => out(&batch::annotation(job, dir, ended)),
    }
}
