//! The load on a messaging service: users who write to each other, and devices that listen.
//!
//! - `world`: who there is and who writes to whom.
//! - `prepare`: sign-ups, log-ins, streams; paced, retried, recorded.
//! - `sender`: what is sent at an instant of a schedule.
//! - `life`: what else people do at one, a file for each kind of load: `groups`, `sign_up`, `contacts`, `opening`, `reading`,
//!   `watching`.
//! - `crowd`: who does it, for those loads that bring nobody of their own.
//! - `reader`: what is read at one.
//! - `listener`: a device that shows, acknowledges, loses its connection and resumes.
//! - `ending`: drain, fence, read-back.

mod contacts;
mod crowd;
mod ending;
mod groups;
mod life;
mod listener;
mod opening;
mod prepare;
mod reader;
mod reading;
mod sender;
mod sign_up;
#[cfg(test)]
mod tests;
mod watching;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

use self::world::World;
use super::{
    Lever, LoadSpec, Progress, ReadBackSummary, Workload, WorkloadError,
    client::ChatClient,
    engine::{Engine, lock},
    ledger::Ledger,
    release::{Executor, Release},
};
use crate::{
    base::{RunClock, Streams},
    history::{Class, Outcome, Recorder},
};

/// Users who reach the service in the same way.
pub struct ClientGroup {
    /// Labels of everything that they do, such as `zone` -> `europe`.
    pub labels: BTreeMap<String, String>,
    /// Their way to the service.
    pub client: Arc<dyn ChatClient>,
}

/// What a messaging load is made of.
pub struct ChatSetting {
    /// The system's name.
    pub system: String,
    /// The system's number within the run: identities of two systems never meet.
    pub number: u16,
    /// Loads of class `send`, `group`, `sign_up`, `contacts`, `open`, `receipt` or `presence`; the last three need one of the
    /// first two.
    pub loads: Vec<LoadSpec>,
    /// Users are dealt over these in turn; at least one.
    pub groups: Vec<ClientGroup>,
    /// The way of somebody who only reads. What it learns of who leads is its own: it shares that with no group.
    pub reader: Arc<dyn ChatClient>,
    /// Log-ins per second that the service admits in all; none is no limit.
    pub login_per_s: Option<f64>,
    /// Where everything is recorded.
    pub recorder: Recorder,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's randomness.
    pub streams: Streams,
}

/// A messaging load.
pub struct ChatWorkload {
    executor: Executor,
    plan: Arc<Plan>,
    chat: Option<Arc<Chat>>,
    release: Option<Release>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
}

/// What is fixed from the start.
struct Plan {
    engine: Arc<Engine>,
    number: u16,
    loads: Vec<LoadSpec>,
    groups: Vec<ClientGroup>,
    reader: Arc<dyn ChatClient>,
    login_per_s: Option<f64>,
}

/// What is shared once everybody has signed up.
struct Chat {
    plan: Arc<Plan>,
    world: World,
    /// For each load: its people.
    ranges: Vec<std::ops::Range<usize>>,
    /// The groups.
    groups: groups::Book,
    /// Those who signed up while the load ran.
    newcomers: sign_up::Newcomers,
    /// What people were shown.
    shelf: reading::Shelf,
    /// For each load: its pairs.
    pairs: Vec<Vec<(usize, usize)>>,
    /// For each part that is probed: the pair whose conversation it holds, and the load whose probe it is.
    probes: Vec<sender::Probe>,
    ledger: Mutex<Ledger>,
    mode: watch::Sender<Mode>,
    /// Somebody's stream or cursor changed.
    changed: Notify,
    connected: AtomicU64,
    settled: AtomicU64,
    /// Makes log-ins of this run differ from those of others.
    salt: u64,
}

/// What listeners are meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Listen, acknowledge now and then, come back when the connection is lost.
    Listen,
    /// The same, and acknowledge at once.
    Settle,
    /// Sessions have been ended: do not log in again.
    Fenced,
    /// End.
    Stop,
}

impl ChatWorkload {
    /// A load that has done nothing yet.
    ///
    /// # Errors
    /// When a load can't be sent: another class, fewer than two users, a rate that can't be kept, no threads.
    pub fn new(setting: ChatSetting) -> Result<Self, WorkloadError> {
        if setting.loads.is_empty() || setting.groups.is_empty() {
            return Err(WorkloadError(
                "a messaging load needs at least one load and one group of clients".to_owned(),
            ));
        }
        for load in &setting.loads {
            check(load)?;
        }
        let borrowed = setting.loads.iter().any(|load| crowd::borrows_people(load.class));
        if borrowed && !setting.loads.iter().any(|load| crowd::brings_people(load.class)) {
            return Err(WorkloadError(
                "nobody is there: add a load of `send` or `group`, whose people do the rest".to_owned(),
            ));
        }
        let executor = Executor::new(&setting.clock)?;
        let engine = Engine::new(
            &setting.system,
            setting.number,
            setting.recorder,
            setting.clock,
            setting.streams,
        );
        let plan = Plan {
            engine,
            number: setting.number,
            loads: setting.loads,
            groups: setting.groups,
            reader: setting.reader,
            login_per_s: setting.login_per_s,
        };
        Ok(Self {
            executor,
            plan: Arc::new(plan),
            chat: None,
            release: None,
            listeners: Vec::new(),
        })
    }

    fn chat(&self) -> Result<&Arc<Chat>, WorkloadError> {
        let unprepared = || WorkloadError("the load was not prepared: nobody has signed up".to_owned());
        self.chat.as_ref().ok_or_else(unprepared)
    }
}

fn check(load: &LoadSpec) -> Result<(), WorkloadError> {
    let borrows = crowd::borrows_people(load.class);
    let problem = if !borrows
        && !crowd::brings_people(load.class)
        && !matches!(load.class, Class::SignUp | Class::Contacts)
    {
        format!(
            "a messaging service takes loads of `send`, `group`, `sign_up`, `contacts`, `open`, `receipt` and `presence`, not of `{}`",
            load.class.name()
        )
    } else if borrows && load.users > 0 {
        format!(
            "a load of `{}` brings nobody, and has {} users",
            load.class.name(),
            load.users
        )
    } else if !borrows && load.users < 2 && load.class != Class::SignUp {
        format!(
            "a load of `{}` needs at least 2 users, not {}",
            load.class.name(),
            load.users
        )
    } else if load.class == Class::Group && load.group.is_none_or(|group| group.groups == 0) {
        "a load of `group` needs at least 1 group".to_owned()
    } else if !(1..=10).contains(&load.devices) {
        format!("a user has 1 to 10 devices, not {}", load.devices)
    } else if load.retry.attempts == 0 || load.op_timeout_ms == 0 || load.in_flight_max == 0 {
        "attempts, time-out and operations under way of a load are at least 1".to_owned()
    } else {
        return Ok(());
    };
    Err(WorkloadError(problem))
}

#[async_trait::async_trait]
impl Workload for ChatWorkload {
    async fn prepare(&mut self) -> Result<(), WorkloadError> {
        let plan = Arc::clone(&self.plan);
        let chat = Arc::new(self.executor.run(prepare::sign_up_and_log_in(plan)).await??);
        for slot in 0..chat.world.slots.len() {
            let listening = listener::listen(Arc::clone(&chat), slot);
            self.listeners.push(self.executor.handle().spawn(listening));
        }
        self.chat = Some(Arc::clone(&chat));
        self.executor.run(prepare::all_connected(Arc::clone(&chat))).await??;
        self.executor.run(async move { groups::prepare(&chat).await }).await?
    }

    async fn start(&mut self) -> Result<(), WorkloadError> {
        let chat = Arc::clone(self.chat()?);
        self.release = Some(sender::start(&chat, &self.executor)?);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let engine = &self.plan.engine;
        let now = engine.clock.now();
        let mut progress = Progress::default();
        if let Some(chat) = &self.chat {
            let mut ledger = lock(&chat.ledger);
            let overdue = ledger.overdue(now);
            progress.owed = ledger.owed();
            drop(ledger);
            let mut meter = engine.meter();
            for (intended, devices) in overdue {
                for _ in 0..devices {
                    meter.ended(Class::Deliver, Outcome::Failed, intended, now);
                }
            }
            drop(meter);
            progress.sessions_connected = chat.connected.load(Ordering::Relaxed);
            progress.sessions_total = chat.world.slots.len() as u64;
        }
        let mut meter = engine.meter();
        progress.lag_p99_ms = meter.lag_p99_ms();
        progress.classes = meter.progress(now);
        progress
    }

    fn lever(&self) -> Arc<Lever> {
        Arc::clone(&self.plan.engine.lever)
    }

    async fn stop_sending(&mut self) {
        if let Some(mut release) = self.release.take() {
            release.stop();
        }
        self.plan.engine.stop();
        self.plan.engine.idle().await;
    }

    fn owed(&self) -> u64 {
        self.chat.as_ref().map_or(0, |chat| lock(&chat.ledger).owed())
    }

    async fn drain(&mut self, within: Duration) -> bool {
        match self.chat() {
            Ok(chat) => ending::drain(chat, within).await,
            Err(_) => true,
        }
    }

    async fn fence(&mut self) -> Result<(), WorkloadError> {
        let chat = Arc::clone(self.chat()?);
        self.executor.run(ending::fence(chat)).await?
    }

    async fn read_back(&mut self) -> ReadBackSummary {
        let Ok(chat) = self.chat().map(Arc::clone) else {
            return ReadBackSummary::default();
        };
        // A task that ended early has recorded nothing as complete.
        self.executor.run(ending::read_back(chat)).await.unwrap_or_default()
    }

    async fn shut_down(&mut self) {
        if let Some(mut release) = self.release.take() {
            release.stop();
        }
        self.plan.engine.stop();
        if let Some(chat) = &self.chat {
            chat.mode.send_replace(Mode::Stop);
        }
        for listener in self.listeners.drain(..) {
            // A listener looks at the mode at every wait; one that panicked has said so itself.
            let _ended = listener.await;
        }
        self.plan.engine.give_up();
    }
}
