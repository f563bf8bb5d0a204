//! Asking the directory: one attempt for each call, as everywhere in this client.

use std::{future::Future, time::Duration};

use firedrill_proto::chat::v1::{
    DirectoryStatusRequest, DirectoryStatusResponse, DistortRequest, GatewayDoor, PublishRequest, ResolveRequest,
    ResolveResponse, WithdrawRequest, discovery_client::DiscoveryClient,
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use super::error::CallError;
use crate::{
    discovery::{Answer, Door, Publication},
    grpc::Connector,
};

/// Longest TTL that is believed, whatever an answer says.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// A client of the directory. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Directory {
    channel: Channel,
    timeout: Duration,
}

impl Directory {
    /// A client of the directory at `address` (`host:port`), each of whose calls ends within `timeout`. Connects when it
    /// is first used, and again whenever the connection broke; must be called on a runtime.
    #[must_use]
    pub fn new(address: &str, timeout: Duration) -> Self {
        let channel = Endpoint::from_static("http://directory")
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(Connector::new(address, timeout));
        Self { channel, timeout }
    }

    fn client(&self) -> DiscoveryClient<Channel> {
        DiscoveryClient::new(self.channel.clone())
    }

    async fn within<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, CallError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::from_status(&status)),
            Err(_) => Err(CallError::deadline(self.timeout)),
        }
    }

    /// The doors that may be taken now.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn resolve(&self) -> Result<Answer, CallError> {
        let answer = self.within(self.client().resolve(ResolveRequest {})).await?;
        Ok(read(answer))
    }

    /// Says that a gateway is there.
    ///
    /// # Errors
    /// When the attempt fails or is refused.
    pub async fn publish(&self, said: &Publication) -> Result<(), CallError> {
        let request = PublishRequest {
            door: Some(GatewayDoor {
                name: said.name.clone(),
                zone: said.zone.clone(),
                address: said.address.clone(),
            }),
            generation: said.generation,
            lease_ms: u64::try_from(said.lease.as_millis()).unwrap_or(u64::MAX),
            healthy: said.healthy,
        };
        self.within(self.client().publish(request)).await.map(drop)
    }

    /// Takes a gateway's door away.
    ///
    /// # Errors
    /// When the attempt fails or is refused.
    pub async fn withdraw(&self, name: &str, generation: u64) -> Result<(), CallError> {
        let request = WithdrawRequest {
            name: name.to_owned(),
            generation,
        };
        self.within(self.client().withdraw(request)).await.map(drop)
    }

    /// Has the directory answer something else than it knows, for a while.
    ///
    /// # Errors
    /// When the attempt fails or is refused.
    pub async fn distort(&self, request: DistortRequest) -> Result<(), CallError> {
        self.within(self.client().distort(request)).await.map(drop)
    }

    /// What the directory knows and has done.
    ///
    /// # Errors
    /// When the attempt fails.
    pub async fn status(&self) -> Result<DirectoryStatusResponse, CallError> {
        let request = Request::new(DirectoryStatusRequest {});
        self.within(self.client().directory_status(request)).await
    }
}

fn read(answer: ResolveResponse) -> Answer {
    let door = |door: GatewayDoor| Door {
        name: door.name,
        zone: door.zone,
        address: door.address,
    };
    Answer {
        doors: answer.doors.into_iter().map(door).collect(),
        ttl: Duration::from_millis(answer.ttl_ms).min(TTL_MAX),
        kept: answer.kept,
    }
}
