//! One gRPC connection to each node, made by the first who needs it, so that it runs where the load runs.

use std::{error::Error, io, sync::OnceLock, time::Duration};

use tonic::{
    ConnectError, Status,
    transport::{Channel, Endpoint},
};

use super::{ClientNode, http1::not_connected};
use crate::workload::client::CallFailure;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Channels(Vec<OnceLock<Channel>>);

impl Channels {
    pub(super) fn new(nodes: &[ClientNode]) -> Self {
        Self(nodes.iter().map(|_| OnceLock::new()).collect())
    }

    /// The connection to the node of this place in the list. It dials when it is first used, and again when it broke.
    pub(super) fn to(&self, place: usize, node: &ClientNode) -> Result<Channel, CallFailure> {
        let cell = &self.0[place];
        if let Some(channel) = cell.get() {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", node.address))
            .map_err(|_| CallFailure::refused("not an address"))?;
        let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true);
        Ok(cell.get_or_init(|| endpoint.connect_lazy()).clone())
    }
}

/// How an attempt ended that the connection itself ended; none when the node answered, with a refusal.
///
/// Only what never found a connection surely had no effect: what broke later may have been served before.
pub(super) fn broken(status: &Status) -> Option<CallFailure> {
    let mut cause: &(dyn Error + 'static) = status.source()?;
    let mut dialling = false;
    loop {
        dialling |= cause.is::<ConnectError>();
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && dialling
        {
            return Some(not_connected(error));
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None if dialling => return Some(CallFailure::refused("not connected")),
            None => return Some(CallFailure::unknown("connection lost")),
        }
    }
}
