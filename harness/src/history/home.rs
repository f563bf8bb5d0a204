//! What a history holds of what somebody sees on opening the app: conversations, marks, and who is online.

use serde::{Deserialize, Serialize};

/// How far a user was given and has read a conversation, as the service has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Up to which position it was delivered.
    pub delivered: u64,
    /// Up to which it was read.
    pub read: u64,
    /// Messages of others behind what was read; [`UNREAD_MAX`] stands for that many or more.
    pub unread: u64,
}

/// The largest count of unread messages that is told.
pub const UNREAD_MAX: u64 = 1000;

/// One conversation in a user's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The conversation's log.
    pub log: String,
    /// Whether it is a group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub group: bool,
    /// The position of what came last.
    pub last_position: u64,
    /// The user's marks.
    pub marks: Marks,
    /// Of a group: the position at which the user came in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub joined: u64,
    /// Of a group: the position at which the user went; 0 while it belongs to it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left: u64,
}

impl Thread {
    /// The position behind which messages of others count as unread.
    #[must_use]
    pub fn unread_after(&self) -> u64 {
        self.marks.read.max(self.joined).max(self.left)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether a device is there, by the service's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Online {
    /// The device.
    pub device: u32,
    /// Whether it is.
    pub online: bool,
    /// What it is owed: entries that it has not acknowledged.
    pub owed: u64,
}
