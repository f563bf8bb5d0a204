//! One node as a process: arguments, configuration, listeners, signals and exit codes.
//!
//! Two runtimes. The node's loop has a thread and a current-thread runtime of its own, on which it also syncs its disk;
//! gRPC, which must answer while the loop waits for the disk, has a small multi-thread runtime. [`RunningNode`] is that
//! pair; [`run`] is the pair with everything that a process adds.
//!
//! Exit codes: 0 after a graceful stop, 2 when an argument, the configuration or a listener can't work, 70 when the
//! storage failed, 101 when the node's loop panicked.

mod args;
mod edge;
mod lifetime;
mod running;
mod sampler;
mod show;
mod telemetry;

pub use args::{Args, run_from_args};
pub use edge::{Edge, EdgeArgs};
pub use lifetime::run;
pub use running::{Ended, RunningNode, StartError};
pub use show::main_from_args;
