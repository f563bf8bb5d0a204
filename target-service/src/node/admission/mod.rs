//! What keeps a node useful while more is asked of it than it can do.
//!
//! Each protection is a file of its own, a plain value without a clock or I/O, and can be switched off by
//! configuration ([`Protections`]), so that what it is good for can be seen:
//! - `server`: the node's capacity, in work a second; nothing waits where none is configured.
//! - `queue`: the classes' queues and whose turn it is (**priorities**): by weight, so that nobody starves, and what has
//!   to go goes from the lowest class first. Without it there is one queue for all.
//! - `bound`: how long the queue may be, in time (**admission**): one call too many is refused at once, and told when to
//!   come back. Without it the queue is as long as memory allows.
//! - `deadline`: what nobody waits for any more is not done (**deadlines**).
//! - `login`: log-ins a second, with a ramp after a start (**login_limit**).
//! - `fanout`: bytes that an outbox may have on their way (**fanout**).
//!
//! The `gate` puts the first four together. Peers never come this way: replication waits for no client.

mod bound;
mod class;
mod counters;
mod deadline;
mod fanout;
mod gate;
mod login;
mod queue;
mod server;
mod settings;

pub(super) use class::Class;
pub(super) use fanout::InFlight;
pub(super) use gate::{Gate, Next, Shed, Why};
pub(super) use login::LoginLimit;
pub use settings::{Capacity, Costs, LoginRamp, Protections};
