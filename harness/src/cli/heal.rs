//! `firedrill heal`: undoes what earlier runs left behind, and says what it did.

use std::path::PathBuf;

use serde::Serialize;

use super::output::{Format, note, out, out_json};
use crate::backend::journal::StateDir;
use crate::backend::process::{Swept, sweep};
use crate::base::{Exit, RunClock};

const EXAMPLES: &str = "\
Examples:
  firedrill heal                    end what a run that was killed has left
  firedrill heal --format json      the same, for programs

A run heals itself, and the next run sweeps first, so this is for when you want to be sure now. It ends processes that
carry the mark of a run whose harness is gone, frozen ones included, and nothing else. Runs under way are left alone.
Runs leave word of themselves in FIREDRILL_STATE_DIR, else under XDG_STATE_HOME or ~/.local/state.

Ends with 0 when nothing is left, with 8 when something could not be undone.";

/// Arguments of `heal`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where runs leave word of themselves, in place of the user's state directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    match heal(args) {
        Ok(swept) => {
            match args.format {
                Format::Json => out_json(&swept.iter().map(Report::of).collect::<Vec<_>>()),
                Format::Human | Format::Github => out(&text(&swept)),
            }
            exit_of(&swept)
        }
        Err(error) => {
            note(&format!("firedrill heal: {error}"));
            Exit::HealFailed
        }
    }
}

fn heal(args: &Args) -> Result<Vec<Swept>, Box<dyn std::error::Error>> {
    let state = match &args.state_dir {
        Some(directory) => StateDir::at(directory),
        None => StateDir::of_user()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(sweep(&state, RunClock::start()))?)
}

fn exit_of(swept: &[Swept]) -> Exit {
    if swept.iter().all(|run| run.left.is_empty()) {
        Exit::Pass
    } else {
        Exit::HealFailed
    }
}

/// One run, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    run: &'a str,
    under_way: bool,
    killed: &'a [u32],
    undone: &'a [String],
    left: &'a [String],
}

impl<'a> Report<'a> {
    fn of(swept: &'a Swept) -> Self {
        Self {
            run: &swept.run,
            under_way: swept.owned,
            killed: &swept.killed,
            undone: &swept.undone,
            left: &swept.left,
        }
    }
}

fn text(swept: &[Swept]) -> String {
    if swept.is_empty() {
        return "There is nothing to heal: no run has left anything behind.\n".to_owned();
    }
    let mut text = String::new();
    for run in swept {
        if run.owned {
            text.push_str(&format!("run {}: under way, left alone\n", run.run));
            continue;
        }
        let pids: Vec<String> = run.killed.iter().map(u32::to_string).collect();
        let ended = if pids.is_empty() {
            "no process of it was left".to_owned()
        } else {
            format!("ended process {}", pids.join(", "))
        };
        text.push_str(&format!("run {}: {ended}\n", run.run));
        for line in &run.undone {
            text.push_str(&format!("  {line}\n"));
        }
        for line in &run.left {
            text.push_str(&format!("  NOT UNDONE: {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_done_and_what_was_not() {
        assert!(text(&[]).contains("nothing to heal"));
        let clean = Swept {
            run: "r1".into(),
            killed: vec![7, 8],
            undone: vec!["fault 1-freeze (freeze on n1): ended with its processes".into()],
            ..Swept::default()
        };
        let live = Swept {
            run: "r2".into(),
            owned: true,
            ..Swept::default()
        };
        let dirty = Swept {
            run: "r3".into(),
            left: vec!["process 9 still runs".into()],
            ..Swept::default()
        };
        let all = [clean, live, dirty];
        let said = text(&all);
        for part in [
            "ended process 7, 8",
            "1-freeze",
            "r2: under way",
            "NOT UNDONE: process 9",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(exit_of(&all), Exit::HealFailed);
        assert_eq!(exit_of(&all[..2]), Exit::Pass);
    }

    #[test]
    fn an_empty_state_directory_is_nothing_to_heal() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args {
            state_dir: Some(dir.path().to_owned()),
            format: Format::Human,
        };
        assert_eq!(heal(&args).unwrap(), []);
    }
}
