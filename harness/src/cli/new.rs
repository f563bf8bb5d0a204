//! `firedrill new`: a commented scenario file to start from.

use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::output::{note, out};
use crate::base::Exit;
use crate::scenario::Name;

const EXAMPLES: &str = "\
Examples:
  firedrill new my-drill                           writes my-drill.yaml
  firedrill new --kind command --out drills/db.yaml db-drill
An existing file is never overwritten.";

/// Arguments of `new`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The scenario's name: lower-case letters, digits and dashes
    name: String,
    /// What stands under test
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// The file to write; NAME.yaml unless said
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// The messaging service that comes with firedrill
    #[default]
    Messaging,
    /// A service of your own
    Command,
}

const MESSAGING: &str = include_str!("templates/messaging.yaml");
const COMMAND: &str = include_str!("templates/command.yaml");

/// The template with its name filled in.
pub(super) fn template(kind: Kind, name: &str) -> String {
    let text = match kind {
        Kind::Messaging => MESSAGING,
        Kind::Command => COMMAND,
    };
    text.replace("NAME", name)
}

pub(super) fn main(args: &Args) -> Exit {
    if let Err(error) = args.name.parse::<Name>() {
        note(&error);
        return Exit::Usage;
    }
    let path = args.out.clone().unwrap_or_else(|| format!("{}.yaml", args.name).into());
    let written = std::fs::File::create_new(&path)
        .and_then(|mut file| file.write_all(template(args.kind, &args.name).as_bytes()));
    match written {
        Ok(()) => {
            let path = path.display();
            out(&format!("wrote {path}\nnext: firedrill plan {path}\n"));
            Exit::Pass
        }
        Err(error) => {
            note(&format!("failed to write {}: {error}", path.display()));
            Exit::Usage
        }
    }
}
