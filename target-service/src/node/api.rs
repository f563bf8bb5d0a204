//! What a node answers, above any transport: gRPC and the simulation both call this and only translate.

use std::time::Duration;

use async_trait::async_trait;
use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest, HistoryResponse,
    ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse, MoveReplicaRequest,
    MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse, PresenceRequest,
    PresenceResponse, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest, RequestCodeResponse, RoutesRequest,
    RoutesResponse, SendRequest, SendResponse, SetVerificationRequest, SetVerificationResponse, SignUpRequest,
    SignUpResponse, StatusRequest, StatusResponse, SubscribeEvent, SubscribeRequest, TransferLeaderRequest,
    TransferLeaderResponse,
};
use tokio::sync::mpsc;

use super::versions::Protocols;

/// Why a call was not answered with a result. One for each line atop `messaging.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Another node leads the shard, or nobody does yet. Surely not done.
    NotLeader,
    /// The caller's shard map is of another epoch. Surely not done.
    StaleRoute,
    /// A queue, a budget or a limit is full; `retry_after` says when to come back. Surely not done.
    Overloaded,
    /// The leader can not reach a majority. Surely not done.
    NoQuorum,
    /// The session was fenced or replaced. Surely not done.
    SessionEnded,
    /// No such account. Surely not done.
    NoSuchUser,
    /// The account has no such device. Surely not done.
    NoSuchDevice,
    /// Whoever carries codes to phones is down. Surely not done.
    VerificationDown,
    /// The sign-up's code is not the one that was carried. Surely not done.
    WrongCode,
    /// The cursor can't be resumed from: fetch the state anew. Surely not done.
    Resync,
    /// No such conversation. Surely not done.
    NoSuchConversation,
    /// The caller doesn't belong to the conversation, or may not do this in it. Surely not done.
    NotMember,
    /// The group would be too large. Surely not done.
    GroupFull,
    /// The request breaks a bound of the protocol; trying again can't help. Surely not done.
    Invalid,
    /// The caller and this node share no version of the protocol. Surely not done.
    UnsupportedVersion,
    /// This build of the node can't carry the call out; another one can. Surely not done.
    BrokenBuild,
    /// The deadline had passed before anything was proposed. Surely not done.
    Expired,
    /// Proposed, outcome not known to this node: it may take effect.
    Maybe,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::NotLeader,
        Self::StaleRoute,
        Self::Overloaded,
        Self::NoQuorum,
        Self::SessionEnded,
        Self::NoSuchUser,
        Self::NoSuchDevice,
        Self::VerificationDown,
        Self::WrongCode,
        Self::Resync,
        Self::NoSuchConversation,
        Self::NotMember,
        Self::GroupFull,
        Self::UnsupportedVersion,
        Self::BrokenBuild,
        Self::Invalid,
        Self::Expired,
        Self::Maybe,
    ];

    /// The word for it on the wire (`ErrorInfo.reason`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotLeader => "NOT_LEADER",
            Self::StaleRoute => "STALE_ROUTE",
            Self::Overloaded => "OVERLOADED",
            Self::NoQuorum => "NO_QUORUM",
            Self::SessionEnded => "SESSION_ENDED",
            Self::NoSuchUser => "NO_SUCH_USER",
            Self::NoSuchDevice => "NO_SUCH_DEVICE",
            Self::VerificationDown => "VERIFICATION_DOWN",
            Self::WrongCode => "WRONG_CODE",
            Self::Resync => "RESYNC",
            Self::NoSuchConversation => "NO_SUCH_CONVERSATION",
            Self::NotMember => "NOT_MEMBER",
            Self::GroupFull => "GROUP_FULL",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::BrokenBuild => "BROKEN_BUILD",
            Self::Invalid => "INVALID",
            Self::Expired => "EXPIRED",
            Self::Maybe => "MAYBE",
        }
    }

    /// The reason that `word` names on the wire.
    #[must_use]
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether the request surely had no effect and never will.
    #[must_use]
    pub const fn surely_not_done(self) -> bool {
        !matches!(self, Self::Maybe)
    }
}

/// A refused call, with what the caller needs to do better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .reason.as_str())]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The shard that the call was for, where one was found.
    pub shard: Option<u32>,
    /// The shard's leader as far as this node knows.
    pub leader: Option<u64>,
    /// This node's term of that shard; 0 when there is none.
    pub term: u64,
    /// The epoch of this node's shard map.
    pub epoch: u64,
    /// When coming back may help, counted from now.
    pub retry_after: Option<Duration>,
    /// What failed, with its values. For people; clients act on the other fields.
    pub message: String,
}

impl Refusal {
    /// A refusal with a reason and a message, and nothing else known.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            shard: None,
            leader: None,
            term: 0,
            epoch: 0,
            retry_after: None,
            message: message.into(),
        }
    }

    /// The same, to be tried again after `delay`.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

/// What a node answers a call with.
pub type Answer<T> = Result<T, Refusal>;

/// What surrounds a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// How long the caller still waits, counted from now. Work whose caller has gone is dropped before it is proposed;
    /// work that was proposed by then is answered with [`Reason::Maybe`].
    pub timeout: Option<Duration>,
    /// Which versions of the protocol the caller speaks.
    pub speaks: Protocols,
}

impl Call {
    /// A call whose caller waits for `timeout`.
    #[must_use]
    pub const fn within(timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            speaks: Protocols::FIRST,
        }
    }

    /// The same call, by a caller who speaks these.
    #[must_use]
    pub const fn speaking(mut self, speaks: Protocols) -> Self {
        self.speaks = speaks;
        self
    }
}

/// A device's stream. Bounded: a device that doesn't read is not pushed to, and gets the rest when it does.
/// Ends after an `Err`, or with the node. Dropping it unsubscribes.
pub type Subscription = mpsc::Receiver<Answer<SubscribeEvent>>;

/// What clients and operators ask of one node.
#[async_trait]
pub trait ClientApi: Send + Sync + 'static {
    /// Which versions of the protocol the node speaks.
    fn speaks(&self) -> Protocols {
        Protocols::ALL
    }
    /// Has a code carried to a phone number.
    async fn request_code(&self, request: RequestCodeRequest, call: Call) -> Answer<RequestCodeResponse>;
    /// Creates the account of a phone number, or returns the one that exists.
    async fn sign_up(&self, request: SignUpRequest, call: Call) -> Answer<SignUpResponse>;
    /// Opens a device's session. Limited in rate at each node.
    async fn open_session(&self, request: OpenSessionRequest, call: Call) -> Answer<OpenSessionResponse>;
    /// Sends. `Ok` means committed. The shorter of `call.timeout` and the request's `timeout_ms` holds.
    async fn send(&self, request: SendRequest, call: Call) -> Answer<SendResponse>;
    /// Streams what the device is owed.
    async fn subscribe(&self, request: SubscribeRequest, call: Call) -> Answer<Subscription>;
    /// Moves the device's cursor.
    async fn acknowledge(&self, request: AcknowledgeRequest, call: Call) -> Answer<AcknowledgeResponse>;
    /// Which devices of an account are online.
    async fn presence(&self, request: PresenceRequest, call: Call) -> Answer<PresenceResponse>;
    /// The user's conversations: current where that can be, else as this node has them.
    async fn open(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse>;
    /// The same for a device that can't resume: current, and limited in rate at each node.
    async fn sync(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse>;
    /// Moves a user's marks in a conversation forward.
    async fn acquit(&self, request: AcquitRequest, call: Call) -> Answer<AcquitResponse>;
    /// Adds numbers to an address book.
    async fn import_contacts(&self, request: ImportContactsRequest, call: Call) -> Answer<ImportContactsResponse>;
    /// The user's contacts.
    async fn contacts(&self, request: ContactsRequest, call: Call) -> Answer<ContactsResponse>;
    /// Makes a group, or changes who belongs to it.
    async fn change_group(&self, request: ChangeGroupRequest, call: Call) -> Answer<ChangeGroupResponse>;
    /// Who belongs to a group.
    async fn members(&self, request: MembersRequest, call: Call) -> Answer<MembersResponse>;
    /// All of a conversation, for operators.
    async fn audit(&self, request: AuditRequest, call: Call) -> Answer<AuditResponse>;
    /// Reads a conversation, linearizably.
    async fn history(&self, request: HistoryRequest, call: Call) -> Answer<HistoryResponse>;
    /// The shard map.
    async fn routes(&self, request: RoutesRequest, call: Call) -> Answer<RoutesResponse>;
    /// What the node believes of itself.
    async fn status(&self, request: StatusRequest, call: Call) -> Answer<StatusResponse>;
    /// Starts handing leadership of a shard over; answers once it has been asked, not once it is done.
    async fn transfer_leader(&self, request: TransferLeaderRequest, call: Call) -> Answer<TransferLeaderResponse>;
    /// Ends sessions on a shard, through its log.
    async fn fence(&self, request: FenceRequest, call: Call) -> Answer<FenceResponse>;
    /// Changes how whoever carries codes behaves, for this node.
    async fn set_verification(&self, request: SetVerificationRequest, call: Call) -> Answer<SetVerificationResponse>;
    /// Starts to move one replica of a shard, if this node leads the placement group.
    async fn move_replica(&self, request: MoveReplicaRequest, call: Call) -> Answer<MoveReplicaResponse>;
    /// Has an operation end with the source serving, if this node leads the placement group.
    async fn abort_operation(&self, request: AbortOperationRequest, call: Call) -> Answer<AbortOperationResponse>;
    /// Has this node's log-in limit grow from one rate to another, beginning now.
    async fn ramp_logins(&self, request: RampLoginsRequest, call: Call) -> Answer<RampLoginsResponse>;
    /// Digest of this node's applied state of a shard.
    async fn digest(&self, request: DigestRequest, call: Call) -> Answer<DigestResponse>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_wire_and_only_maybe_is_uncertain() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_wire(reason.as_str()), Some(reason));
            assert_eq!(reason.surely_not_done(), reason != Reason::Maybe);
        }
        assert_eq!(Reason::from_wire("not_leader"), None);
    }
}
