//! `firedrill man`: the manual page, made from the command line's own definition.

use std::path::PathBuf;

use super::output::{note, out};
use crate::base::Exit;

const EXAMPLES: &str = "\
Examples:
  firedrill man | man -l -
  firedrill man --dir ~/.local/share/man/man1   one page for each subcommand too";

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Write this page and one for each subcommand into this folder
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Exit {
    let done = match &args.dir {
        Some(dir) => std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(super::command(), dir))
            .map_err(|error| format!("failed to write manual pages into {}: {error}", dir.display())),
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(super::command()).render(&mut page);
            rendered
                .map(|()| out(&String::from_utf8_lossy(&page)))
                .map_err(|error| format!("failed to render the manual page: {error}"))
        }
    };
    match done {
        Ok(()) => Exit::Pass,
        Err(error) => {
            note(&error);
            Exit::Internal
        }
    }
}
