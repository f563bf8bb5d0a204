//! `firedrill completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use super::output::out;
use crate::base::Exit;

const EXAMPLES: &str = "\
Examples:
  firedrill completions bash > ~/.local/share/bash-completion/completions/firedrill
  firedrill completions fish > ~/.config/fish/completions/firedrill.fish";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "firedrill", &mut text);
    out(&String::from_utf8_lossy(&text));
    Exit::Pass
}
