//! `firedrill check`: judge an old run again, from its folder alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::output::{Format, github, note, out, out_json};
use crate::{
    base::Exit,
    history::FILE_NAME,
    report::{self, Judgement},
};

const EXAMPLES: &str = "\
Examples:
  firedrill check runs/leader-kill/42           judge one run again
  firedrill check runs/                         every run below, the worst exit code
  firedrill check --format json runs/leader-kill/42 | jq .recovery

Only the history is read, so this build's judgement can differ from the one of the build that made the run.
Ends as the run would have: 0 pass, 5 inconclusive, 6 budget exceeded, 7 promise broken, ...";

/// How deep runs are looked for below a folder: a folder of scenarios, of seeds, of runs.
const DEPTH_MAX: usize = 4;
/// More runs than this are surely a mistake.
const RUNS_MAX: usize = 10_000;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folders of runs, or folders above them
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    let mut exits = Vec::new();
    let mut documents = Vec::new();
    for dir in &args.dirs {
        let runs = match runs_below(dir) {
            Ok(runs) => runs,
            Err(problem) => {
                note(&problem);
                exits.push(Exit::Usage);
                continue;
            }
        };
        for run in runs {
            match report::judge(&run) {
                Ok(judgement) => {
                    exits.push(judgement.exit());
                    match args.format {
                        Format::Human => out(&report::summary(&judgement, colour_out())),
                        Format::Json => documents.extend(serde_json::to_value(report::document(&judgement))),
                        Format::Github => out(&annotations(&run, &judgement)),
                    }
                }
                Err(error) => {
                    note(&format!("failed to judge {}: {error}", run.display()));
                    exits.push(Exit::Usage);
                }
            }
        }
    }
    if args.format == Format::Json {
        // One run is one document; several are a list.
        match documents.as_slice() {
            [one] => out_json(one),
            several => out_json(&several),
        }
    }
    Exit::worst(exits)
}

/// Whether standard output is a terminal that wants colour.
pub(super) fn colour_out() -> bool {
    use std::io::IsTerminal as _;
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn annotations(run: &Path, judgement: &Judgement) -> String {
    let level = match judgement.exit() {
        Exit::Pass => "notice",
        Exit::Inconclusive => "warning",
        _ => "error",
    };
    let path = judgement.history.header.plan["path"].as_str().unwrap_or_default();
    let path = if path.is_empty() {
        run.display().to_string()
    } else {
        path.to_owned()
    };
    let what = format!(
        "{}: {}",
        judgement.verdict().as_str(),
        judgement
            .reasons
            .first()
            .map_or("every promise and budget was kept", String::as_str)
    );
    github(level, &path, 0, 0, &what)
}

/// The folders at and below `dir` that hold a history, in the order of their names.
pub(super) fn runs_below(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(dir, DEPTH_MAX, &mut found).map_err(|e| format!("failed to look into {}: {e}", dir.display()))?;
    if found.is_empty() {
        return Err(format!(
            "there is no run in {}: a run's folder holds a {FILE_NAME}",
            dir.display()
        ));
    }
    Ok(found)
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if dir.join(FILE_NAME).is_file() {
        found.push(dir.to_owned());
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A link could lead round in a circle.
        if entry.file_type()?.is_dir() {
            below.push(entry.path());
        }
    }
    below.sort();
    for dir in below {
        if depth == 0 || found.len() >= RUNS_MAX {
            break;
        }
        collect(&dir, depth - 1, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{
        Recorder, RecorderLimits,
        synth::{Effect, Script, Scripted},
    };

    fn run_in(dir: &Path, script: &Script) {
        fs::create_dir_all(dir).unwrap();
        let recorder = Recorder::create(&dir.join(FILE_NAME), script.header(), RecorderLimits::default()).unwrap();
        for event in script.events() {
            recorder.record(event);
        }
        recorder.finish().unwrap();
    }

    fn check(dirs: &[&Path], format: Format) -> Exit {
        main(&Args {
            dirs: dirs.iter().map(|d| (*d).to_owned()).collect(),
            format,
        })
    }

    #[test]
    fn the_worst_of_the_runs_below_is_returned() {
        let dir = tempfile::tempdir().unwrap();
        let good = Script::default();
        let stuck = Script {
            outages: vec![Scripted::ms(5000, 15_990, Effect::Refuse)],
            ..Script::default()
        };
        run_in(&dir.path().join("a/1"), &good);
        run_in(&dir.path().join("a/2"), &stuck);
        assert_eq!(runs_below(dir.path()).unwrap().len(), 2);
        for format in [Format::Human, Format::Json, Format::Github] {
            assert_eq!(check(&[&dir.path().join("a/1")], format), Exit::Pass);
            assert_ne!(check(&[dir.path()], format), Exit::Pass);
        }
        let judgement = report::judge(&dir.path().join("a/2")).unwrap();
        assert!(annotations(dir.path(), &judgement).starts_with("::warning file="));
    }

    #[test]
    fn a_folder_without_a_run_and_a_broken_history_are_usage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(&[dir.path()], Format::Human), Exit::Usage);
        assert_eq!(check(&[&dir.path().join("nowhere")], Format::Human), Exit::Usage);
        fs::write(dir.path().join(FILE_NAME), "noise").unwrap();
        assert_eq!(check(&[dir.path()], Format::Human), Exit::Usage);
    }
}
