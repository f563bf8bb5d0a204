//! What clients call at a gateway: passed on to whoever leads the shard.
//!
//! A gateway is the service, not a client: it follows a redirect itself, since its callers know gateways only. It tries
//! again only where nothing happened, a few times, within what the caller still waits. What it can't place it refuses.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest, HistoryResponse,
    ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse, MoveReplicaRequest,
    MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse, PresenceRequest,
    PresenceResponse, QueueStatus, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest, RequestCodeResponse,
    RoutesRequest, RoutesResponse, SendRequest, SendResponse, SetVerificationRequest, SetVerificationResponse,
    SignUpRequest, SignUpResponse, StatusRequest, StatusResponse, SubscribeEvent, SubscribeRequest,
    TransferLeaderRequest, TransferLeaderResponse,
};
use tokio::sync::{mpsc, watch};

use super::{VERSION, registry::Registry, wanted};
use crate::{
    client::{Attempt, CallError, Client, StreamEnd, Subscription as Upstream},
    env::Clock,
    node::{Answer, Call, ClientApi, Reason, Refusal, Subscription},
};

/// Attempts at one call: the first, and those that follow a redirect.
const ATTEMPTS_MAX: u32 = 3;
/// When to come back to a store that is out of reach: elections are over by then, or the network is cut.
const RETRY_OUT_OF_REACH: Duration = Duration::from_millis(200);
/// When to come back to a gateway that is full.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// Events of one device that may wait here; what it doesn't read stays with the node.
const EVENTS_MAX: usize = 16;

/// A gateway's calls.
pub(super) struct Forward {
    pub(super) store: Client,
    pub(super) registry: Registry,
    pub(super) clock: Clock,
    pub(super) zone: String,
    pub(super) call_max: Duration,
    pub(super) sessions: Arc<AtomicUsize>,
    pub(super) sessions_max: usize,
    pub(super) lane: AtomicU64,
    /// Says when the gateway stops.
    pub(super) closing: watch::Receiver<bool>,
}

/// Whether the attempt surely did nothing, and another node may do it.
fn elsewhere(error: &CallError) -> bool {
    match error {
        CallError::NotSent(_) => true,
        CallError::Refused(refusal) => matches!(refusal.reason, Reason::NotLeader | Reason::StaleRoute),
        CallError::Unknown { .. } => false,
    }
}

/// What the caller is told. Whom the store would have it ask doesn't concern it.
fn refusal(error: CallError) -> Refusal {
    match error {
        CallError::Refused(refusal) if matches!(refusal.reason, Reason::NotLeader | Reason::StaleRoute) => {
            let why = format!("the gateway finds nobody who leads the shard: {}", refusal.message);
            Refusal::new(Reason::NoQuorum, why).after(RETRY_OUT_OF_REACH)
        }
        CallError::Refused(refusal) => refusal,
        CallError::NotSent(why) => {
            Refusal::new(Reason::NoQuorum, format!("the gateway does not reach the store: {why}"))
                .after(RETRY_OUT_OF_REACH)
        }
        CallError::Unknown { message, .. } => Refusal::new(Reason::Maybe, message),
    }
}

fn nothing_for_operators<T>() -> Answer<T> {
    Err(Refusal::new(
        Reason::Invalid,
        "this is a gateway: what an operator asks of a node must be asked of the node",
    ))
}

impl Forward {
    async fn pass<T, F>(&self, call: Call, attempt: impl Fn(Client) -> F) -> Answer<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let within = call.timeout.unwrap_or(self.call_max).min(self.call_max);
        let ends = self.clock.now() + within;
        let lane = self.lane.fetch_add(1, Ordering::Relaxed);
        let mut last = CallError::NotSent("the deadline had passed".to_owned());
        for _ in 0..ATTEMPTS_MAX {
            let left = ends.saturating_sub(self.clock.now());
            if left.is_zero() {
                break;
            }
            let store = self.store.on_lane(lane).with_timeout(left);
            if store.router().needs_map()
                && let Err(error) = store.refresh_routes().await
            {
                last = error;
                break;
            }
            match attempt(store).await.outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let again = elsewhere(&error);
                    last = error;
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(refusal(last))
    }

    /// Takes one of the places for sessions, until what is returned is dropped.
    fn place(&self) -> Answer<Place> {
        let taken = self.sessions.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.sessions.clone());
        if taken < self.sessions_max {
            return Ok(place);
        }
        let full = format!(
            "{} sessions are at this gateway: there is no room for more",
            self.sessions_max
        );
        Err(Refusal::new(Reason::Overloaded, full).after(RETRY_FULL))
    }
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands a device what its node gives, until either is gone.
async fn pump(mut from: Upstream, to: mpsc::Sender<Answer<SubscribeEvent>>, closing: watch::Receiver<bool>) {
    let closed = wanted(closing);
    tokio::pin!(closed);
    loop {
        let next = tokio::select! {
            biased;
            () = to.closed() => return,
            () = &mut closed => None,
            next = from.next() => Some(next),
        };
        let (event, over) = match next {
            Some(Ok(event)) => (Ok(SubscribeEvent { event: Some(event) }), false),
            Some(Err(end)) => (Err(ended(end)), true),
            None => (Err(Refusal::new(Reason::NotLeader, "the gateway is stopping")), true),
        };
        if to.send(event).await.is_err() || over {
            return;
        }
    }
}

/// Why a device's stream ends here. Nothing of it is lost: the device goes on from its cursor.
fn ended(end: StreamEnd) -> Refusal {
    match end {
        StreamEnd::Refused(error) => refusal(error),
        end => {
            let why = format!("the gateway lost the node that the stream came from: {end}");
            Refusal::new(Reason::NoQuorum, why).after(RETRY_OUT_OF_REACH)
        }
    }
}

#[async_trait]
impl ClientApi for Forward {
    async fn request_code(&self, request: RequestCodeRequest, call: Call) -> Answer<RequestCodeResponse> {
        let phone = &request.phone;
        self.pass(call, |store| async move { store.request_code(phone).await })
            .await
    }

    async fn sign_up(&self, request: SignUpRequest, call: Call) -> Answer<SignUpResponse> {
        let (phone, code) = (&request.phone, &request.code);
        self.pass(call, |store| async move { store.sign_up_verified(phone, code).await })
            .await
    }

    async fn open_session(&self, request: OpenSessionRequest, call: Call) -> Answer<OpenSessionResponse> {
        let (user, device, nonce) = (request.user, request.device, request.client_nonce);
        self.pass(
            call,
            |store| async move { store.open_session(user, device, nonce).await },
        )
        .await
    }

    async fn send(&self, request: SendRequest, mut call: Call) -> Answer<SendResponse> {
        if request.timeout_ms > 0 {
            let asked = Duration::from_millis(u64::from(request.timeout_ms));
            call.timeout = Some(call.timeout.map_or(asked, |timeout| timeout.min(asked)));
        }
        let request = &request;
        self.pass(call, |store| async move {
            // What the caller still waits has become less on the way here and between attempts.
            let request = SendRequest {
                timeout_ms: 0,
                ..request.clone()
            };
            store.send(request).await
        })
        .await
    }

    async fn subscribe(&self, request: SubscribeRequest, call: Call) -> Answer<Subscription> {
        let place = self.place()?;
        let request = &request;
        let upstream = self
            .pass(call, |store| async move { store.subscribe(*request).await })
            .await?;
        let session = self.registry.open(request.session).await?;
        let (to, events) = mpsc::channel(EVENTS_MAX);
        let closing = self.closing.clone();
        tokio::spawn(async move {
            pump(upstream, to, closing).await;
            drop((place, session));
        });
        Ok(events)
    }

    async fn acknowledge(&self, request: AcknowledgeRequest, call: Call) -> Answer<AcknowledgeResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.acknowledge(*request).await })
            .await
    }

    async fn presence(&self, request: PresenceRequest, call: Call) -> Answer<PresenceResponse> {
        let user = request.user;
        self.pass(call, |store| async move { store.presence(user).await }).await
    }

    async fn open(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.open(*request).await }).await
    }

    async fn sync(&self, request: OpenRequest, call: Call) -> Answer<OpenResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.sync(*request).await }).await
    }

    async fn acquit(&self, request: AcquitRequest, call: Call) -> Answer<AcquitResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.acquit(*request).await })
            .await
    }

    async fn import_contacts(&self, request: ImportContactsRequest, call: Call) -> Answer<ImportContactsResponse> {
        let request = &request;
        self.pass(
            call,
            |store| async move { store.import_contacts(request.clone()).await },
        )
        .await
    }

    async fn contacts(&self, request: ContactsRequest, call: Call) -> Answer<ContactsResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.contacts(request.clone()).await })
            .await
    }

    async fn change_group(&self, request: ChangeGroupRequest, call: Call) -> Answer<ChangeGroupResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.change_group(request.clone()).await })
            .await
    }

    async fn members(&self, request: MembersRequest, call: Call) -> Answer<MembersResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.members(*request).await })
            .await
    }

    async fn history(&self, request: HistoryRequest, call: Call) -> Answer<HistoryResponse> {
        let request = &request;
        self.pass(call, |store| async move { store.history(*request).await })
            .await
    }

    async fn routes(&self, _: RoutesRequest, call: Call) -> Answer<RoutesResponse> {
        let within = call.timeout.unwrap_or(self.call_max).min(self.call_max);
        self.store.with_timeout(within).routes().await.map_err(refusal)
    }

    async fn status(&self, _: StatusRequest, _: Call) -> Answer<StatusResponse> {
        Ok(StatusResponse {
            zone: self.zone.clone(),
            version: VERSION.to_owned(),
            uptime_ms: u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX),
            queues: Some(QueueStatus {
                streams: self.sessions.load(Ordering::Relaxed) as u64,
                streams_max: self.sessions_max as u64,
                ..QueueStatus::default()
            }),
            ..StatusResponse::default()
        })
    }

    async fn audit(&self, _: AuditRequest, _: Call) -> Answer<AuditResponse> {
        nothing_for_operators()
    }

    async fn transfer_leader(&self, _: TransferLeaderRequest, _: Call) -> Answer<TransferLeaderResponse> {
        nothing_for_operators()
    }

    async fn fence(&self, _: FenceRequest, _: Call) -> Answer<FenceResponse> {
        nothing_for_operators()
    }

    async fn set_verification(&self, _: SetVerificationRequest, _: Call) -> Answer<SetVerificationResponse> {
        nothing_for_operators()
    }

    async fn move_replica(&self, _: MoveReplicaRequest, _: Call) -> Answer<MoveReplicaResponse> {
        nothing_for_operators()
    }

    async fn abort_operation(&self, _: AbortOperationRequest, _: Call) -> Answer<AbortOperationResponse> {
        nothing_for_operators()
    }

    async fn ramp_logins(&self, _: RampLoginsRequest, _: Call) -> Answer<RampLoginsResponse> {
        nothing_for_operators()
    }

    async fn digest(&self, _: DigestRequest, _: Call) -> Answer<DigestResponse> {
        nothing_for_operators()
    }
}
