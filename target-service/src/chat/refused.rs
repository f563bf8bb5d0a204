//! Why a command was refused. A refused command surely did not happen, but for [`Refused::ClientIdExpired`]: it changed
//! nothing, and may have happened before.

/// The reason of a refusal, with the values that a caller can act on. Deterministic: every replica refuses alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The account does not exist on the shard that would own it.
    #[error("no account {user}: sign up first")]
    NoSuchUser {
        /// The user that was named.
        user: u64,
    },
    /// The device was never registered.
    #[error("device {device} of account {user} is not registered: open a session first")]
    NoSuchDevice {
        /// The account.
        user: u64,
        /// The device that was named.
        device: u32,
    },
    /// The session was fenced, replaced by a newer one, or never opened.
    #[error("session {session} has ended: open a new one")]
    SessionEnded {
        /// The session that was named.
        session: u64,
    },
    /// A bound of the shard is reached; come back later.
    #[error("{what} is full ({max}): come back later")]
    Full {
        /// What is full.
        what: &'static str,
        /// Its bound.
        max: u64,
    },
    /// The client id was used before, for another message.
    #[error("client id {client_id} was used for a different message: choose a new one")]
    ClientIdReused {
        /// The id that was named.
        client_id: u64,
    },
    /// The client id is not newer than ids of this device that have been forgotten, so whether it was used is not known:
    /// the message may have been stored long ago.
    #[error(
        "client id {client_id} is older than what is remembered (up to {floor} is forgotten): look for the message in the \
         history, and number new ones higher"
    )]
    ClientIdExpired {
        /// The id that was named.
        client_id: u64,
        /// The highest forgotten id of the device.
        floor: u64,
    },
    /// There is no such group, or the user has no such conversation.
    #[error("no conversation {conversation}")]
    NoSuchConversation {
        /// The id that was named.
        conversation: u64,
    },
    /// The user doesn't belong to the conversation, or may not do this in it.
    #[error("user {user} may not do this in conversation {conversation}")]
    NotMember {
        /// The conversation.
        conversation: u64,
        /// The user; 0 when none was named.
        user: u64,
    },
    /// The group would be larger than groups may be; nothing was changed.
    #[error("group {conversation} would have more than {max} members")]
    GroupFull {
        /// The group.
        conversation: u64,
        /// The bound.
        max: u64,
    },
    /// The code is not the one that was carried to the phone, or it is too old, or wrong ones were shown too often.
    #[error("wrong code: ask for a new one")]
    WrongCode,
    /// Not a phone number.
    #[error("not a phone number: 5 to 20 digits are wanted")]
    PhoneInvalid,
    /// Devices are numbered from 1 to [`DEVICES_MAX`](super::validate::DEVICES_MAX).
    #[error("device {device} is out of range: devices are 1 to 10")]
    DeviceInvalid {
        /// The device that was named.
        device: u32,
    },
    /// The body is over [`BODY_BYTES_MAX`](super::validate::BODY_BYTES_MAX).
    #[error("a body of {bytes} bytes is too large: at most {max}")]
    BodyTooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// Sender and recipient are the same account.
    #[error("account {user} can not send to itself")]
    SelfSend {
        /// The account.
        user: u64,
    },
    /// More items than one command may carry.
    #[error("{count} {what} in one command: at most {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many came.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// The shard that was asked doesn't own what the command is about: the caller's route is stale.
    #[error("this belongs to shard {owner}: ask for the routes again")]
    Misrouted {
        /// The shard that owns it.
        owner: u32,
    },
    /// The conversation id belongs to another pair of users: two pairs hash alike.
    #[error("conversation {conversation} belongs to another pair of accounts")]
    ConversationTaken {
        /// The id.
        conversation: u64,
    },
    /// The command contradicts the shard's state or carries nothing that this version knows.
    #[error("malformed command: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}
