//! `firedrill plan`: what a scenario would do when; nothing is executed.

use super::output::{Format, colour, note, out, out_json};
use super::scenarios;
use crate::base::Exit;
use crate::plan::{self, Plan};
use crate::scenario;

const EXAMPLES: &str = "\
Examples:
  firedrill plan leader-kill                        by name, from the folder scenarios/
  firedrill plan scenarios/outages/whatsapp-2014-vlan.yaml
  firedrill plan --format json --seed 7 leader-kill the frozen plan, as it goes into a run's history

Ends with 3 when a scenario is invalid, with 4 when backend, system or build can't do what it asks for.";

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Scenario files, or names of scenarios in the folder scenarios/
    #[arg(required = true)]
    scenarios: Vec<String>,
    /// The seed of everything random, instead of the scenario's own
    #[arg(long)]
    seed: Option<u64>,
    /// Where the nodes would run: see `firedrill list backends`
    #[arg(long, default_value = crate::backend::ALL[0].name)]
    backend: String,
    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn main(args: &Args) -> Exit {
    let mut exits = Vec::new();
    let mut plans: Vec<Plan> = Vec::new();
    for name in &args.scenarios {
        match one(name, args) {
            Ok(plan) => plans.push(plan),
            Err(exit) => exits.push(exit),
        }
    }
    match args.format {
        Format::Human | Format::Github => plans.iter().for_each(|plan| out(&plan::table(plan))),
        Format::Json if plans.len() == 1 => plans.iter().for_each(out_json),
        Format::Json => out_json(&plans),
    }
    Exit::worst(exits)
}

fn one(name: &str, args: &Args) -> Result<Plan, Exit> {
    let path = scenarios::find(name).unwrap_or_else(|| name.into());
    let loaded = scenario::load(&path).map_err(|error| {
        note(&error.render(colour()));
        Exit::Invalid
    })?;
    plan::plan(&loaded, args.seed, &args.backend).map_err(|error| {
        note(&format!("{}: {error}", path.display()));
        error.exit()
    })
}
