//! The page's own questions: to each node and gateway on their own addresses, and the way that users take.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, Caller, ChangeGroupRequest, GatewayStatusRequest, GroupChangeKind, OpenRequest, Role,
    SendRequest, StatusResponse, gateway_client::GatewayClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{PageConfig, lock};
use crate::{
    chat::ids,
    client::{Attempt, CallError, ChannelOptions, Channels, Client, Directory, Doors},
    discovery::{Door, ResolverOptions},
    env::Clock,
    grpc::Connector,
    node::Reason,
    statuspage::Board,
};

/// The device of the page's own account.
const DEVICE: u32 = 1;
/// Groups that are tried until one belongs to a shard, for each shard: far more than it takes.
const TRIES_MAX: u64 = 64;

/// What asks, and notes what it hears.
pub(super) struct Watch {
    board: Arc<Mutex<Board>>,
    clock: Clock,
    every: Duration,
    shards: u32,
    nodes: Client,
    gateways: BTreeMap<String, GatewayClient<Channel>>,
    doors: Option<Doors>,
    /// One door after the other, so that no single one decides.
    lane: u64,
    canary: Option<Canary>,
}

/// An account of the page's own, with one group for each shard that only it belongs to. What it sends there shows whether
/// anybody can send, and its acknowledgements leave nothing behind.
struct Canary {
    phone: String,
    caller: Option<Caller>,
    groups: BTreeMap<u32, u64>,
    client_id: u64,
}

fn part(shard: u32) -> String {
    format!("shard:{shard}")
}

fn node(id: u64) -> String {
    format!("n{id}")
}

/// What one node owes, for the shards that it leads.
fn owed(status: &StatusResponse) -> u64 {
    let led = status.shards.iter().filter(|shard| shard.role() == Role::Leader);
    led.map(|shard| shard.outbox_backlog + shard.delivery_backlog).sum()
}

impl Watch {
    /// A board for what `config` names.
    pub(super) fn board(config: &PageConfig) -> Board {
        Board::new(
            config.nodes.keys().map(|id| node(*id)).collect(),
            config.gateways.keys().cloned().collect(),
            (0..config.shards).map(part).collect(),
            config.board(),
        )
    }

    /// Must be called on a runtime.
    pub(super) fn new(config: &PageConfig, board: Arc<Mutex<Board>>, clock: &Clock) -> Self {
        let every = Duration::from_millis(config.ask_ms);
        let options = ChannelOptions {
            connections_per_node: 1,
            connect_timeout: every / 2,
            ..ChannelOptions::default()
        };
        let nodes = Client::new(Channels::new(config.nodes.clone(), options)).with_timeout(every);
        let gateways = config.gateways.iter().map(|(name, address)| {
            let channel =
                Endpoint::from_static("http://gateway").connect_with_connector_lazy(Connector::new(address, every / 2));
            (name.clone(), GatewayClient::new(channel))
        });
        let doors = config.directory.as_ref().map(|address| {
            let directory = Directory::new(address, every / 2);
            Doors::new(directory, "", ResolverOptions::default(), options, clock.clone())
        });
        Self {
            board,
            clock: clock.clone(),
            every,
            shards: config.shards,
            nodes,
            gateways: gateways.collect(),
            doors,
            lane: 0,
            canary: config.phone.clone().map(|phone| Canary {
                phone,
                caller: None,
                groups: BTreeMap::new(),
                // Higher than whatever an earlier life of this page has used.
                client_id: clock.wall_ms().saturating_mul(1000),
            }),
        }
    }

    /// Asks for ever, one round every so often. A round that takes longer puts the next one off; what it leaves unanswered
    /// grows old on the board meanwhile.
    pub(super) async fn run(mut self) {
        loop {
            let started = self.clock.now();
            self.ask_nodes().await;
            self.ask_gateways().await;
            self.try_ways().await;
            // Said after each round, whoever listens: that all is well must have lasted.
            let now = self.clock.now();
            let said = lock(&self.board).say(now);
            tracing::debug!(said = %said.said, reasons = ?said.reasons, "looked");
            self.clock.sleep_until(started + self.every).await;
        }
    }

    async fn ask_nodes(&self) {
        let ids: Vec<u64> = self.nodes.channels().nodes().collect();
        let mut asked = tokio::task::JoinSet::new();
        for id in ids {
            let nodes = self.nodes.clone();
            asked.spawn(async move { (id, nodes.status(id).await) });
        }
        while let Some(Ok((id, answer))) = asked.join_next().await {
            let heard = answer.map(|status| owed(&status)).map_err(|error| error.to_string());
            lock(&self.board).node(&node(id), heard, self.clock.now());
        }
    }

    async fn ask_gateways(&self) {
        let mut asked = tokio::task::JoinSet::new();
        for (name, gateway) in &self.gateways {
            let (name, mut gateway, within) = (name.clone(), gateway.clone(), self.every);
            asked.spawn(async move {
                let answer = tokio::time::timeout(within, gateway.gateway_status(GatewayStatusRequest {})).await;
                let heard = match answer {
                    Ok(Ok(status)) => Ok(status.into_inner().sessions),
                    Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
                    Err(_) => Err(format!("no answer within {} ms", within.as_millis())),
                };
                (name, heard)
            });
        }
        while let Some(Ok((name, heard))) = asked.join_next().await {
            lock(&self.board).gateway(&name, heard, self.clock.now());
        }
    }

    async fn try_ways(&mut self) {
        self.lane = self.lane.wrapping_add(1);
        let (door, client) = match self.way().await {
            Ok(way) => way,
            Err(error) => {
                for shard in 0..self.shards {
                    self.note(shard, Err(error.to_string()));
                }
                return;
            }
        };
        for shard in 0..self.shards {
            let served = match &mut self.canary {
                Some(canary) => canary.send(&client, shard, self.shards).await,
                None => read(&client, shard).await,
            };
            if let (Some(door), Some(doors)) = (&door, &self.doors) {
                doors.came_through(door, &served);
            }
            self.note(shard, served.map_err(|error| error.to_string()));
        }
        if let Some(canary) = &mut self.canary
            && let Err(error) = canary.tidy(&client).await
        {
            tracing::debug!(%error, "the page's own device is behind");
        }
    }

    fn note(&self, shard: u32, served: Result<(), String>) {
        lock(&self.board).way(&part(shard), served, self.clock.now());
    }

    /// The way in that users take: through a door that the directory names.
    async fn way(&self) -> Result<(Option<Door>, Client), CallError> {
        let (door, client) = match &self.doors {
            None => (None, self.nodes.clone()),
            Some(doors) => {
                let through = doors.door(self.lane).await?;
                (Some(through.door), through.client.with_timeout(self.every))
            }
        };
        if client.router().needs_map() {
            let mapped = client.refresh_routes().await;
            if let (Some(door), Some(doors)) = (&door, &self.doors) {
                doors.came_through(door, &mapped);
            }
            mapped?;
        }
        Ok((door, client))
    }
}

/// A linearizable read of something that isn't there: only who leads the shard knows that.
async fn read(client: &Client, shard: u32) -> Result<(), CallError> {
    match client.presence(u64::from(shard) << 48).await.outcome {
        Ok(_) => Ok(()),
        Err(CallError::Refused(refusal)) if refusal.reason == Reason::NoSuchUser => Ok(()),
        Err(error) => Err(error),
    }
}

impl Canary {
    /// Sends to the page's own group on `shard`, making what it needs first.
    async fn send(&mut self, client: &Client, shard: u32, shards: u32) -> Result<(), CallError> {
        let caller = self.session(client).await?;
        let group = match self.groups.get(&shard) {
            Some(group) => *group,
            None => self.make_group(client, &caller, shard, shards).await?,
        };
        self.client_id += 1;
        let request = SendRequest {
            sender: caller.user,
            device: caller.device,
            session: caller.session,
            client_id: self.client_id,
            body: b"is anybody there".as_slice().into(),
            group,
            ..SendRequest::default()
        };
        let sent = client.send(request).await;
        self.checked(sent).map(drop)
    }

    async fn session(&mut self, client: &Client) -> Result<Caller, CallError> {
        if let Some(caller) = &self.caller {
            return Ok(*caller);
        }
        let signed_up = match client.sign_up(&self.phone).await.outcome {
            // Numbers are verified here.
            Err(CallError::Refused(refusal)) if refusal.reason == Reason::WrongCode => {
                let code = client.request_code(&self.phone).await.outcome?.code;
                client.sign_up_verified(&self.phone, &code).await.outcome?
            }
            outcome => outcome?,
        };
        let user = signed_up.user;
        self.client_id += 1;
        let opened = client.open_session(user, DEVICE, self.client_id).await.outcome?;
        let caller = Caller {
            user,
            device: DEVICE,
            session: opened.session,
        };
        self.caller = Some(caller);
        Ok(caller)
    }

    /// A group's shard follows from its id, and that from who made it and under which number: the first that fits.
    async fn make_group(
        &mut self,
        client: &Client,
        caller: &Caller,
        shard: u32,
        shards: u32,
    ) -> Result<u64, CallError> {
        let fits = |id: &u64| ids::owner(ids::group_id(caller.user, caller.device, *id), shards) == shard;
        let tries = TRIES_MAX.saturating_mul(u64::from(shards));
        let from = self.client_id + 1;
        let client_id = (from..from.saturating_add(tries)).find(fits).ok_or_else(|| {
            CallError::NotSent(format!(
                "none of {tries} groups would belong to shard {shard} of {shards}"
            ))
        })?;
        self.client_id = client_id;
        let request = ChangeGroupRequest {
            caller: Some(*caller),
            client_id,
            kind: GroupChangeKind::GroupCreate.into(),
            ..ChangeGroupRequest::default()
        };
        let made = client.change_group(request).await;
        let group = self.checked(made)?.group;
        self.groups.insert(shard, group);
        Ok(group)
    }

    /// Forgets a session that was ended, so that the next round opens another.
    fn checked<T>(&mut self, attempt: Attempt<T>) -> Result<T, CallError> {
        if let Err(CallError::Refused(refusal)) = &attempt.outcome
            && matches!(
                refusal.reason,
                Reason::SessionEnded | Reason::NoSuchUser | Reason::NoSuchDevice
            )
        {
            self.caller = None;
        }
        attempt.outcome
    }

    /// Acknowledges what it was sent itself, so that it leaves nothing undelivered.
    async fn tidy(&mut self, client: &Client) -> Result<(), CallError> {
        let Some(caller) = self.caller else { return Ok(()) };
        let request = OpenRequest {
            caller: Some(caller),
            ..OpenRequest::default()
        };
        let opened = client.open(request).await;
        let sequence = self.checked(opened)?.last_sequence;
        let request = AcknowledgeRequest {
            user: caller.user,
            device: caller.device,
            session: caller.session,
            sequence,
            ..AcknowledgeRequest::default()
        };
        let acknowledged = client.acknowledge(request).await;
        self.checked(acknowledged).map(drop)
    }
}
