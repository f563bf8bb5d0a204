//! What a history holds of people's lives with each other: groups and who belongs to them, and what a user is told of
//! itself. See docs/history-format.md.

use serde::{Deserialize, Serialize};

use super::{Online, ReadItem, Thread};
use crate::base::Nanos;

/// How who belongs to a group changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Somebody makes it, with its first members.
    Create,
    /// A member lets others in.
    Add,
    /// Somebody comes by itself.
    Join,
    /// Somebody goes by itself.
    Leave,
    /// Whoever made it removes others.
    Remove,
}

impl ChangeKind {
    /// Whether those whom it concerns come in, or else go.
    #[must_use]
    pub const fn lets_in(self) -> bool {
        matches!(self, Self::Create | Self::Add | Self::Join)
    }

    /// In words that fit after whoever does it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Create => "made the group",
            Self::Add => "let others in",
            Self::Join => "joined",
            Self::Leave => "left",
            Self::Remove => "removed others",
        }
    }
}

/// A change of who belongs to a group, at its position in the group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChange {
    /// Its position.
    pub position: u64,
    /// What changed.
    pub kind: ChangeKind,
    /// Whose doing it was.
    pub actor: u64,
    /// The number that the actor's device gave it; 0 where it isn't told.
    pub client_id: u64,
    /// Who came or went.
    pub users: Vec<u64>,
}

/// An entry of a device's stream that is no message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// When.
    pub at: Nanos,
    /// The system.
    pub system: String,
    /// The device's session in the generator.
    pub session: u64,
    /// The device's account.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// How often the device has connected, from 1.
    pub connection: u32,
    /// The server's incarnation of the stream.
    pub incarnation: u64,
    /// Position in the device's own stream.
    pub sequence: u64,
    /// True when the device dropped it as a repetition on the wire.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated_on_wire: bool,
    /// What it says.
    pub notice: Notice,
}

/// What an entry that is no message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub enum Notice {
    /// Who belongs to a group changed.
    Change {
        /// The group's log.
        log: String,
        /// How.
        change: GroupChange,
    },
    /// How far somebody has been given and has read a conversation.
    Receipt {
        /// The conversation's log.
        log: String,
        /// Who.
        user: u64,
        /// Up to which position it was delivered.
        delivered: u64,
        /// Up to which it was read.
        read: u64,
        /// What is left unread; told to the user itself only, else 0.
        unread: u64,
    },
    /// A contact was found.
    Contact {
        /// The entry.
        contact: Contact,
    },
    /// Something that this version doesn't know.
    Other,
}

/// One contact of a user, as the service lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The phone number.
    pub phone: String,
    /// Whose it is; 0 while nobody has it.
    pub user: u64,
    /// The user imported it.
    pub imported: bool,
    /// The other has imported the user.
    pub matched: bool,
}

/// What a user was told on asking. It is recorded beside the operation that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When it asked.
    pub began: Nanos,
    /// When it had the answer.
    pub ended: Nanos,
    /// The system.
    pub system: String,
    /// The session in the generator.
    pub session: u64,
    /// Who asked.
    pub user: u64,
    /// From which device.
    pub device: u32,
    /// The answer.
    pub answer: Answer,
}

/// What a user can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Answer {
    /// A conversation as this user may see it: its first page.
    Log {
        /// The log.
        log: String,
        /// Where the log ended when it was read.
        last_position: u64,
        /// The messages.
        items: Vec<ReadItem>,
        /// The changes of who belongs to it.
        changes: Vec<GroupChange>,
    },
    /// All of the user's contacts.
    Contacts {
        /// The contacts.
        contacts: Vec<Contact>,
    },
    /// The user's own conversations: the first page of their list, in the order of their ids.
    Threads {
        /// Whether that was so at some instant between asking and answer; else it is what some replica had.
        current: bool,
        /// Whether there are more than those.
        more: bool,
        /// The conversations.
        threads: Vec<Thread>,
    },
    /// Which devices of somebody are online.
    Presence {
        /// Of whom.
        whose: u64,
        /// Its devices.
        devices: Vec<Online>,
    },
}

impl Answer {
    /// The log that was read and the messages found in it; none of what isn't the reading of a log.
    #[must_use]
    pub fn messages(&self) -> Option<(&String, &[ReadItem])> {
        match self {
            Self::Log { log, items, .. } => Some((log, items)),
            Self::Contacts { .. } | Self::Threads { .. } | Self::Presence { .. } => None,
        }
    }

    /// The smallest and the largest position that the answer holds, of a log that isn't empty.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        let Self::Log { items, changes, .. } = self else {
            return None;
        };
        let positions = items.iter().map(|it| it.position);
        let positions = positions.chain(changes.iter().map(|it| it.position));
        positions.fold(None, |span, at| {
            let (low, high) = span.unwrap_or((at, at));
            Some((low.min(at), high.max(at)))
        })
    }
}
