//! What the loads on address books need of a messaging service. As in [`super::client`], each call is one attempt.

use std::time::Duration;

use async_trait::async_trait;

use super::{client::Answered, people::Caller};
use crate::history::Contact;

/// What came of adding to an address book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Numbers that were not in it before.
    pub added: u64,
}

/// The address books of a messaging service, for one group of users.
#[async_trait]
pub trait ContactsClient: Send + Sync + 'static {
    /// Adds numbers to the caller's address book. Those that are in it already change nothing.
    async fn import_contacts(&self, caller: Caller, phones: &[String], within: Duration) -> Answered<Imported>;
    /// All of the caller's contacts.
    async fn contacts(&self, caller: Caller, within: Duration) -> Answered<Vec<Contact>>;
}
