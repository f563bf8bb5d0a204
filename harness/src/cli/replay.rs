//! `firedrill replay`: resolves an old run's scenario again, says whether it still means the same, and runs it if asked.

use std::path::{Path, PathBuf};

use super::{
    output::{Format, note, out, out_json},
    run,
};
use crate::{
    base::Exit,
    history,
    plan::{self, Plan},
    scenario,
};

const EXAMPLES: &str = "\
Examples:
  firedrill replay runs/leader-kill/42              resolve the old run's scenario again and compare the plans
  firedrill replay runs/leader-kill/42 --run        the same, and run it again when the plans are the same
  firedrill replay runs/leader-kill/42 --format json

The plan is in the history's header. The scenario file is read again from where it was, whatever folder you are in, and
resolved with the same seed and backend. Ends with 0 when it comes to the same plan; with 3 when it now means something
else, and says what differs; with --run, as the run does.";

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of the old run
    dir: PathBuf,
    /// Run it again, when the plan is the same
    #[arg(long)]
    run: bool,
    /// The new run's folder; unless said: runs/<scenario>/<seed>, numbered
    #[arg(long, value_name = "DIR", requires = "run")]
    out: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    let again = match again(&args.dir) {
        Ok(again) => again,
        Err((exit, text)) => {
            note(&text);
            return exit;
        }
    };
    let Again { plan, file } = again;
    if args.run {
        note("same plan; running it again");
        let file = file.display().to_string();
        return run::main(&run::Args::of(
            file,
            plan.seed,
            plan.backend,
            args.out.clone(),
            args.format,
        ));
    }
    match args.format {
        Format::Json => out_json(&plan),
        Format::Human | Format::Github => {
            out(&plan::table(&plan));
            note(&format!(
                "same plan; run it again with: firedrill replay {} --run",
                args.dir.display()
            ));
        }
    }
    Exit::Pass
}

/// An old plan to which its scenario still resolves, and where the scenario was found.
struct Again {
    plan: Plan,
    file: PathBuf,
}

fn again(dir: &Path) -> Result<Again, (Exit, String)> {
    let path = dir.join(history::FILE_NAME);
    let header =
        history::read_header(&path).map_err(|error| (Exit::Usage, format!("failed to read the old run: {error}")))?;
    let directory = header.versions.get("directory").cloned().unwrap_or_default();
    let old: Plan = serde_json::from_value(header.plan).map_err(|error| {
        (
            Exit::Invalid,
            format!("failed to read the plan of {}: {error}", path.display()),
        )
    })?;
    let file = found(&old.path, Path::new(&directory), dir);
    let loaded = scenario::load(&file).map_err(|error| (Exit::Invalid, error.render(false)))?;
    let mut new =
        plan::plan(&loaded, Some(old.seed), &old.backend).map_err(|error| (error.exit(), error.to_string()))?;
    // As it was called then: a plan does not differ by where one stands.
    new.path.clone_from(&old.path);
    if new == old {
        return Ok(Again { plan: new, file });
    }
    let (old, new) = (yaml(&old)?, yaml(&new)?);
    Err((
        Exit::Invalid,
        format!(
            "different: {} now resolves to another plan:\n{}",
            loaded.path,
            differences(&old, &new)
        ),
    ))
}

/// Where a scenario is that was given as `path` in `directory`: there, or, when the tree was moved since, seen from a
/// folder above the run's. As it was given when it is nowhere, so that the message names what the run names.
fn found(path: &str, directory: &Path, run: &Path) -> PathBuf {
    let run = run.canonicalize().unwrap_or_else(|_| run.to_owned());
    std::iter::once(directory)
        .chain(run.ancestors())
        .map(|from| from.join(path))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(path))
}

fn yaml(plan: &Plan) -> Result<String, (Exit, String)> {
    plan.to_yaml().map_err(|error| (Exit::Internal, error))
}

/// The lines that differ, old and new, at most twenty of each.
fn differences(old: &str, new: &str) -> String {
    let lines = |of: &str, against: &str, sign: char| -> Vec<String> {
        let other: std::collections::BTreeSet<&str> = against.lines().collect();
        of.lines()
            .filter(|line| !other.contains(line))
            .take(20)
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    let mut text = lines(old, new, '-');
    text.extend(lines(new, old, '+'));
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_both_sides() {
        let text = differences("a: 1\nb: 2\n", "a: 1\nb: 3\n");
        assert_eq!(text, "- b: 2\n+ b: 3");
        assert_eq!(differences("a", "a"), "");
    }
}
