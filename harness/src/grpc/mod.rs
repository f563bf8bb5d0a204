//! The front of the controller. It translates and nothing else.
//!
//! The command line goes through here too: [`embed`] serves a controller to its own process over memory, so that what
//! a stranger can do over loopback and what `firedrill run` does are the same calls.

mod convert;
mod embedded;
mod server;

pub use convert::{CAPABILITY_MISSING, DOMAIN, INVALID_SCENARIO};
pub use embedded::embed;
pub use server::{Front, ServeError, serve};
