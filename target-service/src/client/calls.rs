//! The calls: one attempt each, at the node that the router points at or at one that the caller names.

use std::{future::Future, time::Duration};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, AcknowledgeResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse,
    OpenSessionRequest, OpenSessionResponse, PresenceRequest, PresenceResponse, RampLoginsRequest, RampLoginsResponse,
    RequestCodeRequest, RequestCodeResponse, RoutesRequest, RoutesResponse, SendRequest, SendResponse,
    SetVerificationRequest, SetVerificationResponse, SignUpRequest, SignUpResponse, StatusRequest, StatusResponse,
    SubscribeRequest, TransferLeaderRequest, TransferLeaderResponse, admin_client::AdminClient,
    messaging_client::MessagingClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    channels::Channels,
    error::CallError,
    router::{Router, Target},
    subscription::Subscription,
};
use crate::{
    grpc::inject,
    node::{PROTOCOL_HEADER, Protocols, Reason, Refusal},
};

/// Largest answer, in bytes: a page of history.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// One attempt: where it went and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<T> {
    /// Where it went; `None` when there was no shard map to say where.
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Result<T, CallError>,
}

/// A client of the messaging service. Cheap to clone; clones share connections and what was learnt of the routes.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Channels,
    router: Router,
    lane: u64,
    /// The gateway that every call goes to; none to go to the nodes themselves.
    gateway: Option<u64>,
    timeout: Duration,
    silence_max: Duration,
    traceparent: Option<MetadataValue<Ascii>>,
    speaks: Protocols,
}

impl Client {
    /// A client over `channels`, with deadlines of two seconds and streams that may be silent for five. It has no shard
    /// map yet: call [`Client::refresh_routes`], and again whenever the router says that it needs a map.
    #[must_use]
    pub fn new(channels: Channels) -> Self {
        Self {
            channels,
            router: Router::new(),
            lane: 0,
            gateway: None,
            timeout: Duration::from_secs(2),
            silence_max: Duration::from_secs(5),
            traceparent: None,
            speaks: Protocols::ALL,
        }
    }

    /// The same client, on the connections of `lane`. A session should keep to one.
    #[must_use]
    pub fn on_lane(&self, lane: u64) -> Self {
        Self { lane, ..self.clone() }
    }

    /// The same client, all of whose calls go to `gateway`, which knows who leads what, with a shard map of its own.
    #[must_use]
    pub fn through(&self, gateway: u64) -> Self {
        Self {
            gateway: Some(gateway),
            router: Router::new(),
            ..self.clone()
        }
    }

    /// The same client, with another deadline for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// The same client, giving a stream up after another time without even a heartbeat.
    #[must_use]
    pub fn with_silence_max(&self, silence_max: Duration) -> Self {
        Self {
            silence_max,
            ..self.clone()
        }
    }

    /// The same client, whose calls belong to a span that is not a span of this process: `traceparent` as W3C writes it.
    /// One that can't stand in a header is left out.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: &str) -> Self {
        Self {
            traceparent: traceparent.parse().ok(),
            ..self.clone()
        }
    }

    /// The same client, speaking other versions of the protocol.
    #[must_use]
    pub fn with_protocols(&self, speaks: Protocols) -> Self {
        Self { speaks, ..self.clone() }
    }

    /// What this client and its clones have learnt of the routes.
    #[must_use]
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The connections of this client and its clones.
    #[must_use]
    pub const fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Asks the nodes in turn, starting at this client's lane, for the shard map, until one gives it: at most one
    /// attempt at each.
    ///
    /// # Errors
    /// The last node's failure, when none gave it.
    pub async fn refresh_routes(&self) -> Result<(), CallError> {
        let nodes: Vec<u64> = self.channels.nodes().collect();
        let mut last = CallError::NotSent("there are no nodes to ask".to_owned());
        let start = usize::try_from(self.lane).unwrap_or(0);
        for turn in 0..nodes.len() {
            let node = nodes[(start + turn) % nodes.len()];
            let call = |channel, request| async move { messaging(channel).routes(request).await };
            match self.at(node, RoutesRequest {}, call).await {
                Ok(routes) => match self.router.install(&routes) {
                    Ok(()) => return Ok(()),
                    Err(why) => last = CallError::Refused(Refusal::new(Reason::Invalid, why)),
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The shard map, from the first node that gives it: at most one attempt at each.
    ///
    /// # Errors
    /// The last node's failure, when none gave it.
    pub async fn routes(&self) -> Result<RoutesResponse, CallError> {
        let nodes: Vec<u64> = self.channels.nodes().collect();
        let mut last = CallError::NotSent("there are no nodes to ask".to_owned());
        let start = usize::try_from(self.lane).unwrap_or(0);
        for turn in 0..nodes.len() {
            let node = nodes[(start.wrapping_add(turn)) % nodes.len()];
            let call = |channel, request| async move { messaging(channel).routes(request).await };
            match self.at(node, RoutesRequest {}, call).await {
                Ok(routes) => return Ok(routes),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Has a code carried to a phone number.
    pub async fn request_code(&self, phone: &str) -> Attempt<RequestCodeResponse> {
        let request = |epoch| RequestCodeRequest {
            phone: phone.to_owned(),
            epoch,
        };
        let call = |channel, request| async move { messaging(channel).request_code(request).await };
        self.routed(self.router.shard_of_phone(phone), request, call).await
    }

    /// Creates the account of a phone number, or returns the one that exists.
    pub async fn sign_up(&self, phone: &str) -> Attempt<SignUpResponse> {
        self.sign_up_verified(phone, "").await
    }

    /// [`Client::sign_up`] with the code that was carried to the phone.
    pub async fn sign_up_verified(&self, phone: &str, code: &str) -> Attempt<SignUpResponse> {
        let request = |epoch| SignUpRequest {
            phone: phone.to_owned(),
            epoch,
            code: code.to_owned(),
        };
        let call = |channel, request| async move { messaging(channel).sign_up(request).await };
        self.routed(self.router.shard_of_phone(phone), request, call).await
    }

    /// Opens a device's session. `client_nonce` tells a repeated open from a new one.
    pub async fn open_session(&self, user: u64, device: u32, client_nonce: u64) -> Attempt<OpenSessionResponse> {
        let request = |epoch| OpenSessionRequest {
            user,
            device,
            epoch,
            client_nonce,
        };
        let call = |channel, request| async move { messaging(channel).open_session(request).await };
        self.routed(self.router.shard_of_user(user), request, call).await
    }

    /// Sends `request`, whose `epoch` is filled in, and its `timeout_ms` where it is 0.
    pub async fn send(&self, mut request: SendRequest) -> Attempt<SendResponse> {
        let shard = match request.group {
            0 => self.router.shard_of_pair(request.sender, request.recipient),
            group => self.router.shard_of_conversation(group),
        };
        if request.timeout_ms == 0 {
            request.timeout_ms = u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX);
        }
        let request = |epoch| SendRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).send(request).await };
        self.routed(shard, request, call).await
    }

    /// Moves a device's cursor; the request's `epoch` is filled in.
    pub async fn acknowledge(&self, request: AcknowledgeRequest) -> Attempt<AcknowledgeResponse> {
        let shard = self.router.shard_of_user(request.user);
        let request = |epoch| AcknowledgeRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).acknowledge(request).await };
        self.routed(shard, request, call).await
    }

    /// Which devices of an account are online.
    pub async fn presence(&self, user: u64) -> Attempt<PresenceResponse> {
        let request = |epoch| PresenceRequest { user, epoch };
        let call = |channel, request| async move { messaging(channel).presence(request).await };
        self.routed(self.router.shard_of_user(user), request, call).await
    }

    /// Starts a device's stream; the request's `epoch` is filled in. The deadline is for its start.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Attempt<Subscription> {
        let shard = self.router.shard_of_user(request.user);
        let request = |epoch| SubscribeRequest { epoch, ..request };
        let call = |channel, request: Request<SubscribeRequest>| async move {
            // No `grpc-timeout`: to others' servers it would bound the whole stream.
            let mut request = request;
            request.metadata_mut().remove("grpc-timeout");
            messaging(channel).subscribe(request).await
        };
        let Attempt { target, outcome } = self.routed(shard, request, call).await;
        let outcome = match (target, outcome) {
            (Some(target), Ok(events)) => Ok(Subscription {
                events,
                target,
                router: self.router.clone(),
                silence_max: self.silence_max,
            }),
            (None, Ok(_)) => Err(no_map()),
            (_, Err(error)) => Err(error),
        };
        Attempt { target, outcome }
    }

    /// What `node` believes of itself.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn status(&self, node: u64) -> Result<StatusResponse, CallError> {
        let call = |channel, request| async move { admin(channel).status(request).await };
        self.at(node, StatusRequest {}, call).await
    }

    /// Digest of `node`'s applied state of `shard`.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn digest(&self, node: u64, shard: u32) -> Result<DigestResponse, CallError> {
        let call = |channel, request| async move { admin(channel).digest(request).await };
        self.at(node, DigestRequest { shard }, call).await
    }

    /// Has whoever carries codes for `node` be slow, fail, or recover.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn set_verification(
        &self,
        node: u64,
        request: SetVerificationRequest,
    ) -> Result<SetVerificationResponse, CallError> {
        let call = |channel, request| async move { admin(channel).set_verification(request).await };
        self.at(node, request, call).await
    }

    /// Has the log-in limit of `node` grow from one rate to another, beginning now. Gives the rate that was in force.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn ramp_logins(&self, node: u64, request: RampLoginsRequest) -> Result<RampLoginsResponse, CallError> {
        let call = |channel, request| async move { admin(channel).ramp_logins(request).await };
        self.at(node, request, call).await
    }

    /// Asks the leader of `shard` to hand over to `to`, or, for 0, to the follower that is furthest.
    pub async fn transfer_leader(&self, shard: u32, to: u64) -> Attempt<TransferLeaderResponse> {
        let call = |channel, request| async move { admin(channel).transfer_leader(request).await };
        let request = |_| TransferLeaderRequest { shard, to };
        let attempt = self.routed(shard, request, call).await;
        if let (Some(target), Ok(answer)) = (attempt.target, &attempt.outcome) {
            self.router.handed_over(target, answer.to);
        }
        attempt
    }

    /// Ends `sessions` on `shard`, through its log.
    pub async fn fence(&self, shard: u32, sessions: &[u64]) -> Attempt<FenceResponse> {
        let call = |channel, request| async move { admin(channel).fence(request).await };
        let request = |epoch| FenceRequest {
            shard,
            sessions: sessions.to_vec(),
            epoch,
        };
        self.routed(shard, request, call).await
    }

    /// One attempt at the leader of `shard`, from whose outcome the router learns.
    pub(super) async fn routed<Q, T, F>(
        &self,
        shard: u32,
        request: impl FnOnce(u64) -> Q,
        call: impl FnOnce(Channel, Request<Q>) -> F,
    ) -> Attempt<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let through = |target: Target| Target {
            node: self.gateway.unwrap_or(target.node),
            ..target
        };
        let Some(target) = self.router.target(shard).map(through) else {
            return Attempt {
                target: None,
                outcome: Err(no_map()),
            };
        };
        let outcome = self.at(target.node, request(target.epoch), call).await;
        match &outcome {
            Ok(_) => self.router.worked(target),
            Err(error) => self.router.failed(target, error),
        }
        Attempt {
            target: Some(target),
            outcome,
        }
    }

    /// One attempt at `node`.
    pub(super) async fn at<Q, T, F>(
        &self,
        node: u64,
        request: Q,
        call: impl FnOnce(Channel, Request<Q>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(channel) = self.channels.get(node, self.lane) else {
            return Err(CallError::NotSent(format!("node {node} has no address")));
        };
        let mut request = Request::new(request);
        request.set_timeout(self.timeout);
        if let Ok(speaks) = self.speaks.to_string().parse() {
            request.metadata_mut().insert(PROTOCOL_HEADER, speaks);
        }
        match &self.traceparent {
            Some(traceparent) => drop(request.metadata_mut().insert("traceparent", traceparent.clone())),
            None => inject(request.metadata_mut()),
        }
        match tokio::time::timeout(self.timeout, call(channel, request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::from_status(&status)),
            Err(_) => Err(CallError::deadline(self.timeout)),
        }
    }
}

pub(super) fn messaging(channel: Channel) -> MessagingClient<Channel> {
    MessagingClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

pub(super) fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn no_map() -> CallError {
    CallError::NotSent("there is no shard map yet: refresh the routes first".to_owned())
}
