//! `firedrill replay`: runs an old run's plan again, as it was resolved.

use std::path::PathBuf;

use super::output::{Format, note, out, out_json};
use crate::{
    base::Exit,
    history,
    plan::{self, Plan},
    scenario,
};

const EXAMPLES: &str = "\
Examples:
  firedrill replay runs/leader-kill/42              resolve the old run's scenario again and compare the plans
  firedrill replay runs/leader-kill/42 --format json

The plan is in the history's header. The scenario file is read again from the path in the plan, resolved with the same
seed and backend, and must come to the same plan; then `firedrill run` of it with that seed repeats the run. Ends with 3
when the file now means something else, and says what differs.";

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The folder of the old run
    dir: PathBuf,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    match again(args) {
        Ok(plan) => {
            match args.format {
                Format::Json => out_json(&plan),
                Format::Human | Format::Github => {
                    out(&plan::table(&plan));
                    note(&format!(
                        "same plan; run it again with: firedrill run {} --seed {} --backend {}",
                        plan.path, plan.seed, plan.backend
                    ));
                }
            }
            Exit::Pass
        }
        Err((exit, text)) => {
            note(&text);
            exit
        }
    }
}

fn again(args: &Args) -> Result<Plan, (Exit, String)> {
    let path = args.dir.join(history::FILE_NAME);
    let header = history::read(&path)
        .map_err(|error| (Exit::Usage, format!("failed to read the old run: {error}")))?
        .header;
    let old: Plan = serde_json::from_value(header.plan).map_err(|error| {
        (
            Exit::Invalid,
            format!("failed to read the plan of {}: {error}", path.display()),
        )
    })?;
    let loaded =
        scenario::load(std::path::Path::new(&old.path)).map_err(|error| (Exit::Invalid, error.render(false)))?;
    let new = plan::plan(&loaded, Some(old.seed), &old.backend).map_err(|error| (error.exit(), error.to_string()))?;
    if new == old {
        return Ok(new);
    }
    let (old, new) = (yaml(&old)?, yaml(&new)?);
    Err((
        Exit::Invalid,
        format!(
            "{} now resolves to another plan:\n{}",
            loaded.path,
            differences(&old, &new)
        ),
    ))
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
