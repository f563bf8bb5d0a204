//! The client of the messaging service, for programs that must know what happened.
//!
//! Each call is **one attempt** at one node. Nothing is retried, hedged or redirected behind the caller's back: an
//! attempt says which node it went to and how it ended, the [`Router`] learns from it, and the caller decides, with a
//! [`RetryPolicy`] if it likes, whether and when there is another.
//!
//! An attempt that failed either **surely had no effect** or is **unknown**; see [`CallError`].
//!
//! Connections ([`Channels`]) are few, lazily made and shared by many sessions. A connection that has gone silent is
//! given up within its keepalive's bounds, and a call within its deadline, so nothing here waits for ever.

mod calls;
mod channels;
mod directory;
mod doors;
mod error;
mod people;
mod placement;
mod retry;
mod router;
mod subscription;

pub use calls::{Attempt, Client};
pub use channels::{ChannelOptions, Channels};
pub use directory::Directory;
pub use doors::{Doors, Through};
pub use error::{CallError, UnknownCause};
pub use retry::{RetryBudget, RetryPolicy};
pub use router::{Router, Target};
pub use subscription::{StreamEnd, Subscription};
