//! From `main` to the exit code: what was asked for, on which machine, then the tables as they come.

use std::{error::Error, fs, process::ExitCode};

use clap::Parser as _;
use firedrill::base::{RunClock, Streams};
use tempfile::TempDir;

use super::{Args, Table, machine};

/// Why a benchmark could not be carried out.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a benchmark is.
pub(crate) struct About {
    /// Its name, as `cargo bench --bench` takes it.
    pub(crate) name: &'static str,
    /// What it measures, in one line.
    pub(crate) measures: &'static str,
}

/// What a benchmark is given.
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) clock: RunClock,
    pub(crate) streams: Streams,
    /// On the disk whose times are printed; removed in the end.
    pub(crate) folder: TempDir,
}

impl Bench {
    /// Prints a table as soon as it is there: a benchmark that fails later has said what it knew.
    pub(crate) fn print(&self, table: &Table) {
        println!("{table}");
    }
}

/// Runs a benchmark. What goes wrong is said, and ends with a failure: a table that is not there is not a good one.
pub(crate) fn main<F>(about: &About, measure: F) -> ExitCode
where
    F: AsyncFnOnce(&Bench) -> Result<()>,
{
    match run(about, measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", about.name);
            ExitCode::FAILURE
        }
    }
}

fn run<F>(about: &About, measure: F) -> Result<()>
where
    F: AsyncFnOnce(&Bench) -> Result<()>,
{
    let args = Args::parse();
    // Not the machine's folder for temporary files, which is often in memory: there a sync costs nothing.
    let parent = args.dir.clone().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    fs::create_dir_all(&parent).map_err(|error| format!("failed to make {}: {error}", parent.display()))?;
    let bench = Bench {
        clock: RunClock::start(),
        streams: Streams::new(args.seed),
        folder: tempfile::tempdir_in(&parent)?,
        args,
    };
    println!("# {}: {}\n", about.name, about.measures);
    println!("- command: `{}`", bench.args.command(about.name));
    println!("- machine: {}", machine::describe());
    println!("- load before: {}", machine::load());
    println!("- 4 KiB and fdatasync: {}\n", machine::fsync(bench.folder.path())?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&bench))?;
    println!("- load after: {}", machine::load());
    Ok(())
}
