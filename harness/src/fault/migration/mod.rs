//! Operations: what an operator begins, what takes its time, and what may be hit in the middle.
//!
//! Most belong to the system: it is asked, goes on by itself, and is asked again and again how far it is ([`watcher`]). The
//! harness is the controller of those only in that it asks. Each phase, as seen from outside, is written to the history with
//! the two instants between which it began.
//!
//! A step may say where its operation is to be hit ([`Interrupt`]): whoever holds the source, whoever is the target, whoever
//! leads the placement group, or the controller itself. The controller is a task that knows only what it was told at its
//! beginning and what it has seen since. Killing it drops that task wherever it stands, and another begins with nothing but
//! what stands on disk in the run's journal ([`notes`]).
//!
//! - `course`: what is to be done, how long it may take, and how it may end;
//! - `interrupt`: when it is hit, and how;
//! - `journey`: controller and interrupt together, from the beginning to the end;
//! - `watcher`: the controller of what the system does by itself;
//! - `rollout`, `rolls`, `roller`: roll-outs, in which the harness itself is the operator, and their controller;
//! - `gate`: what has to hold between two steps of one;
//! - `notes`: what a controller leaves behind for the next one;
//! - `seen`: what a controller has seen last, for whoever interrupts.

mod course;
mod gate;
mod interrupt;
mod journey;
mod notes;
#[cfg(test)]
mod roll_tests;
mod roller;
mod rollout;
mod rolls;
mod seen;
#[cfg(test)]
mod tests;
mod watcher;

pub(super) use course::Work;
pub use course::{Course, Ends};
pub(super) use course::{check_within, within};
pub use gate::{Gate, Health};
pub use interrupt::{Apart, Blow, Interrupt, Moment, Victim, interrupt_id};
pub(super) use journey::{Journey, Site};
pub use rollout::{By, OnRed, Rollout};
pub(super) use rolls::Rolls;
