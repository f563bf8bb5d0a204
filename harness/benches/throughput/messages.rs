//! Messages, each client from an account of its own to another one, by the service's own client library.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use firedrill::workload::payload;
use firedrill_proto::chat::v1::SendRequest;
use target_service::client::{Attempt, ChannelOptions, Channels, Client};

use crate::{SIZE, common::Result, in_flight::Attempts, rig::Rig};

const WITHIN: Duration = Duration::from_secs(5);
/// Attempts at each sign-up and log-in, and the wait between two of them.
const TRIES: u32 = 100;
const AGAIN_AFTER: Duration = Duration::from_millis(50);
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
        let mut addresses = BTreeMap::new();
        for (id, node) in (1..).zip(&rig.system.roster().nodes) {
            let spec = rig.system.node_spec(&node.name)?;
            let own = spec.listens.first().ok_or("a node listens nowhere")?;
            addresses.insert(id, own.to_string());
        }
        let client = Client::new(Channels::new(addresses, ChannelOptions::default())).with_timeout(WITHIN);
        client.refresh_routes().await.map_err(|error| error.to_string())?;
        let mut senders = Vec::with_capacity(clients);
        for number in 0..clients as u64 {
            let client = client.on_lane(number);
            let (user, session) = account(rig, &client, 2 * number).await?;
            let (recipient, _) = account(rig, &client, 2 * number + 1).await?;
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

/// Makes an account with a device that is logged in, so that what it gets is kept for that device.
async fn account(rig: &Rig, client: &Client, number: u64) -> Result<(u64, u64)> {
    let phone = format!("+999{number:010}");
    let signed_up = patiently(rig, async || client.sign_up(&phone).await).await?;
    let opened = patiently(rig, async || client.open_session(signed_up.user, DEVICE, number).await).await?;
    Ok((signed_up.user, opened.session))
}

async fn patiently<T>(rig: &Rig, call: impl AsyncFn() -> Attempt<T>) -> Result<T> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match call().await.outcome {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error.to_string(),
        }
        rig.clock.sleep(AGAIN_AFTER).await;
    }
    Err(format!("not done in {TRIES} attempts: {last}").into())
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
