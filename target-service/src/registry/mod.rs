//! Which gateway holds which session: a registry that every member keeps whole, and how its members agree.
//!
//! Each member owns the sessions that were opened at it, and alone says which they are; the others hold a copy. How the
//! copies are kept alike is the [`Mode`]:
//! - [`Mode::Digests`]: a member tells one other at a time what it knows of everybody, as versions only, and the two
//!   exchange what either lacks. News make a member do so for a few rounds, and reconnects count as news together, so a
//!   heal costs each member about the logarithm of their number, however many links came back.
//! - [`Mode::Naive`]: at each reconnect a member says its whole state to everybody it reaches. When a network flaps,
//!   each of n members has n reconnects and says n messages at each: n cubed. That is how a dropped network became a
//!   storm in February 2014, with queues that went from nothing to millions within seconds.
//!
//! Pure state machines, with time and randomness passed in:
//! [`Member`] is one member; [`Host`] is a process with several of them and one bounded queue before them.
//! [`flap`] simulates hosts whose network goes away and comes back, and [`growth`] says how what it counts grows with n.

mod copy;
pub mod flap;
pub mod growth;
mod host;
mod member;
mod message;
#[cfg(test)]
mod tests;

pub use host::{Host, HostStatus};
pub use member::{Member, MemberOptions, Mode};
pub use message::{Body, Envelope, News, Stamp};

/// A member's number within the registry.
pub type MemberId = u32;
