//! Messages, each client from an account of its own to another one, by the service's own client library.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use firedrill::workload::payload;
use firedrill_proto::chat::v1::SendRequest;
use target_service::client::Client;

use crate::{
    SIZE,
    accounts::{account, client_of},
    common::Result,
    in_flight::Attempts,
    rig::Rig,
};

/// Every account has one.
const DEVICE: u32 = 1;

/// Accounts that are ready to send.
pub(crate) struct Messages {
    senders: Vec<Sender>,
    items: AtomicU64,
}

struct Sender {
    client: Client,
    user: u64,
    session: u64,
    recipient: u64,
    sent: AtomicU64,
}

impl Messages {
    /// Signs up and logs in two accounts for each client.
    pub(crate) async fn prepare(rig: &Rig, clients: usize) -> Result<Self> {
        let client = client_of(rig).await?;
        let mut senders = Vec::with_capacity(clients);
        for number in 0..clients as u64 {
            let client = client.on_lane(number);
            let (user, session) = account(rig, &client, 2 * number, DEVICE).await?;
            let (recipient, _) = account(rig, &client, 2 * number + 1, DEVICE).await?;
            senders.push(Sender {
                client,
                user,
                session,
                recipient,
                sent: AtomicU64::new(0),
            });
        }
        Ok(Self {
            senders,
            items: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Attempts for Messages {
    async fn attempt(&self, client: usize) -> bool {
        let sender = &self.senders[client];
        let item = self.items.fetch_add(1, Ordering::Relaxed);
        let request = SendRequest {
            sender: sender.user,
            device: DEVICE,
            session: sender.session,
            recipient: sender.recipient,
            client_id: sender.sent.fetch_add(1, Ordering::Relaxed) + 1,
            body: payload::encode(item, SIZE),
            epoch: 0,
            timeout_ms: 0,
            group: 0,
        };
        sender.client.send(request).await.outcome.is_ok()
    }
}
