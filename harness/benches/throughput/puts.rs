//! Puts into etcd, each client under a key of its own, by the harness's own client of etcd.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use firedrill::{
    system::clients::{self, ClientNode},
    workload::{
        RequestSpec,
        client::{OpClient, Put},
        payload,
    },
};

use crate::{SIZE, common::Result, in_flight::Attempts, rig::Rig};

const WITHIN: Duration = Duration::from_secs(5);
/// Connections: as many as the messaging service's client has.
const CONNECTIONS: usize = 2;

/// Connections to the node that leads.
pub(crate) struct Puts {
    clients: Vec<Arc<dyn OpClient>>,
    items: AtomicU64,
}

impl Puts {
    /// Puts that go to `leader`, so that none is forwarded.
    pub(crate) fn at(rig: &Rig, leader: &str) -> Result<Self> {
        let client = clients::find("etcd").ok_or("there is no client of etcd")?;
        let spec = rig.system.node_spec(leader)?;
        let node = ClientNode {
            name: leader.to_owned(),
            address: *spec.listens.first().ok_or("a node listens nowhere")?,
        };
        let open = || (client.open)(vec![node.clone()], &RequestSpec::default());
        Ok(Self {
            clients: (0..CONNECTIONS).map(|_| open()).collect(),
            items: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Attempts for Puts {
    async fn attempt(&self, client: usize) -> bool {
        let item = self.items.fetch_add(1, Ordering::Relaxed);
        let put = Put {
            item,
            log: format!("k:{client}"),
            body: payload::encode(item, SIZE),
        };
        let put = self.clients[client % CONNECTIONS].put(&put, WITHIN);
        matches!(tokio::time::timeout(WITHIN, put).await, Ok(answered) if answered.result.is_ok())
    }
}
