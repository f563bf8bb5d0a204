//! What the load needs of a system, whatever the system is: one attempt at a time, and an honest word on how it ended.
//!
//! An implementation makes exactly one attempt for each call and never retries: retries are the workload's, where they
//! are recorded. Whoever calls enforces the deadline by dropping the call; `within` is there for those who tell the
//! system of it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    contacts::ContactsClient,
    home::HomeClient,
    people::{Caller, PeopleClient},
};
use crate::history::{GroupChange, NodeStatus, Notice, Outcome, ReadItem};

/// Why an attempt was not ok.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// True only when it surely did not and never will take effect.
    pub surely_not: bool,
    /// A short stable reason, such as `NOT_LEADER` or `connection lost`.
    pub reason: String,
    /// Whether trying again can help.
    pub retryable: bool,
    /// How long the system asked to wait first.
    pub retry_after: Option<Duration>,
}

impl CallFailure {
    /// It surely did not happen, and may be tried again.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            surely_not: true,
            reason: reason.into(),
            retryable: true,
            retry_after: None,
        }
    }

    /// It may have happened, or may still.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self {
            surely_not: false,
            reason: reason.into(),
            retryable: true,
            retry_after: None,
        }
    }

    /// The outcome that a history holds for it.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        if self.surely_not {
            Outcome::Failed
        } else {
            Outcome::Unknown
        }
    }
}

/// How an attempt ended, and who answered.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// How it ended.
    pub result: Result<T, CallFailure>,
    /// The node that answered, if one did.
    pub by: Option<String>,
}

impl<T> Answered<T> {
    /// An answer from `by`.
    pub fn ok(value: T, by: Option<String>) -> Self {
        Self { result: Ok(value), by }
    }

    /// No answer, or a refusal.
    pub fn failed(failure: CallFailure) -> Self {
        Self {
            result: Err(failure),
            by: None,
        }
    }
}

/// An item to put into an ordered log.
#[derive(Clone, Debug)]
pub struct Put {
    /// Its identity.
    pub item: u64,
    /// The log.
    pub log: String,
    /// What is put.
    pub body: Bytes,
}

/// A client of a system that takes items or requests, and tells nobody of them by itself.
#[async_trait]
pub trait OpClient: Send + Sync + 'static {
    /// The parts that a probe should watch, in the words of [`crate::history::Operation::needs`]; empty when the system
    /// doesn't tell: then one probe watches the whole.
    fn parts(&self) -> Vec<String>;

    /// The part that `log` needs; empty when not known.
    fn needs(&self, log: &str) -> String;

    /// The accounts that are shown whatever is put; nobody, as a rule.
    fn shown_to(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Puts an item; the answer is its position in the log, where the system tells.
    async fn put(&self, put: &Put, within: Duration) -> Answered<Option<u64>>;

    /// Asks for anything at all.
    async fn request(&self, within: Duration) -> Answered<()>;

    /// Makes sure that nothing put before it can still take effect.
    async fn fence(&self, within: Duration) -> Answered<()>;

    /// Reads a whole log, linearizably.
    async fn read(&self, log: &str, within: Duration) -> Answered<Vec<ReadItem>>;
}

/// An account as the system named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user: u64,
    /// Whether this call made it.
    pub created: bool,
}

/// An open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The session's id.
    pub session: u64,
    /// The last sequence that the device has acknowledged.
    pub acknowledged: u64,
    /// The server's incarnation of the device's stream.
    pub incarnation: u64,
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The sender's account.
    pub sender: u64,
    /// The sender's device.
    pub device: u32,
    /// Its session.
    pub session: u64,
    /// The recipient's account; 0 for a group.
    pub recipient: u64,
    /// The group that it goes to; 0 for a user.
    pub group: u64,
    /// The device's own number for it: the same for each attempt.
    pub client_id: u64,
    /// The message.
    pub body: Bytes,
}

/// Where a message was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its position in the conversation.
    pub position: u64,
    /// True when this is an earlier answer again.
    pub repeated: bool,
}

/// Where a device's stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The account.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// Its session.
    pub session: u64,
    /// The last sequence shown.
    pub after: u64,
    /// The incarnation that `after` belongs to.
    pub incarnation: u64,
}

/// What a device hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A message.
    Delivery {
        /// The device's own sequence.
        sequence: u64,
        /// The conversation.
        conversation: u64,
        /// Position in the conversation.
        position: u64,
        /// The author's account.
        author: u64,
        /// The message.
        body: Bytes,
    },
    /// Something of the service's that is no message.
    Notice {
        /// The device's own sequence.
        sequence: u64,
        /// What it says.
        notice: Notice,
    },
    /// The server's heartbeat.
    Position {
        /// The last sequence assigned.
        last_sequence: u64,
        /// The server's incarnation of the stream.
        incarnation: u64,
        /// True when the device is owed nothing beyond it.
        current: bool,
    },
}

/// A device's open stream.
#[async_trait]
pub trait DeviceStream: Send {
    /// The next event; the reason when there will be none. May be dropped while it waits, without losing an event.
    async fn next(&mut self) -> Result<StreamEvent, CallFailure>;
}

/// A page of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The messages, in order.
    pub items: Vec<ReadItem>,
    /// Of a group: the changes of who belongs to it, in order.
    pub changes: Vec<GroupChange>,
    /// The conversation's last position at the time of the read.
    pub last_position: u64,
}

impl Page {
    /// The last position that it holds.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let item = self.items.last().map(|item| item.position);
        item.max(self.changes.last().map(|change| change.position))
    }
}

/// A client of a messaging service, for one group of users.
#[async_trait]
pub trait ChatClient: PeopleClient + ContactsClient + HomeClient {
    /// The parts of the service, in the words of [`crate::history::Operation::needs`].
    fn parts(&self) -> Vec<String>;
    /// The part that creates the account of `phone`.
    fn home_of_phone(&self, phone: &str) -> String;
    /// The part that holds an account and its devices.
    fn home_of_user(&self, user: u64) -> String;
    /// The conversation of two users, and the part that holds it.
    fn conversation(&self, a: u64, b: u64) -> (u64, String);
    /// Whether a sender's own devices are owed what it sends.
    fn syncs_own_devices(&self) -> bool {
        false
    }

    /// Creates an account.
    async fn sign_up(&self, phone: &str, within: Duration) -> Answered<Account>;
    /// Opens a session; `nonce` makes a repeated call the same call.
    async fn open_session(&self, user: u64, device: u32, nonce: u64, within: Duration) -> Answered<Opened>;
    /// Sends a message.
    async fn send(&self, message: &Outgoing, within: Duration) -> Answered<Placed>;
    /// Opens a device's stream.
    async fn subscribe(&self, resume: Resume, within: Duration) -> Answered<Box<dyn DeviceStream>>;
    /// Moves a device's cursor; answers where it is, which may be less far than asked for.
    async fn acknowledge(&self, resume: Resume, within: Duration) -> Answered<u64>;
    /// Reads a page of a conversation behind `after`, linearizably, as one of those who belong to it.
    async fn history(&self, reader: Caller, conversation: u64, after: u64, within: Duration) -> Answered<Page>;
    /// Ends sessions on one part.
    async fn fence(&self, part: &str, sessions: &[u64], within: Duration) -> Answered<()>;
    /// What every node says of itself, digests of the applied state included.
    async fn digests(&self) -> Vec<(String, Option<NodeStatus>)>;
}
