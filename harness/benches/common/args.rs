//! What the command line of a benchmark says.

use std::path::PathBuf;

use clap::Parser;

/// The arguments of every benchmark: behind `--`, as in `cargo bench -p firedrill --bench links -- --quick`.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// A few rounds only: shows that it works, and measures nothing worth keeping
    #[arg(long)]
    pub(crate) quick: bool,
    /// What is random is drawn from this
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Rounds of each row, instead of the benchmark's own number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: Option<u32>,
    /// The folder whose disk is used; one inside the build's own folder unless said
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Measure only the rows whose name contains this
    #[arg(long, value_name = "WORDS")]
    pub(crate) only: Option<String>,
    /// What `cargo bench` adds to every command line
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Rounds: as asked for; else `quick` or `full`.
    pub(crate) fn rounds(&self, quick: u32, full: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { quick } else { full })
    }

    /// Whether the row called `name` is measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|words| name.contains(words))
    }

    /// The command that does the same again.
    pub(crate) fn command(&self, bench: &str) -> String {
        let profile = if cfg!(debug_assertions) { " --profile dev" } else { "" };
        let mut command = format!(
            "cargo bench{profile} -p firedrill --bench {bench} -- --seed {}",
            self.seed
        );
        if self.quick {
            command.push_str(" --quick");
        }
        if let Some(rounds) = self.rounds {
            command.push_str(&format!(" --rounds {rounds}"));
        }
        if let Some(words) = &self.only {
            command.push_str(&format!(" --only '{words}'"));
        }
        if let Some(dir) = &self.dir {
            command.push_str(&format!(" --dir {}", dir.display()));
        }
        command
    }
}
