//! What everything else stands on: the run's clock, seeded randomness, names and times.
//!
//! Nothing in here knows of scenarios, systems or faults.

mod clock;
mod duration;
mod exit;
pub mod expr;
mod figures;
pub mod order;
mod rng;
mod suggest;
mod sync_time;
mod template;

pub use clock::{Nanos, RunClock, millis};
pub use duration::{HumanDuration, LONGEST};
pub use exit::Exit;
pub use expr::Expr;
pub use rng::Streams;
pub use suggest::{closest, did_you_mean};
pub use sync_time::sync_times;
pub use template::{Field, Template, TemplateError};
