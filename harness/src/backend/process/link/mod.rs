//! Links in user space: one listening proxy for each directed pair and plane.
//!
//! A link dials upstream before it serves, so that a dead process looks dead through it: a refusal upstream is a reset
//! at the client. All links of a backend run on one thread of their own, so that a busy load generator does not delay
//! them, and so that a rule is in force for every connection at one instant.

mod connection;
mod gate;
mod half;
mod net;
mod probe;
mod pump;
#[cfg(test)]
mod tests;

pub use gate::WhoDials;
pub use net::LinkNet;
