//! What the social loads need of a messaging service: groups, and what a user may see of them. As in
//! [`super::client`], each call is one attempt.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{Answered, Page};
use crate::history::ChangeKind;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// Its session.
    pub session: u64,
}

/// A change of who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regroup {
    /// Who asks for it.
    pub caller: Caller,
    /// The device's own number for it: the same for each attempt.
    pub client_id: u64,
    /// What changes.
    pub change: ChangeKind,
    /// The group; its id follows from caller and number when it is made.
    pub group: u64,
    /// Whom it concerns beside the caller.
    pub users: Vec<u64>,
}

/// Where a change was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regrouped {
    /// Its position in the group's log; the last of all when nothing was left to change.
    pub position: u64,
    /// How many belong to the group now.
    pub members: u64,
}

/// The social side of a messaging service, for one group of users.
#[async_trait]
pub trait PeopleClient: Send + Sync + 'static {
    /// The group that a device makes under this number.
    fn group_of(&self, user: u64, device: u32, client_id: u64) -> u64;
    /// The part that holds a conversation.
    fn home_of(&self, conversation: u64) -> String;
    /// Makes a group, or changes who belongs to it.
    async fn regroup(&self, change: &Regroup, within: Duration) -> Answered<Regrouped>;
    /// The first page of a conversation, as the caller may see it.
    async fn look(&self, caller: Caller, conversation: u64, within: Duration) -> Answered<Page>;
    /// A page of a conversation behind `after`, linearizably, whoever belongs to it.
    async fn audit(&self, conversation: u64, after: u64, within: Duration) -> Answered<Page>;
}
