//! The queues into a node's loop. All are bounded, and none makes anybody wait: what doesn't fit is refused, or, between
//! peers, dropped.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest, HistoryResponse,
    ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse, MoveReplicaRequest,
    MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse, PeerMessage,
    PresenceRequest, PresenceResponse, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest, RequestCodeResponse,
    RoutesResponse, SendRequest, SendResponse, SetVerificationRequest, SetVerificationResponse, SignUpRequest,
    SignUpResponse, StatusResponse, SubscribeRequest, TransferLeaderRequest, TransferLeaderResponse,
};
use tokio::sync::{mpsc, oneshot};

use super::api::{Answer, Refusal, Subscription};

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Answer<T>>;

/// One call, and where its answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Code(RequestCodeRequest, Reply<RequestCodeResponse>),
    SignUp(SignUpRequest, Reply<SignUpResponse>),
    OpenSession(OpenSessionRequest, Reply<OpenSessionResponse>),
    Send(SendRequest, Reply<SendResponse>),
    Subscribe(SubscribeRequest, Reply<Subscription>),
    Acknowledge(AcknowledgeRequest, Reply<AcknowledgeResponse>),
    Presence(PresenceRequest, Reply<PresenceResponse>),
    Open(OpenRequest, Reply<OpenResponse>),
    Sync(OpenRequest, Reply<OpenResponse>),
    Acquit(AcquitRequest, Reply<AcquitResponse>),
    ImportContacts(ImportContactsRequest, Reply<ImportContactsResponse>),
    Contacts(ContactsRequest, Reply<ContactsResponse>),
    ChangeGroup(ChangeGroupRequest, Reply<ChangeGroupResponse>),
    Members(MembersRequest, Reply<MembersResponse>),
    Audit(AuditRequest, Reply<AuditResponse>),
    History(HistoryRequest, Reply<HistoryResponse>),
    Routes(Reply<RoutesResponse>),
    Status(Reply<StatusResponse>),
    TransferLeader(TransferLeaderRequest, Reply<TransferLeaderResponse>),
    Fence(FenceRequest, Reply<FenceResponse>),
    SetVerification(SetVerificationRequest, Reply<SetVerificationResponse>),
    RampLogins(RampLoginsRequest, Reply<RampLoginsResponse>),
    Digest(DigestRequest, Reply<DigestResponse>),
    MoveReplica(MoveReplicaRequest, Reply<MoveReplicaResponse>),
    AbortOperation(AbortOperationRequest, Reply<AbortOperationResponse>),
}

impl Request {
    /// Turns it away. Whoever doesn't listen any more needs no answer.
    pub(crate) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Code(_, to) => drop(to.send(Err(refusal))),
            Self::SignUp(_, to) => drop(to.send(Err(refusal))),
            Self::OpenSession(_, to) => drop(to.send(Err(refusal))),
            Self::Send(_, to) => drop(to.send(Err(refusal))),
            Self::Subscribe(_, to) => drop(to.send(Err(refusal))),
            Self::Acknowledge(_, to) => drop(to.send(Err(refusal))),
            Self::Presence(_, to) => drop(to.send(Err(refusal))),
            Self::Open(_, to) | Self::Sync(_, to) => drop(to.send(Err(refusal))),
            Self::Acquit(_, to) => drop(to.send(Err(refusal))),
            Self::ImportContacts(_, to) => drop(to.send(Err(refusal))),
            Self::Contacts(_, to) => drop(to.send(Err(refusal))),
            Self::ChangeGroup(_, to) => drop(to.send(Err(refusal))),
            Self::Members(_, to) => drop(to.send(Err(refusal))),
            Self::Audit(_, to) => drop(to.send(Err(refusal))),
            Self::History(_, to) => drop(to.send(Err(refusal))),
            Self::Routes(to) => drop(to.send(Err(refusal))),
            Self::Status(to) => drop(to.send(Err(refusal))),
            Self::TransferLeader(_, to) => drop(to.send(Err(refusal))),
            Self::Fence(_, to) => drop(to.send(Err(refusal))),
            Self::SetVerification(_, to) => drop(to.send(Err(refusal))),
            Self::RampLogins(_, to) => drop(to.send(Err(refusal))),
            Self::Digest(_, to) => drop(to.send(Err(refusal))),
            Self::MoveReplica(_, to) => drop(to.send(Err(refusal))),
            Self::AbortOperation(_, to) => drop(to.send(Err(refusal))),
        }
    }
}

/// A call in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) request: Request,
    /// When its caller stops waiting, on the node's clock.
    pub(crate) deadline: Option<Duration>,
    /// The version of the protocol that its caller and this node share.
    pub(crate) protocol: u32,
    /// The caller's span: what the node does for it is told there.
    pub(crate) span: tracing::Span,
}

/// What a peer, or the transport to it, said.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Messages { from: u64, messages: Vec<PeerMessage> },
    Reset { peer: u64 },
}

/// The receiving end of a node's queues: given to [`super::run`], once.
#[derive(Debug)]
pub struct Inbox {
    pub(crate) calls: mpsc::Receiver<Queued>,
    pub(crate) calls_max: usize,
    pub(crate) peers: mpsc::Receiver<FromPeer>,
    /// Open until the loop has ended, and all it does with it.
    pub(crate) stop: mpsc::Receiver<()>,
    /// Calls refused before they reached the loop.
    pub(crate) refused: std::sync::Arc<std::sync::atomic::AtomicU64>,
}
