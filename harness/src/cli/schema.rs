//! `firedrill schema`: the JSON schema of scenario files.

use super::output::out;
use crate::base::Exit;
use crate::scenario;

const EXAMPLES: &str = "\
Editors with a YAML language server complete and check a scenario that begins with
  # yaml-language-server: $schema=../scenario.schema.json";

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The reference of the format in Markdown instead
    #[arg(long)]
    markdown: bool,
}

pub(super) fn main(args: &Args) -> Exit {
    let text = if args.markdown {
        super::reference::markdown()
    } else {
        scenario::schema_text()
    };
    out(&text);
    Exit::Pass
}
