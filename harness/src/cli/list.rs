//! `firedrill list`: what there is.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::output::{Format, note, out, out_json};
use super::scenarios;
use crate::base::Exit;
use crate::scenario::SystemKind;
use crate::{backend, check, fault, scenario, target};

const EXAMPLES: &str = "\
Examples:
  firedrill list faults
  firedrill list scenarios --folder my/scenarios
  firedrill list promises --format json

`firedrill explain NAME` says more about any of them.";

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// Where scenarios are looked for
    #[arg(long, default_value = scenarios::FOLDER)]
    folder: PathBuf,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// What can be done to a system
    Faults,
    /// Whom it can be done to
    Targets,
    /// What can stand under test
    Systems,
    /// Where it can run
    Backends,
    /// What is judged
    Promises,
    /// What can be rehearsed
    Scenarios,
}

/// One line of a list: a name, a second column, and a sentence.
pub(super) type Row = (String, String, String);

pub(super) fn main(args: &Args) -> Exit {
    let rows = match args.what {
        What::Scenarios => match scenario_rows(&args.folder) {
            Ok(rows) => rows,
            Err(error) => {
                note(&format!(
                    "failed to read the folder {}: {error}; say where the scenarios are with --folder",
                    args.folder.display()
                ));
                return Exit::Usage;
            }
        },
        what => rows(what),
    };
    if args.format == Format::Json {
        let values: Vec<_> = rows
            .iter()
            .map(|(name, kind, about)| json!({ "name": name, "kind": kind, "about": about }))
            .collect();
        out_json(&values);
        return Exit::Pass;
    }
    out(&aligned(&rows));
    Exit::Pass
}

/// The rows of everything but scenarios.
pub(super) fn rows(what: What) -> Vec<Row> {
    match what {
        What::Faults => fault::ALL
            .iter()
            .map(|verb| {
                (
                    verb.name.to_owned(),
                    verb.group.name().to_owned(),
                    verb.summary.to_owned(),
                )
            })
            .collect(),
        What::Targets => target::ALL
            .iter()
            .map(|target| {
                (
                    target.name.to_owned(),
                    target.example.to_owned(),
                    target.summary.to_owned(),
                )
            })
            .collect(),
        What::Systems => SystemKind::ALL
            .iter()
            .map(|(_, name, about)| ((*name).to_owned(), String::new(), (*about).to_owned()))
            .collect(),
        What::Backends => backend::ALL
            .iter()
            .map(|backend| {
                let can: Vec<&str> = backend
                    .capabilities
                    .iter()
                    .map(|capability| capability.name())
                    .collect();
                (backend.name.to_owned(), can.join(" "), backend.about.to_owned())
            })
            .collect(),
        What::Promises => check::ALL
            .iter()
            .map(|promise| (promise.name().to_owned(), String::new(), promise.about().to_owned()))
            .collect(),
        What::Scenarios => Vec::new(),
    }
}

fn scenario_rows(folder: &Path) -> std::io::Result<Vec<Row>> {
    let rows = scenarios::files(folder)?.into_iter().map(|path| {
        let shown = path.display().to_string();
        match scenario::load(&path) {
            Ok(loaded) => (
                loaded.scenario.name.to_string(),
                shown,
                loaded.scenario.about.trim().to_owned(),
            ),
            Err(_) => ("(invalid)".to_owned(), shown, "see `firedrill validate`".to_owned()),
        }
    });
    Ok(rows.collect())
}

fn aligned(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> &String| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let (first, second) = (width(|row| &row.0), width(|row| &row.1));
    rows.iter()
        .map(|(name, kind, about)| {
            let middle = if second > 0 {
                format!("  {kind:<second$}")
            } else {
                String::new()
            };
            format!("{}\n", format!("{name:<first$}{middle}  {about}").trim_end())
        })
        .collect()
}
