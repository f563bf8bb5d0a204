//! Thousands of seeds of the simulated cluster, on all cores, to be stopped and resumed at any time.
//!
//! `cargo run --release -p target-service --example seeds -- --seeds 5000 --state seeds.txt`
//!
//! The file has a line for each seed that was run, so that a later start goes on where this one ended. A seed that broke a
//! promise is printed with the command that repeats it, and makes the exit code 7; the others go on. With a plant
//! (`--features target-service/plants`, `--plant NAME`) seeds are expected to break promises: a positive control.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser as _;
use target_service::{
    node::Plant,
    sim::{Outcome, SimOptions, simulate},
};

/// Runs seeds of the simulated cluster.
#[derive(Debug, clap::Parser)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Seeds at a time; all cores unless said
    #[arg(long)]
    jobs: Option<usize>,
    /// Notes the seeds that were run, and leaves out those that it has
    #[arg(long)]
    state: Option<PathBuf>,
    /// A deliberate error, in a build that has them
    #[arg(long)]
    plant: Option<String>,
}

/// A promise was broken.
const BROKEN: u8 = 7;
/// The arguments can't be.
const USAGE: u8 = 2;
/// From one line of progress to the next, in seeds.
const PROGRESS_EVERY: u64 = 100;

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    broken: Vec<u64>,
    acknowledged: u64,
    delivered: u64,
    elections: u64,
    stale_routes: u64,
    mixed: u64,
    acts: BTreeMap<&'static str, u64>,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.acknowledged += outcome.acknowledged as u64;
        self.delivered += outcome.delivered as u64;
        self.elections += outcome.elections as u64;
        self.stale_routes += outcome.stale_routes.0;
        self.mixed += u64::from(outcome.boots.0 > 0);
        for (kind, count) in &outcome.acts {
            *self.acts.entry(kind).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            self.broken.push(seed);
        }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds ({} with mixed versions), {} broken; {} sends acknowledged, {} delivered, {} elections, {} stale \
             routes followed; faults {:?}",
            self.seeds,
            self.mixed,
            self.broken.len(),
            self.acknowledged,
            self.delivered,
            self.elections,
            self.stale_routes,
            self.acts
        )
    }
}

/// The seeds that a state file has, and the file, open for more.
fn resume(path: &PathBuf) -> io::Result<(BTreeSet<u64>, File)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // A line that a kill cut short has no end, and counts as not run.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let seeds = whole.lines().filter_map(|line| line.split(' ').next()?.parse().ok());
    let done = seeds.collect();
    if !text.is_empty() && !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    Ok((done, file))
}

/// What broke, and how to see it again.
fn complain(seed: u64, plant: Option<Plant>, outcome: &Outcome) -> String {
    let mut text = format!("seed {seed} broke {} promises:", outcome.violations.len());
    for violation in &outcome.violations {
        let _ = write!(text, "\n  {violation}");
    }
    let (features, planted) = plant.map_or_else(Default::default, |plant| {
        (" --features plants", format!("SIM_PLANT={} ", plant.as_str()))
    });
    let test = "--test sim_schedules chosen_seeds -- --nocapture";
    let _ = write!(
        text,
        "\n  repeat: {planted}SIM_SEED={seed} cargo test -p target-service{features} {test}"
    );
    text
}

fn main() -> ExitCode {
    let args = Args::parse();
    let usage = |why: String| {
        eprintln!("failed to start: {why}");
        ExitCode::from(USAGE)
    };
    let plant = match args.plant.as_deref().map(|name| (name, Plant::named(name))) {
        None => None,
        Some((_, Some(plant))) if cfg!(feature = "plants") => Some(plant),
        Some((name, Some(_))) => return usage(format!("--plant {name}: build it with --features plants")),
        Some((name, None)) => return usage(format!("--plant {name}: there is no such plant")),
    };
    let (done, state) = match args.state.as_ref().map(resume).transpose() {
        Ok(found) => found.map_or_else(Default::default, |(done, file)| (done, Some(Mutex::new(file)))),
        Err(error) => return usage(format!("--state {:?}: {error}", args.state.unwrap_or_default())),
    };
    let jobs = args
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (next, end) = (AtomicU64::new(args.from), args.from.saturating_add(args.seeds));
    let total = Mutex::new(Total::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            if done.contains(&seed) {
                continue;
            }
            let mut options = SimOptions::from_seed(seed);
            options.plant = plant;
            let outcome = simulate(&options)?;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.add(seed, &outcome);
            if !outcome.violations.is_empty() {
                println!("{}", complain(seed, plant, &outcome));
            }
            if total.seeds.is_multiple_of(PROGRESS_EVERY) {
                println!("{total}");
            }
            if let Some(state) = &state {
                let word = if outcome.violations.is_empty() { "ok" } else { "broken" };
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(state, "{seed} {word}")?;
            }
        }
    };
    let ended: Vec<io::Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let panicked = || Err(io::Error::other("a seed panicked: see above"));
        threads
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|_| panicked()))
            .collect()
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{total}");
    if !done.is_empty() {
        println!("{} seeds had been run before", done.len());
    }
    if let Some(error) = ended.into_iter().find_map(Result::err) {
        eprintln!("failed to run a seed: {error}");
        return ExitCode::FAILURE;
    }
    if total.broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("broken: {:?}", total.broken);
    ExitCode::from(BROKEN)
}
