//! Nodes as child processes of this one, and links between them in user space. Needs neither root nor Docker.
//!
//! What stands on Linux alone sits in `procfs`, `dialler`, `pidfd`, `spawner` and `child`: /proc, process descriptors, a signal at
//! the parent's death, and waiting for stops without taking them.

mod backend;
mod child;
mod connect;
mod dialler;
#[cfg(test)]
mod disk_tests;
mod disks;
mod evidence;
mod launch;
mod link;
mod log;
mod pidfd;
mod ports;
mod spawner;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use backend::{CAPABILITIES, ProcessBackend, ProcessConfig};
pub use link::{LinkNet, WhoDials};
pub(crate) use sweep::end_own;
pub use sweep::{Swept, sweep};
