//! How the world talks to a node's loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest, HistoryResponse,
    ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse, MoveReplicaRequest,
    MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse, PeerMessage,
    PresenceRequest, PresenceResponse, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest, RequestCodeResponse,
    RoutesRequest, RoutesResponse, SendRequest, SendResponse, SetVerificationRequest, SetVerificationResponse,
    SignUpRequest, SignUpResponse, StatusRequest, StatusResponse, SubscribeRequest, TransferLeaderRequest,
    TransferLeaderResponse,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    api::{Answer, Call, ClientApi, Reason, Refusal, Subscription},
    config::NodeConfig,
    inbox::{FromPeer, Inbox, Queued, Reply, Room},
    metrics::Operations,
    requests::Request,
    versions::Protocols,
};
use crate::env::Clock;

/// When to come back to a node whose queue is full: the time it takes to empty one, give or take.
const RETRY_FULL: Duration = Duration::from_millis(200);

/// A node, from outside its loop. Cheap to clone; works from any thread.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    calls: mpsc::Sender<Queued>,
    peers: mpsc::Sender<FromPeer>,
    stop: mpsc::Sender<()>,
    clock: Clock,
    speaks: Protocols,
    refused: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    peer_room: Room,
    operations: Operations,
}

/// The two ends of a node's queues: the handle for the fronts and the transport, the inbox for [`super::run`].
/// `clock` is the one given to `run`.
#[must_use]
pub fn channel(config: &NodeConfig, clock: Clock) -> (NodeHandle, Inbox) {
    let (calls, calls_in) = mpsc::channel(config.bounds.inbox);
    let (peers, peers_in) = mpsc::channel(config.bounds.peer_inbox);
    let (stop, stop_in) = mpsc::channel(1);
    let refused = Arc::new(AtomicU64::new(0));
    let handle = NodeHandle {
        calls,
        peers,
        stop,
        clock,
        speaks: config.versions.speaks(),
        refused: refused.clone(),
        dropped: Arc::default(),
        peer_room: Room::new(config.bounds.peer_inbox_bytes),
        operations: Operations::default(),
    };
    let inbox = Inbox {
        calls: calls_in,
        calls_max: config.bounds.inbox,
        peers: peers_in,
        stop: stop_in,
        refused,
        peer_room: handle.peer_room.clone(),
        dropped: handle.dropped.clone(),
    };
    (handle, inbox)
}

impl NodeHandle {
    /// Hands over what `from` sent, in its order. Never waits: a full queue drops all of it.
    pub fn deliver(&self, from: u64, messages: Vec<PeerMessage>) {
        if messages.is_empty() {
            return;
        }
        let bytes = messages.iter().map(prost::Message::encoded_len).sum();
        let taken = self.peer_room.take(bytes).is_some_and(|room| {
            let batch = FromPeer::Messages { from, messages, room };
            self.peers.try_send(batch).is_ok()
        });
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that `peer` is surely gone: a connection from or to it was closed or reset, and a fresh one was refused.
    pub fn peer_reset(&self, peer: u64) {
        if self.peers.try_send(FromPeer::Reset { peer }).is_err() {
            // Timers notice too, only later.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stops the node gracefully: it hands its leaderships over, says goodbye, makes its state durable and ends.
    /// Returns when it has, to each who asked.
    pub async fn stop(&self) {
        // Full means that somebody asked already, closed that the loop has ended.
        let _ = self.stop.try_send(());
        self.stop.closed().await;
    }

    /// Whether the node's loop still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.calls.is_closed()
    }

    /// Batches of peer messages that were dropped because the loop was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, call: Call, request: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
        let Some(protocol) = call.speaks.shared(self.speaks) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!(
                "the caller speaks version {} of the protocol, this node {}",
                call.speaks, self.speaks
            );
            return Err(Refusal::new(Reason::UnsupportedVersion, message));
        };
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let (name, class, came) = (request.name(), request.class(), self.clock.now());
        let answer = self.queue(call, protocol, request, answer).await;
        let took = self.clock.now().saturating_sub(came);
        self.operations.answered(name, class, &answer, took);
        answer
    }

    /// Has the loop do it, and waits for the answer.
    async fn queue<T>(
        &self,
        call: Call,
        protocol: u32,
        request: Request,
        answer: oneshot::Receiver<Answer<T>>,
    ) -> Answer<T> {
        let queued = Queued {
            request,
            deadline: call.timeout.map(|timeout| self.clock.now() + timeout),
            protocol,
            span: tracing::Span::current(),
        };
        match self.calls.try_send(queued) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::new(Reason::Overloaded, "the node's queue of calls is full").after(RETRY_FULL));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(Refusal::new(Reason::NotLeader, "the node is stopping"));
            }
        }
        let gone = || Refusal::new(Reason::Maybe, "the node ended before it answered");
        let Some(timeout) = call.timeout else {
            return answer.await.unwrap_or_else(|_| Err(gone()));
        };
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(gone())),
            () = self.clock.sleep(timeout) => Err(Refusal::new(
                Reason::Maybe,
                format!("no outcome within {timeout:?}"),
            )),
        }
    }
}

#[async_trait]
impl ClientApi for NodeHandle {
    fn speaks(&self) -> Protocols {
        self.speaks
    }

    async fn request_code(&self, request: RequestCodeRequest, call: Call) -> Answer<RequestCodeResponse> {
        self.ask(call, |reply| Request::Code(request, reply)).await
    }

    async fn sign_up(&self, request: SignUpRequest, call: Call) -> Answer<SignUpResponse> {
        self.ask(call, |reply| Request::SignUp(request, reply)).await
    }

    async fn open_session(&self, request: OpenSessionRequest, call: Call) -> Answer<OpenSessionResponse> {
        self.ask(call, |reply| Request::OpenSession(request, reply)).await
    }

    async fn send(&self, request: SendRequest, mut call: Call) -> Answer<SendResponse> {
        if request.timeout_ms > 0 {
            let asked = Duration::from_millis(u64::from(request.timeout_ms));
            call.timeout = Some(call.timeout.map_or(asked, |timeout| timeout.min(asked)));
        }
        self.ask(call, |reply| Request::Send(request, reply)).await
    }

    async fn subscribe(&self, request: SubscribeRequest, call: Call) -> Answer<Subscription> {
        self.ask(call, |reply| Request::Subscribe(request, reply)).await
    }

    async fn acknowledge(&self, request: AcknowledgeRequest, call: Call) -> Answer<AcknowledgeResponse> {
        self.ask(call, |reply| Request::Acknowledge(request, reply)).await
    }

    async fn presence(&self, request: PresenceRequest, call: Call) -> Answer<PresenceResponse> {
        self.ask(call, |reply| Request::Presence(request, reply)).await
    }

    async fn open(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse> {
        self.ask(call, |reply| Request::Open(request, reply)).await
    }

    async fn sync(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse> {
        self.ask(call, |reply| Request::Sync(request, reply)).await
    }

    async fn acquit(&self, request: AcquitRequest, call: Call) -> Answer<AcquitResponse> {
        self.ask(call, |reply| Request::Acquit(request, reply)).await
    }

    async fn import_contacts(&self, request: ImportContactsRequest, call: Call) -> Answer<ImportContactsResponse> {
        self.ask(call, |reply| Request::ImportContacts(request, reply)).await
    }

    async fn contacts(&self, request: ContactsRequest, call: Call) -> Answer<ContactsResponse> {
        self.ask(call, |reply| Request::Contacts(request, reply)).await
    }

    async fn change_group(&self, request: ChangeGroupRequest, call: Call) -> Answer<ChangeGroupResponse> {
        self.ask(call, |reply| Request::ChangeGroup(request, reply)).await
    }

    async fn members(&self, request: MembersRequest, call: Call) -> Answer<MembersResponse> {
        self.ask(call, |reply| Request::Members(request, reply)).await
    }

    async fn audit(&self, request: AuditRequest, call: Call) -> Answer<AuditResponse> {
        self.ask(call, |reply| Request::Audit(request, reply)).await
    }

    async fn history(&self, request: HistoryRequest, call: Call) -> Answer<HistoryResponse> {
        self.ask(call, |reply| Request::History(request, reply)).await
    }

    async fn routes(&self, request: RoutesRequest, call: Call) -> Answer<RoutesResponse> {
        self.ask(call, |reply| Request::Routes(request, reply)).await
    }

    async fn status(&self, request: StatusRequest, call: Call) -> Answer<StatusResponse> {
        self.ask(call, |reply| Request::Status(request, reply)).await
    }

    async fn transfer_leader(&self, request: TransferLeaderRequest, call: Call) -> Answer<TransferLeaderResponse> {
        self.ask(call, |reply| Request::TransferLeader(request, reply)).await
    }

    async fn fence(&self, request: FenceRequest, call: Call) -> Answer<FenceResponse> {
        self.ask(call, |reply| Request::Fence(request, reply)).await
    }

    async fn set_verification(&self, request: SetVerificationRequest, call: Call) -> Answer<SetVerificationResponse> {
        self.ask(call, |reply| Request::SetVerification(request, reply)).await
    }

    async fn move_replica(&self, request: MoveReplicaRequest, call: Call) -> Answer<MoveReplicaResponse> {
        self.ask(call, |reply| Request::MoveReplica(request, reply)).await
    }

    async fn abort_operation(&self, request: AbortOperationRequest, call: Call) -> Answer<AbortOperationResponse> {
        self.ask(call, |reply| Request::AbortOperation(request, reply)).await
    }

    async fn ramp_logins(&self, request: RampLoginsRequest, call: Call) -> Answer<RampLoginsResponse> {
        self.ask(call, |reply| Request::RampLogins(request, reply)).await
    }

    async fn digest(&self, request: DigestRequest, call: Call) -> Answer<DigestResponse> {
        self.ask(call, |reply| Request::Digest(request, reply)).await
    }
}
