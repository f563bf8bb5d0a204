//! What every benchmark shares: arguments, the machine it ran on, distributions and tables.
//!
//! - `args`: what the command line says.
//! - `machine`: load and fsync latency, without which no figure means much.
//! - `distribution`: samples, and their quantiles.
//! - `table`: Markdown, so that what is printed can stand in a document.
//! - `run`: from `main` to the exit code.

mod args;
mod distribution;
mod machine;
mod run;
mod table;

pub(crate) use args::Args;
pub(crate) use distribution::{Distribution, show};
pub(crate) use run::{About, Bench, Result, main};
pub(crate) use table::Table;
