//! Who waits for the outcome of a proposal, and how they are told.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AcknowledgeResponse, AcquitResponse, ChangeGroupResponse, FenceResponse, ImportContactsResponse,
    OpenSessionResponse, RequestCodeResponse, SendResponse, SignUpResponse,
};

use super::{
    api::{Reason, Refusal},
    inbox::Reply as To,
};
use crate::chat::{Refused, Reply};

/// When to come back to a shard whose state is at a bound: it drains at the pace of devices.
const RETRY_STATE_FULL: Duration = Duration::from_secs(1);

/// Who waits.
#[derive(Debug)]
pub(super) enum Waiting {
    RequestCode(To<RequestCodeResponse>),
    SignUp(To<SignUpResponse>),
    OpenSession(To<OpenSessionResponse>),
    Send(To<SendResponse>),
    Acquit(To<AcquitResponse>),
    ImportContacts(To<ImportContactsResponse>),
    ChangeGroup(To<ChangeGroupResponse>),
    Acknowledge(To<AcknowledgeResponse>),
    Fence(To<FenceResponse>),
    /// The node itself, taking in another shard's outbox up to `through`.
    Accept {
        from_shard: u32,
        through: u64,
    },
    /// The node itself, trimming its own outbox.
    Trim {
        to_shard: u32,
    },
    /// The node itself, trimming several of its outboxes at once.
    TrimAll {
        to_shards: Vec<u32>,
    },
    /// The node itself, turning the shard to a version.
    Version,
    /// Nobody any more: it was answered before it was known.
    #[cfg(feature = "plants")]
    Nobody,
}

impl Waiting {
    /// What it is, for traces.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::RequestCode(_) => "request_code",
            Self::SignUp(_) => "sign_up",
            Self::OpenSession(_) => "open_session",
            Self::Send(_) => "send",
            Self::Acquit(_) => "acquit",
            Self::ImportContacts(_) => "import_contacts",
            Self::ChangeGroup(_) => "change_group",
            Self::Acknowledge(_) => "acknowledge",
            Self::Fence(_) => "fence",
            Self::Accept { .. } => "accept_outbox",
            Self::Trim { .. } => "trim_outbox",
            Self::TrimAll { .. } => "trim_outboxes",
            Self::Version => "set_version",
            #[cfg(feature = "plants")]
            Self::Nobody => "nobody",
        }
    }

    /// Whether a client asked, and not the node itself.
    pub(super) const fn has_caller(&self) -> bool {
        match self {
            Self::Accept { .. } | Self::Trim { .. } | Self::TrimAll { .. } | Self::Version => false,
            #[cfg(feature = "plants")]
            Self::Nobody => false,
            _ => true,
        }
    }

    /// Whether whoever asked is gone.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::RequestCode(to) => to.is_closed(),
            Self::SignUp(to) => to.is_closed(),
            Self::OpenSession(to) => to.is_closed(),
            Self::Send(to) => to.is_closed(),
            Self::Acquit(to) => to.is_closed(),
            Self::ImportContacts(to) => to.is_closed(),
            Self::ChangeGroup(to) => to.is_closed(),
            Self::Acknowledge(to) => to.is_closed(),
            Self::Fence(to) => to.is_closed(),
            Self::Accept { .. } | Self::Trim { .. } | Self::TrimAll { .. } | Self::Version => false,
            // Who was answered early still wants it done.
            #[cfg(feature = "plants")]
            Self::Nobody => false,
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        // Whoever doesn't listen any more needs no answer: here and below.
        match self {
            Self::RequestCode(to) => drop(to.send(Err(refusal))),
            Self::SignUp(to) => drop(to.send(Err(refusal))),
            Self::OpenSession(to) => drop(to.send(Err(refusal))),
            Self::Send(to) => drop(to.send(Err(refusal))),
            Self::Acquit(to) => drop(to.send(Err(refusal))),
            Self::ImportContacts(to) => drop(to.send(Err(refusal))),
            Self::ChangeGroup(to) => drop(to.send(Err(refusal))),
            Self::Acknowledge(to) => drop(to.send(Err(refusal))),
            Self::Fence(to) => drop(to.send(Err(refusal))),
            Self::Accept { .. } | Self::Trim { .. } | Self::TrimAll { .. } | Self::Version => {}
            #[cfg(feature = "plants")]
            Self::Nobody => {}
        }
    }

    /// Tells a client the outcome; `refusal` knows the shard.
    pub(super) fn answer(self, reply: Reply, refusal: impl FnOnce(Reason, String) -> Refusal) {
        match (self, reply) {
            (Self::RequestCode(to), Reply::CodeIssued { code, valid_ms }) => {
                drop(to.send(Ok(RequestCodeResponse { code, valid_ms })));
            }
            (Self::SignUp(to), Reply::SignedUp { user, created }) => {
                drop(to.send(Ok(SignUpResponse { user, created })))
            }
            (
                Self::OpenSession(to),
                Reply::Opened {
                    session,
                    acknowledged,
                    last_sequence,
                    incarnation,
                },
            ) => drop(to.send(Ok(OpenSessionResponse {
                session,
                acknowledged,
                last_sequence,
                incarnation,
            }))),
            (
                Self::Send(to),
                Reply::Sent {
                    conversation,
                    position,
                    repeated,
                },
            ) => drop(to.send(Ok(SendResponse {
                conversation,
                position,
                repeated,
            }))),
            (
                Self::Acquit(to),
                Reply::Receipted {
                    delivered,
                    read,
                    unread,
                },
            ) => drop(to.send(Ok(AcquitResponse {
                delivered,
                read,
                unread,
            }))),
            (Self::ImportContacts(to), Reply::Imported { added, total }) => {
                drop(to.send(Ok(ImportContactsResponse { added, total })));
            }
            (
                Self::ChangeGroup(to),
                Reply::GroupChanged {
                    conversation,
                    position,
                    members,
                    repeated,
                },
            ) => drop(to.send(Ok(ChangeGroupResponse {
                group: conversation,
                position,
                members,
                repeated,
            }))),
            (Self::Acknowledge(to), Reply::Acknowledged { acknowledged }) => {
                drop(to.send(Ok(AcknowledgeResponse { acknowledged })));
            }
            (Self::Fence(to), Reply::Fenced { .. }) => drop(to.send(Ok(FenceResponse {}))),
            (waiting, Reply::Refused(refused)) => {
                let reason = reason_of(&refused);
                let mut refusal = refusal(reason, refused.to_string());
                if reason == Reason::Overloaded {
                    refusal = refusal.after(RETRY_STATE_FULL);
                }
                waiting.refuse(refusal);
            }
            (waiting, reply) => waiting.refuse(refusal(
                Reason::Maybe,
                format!("the state machine answered with something else: {reply:?}"),
            )),
        }
    }
}

/// What the state machine's refusal is to a client.
pub(super) const fn reason_of(refused: &Refused) -> Reason {
    match refused {
        Refused::NoSuchUser { .. } => Reason::NoSuchUser,
        Refused::NoSuchDevice { .. } => Reason::NoSuchDevice,
        Refused::SessionEnded { .. } => Reason::SessionEnded,
        Refused::WrongCode => Reason::WrongCode,
        Refused::NoSuchConversation { .. } => Reason::NoSuchConversation,
        Refused::NotMember { .. } => Reason::NotMember,
        Refused::GroupFull { .. } => Reason::GroupFull,
        Refused::Full { .. } => Reason::Overloaded,
        Refused::Misrouted { .. } => Reason::StaleRoute,
        // Nothing was done now; whether it was done before is forgotten.
        Refused::ClientIdExpired { .. } => Reason::Maybe,
        Refused::ClientIdReused { .. }
        | Refused::PhoneInvalid
        | Refused::DeviceInvalid { .. }
        | Refused::BodyTooLarge { .. }
        | Refused::SelfSend { .. }
        | Refused::TooMany { .. }
        | Refused::ConversationTaken { .. }
        | Refused::Malformed { .. } => Reason::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_forgotten_message_was_stored_is_not_known() {
        let forgotten = Refused::ClientIdExpired { client_id: 3, floor: 9 };
        assert!(!reason_of(&forgotten).surely_not_done());
        assert!(reason_of(&Refused::ClientIdReused { client_id: 3 }).surely_not_done());
    }
}
