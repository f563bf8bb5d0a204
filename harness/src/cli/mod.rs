//! The command line. Each subcommand is a file with its `Args` and a `main`; one line in [`Command`] and one in
//! `dispatch` add it.
//!
//! Standard output carries what was asked for; everything else goes to standard error. Exit codes are a contract, see
//! [`crate::base::Exit`].

mod batch;
mod check;
mod compare;
mod completions;
mod doctor;
mod explain;
mod heal;
mod list;
mod man;
mod new;
mod output;
mod plan;
mod reference;
mod replay;
mod report;
mod run;
mod runtime;
mod scenarios;
mod schema;
mod serve;
mod validate;
mod watch;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::base::Exit;

const LONG_ABOUT: &str = "\
firedrill rehearses the outages that took large messengers down, on your own replicated service, and measures how \
long it takes to come back and whether it lost anything.

A scenario is a YAML file: what stands under test, what clients do, what breaks when, and what is expected. A run \
starts the system, waits until it is steady, breaks it, heals it, lets it drain, reads everything back, and ends with \
a verdict, recovery times with their error bounds, and the smallest witness of anything lost.";

const EXAMPLES: &str = "\
Start here:
  firedrill run scenarios/outages/whatsapp-2014-vlan.yaml
                                            rehearse what happened to WhatsApp in 2014
  firedrill doctor                          what this machine can do
  firedrill list scenarios                  what can be rehearsed
  firedrill plan scenarios/fault/leader-kill.yaml
                                            what would happen when, nothing executed
  firedrill explain leader-kill             what any of the names means
  firedrill new my-drill                    a commented scenario of your own

Exit codes: 0 pass, 1 internal error, 2 usage, 3 invalid scenario, 4 capability missing,
5 inconclusive, 6 budget exceeded, 7 promise broken, 8 heal failed (the host is dirty),
130 interrupted after healing.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios: break a system, measure how it comes back, judge what it kept
    Run(run::Args),
    /// Resolve an old run's scenario again, and say whether it still means the same
    Replay(replay::Args),
    /// Serve the controller over gRPC on loopback
    Serve(serve::Args),
    /// Check scenario files: nothing is executed
    Validate(validate::Args),
    /// Show what a scenario would do when, with every number resolved; nothing is executed
    Plan(plan::Args),
    /// Judge an old run again, from its folder alone
    Check(check::Args),
    /// Draw a run's report again, from its history
    Report(report::Args),
    /// Compare two sets of runs: what is better, what is worse, what is noise
    Compare(compare::Args),
    /// List what there is: faults, targets, systems, backends, promises, scenarios
    List(list::Args),
    /// Explain a scenario, fault, target, promise, figure, plant or exit code
    Explain(explain::Args),
    /// Undo what earlier runs have left behind
    Heal(heal::Args),
    /// Say what this machine can do
    Doctor(doctor::Args),
    /// Write a commented scenario file to start from
    New(new::Args),
    /// Print the JSON schema of scenario files
    Schema(schema::Args),
    /// Print a shell's completions
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

/// The whole command line, for help, completions and the manual page.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> std::process::ExitCode {
    // Nodes of the messaging service are this same program, so that one file is all that a run needs.
    #[cfg(feature = "messaging")]
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == crate::system::NODE_COMMAND)
    {
        return target_service::process::run_from_args(std::env::args_os().skip(1));
    }
    match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command).into(),
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Pass };
            // Where to write is all that can fail, and then there is nobody to tell.
            let _ = error.print();
            exit.into()
        }
    }
}

fn dispatch(command: Command) -> Exit {
    match command {
        Command::Run(args) => run::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Serve(args) => serve::main(&args),
        Command::Validate(args) => validate::main(&args),
        Command::Plan(args) => plan::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Report(args) => report::main(&args),
        Command::Compare(args) => compare::main(&args),
        Command::List(args) => list::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Heal(args) => heal::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::New(args) => new::main(&args),
        Command::Schema(args) => schema::main(&args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
    }
}

#[cfg(test)]
mod tests;
