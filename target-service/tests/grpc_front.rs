//! The gRPC front and the client library against a scripted node: what crosses the wire, and what a client can know.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, Delivery, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest,
    HistoryResponse, ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse,
    MoveReplicaRequest, MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse,
    Position, PresenceRequest, PresenceResponse, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest,
    RequestCodeResponse, Route, RoutesRequest, RoutesResponse, SendRequest, SendResponse, SetVerificationRequest,
    SetVerificationResponse, SignUpRequest, SignUpResponse, StatusRequest, StatusResponse, SubscribeEvent,
    SubscribeRequest, TransferLeaderRequest, TransferLeaderResponse, messaging_client::MessagingClient,
    subscribe_event::Event,
};
use target_service::{
    client::{CallError, ChannelOptions, Channels, Client, StreamEnd, UnknownCause},
    grpc::{ClientPlaneOptions, serve_clients},
    node::{Answer, Call, ClientApi, Reason, Refusal, Subscription},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, mpsc},
};

/// A node that does what the recipient's number says, and remembers what it heard.
#[derive(Default)]
struct Scripted {
    heard: Mutex<Vec<(SendRequest, Call)>>,
    /// Held calls wait here.
    release: Gate,
    arrived: Notify,
    streams: Mutex<Vec<mpsc::Sender<Answer<SubscribeEvent>>>>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

const HOLD: u64 = 1;
const MAYBE: u64 = 2;
const SESSION_ENDED: u64 = 3;

#[tonic::async_trait]
impl ClientApi for Scripted {
    async fn request_code(&self, request: RequestCodeRequest, _: Call) -> Answer<RequestCodeResponse> {
        Ok(RequestCodeResponse {
            code: request.phone,
            valid_ms: 1,
        })
    }

    async fn presence(&self, _: PresenceRequest, _: Call) -> Answer<PresenceResponse> {
        Ok(PresenceResponse::default())
    }

    async fn set_verification(&self, request: SetVerificationRequest, _: Call) -> Answer<SetVerificationResponse> {
        Ok(SetVerificationResponse {
            delay_ms: request.delay_ms,
            failing: request.failing,
        })
    }

    async fn ramp_logins(&self, request: RampLoginsRequest, _: Call) -> Answer<RampLoginsResponse> {
        Ok(RampLoginsResponse {
            per_second: f64::from(request.from_per_second),
        })
    }

    async fn sign_up(&self, request: SignUpRequest, _: Call) -> Answer<SignUpResponse> {
        Err(Refusal {
            shard: Some(0),
            leader: Some(2),
            term: 7,
            epoch: 1,
            ..Refusal::new(Reason::NotLeader, format!("no leader of {}", request.phone))
        })
    }

    async fn open_session(&self, _: OpenSessionRequest, _: Call) -> Answer<OpenSessionResponse> {
        Err(Refusal::new(Reason::Overloaded, "log-ins").after(Duration::from_millis(1250)))
    }

    async fn send(&self, request: SendRequest, call: Call) -> Answer<SendResponse> {
        let what = request.recipient;
        self.heard.lock().unwrap().push((request, call));
        self.arrived.notify_one();
        match what {
            HOLD => {
                let released = self.release.0.acquire().await;
                released.expect("never closed").forget();
                Ok(SendResponse::default())
            }
            MAYBE => Err(Refusal::new(Reason::Maybe, "who knows")),
            SESSION_ENDED => Err(Refusal::new(Reason::SessionEnded, "fenced")),
            position => Ok(SendResponse {
                position,
                ..SendResponse::default()
            }),
        }
    }

    async fn subscribe(&self, _: SubscribeRequest, _: Call) -> Answer<Subscription> {
        let (to, stream) = mpsc::channel(4);
        self.streams.lock().unwrap().push(to);
        Ok(stream)
    }

    async fn acknowledge(&self, request: AcknowledgeRequest, _: Call) -> Answer<AcknowledgeResponse> {
        Ok(AcknowledgeResponse {
            acknowledged: request.sequence,
        })
    }

    async fn open(&self, _: OpenRequest, _: Call) -> Answer<OpenResponse> {
        Ok(OpenResponse::default())
    }

    async fn sync(&self, _: OpenRequest, _: Call) -> Answer<OpenResponse> {
        Ok(OpenResponse::default())
    }

    async fn acquit(&self, _: AcquitRequest, _: Call) -> Answer<AcquitResponse> {
        Ok(AcquitResponse::default())
    }

    async fn import_contacts(&self, _: ImportContactsRequest, _: Call) -> Answer<ImportContactsResponse> {
        Ok(ImportContactsResponse::default())
    }

    async fn contacts(&self, _: ContactsRequest, _: Call) -> Answer<ContactsResponse> {
        Ok(ContactsResponse::default())
    }

    async fn change_group(&self, _: ChangeGroupRequest, _: Call) -> Answer<ChangeGroupResponse> {
        Ok(ChangeGroupResponse::default())
    }

    async fn members(&self, _: MembersRequest, _: Call) -> Answer<MembersResponse> {
        Ok(MembersResponse::default())
    }

    async fn audit(&self, _: AuditRequest, _: Call) -> Answer<AuditResponse> {
        Ok(AuditResponse::default())
    }

    async fn history(&self, _: HistoryRequest, _: Call) -> Answer<HistoryResponse> {
        Err(Refusal::new(Reason::NoQuorum, "alone").after(Duration::from_millis(50)))
    }

    async fn routes(&self, _: RoutesRequest, _: Call) -> Answer<RoutesResponse> {
        let route = Route {
            shard: 0,
            nodes: vec![1],
            leader: 1,
        };
        Ok(RoutesResponse {
            epoch: 1,
            shards: 1,
            routes: vec![route],
        })
    }

    async fn status(&self, _: StatusRequest, _: Call) -> Answer<StatusResponse> {
        Ok(StatusResponse {
            node: 1,
            ..StatusResponse::default()
        })
    }

    async fn transfer_leader(&self, request: TransferLeaderRequest, _: Call) -> Answer<TransferLeaderResponse> {
        Ok(TransferLeaderResponse { to: request.to })
    }

    async fn fence(&self, _: FenceRequest, _: Call) -> Answer<FenceResponse> {
        Err(Refusal::new(Reason::StaleRoute, "an old map"))
    }

    async fn move_replica(&self, request: MoveReplicaRequest, _: Call) -> Answer<MoveReplicaResponse> {
        Ok(MoveReplicaResponse {
            operation: request.from * 10 + request.to,
        })
    }

    async fn abort_operation(&self, _: AbortOperationRequest, _: Call) -> Answer<AbortOperationResponse> {
        let refusal = Refusal::new(Reason::NotLeader, "another node leads the placement group");
        Err(Refusal {
            leader: Some(3),
            ..refusal
        })
    }

    async fn digest(&self, request: DigestRequest, _: Call) -> Answer<DigestResponse> {
        Ok(DigestResponse {
            applied: u64::from(request.shard),
            ..DigestResponse::default()
        })
    }
}

/// A served [`Scripted`], on a runtime of its own so that dropping it is its death.
struct Served {
    node: Arc<Scripted>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Served {
    fn start(options: ClientPlaneOptions) -> Self {
        let node = Arc::new(Scripted::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let api = node.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            serve_clients(listener, api, options, std::future::pending())
                .await
                .unwrap();
        });
        Self {
            node,
            address,
            runtime: Some(runtime),
        }
    }

    async fn client(&self) -> Client {
        let client = client_of(self.address);
        client.refresh_routes().await.unwrap();
        client
    }

    fn stream(&self) -> mpsc::Sender<Answer<SubscribeEvent>> {
        self.node
            .streams
            .lock()
            .unwrap()
            .last()
            .expect("a stream was opened")
            .clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client with long patience: the machine may be busy, and what is tested here is not time.
fn client_of(address: SocketAddr) -> Client {
    let options = ChannelOptions {
        connect_timeout: Duration::from_secs(20),
        ..ChannelOptions::default()
    };
    let channels = Channels::new(BTreeMap::from([(1, address.to_string())]), options);
    Client::new(channels)
        .with_timeout(Duration::from_secs(30))
        .with_silence_max(Duration::from_secs(30))
}

fn send(recipient: u64) -> SendRequest {
    SendRequest {
        sender: 9,
        recipient,
        client_id: 4,
        ..SendRequest::default()
    }
}

#[tokio::test]
async fn refusals_reach_the_client_with_all_that_it_can_act_on() {
    let served = Served::start(ClientPlaneOptions::default());
    let client = served.client().await;

    let refused = client.sign_up("+4930123").await.outcome.unwrap_err();
    let CallError::Refused(refusal) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(refusal.reason, Reason::NotLeader);
    assert_eq!(
        (refusal.shard, refusal.leader, refusal.term, refusal.epoch),
        (Some(0), Some(2), 7, 1)
    );
    assert_eq!(refusal.message, "no leader of +4930123");

    let full = client.open_session(9, 1, 5).await.outcome.unwrap_err();
    assert_eq!(
        (full.word(), full.retry_after()),
        ("OVERLOADED", Some(Duration::from_millis(1250)))
    );
    let alone = client.history(HistoryRequest::default()).await.outcome.unwrap_err();
    assert_eq!((alone.word(), alone.surely_not_done()), ("NO_QUORUM", true));
    let ended = client.send(send(SESSION_ENDED)).await.outcome.unwrap_err();
    assert_eq!((ended.word(), ended.may_retry()), ("SESSION_ENDED", false));
    let maybe = client.send(send(MAYBE)).await.outcome.unwrap_err();
    assert!(
        matches!(
            maybe,
            CallError::Unknown {
                cause: UnknownCause::Maybe,
                ..
            }
        ),
        "{maybe:?}"
    );
    assert_eq!(client.fence(0, &[1]).await.outcome.unwrap_err().word(), "STALE_ROUTE");
}

#[tokio::test]
async fn answers_and_deadlines_pass_through() {
    let served = Served::start(ClientPlaneOptions::default());
    let client = served.client().await;
    let sent = client.send(send(77)).await;
    assert_eq!(sent.outcome.unwrap().position, 77);
    assert_eq!(sent.target.unwrap().node, 1);
    let (request, call) = served.node.heard.lock().unwrap()[0].clone();
    assert_eq!((request.timeout_ms, request.epoch), (30_000, 1));
    assert_eq!(call.timeout, Some(Duration::from_secs(30)));
    assert_eq!(client.status(1).await.unwrap().node, 1);
    assert_eq!(client.digest(1, 3).await.unwrap().applied, 3);
    assert_eq!(client.transfer_leader(0, 5).await.outcome.unwrap().to, 5);
    assert_eq!(
        client.status(8).await.unwrap_err().word(),
        "NOT_SENT",
        "node 8 has no address"
    );
}

#[tokio::test]
async fn one_call_too_many_is_refused_at_once_and_operators_still_get_through() {
    let served = Served::start(ClientPlaneOptions {
        calls_max: 2,
        ..ClientPlaneOptions::default()
    });
    let client = served.client().await;
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(send(HOLD)).await.outcome })
        })
        .collect();
    while served.node.heard.lock().unwrap().len() < 2 {
        served.node.arrived.notified().await;
    }
    let refused = client.send(send(5)).await.outcome.unwrap_err();
    assert_eq!(refused.word(), "OVERLOADED");
    assert!(refused.retry_after().is_some());
    assert_eq!(
        served.node.heard.lock().unwrap().len(),
        2,
        "the node was not even asked"
    );
    assert_eq!(client.status(1).await.unwrap().node, 1);
    served.node.release.0.add_permits(2);
    for call in held {
        call.await.unwrap().unwrap();
    }
    assert_eq!(client.send(send(5)).await.outcome.unwrap().position, 5);
}

#[tokio::test]
async fn a_passed_deadline_is_unknown_and_frees_its_place() {
    let served = Served::start(ClientPlaneOptions {
        calls_max: 1,
        ..ClientPlaneOptions::default()
    });
    let client = served.client().await;
    let hasty = client.with_timeout(Duration::from_millis(50));
    let error = hasty.send(send(HOLD)).await.outcome.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Unknown {
                cause: UnknownCause::Deadline,
                ..
            }
        ),
        "{error:?}"
    );
    // The place is free once the front has noticed too.
    let bounded = tokio::time::timeout(Duration::from_secs(30), async {
        while client.send(send(5)).await.outcome.is_err() {
            tokio::task::yield_now().await;
        }
    });
    bounded.await.expect("the place is free again");
}

#[tokio::test]
async fn a_dead_server_is_not_sent_and_one_that_dies_in_mid_call_is_unknown() {
    let served = Served::start(ClientPlaneOptions::default());
    let client = served.client().await;
    let address = served.address;
    let held = {
        let client = client.clone();
        tokio::spawn(async move { client.send(send(HOLD)).await.outcome })
    };
    served.node.arrived.notified().await;
    drop(served);
    let lost = held.await.unwrap().unwrap_err();
    assert!(
        matches!(
            lost,
            CallError::Unknown {
                cause: UnknownCause::Lost,
                ..
            }
        ),
        "{lost:?}"
    );
    // A call that races with the breaking of the connection may be unknown; the next ones are surely not sent.
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(client.send(send(5)).await.outcome.unwrap_err().word());
    }
    assert_eq!(words[1..], ["NOT_SENT", "NOT_SENT"], "{words:?}");
    let fresh = client_of(address);
    assert_eq!(fresh.refresh_routes().await.unwrap_err().word(), "NOT_SENT");
    assert_eq!(fresh.send(send(5)).await.target, None);
}

#[tokio::test]
async fn a_server_behind_something_that_only_accepts_is_not_sent() {
    // A link whose upstream is gone accepts and closes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(listener.local_addr().unwrap());
    let (outcome, ()) = tokio::join!(client.refresh_routes(), async {
        drop(listener.accept().await.unwrap());
    });
    assert_eq!(outcome.unwrap_err().word(), "NOT_SENT");
}

#[tokio::test]
async fn a_stream_gives_its_events_and_says_how_it_ended() {
    let served = Served::start(ClientPlaneOptions::default());
    let client = served.client().await;
    let request = SubscribeRequest {
        user: 9,
        device: 1,
        ..SubscribeRequest::default()
    };

    let mut stream = client.subscribe(request).await.outcome.unwrap();
    let to = served.stream();
    let delivery = |sequence| {
        Event::Delivery(Delivery {
            sequence,
            ..Delivery::default()
        })
    };
    for sequence in 1..=3 {
        to.send(Ok(SubscribeEvent {
            event: Some(delivery(sequence)),
        }))
        .await
        .unwrap();
    }
    let position = Event::Position(Position {
        last_sequence: 3,
        incarnation: 1,
        current: true,
    });
    to.send(Ok(SubscribeEvent {
        event: Some(position.clone()),
    }))
    .await
    .unwrap();
    for sequence in 1..=3 {
        assert_eq!(stream.next().await, Ok(delivery(sequence)));
    }
    assert_eq!(stream.next().await, Ok(position));
    to.send(Err(Refusal {
        leader: Some(2),
        term: 4,
        ..Refusal::new(Reason::NotLeader, "moved")
    }))
    .await
    .unwrap();
    let Err(StreamEnd::Refused(CallError::Refused(refusal))) = stream.next().await else {
        panic!("not refused")
    };
    assert_eq!((refusal.reason, refusal.leader), (Reason::NotLeader, Some(2)));

    let mut stream = client.subscribe(request).await.outcome.unwrap();
    served.node.streams.lock().unwrap().clear();
    assert_eq!(stream.next().await, Err(StreamEnd::Closed));

    let patient = client.with_silence_max(Duration::from_millis(50));
    let mut stream = patient.subscribe(request).await.outcome.unwrap();
    assert_eq!(stream.next().await, Err(StreamEnd::Silent(Duration::from_millis(50))));
    let to = served.stream();
    drop(stream);
    to.closed().await;

    let mut stream = client.subscribe(request).await.outcome.unwrap();
    drop(served);
    assert!(matches!(stream.next().await, Err(StreamEnd::Lost(_))));
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let served = Served::start(ClientPlaneOptions::default());
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    for service in ["", "chat.v1.Messaging", "chat.v1.Admin"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let health = HealthClient::new(channel.clone())
            .check(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(health.status, 1, "{service:?} serves");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["chat.v1.Admin", "chat.v1.Messaging", "grpc.health.v1.Health"]);

    // A request over the bound is refused before it is read.
    let body = vec![0; 300 << 10];
    let mut messaging = MessagingClient::new(channel);
    let status = messaging
        .send(SendRequest {
            body: body.into(),
            ..SendRequest::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(served.node.heard.lock().unwrap().is_empty());
}
