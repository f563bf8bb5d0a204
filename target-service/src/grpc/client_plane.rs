//! What clients call, translated: a gRPC request in, a call of [`ClientApi`] with its deadline, a status out.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AcquitRequest, AcquitResponse, ChangeGroupRequest, ChangeGroupResponse,
    ContactsRequest, ContactsResponse, HistoryRequest, HistoryResponse, ImportContactsRequest, ImportContactsResponse,
    MembersRequest, MembersResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse,
    PresenceRequest, PresenceResponse, RequestCodeRequest, RequestCodeResponse, RoutesRequest, RoutesResponse,
    SendRequest, SendResponse, SignUpRequest, SignUpResponse, SubscribeEvent, SubscribeRequest,
    messaging_server::Messaging,
};
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tracing::{Instrument as _, Span, info_span};

use super::{status::to_status, trace};
use crate::node::{Answer, Call, ClientApi, PROTOCOL_HEADER, Protocols, Reason, Refusal, Subscription};

/// When to come back to a front that is full. In-flight calls end within their deadlines, most within milliseconds.
const RETRY_FULL: Duration = Duration::from_millis(100);

/// The calls in flight over all connections, and the node they go to.
#[derive(Clone)]
pub(crate) struct Front {
    api: Arc<dyn ClientApi>,
    calls: Arc<Semaphore>,
    calls_max: usize,
}

impl Front {
    pub(crate) fn new(api: Arc<dyn ClientApi>, calls_max: usize) -> Self {
        Self {
            api,
            calls: Arc::new(Semaphore::new(calls_max)),
            calls_max,
        }
    }

    /// Runs one call of the node in `span`, if there is room for it.
    pub(crate) async fn call<Q, T, F>(
        &self,
        span: Span,
        request: Request<Q>,
        run: impl FnOnce(Arc<dyn ClientApi>, Q, Call) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Answer<T>>,
    {
        trace::adopt(&span, request.metadata());
        let call = Call {
            timeout: deadline(request.metadata())?,
            speaks: speaks(request.metadata())?,
        };
        let shared = call.speaks.shared(self.api.speaks());
        let Ok(_room) = self.calls.try_acquire() else {
            let full = format!("{} calls are in flight at this node", self.calls_max);
            return Err(to_status(&Refusal::new(Reason::Overloaded, full).after(RETRY_FULL)));
        };
        let answer = run(self.api.clone(), request.into_inner(), call).instrument(span).await;
        let mut response = answer.map(Response::new).map_err(|refusal| to_status(&refusal))?;
        if let Some(shared) = shared {
            response.metadata_mut().insert(PROTOCOL_HEADER, shared.into());
        }
        Ok(response)
    }
}

/// Which versions of the protocol the caller says it speaks.
fn speaks(metadata: &MetadataMap) -> Result<Protocols, Status> {
    let Some(value) = metadata.get(PROTOCOL_HEADER) else {
        return Ok(Protocols::FIRST);
    };
    value.to_str().ok().and_then(Protocols::parse).ok_or_else(|| {
        let message = format!("{PROTOCOL_HEADER} is {value:?}: write a version such as 2, or a range such as 1-2");
        to_status(&Refusal::new(Reason::Invalid, message))
    })
}

/// How long the caller still waits, by the `grpc-timeout` header: up to eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Result<Option<Duration>, Status> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    });
    match parsed {
        Some(timeout) => Ok(Some(timeout)),
        None => {
            let message = format!("grpc-timeout is {value:?}: write up to eight digits and one of H M S m u n");
            Err(to_status(&Refusal::new(Reason::Invalid, message)))
        }
    }
}

/// A device's stream, as gRPC wants it.
#[derive(Debug)]
pub(crate) struct Events(Subscription);

impl Stream for Events {
    type Item = Result<SubscribeEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = self.0.poll_recv(cx);
        event.map(|event| event.map(|answer| answer.map_err(|refusal| to_status(&refusal))))
    }
}

#[tonic::async_trait]
impl Messaging for Front {
    type SubscribeStream = Events;

    async fn request_code(
        &self,
        request: Request<RequestCodeRequest>,
    ) -> Result<Response<RequestCodeResponse>, Status> {
        let span = info_span!("chat.request_code", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.request_code(request, call).await
        })
        .await
    }

    async fn presence(&self, request: Request<PresenceRequest>) -> Result<Response<PresenceResponse>, Status> {
        let span = info_span!("chat.presence", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.presence(request, call).await
        })
        .await
    }

    async fn sign_up(&self, request: Request<SignUpRequest>) -> Result<Response<SignUpResponse>, Status> {
        let span = info_span!("chat.sign_up", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.sign_up(request, call).await
        })
        .await
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let span = info_span!(
            "chat.open_session",
            otel.kind = "server",
            device = request.get_ref().device
        );
        self.call(span, request, |api, request, call| async move {
            api.open_session(request, call).await
        })
        .await
    }

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        let span = info_span!("chat.send", otel.kind = "server", bytes = request.get_ref().body.len());
        self.call(span, request, |api, request, call| async move {
            api.send(request, call).await
        })
        .await
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Events>, Status> {
        let span = info_span!("chat.subscribe", otel.kind = "server", after = request.get_ref().after);
        let started = self.call(span, request, |api, request, call| async move {
            api.subscribe(request, call).await
        });
        Ok(Response::new(Events(started.await?.into_inner())))
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Result<Response<AcknowledgeResponse>, Status> {
        let span = info_span!(
            "chat.acknowledge",
            otel.kind = "server",
            sequence = request.get_ref().sequence
        );
        self.call(span, request, |api, request, call| async move {
            api.acknowledge(request, call).await
        })
        .await
    }

    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let span = info_span!("chat.open", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.open(request, call).await
        })
        .await
    }

    async fn sync(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let span = info_span!("chat.sync", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.sync(request, call).await
        })
        .await
    }

    async fn acquit(&self, request: Request<AcquitRequest>) -> Result<Response<AcquitResponse>, Status> {
        let span = info_span!("chat.acquit", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.acquit(request, call).await
        })
        .await
    }

    async fn import_contacts(
        &self,
        request: Request<ImportContactsRequest>,
    ) -> Result<Response<ImportContactsResponse>, Status> {
        let span = info_span!("chat.import_contacts", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.import_contacts(request, call).await
        })
        .await
    }

    async fn contacts(&self, request: Request<ContactsRequest>) -> Result<Response<ContactsResponse>, Status> {
        let span = info_span!("chat.contacts", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.contacts(request, call).await
        })
        .await
    }

    async fn change_group(
        &self,
        request: Request<ChangeGroupRequest>,
    ) -> Result<Response<ChangeGroupResponse>, Status> {
        let span = info_span!("chat.change_group", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.change_group(request, call).await
        })
        .await
    }

    async fn members(&self, request: Request<MembersRequest>) -> Result<Response<MembersResponse>, Status> {
        let span = info_span!("chat.members", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.members(request, call).await
        })
        .await
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let span = info_span!("chat.history", otel.kind = "server", after = request.get_ref().after);
        self.call(span, request, |api, request, call| async move {
            api.history(request, call).await
        })
        .await
    }

    async fn routes(&self, request: Request<RoutesRequest>) -> Result<Response<RoutesResponse>, Status> {
        let span = info_span!("chat.routes", otel.kind = "server");
        self.call(span, request, |api, request, call| async move {
            api.routes(request, call).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Duration>, Status> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        deadline(&metadata)
    }

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        assert_eq!(deadline(&MetadataMap::new()).unwrap(), None);
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("6u", Duration::from_micros(6)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text).unwrap(), Some(expected), "{text}");
        }
        // What the client writes is read back, to its precision.
        let mut request = Request::new(());
        request.set_timeout(Duration::from_millis(1234));
        assert_eq!(deadline(request.metadata()).unwrap(), Some(Duration::from_millis(1234)));
    }

    #[test]
    fn a_deadline_that_is_none_is_refused() {
        for text in ["", "m", "5", "5x", "-1m", "123456789m", "1.5S", "५m"] {
            let Ok(value) = tonic::metadata::MetadataValue::try_from(text.as_bytes()) else {
                continue;
            };
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value);
            let status = deadline(&metadata).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{text}");
        }
    }
}
