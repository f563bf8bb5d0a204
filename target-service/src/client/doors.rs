//! The way in through gateways: the directory's answers, remembered, and a client for each door.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{CallError, ChannelOptions, Channels, Client, Directory};
use crate::{
    discovery::{Door, Lookup, Resolver, ResolverOptions},
    env::Clock,
};

/// Under this number a gateway stands in the channels of its own door's client.
const GATEWAY: u64 = 1;

/// One door, and the client that goes through it. What calls through it come to is for the caller to tell
/// [`Doors::came_through`].
#[derive(Clone, Debug)]
pub struct Through {
    /// The door.
    pub door: Door,
    /// A client all of whose calls go through it. It keeps a shard map of its own.
    pub client: Client,
}

/// The doors that clients of one place take. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Doors {
    directory: Directory,
    clock: Clock,
    options: ChannelOptions,
    resolver: Arc<Mutex<Resolver>>,
    /// Held by whoever asks, so that the others wait for the answer instead of asking too.
    asking: Arc<tokio::sync::Mutex<()>>,
    clients: Arc<Mutex<BTreeMap<Door, Client>>>,
    elsewhere: Arc<BTreeMap<String, String>>,
}

impl Doors {
    /// Doors for clients in `zone`, by what `directory` says.
    #[must_use]
    pub fn new(
        directory: Directory,
        zone: &str,
        remember: ResolverOptions,
        options: ChannelOptions,
        clock: Clock,
    ) -> Self {
        Self {
            directory,
            clock,
            options,
            resolver: Arc::new(Mutex::new(Resolver::new(zone, remember))),
            asking: Arc::default(),
            clients: Arc::default(),
            elsewhere: Arc::default(),
        }
    }

    /// The same doors, seen from where addresses stand for others, as behind a translation of addresses: `addresses` says
    /// where each is dialled. One that isn't among them is dialled as it is.
    #[must_use]
    pub fn dialled_at(self, addresses: BTreeMap<String, String>) -> Self {
        Self {
            elsewhere: Arc::new(addresses),
            ..self
        }
    }

    fn resolver(&self) -> MutexGuard<'_, Resolver> {
        self.resolver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door for the client that is `lane`: of its own zone where there is one, and the same one while nothing changes.
    /// Asks the directory at most once, and only when nothing is remembered.
    ///
    /// # Errors
    /// [`CallError::NotSent`] when there is no door, or nobody to say where one is.
    pub async fn door(&self, lane: u64) -> Result<Through, CallError> {
        let mut known = self.resolver().lookup(lane, self.clock.now());
        if known == Lookup::Ask {
            let _asking = self.asking.lock().await;
            known = self.resolver().lookup(lane, self.clock.now());
            if known == Lookup::Ask {
                self.ask().await;
                known = self.resolver().lookup(lane, self.clock.now());
            }
        }
        match known {
            Lookup::Doors(doors) => match doors.into_iter().next() {
                Some(door) => Ok(self.through(door, lane)),
                None => Err(CallError::NotSent("no gateway is listed".to_owned())),
            },
            Lookup::Dark { until } => {
                let wait = until.saturating_sub(self.clock.now()).as_millis();
                Err(CallError::NotSent(format!(
                    "no gateway is listed; the directory is asked again in {wait} ms"
                )))
            }
            Lookup::Ask => Err(CallError::NotSent(
                "what the directory said was over before it could be used".to_owned(),
            )),
        }
    }

    async fn ask(&self) {
        let answer = self.directory.resolve().await;
        let now = self.clock.now();
        match answer {
            Ok(answer) => {
                let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                clients.retain(|door, _| answer.doors.contains(door));
                drop(clients);
                self.resolver().answered(answer, now);
            }
            Err(error) => {
                tracing::debug!(%error, "the directory gives no answer");
                self.resolver().unanswered(now);
            }
        }
    }

    fn through(&self, door: Door, lane: u64) -> Through {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(door.clone()).or_insert_with(|| {
            let address = self.elsewhere.get(&door.address).unwrap_or(&door.address);
            let addresses = BTreeMap::from([(GATEWAY, address.clone())]);
            Client::new(Channels::new(addresses, self.options)).through(GATEWAY)
        });
        let client = client.on_lane(lane);
        Through { door, client }
    }

    /// Notes what an attempt through a door came to: one that was never let in is passed over for a while. A refusal that
    /// the gateway passed on says nothing against its door.
    pub fn came_through<T>(&self, door: &Door, outcome: &Result<T, CallError>) {
        match outcome {
            Err(CallError::NotSent(_)) => self.resolver().shut(&door.name, self.clock.now()),
            Ok(_) | Err(CallError::Refused(_)) => self.resolver().open(&door.name),
            Err(CallError::Unknown { .. }) => {}
        }
    }

    /// Questions that were put to the directory, answered or not.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.resolver().asked()
    }
}
