//! What a person and a machine read of a run.
//!
//! [`judge`] draws the [`Judgement`] from a folder's history: promises, recovery figures, budgets, and whether the run
//! proves anything. Every file of the folder that is not the history itself is drawn from it: [`OUTPUTS`]. [`summary`]
//! is for the terminal. [`Readings`] holds the figures of many runs; [`spreads`] and [`compare`] say what they tell
//! together.

mod bars;
mod budget;
mod compare;
mod doubt;
mod hlog;
mod html;
mod judgement;
mod junit;
mod otlp;
mod output;
mod readings;
mod repeated;
mod run_json;
mod series;
mod spread;
mod terminal;
#[cfg(test)]
mod tests;

pub use budget::{BudgetResult, BudgetVerdict};
pub use compare::{Change, Compared, Comparison, compare};
pub use judgement::{Judgement, Load, judge, judge_events};
pub use output::{ALL as OUTPUTS, Output, write_all};
pub use readings::{FIGURES, Key, Reading, Readings, Unit};
pub use repeated::Repeated;
pub use run_json::{RunDocument, SCHEMA, document};
pub use series::{Bucket, Series, series};
pub use spread::{Spread, spread_table, spreads};
pub use terminal::summary;
