//! `firedrill validate`: are these files scenarios?

use std::path::PathBuf;

use serde_json::json;

use super::output::{Format, colour, github, note, out, out_json};
use super::scenarios;
use crate::base::Exit;
use crate::plan;
use crate::scenario::{self, ScenarioError};

const EXAMPLES: &str = "\
Examples:
  firedrill validate scenarios/fault/leader-kill.yaml
  firedrill validate scenarios/                 every .yaml file below
  firedrill validate --format github my/*.yaml  annotations in a pull request

Ends with 0 when every file is a scenario, with 3 otherwise. What this machine or build can't run is noted, and is no
reason to fail: `firedrill plan` fails on it.";

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Scenario files, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What was found about one file.
struct Finding {
    path: String,
    result: Result<String, ScenarioError>,
    /// Why it can't be run here, if so.
    refused: Option<String>,
}

pub(super) fn main(args: &Args) -> Exit {
    let mut files = Vec::new();
    for path in &args.files {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match scenarios::files(path) {
            Ok(found) if !found.is_empty() => files.extend(found),
            Ok(_) => {
                note(&format!("there is no .yaml file in {}", path.display()));
                return Exit::Usage;
            }
            Err(error) => {
                note(&format!("failed to read the folder {}: {error}", path.display()));
                return Exit::Usage;
            }
        }
    }
    let findings: Vec<Finding> = files.iter().map(|path| one(path)).collect();
    match args.format {
        Format::Human => findings.iter().for_each(human),
        Format::Github => findings.iter().for_each(annotations),
        Format::Json => out_json(&findings.iter().map(as_json).collect::<Vec<_>>()),
    }
    if findings.iter().all(|finding| finding.result.is_ok()) {
        Exit::Pass
    } else {
        Exit::Invalid
    }
}

fn one(path: &std::path::Path) -> Finding {
    let loaded = scenario::load(path);
    let refused = loaded.as_ref().ok().and_then(|loaded| {
        let planned = plan::plan(loaded, None, crate::backend::ALL[0].name);
        planned.err().map(|error| error.to_string())
    });
    Finding {
        path: path.display().to_string(),
        result: loaded.map(|loaded| loaded.scenario.name.to_string()),
        refused,
    }
}

fn human(finding: &Finding) {
    match &finding.result {
        Ok(name) => {
            let here = finding
                .refused
                .as_ref()
                .map(|why| format!(" (not here: {why})"))
                .unwrap_or_default();
            out(&format!("ok      {} {name}{here}\n", finding.path));
        }
        Err(error) => {
            out(&format!("invalid {}\n", finding.path));
            note(&error.render(colour()));
        }
    }
}

fn annotations(finding: &Finding) {
    for problem in finding.result.as_ref().err().iter().flat_map(|error| &error.problems) {
        let help = problem
            .help
            .as_ref()
            .map(|help| format!("; {help}"))
            .unwrap_or_default();
        out(&github(
            "error",
            &finding.path,
            problem.line,
            problem.column,
            &format!("{}{help}", problem.message),
        ));
    }
    if let Some(why) = &finding.refused {
        out(&github("notice", &finding.path, 0, 0, why));
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let problems: Vec<serde_json::Value> = finding
        .result
        .as_ref()
        .err()
        .iter()
        .flat_map(|error| &error.problems)
        .map(|problem| {
            json!({ "line": problem.line, "column": problem.column, "message": problem.message, "help": problem.help })
        })
        .collect();
    json!({
        "path": finding.path,
        "scenario": finding.result.as_ref().ok(),
        "valid": finding.result.is_ok(),
        "problems": problems,
        "not_here": finding.refused,
    })
}
