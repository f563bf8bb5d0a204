//! What the loads of opening, reading and presence need of a messaging service. As in [`super::client`], each call is one
//! attempt.

use std::time::Duration;

use async_trait::async_trait;

use super::{client::Answered, people::Caller};
use crate::history::{Marks, Online, Thread};

/// A page of a user's own conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Whether that is so now, by a linearizable read.
    pub current: bool,
    /// Whether there are more.
    pub more: bool,
    /// The conversations, in the order of their ids.
    pub threads: Vec<Thread>,
}

/// A person's own view of a messaging service, for one group of users.
#[async_trait]
pub trait HomeClient: Send + Sync + 'static {
    /// Opens the app: the first page of the caller's own conversations, current or marked as not.
    async fn open(&self, caller: Caller, within: Duration) -> Answered<Home>;
    /// Moves the caller's marks in a conversation forward, as far as the service lets it.
    async fn acquit(
        &self,
        caller: Caller,
        conversation: u64,
        delivered: u64,
        read: u64,
        within: Duration,
    ) -> Answered<Marks>;
    /// Which devices of a user are online.
    async fn presence(&self, user: u64, within: Duration) -> Answered<Vec<Online>>;
}
