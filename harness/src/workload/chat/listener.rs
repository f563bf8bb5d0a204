//! A device: opens its stream, shows what comes, acknowledges it, loses its connection, waits, and resumes.

use std::{future::Future, pin::Pin, sync::Arc, sync::atomic::Ordering, time::Duration};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::{Chat, Mode, prepare::log_in, world::World};
use crate::{
    base::Nanos,
    history::{Class, Event, Notice, Noticed, Outcome, SessionChange, SessionEvent, Shown, Subject},
    workload::{
        RetrySpec,
        client::{Answered, CallFailure, DeviceStream, Resume, StreamEvent},
        device::{Device, Reaction},
        doze::{Shares, hits},
        engine::{Intent, lock},
        lever::Relaunch,
        payload,
        retry::back_off,
    },
};

/// How long opening a stream, or one acknowledgement, may take.
const CALL_WITHIN: Duration = Duration::from_secs(2);
/// Waits between connections: full jitter, as a real client's.
const RECONNECT: RetrySpec = RetrySpec {
    attempts: u32::MAX,
    base_ms: 50,
    cap_ms: 2000,
    budget_percent: 0,
    budget_per_s: 0,
    back_off: true,
    budget: true,
};
/// The refusal that asks for another log-in.
const SESSION_ENDED: &str = "SESSION_ENDED";
/// Why a device that starts anew lost its stream.
const RELAUNCHED: &str = "relaunched";

type Acknowledging = Pin<Box<dyn Future<Output = Answered<u64>> + Send>>;

/// Listens until it is told to stop, or its session was ended by the fence.
pub(super) async fn listen(chat: Arc<Chat>, slot: usize) {
    let mode = chat.mode.subscribe();
    let relaunch = chat.plan.engine.lever.enlist();
    let doze = chat.plan.engine.lever.doze().enlist();
    let rng = chat.plan.engine.streams.stream(&format!("device {slot}"));
    let listener = Listener {
        device: Device::new(0, 0),
        sync: None,
        connected: false,
        settled: false,
        failures: 0,
        acknowledging: None,
        mode,
        relaunch,
        doze,
        rng,
        chat,
        slot,
    };
    listener.run().await;
}

struct Listener {
    chat: Arc<Chat>,
    slot: usize,
    device: Device,
    /// The resuming under way: from losing the stream to being current again.
    sync: Option<Sync>,
    connected: bool,
    settled: bool,
    /// Connections that failed in a row.
    failures: u32,
    acknowledging: Option<Acknowledging>,
    mode: watch::Receiver<Mode>,
    relaunch: watch::Receiver<Relaunch>,
    doze: watch::Receiver<Shares>,
    rng: ChaCha8Rng,
}

struct Sync {
    intent: Intent,
    attempt: u32,
    sent: Nanos,
    /// The attempt has no outcome yet.
    open: bool,
}

impl Listener {
    async fn run(mut self) {
        while self.mode() < Mode::Stop {
            self.doze_if_told().await;
            let lost = match self.connect().await {
                Ok(mut stream) => {
                    let lost = self.follow(&mut *stream).await;
                    self.lost(lost.as_ref());
                    lost
                }
                Err(failure) => Some(failure),
            };
            let Some(failure) = lost else { break };
            self.synced(Err(&failure), false);
            let starts_anew = failure.reason == RELAUNCHED;
            if (starts_anew || failure.reason == SESSION_ENDED) && !self.log_in_again().await {
                break;
            }
            // Whoever has just opened the app doesn't wait.
            if !starts_anew {
                self.wait(&failure).await;
            }
        }
        self.synced(Err(&CallFailure::unknown("the run ended")), true);
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    fn now(&self) -> Nanos {
        self.chat.plan.engine.clock.now()
    }

    fn resume(&self) -> Resume {
        let device = &self.chat.world.slots[self.slot];
        Resume {
            user: self.chat.world.people[device.person].user,
            device: device.device,
            session: device.session(),
            after: self.device.cursor(),
            incarnation: self.device.incarnation(),
        }
    }

    /// Opens the stream: one attempt.
    async fn connect(&mut self) -> Result<Box<dyn DeviceStream>, CallFailure> {
        let sent = self.now();
        let mut sync = self.sync.take().unwrap_or_else(|| self.new_sync(sent));
        sync.attempt += 1;
        sync.sent = sent;
        sync.open = true;
        self.sync = Some(sync);
        let chat = Arc::clone(&self.chat);
        let person = &chat.world.people[chat.world.slots[self.slot].person];
        let client = &chat.plan.groups[person.group].client;
        let resume = self.resume();
        let opened = tokio::time::timeout(CALL_WITHIN, client.subscribe(resume, CALL_WITHIN)).await;
        let stream = match opened {
            Ok(answered) => answered.result?,
            Err(_) => return Err(CallFailure::unknown("deadline")),
        };
        self.device.connected(self.now());
        self.record(SessionChange::Connected {
            connection: self.device.connection(),
            after: resume.after,
        });
        self.connected = true;
        self.chat.connected.fetch_add(1, Ordering::Relaxed);
        self.chat.changed.notify_waiters();
        Ok(stream)
    }

    /// Follows an open stream; gives the reason why it ended, none when the listener shall stop.
    async fn follow(&mut self, stream: &mut dyn DeviceStream) -> Option<CallFailure> {
        loop {
            self.update();
            if self.mode() == Mode::Stop {
                return None;
            }
            self.acknowledge_if_due();
            let clock = self.chat.plan.engine.clock;
            let look_again = self.device.look_again_at(self.acknowledging.is_some());
            tokio::select! {
                biased;
                _ = self.mode.changed() => {}
                Ok(()) = told(&mut self.doze) => self.doze_if_told().await,
                Ok(()) = self.relaunch.changed() => if let Some(failure) = self.starts_anew() { return Some(failure) },
                answered = pending(&mut self.acknowledging) => {
                    self.acknowledging = None;
                    let now = self.now();
                    match answered.result {
                        Ok(through) => self.device.acknowledged(through, now),
                        Err(failure) if failure.reason == SESSION_ENDED => return Some(failure),
                        Err(_) => self.device.acknowledge_failed(now),
                    }
                }
                event = stream.next() => match event {
                    Ok(event) => if let Some(failure) = self.hear(&event) { return Some(failure) },
                    Err(failure) => return Some(failure),
                },
                () = clock.sleep_until(look_again) => {
                    if self.device.is_silent(self.now()) {
                        return Some(CallFailure::unknown("silent"));
                    }
                }
            }
        }
    }

    /// There is a relaunch: if it hits this device, its stream and its session are gone.
    fn starts_anew(&mut self) -> Option<CallFailure> {
        let relaunch = *self.relaunch.borrow_and_update();
        let engine = &self.chat.plan.engine;
        let drawn = engine
            .streams
            .stream(&format!("relaunch {} {}", relaunch.number, self.slot))
            .next_u64();
        let hit = relaunch.hits(drawn);
        engine.lever.heard(hit);
        hit.then(|| CallFailure::unknown(RELAUNCHED))
    }

    /// Whether the device is meant to be silent now.
    fn sleepy(&mut self) -> bool {
        let shares = self.doze.borrow_and_update().clone();
        let streams = &self.chat.plan.engine.streams;
        shares.iter().any(|(id, share)| {
            let drawn = streams.stream(&format!("doze {id} {}", self.slot)).next_u64();
            hits(*share, drawn)
        })
    }

    /// Falls silent if there is news that it shall, until there is news that it shall not.
    async fn doze_if_told(&mut self) {
        // An error means that the lever is gone.
        if !self.doze.has_changed().unwrap_or(false) {
            return;
        }
        let engine = Arc::clone(&self.chat.plan.engine);
        if !self.sleepy() {
            engine.lever.doze().heard(false, false);
            return;
        }
        // Whatever it was about to say is never said.
        self.acknowledging = None;
        self.record(SessionChange::Dozed);
        engine.lever.doze().heard(false, true);
        let mut mode = self.chat.mode.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = mode.wait_for(|mode| *mode == Mode::Stop) => break,
                told = self.doze.changed() => {
                    let silent = told.is_ok() && self.sleepy();
                    engine.lever.doze().heard(true, silent);
                    if !silent {
                        break;
                    }
                }
            }
        }
        let now = self.now();
        self.device.woke(now);
        self.record(SessionChange::Woke);
    }

    fn hear(&mut self, event: &StreamEvent) -> Option<CallFailure> {
        let now = self.now();
        self.failures = 0;
        let reaction = self.device.hear(event, now);
        match (reaction, event) {
            (Reaction::Show | Reaction::Repeated, StreamEvent::Delivery { .. }) => {
                self.show(event, now, reaction == Reaction::Repeated);
            }
            (Reaction::Show | Reaction::Repeated, StreamEvent::Notice { sequence, notice }) => {
                self.notice(*sequence, notice.clone(), now, reaction == Reaction::Repeated);
            }
            (Reaction::Reconnect(why), _) => return Some(CallFailure::unknown(why)),
            (
                Reaction::Current,
                StreamEvent::Position {
                    last_sequence,
                    incarnation,
                    ..
                },
            ) => {
                self.record(SessionChange::Current {
                    sequence: *last_sequence,
                    incarnation: *incarnation,
                });
                if self.device.is_current() {
                    self.synced(Ok(()), true);
                }
            }
            _ => {}
        }
        None
    }

    fn notice(&self, sequence: u64, notice: Notice, now: Nanos, repeated_on_wire: bool) {
        let (engine, resume) = (&self.chat.plan.engine, self.resume());
        engine.recorder.record(Event::Noticed(Noticed {
            at: now,
            system: engine.system.clone(),
            session: World::session_number(self.slot),
            user: resume.user,
            device: resume.device,
            connection: self.device.connection(),
            incarnation: resume.incarnation,
            sequence,
            repeated_on_wire,
            notice,
        }));
    }

    fn show(&self, event: &StreamEvent, now: Nanos, repeated_on_wire: bool) {
        let StreamEvent::Delivery {
            sequence,
            conversation,
            position,
            author,
            body,
        } = event
        else {
            return;
        };
        let item = payload::decode(body);
        let (engine, resume) = (&self.chat.plan.engine, self.resume());
        let session = World::session_number(self.slot);
        engine.recorder.record(Event::Shown(Shown {
            at: now,
            system: engine.system.clone(),
            session,
            user: resume.user,
            device: resume.device,
            connection: self.device.connection(),
            incarnation: resume.incarnation,
            sequence: *sequence,
            log: format!("c:{conversation}"),
            position: *position,
            author: *author,
            item,
            hash: payload::hash(body),
            repeated_on_wire,
        }));
        if repeated_on_wire {
            return;
        }
        let person = self.chat.world.slots[self.slot].person;
        self.chat.shelf.put(person, *conversation, *position);
        let intended = item.and_then(|item| lock(&self.chat.ledger).shown(item, session));
        if let Some(intended) = intended {
            engine.meter().ended(Class::Deliver, Outcome::Ok, intended, now);
        }
        self.chat.changed.notify_waiters();
    }

    /// Begins an acknowledgement, when one is due and none is under way.
    fn acknowledge_if_due(&mut self) {
        if self.acknowledging.is_some() {
            return;
        }
        let all = self.mode() >= Mode::Settle;
        let Some(sequence) = self.device.acknowledge_due(self.now(), all) else {
            return;
        };
        let (chat, slot) = (Arc::clone(&self.chat), self.slot);
        let resume = Resume {
            after: sequence,
            ..self.resume()
        };
        self.acknowledging = Some(Box::pin(async move {
            let person = &chat.world.people[chat.world.slots[slot].person];
            let client = &chat.plan.groups[person.group].client;
            let call = client.acknowledge(resume, CALL_WITHIN);
            let answered = tokio::time::timeout(CALL_WITHIN, call).await;
            answered.unwrap_or_else(|_| Answered::failed(CallFailure::unknown("deadline")))
        }));
    }

    /// The stream is gone.
    fn lost(&mut self, failure: Option<&CallFailure>) {
        self.acknowledging = None;
        if std::mem::take(&mut self.connected) {
            self.chat.connected.fetch_sub(1, Ordering::Relaxed);
        }
        self.update();
        match failure {
            Some(failure) if self.mode() == Mode::Fenced && failure.reason == SESSION_ENDED => {}
            Some(failure) => self.record(SessionChange::Lost {
                reason: failure.reason.clone(),
            }),
            None => {}
        }
    }

    /// A resuming ended, or one attempt at it.
    fn synced(&mut self, ended: Result<(), &CallFailure>, last: bool) {
        let Some(mut sync) = self.sync.take() else {
            if !last {
                // The stream had been current and is lost now: the next resuming begins here.
                self.sync = Some(self.new_sync(self.now()));
            }
            return;
        };
        if std::mem::take(&mut sync.open) {
            let engine = &self.chat.plan.engine;
            engine.made(&sync.intent, sync.attempt, sync.sent, ended, last);
        }
        if !last {
            self.sync = Some(sync);
        }
    }

    fn new_sync(&self, intended: Nanos) -> Sync {
        Sync {
            intent: self.sync_intent(intended),
            attempt: 0,
            sent: intended,
            open: false,
        }
    }

    fn sync_intent(&self, intended: Nanos) -> Intent {
        let engine = &self.chat.plan.engine;
        let device = &self.chat.world.slots[self.slot];
        let person = &self.chat.world.people[device.person];
        let group = &self.chat.plan.groups[person.group];
        Intent {
            id: engine.next_id(),
            session: World::session_number(self.slot),
            class: Class::Sync,
            needs: group.client.home_of_user(person.user),
            groups: group.labels.clone(),
            probe: false,
            intended,
            subject: Subject::Nothing,
        }
    }

    /// True when the device may go on with another session.
    async fn log_in_again(&mut self) -> bool {
        if self.mode() >= Mode::Fenced {
            return false;
        }
        let chat = Arc::clone(&self.chat);
        let mut stop = self.chat.mode.subscribe();
        let intended = self.now();
        tokio::select! {
            biased;
            // An error means that the workload is gone.
            _ = stop.wait_for(|mode| *mode >= Mode::Fenced) => false,
            // Not logged in: the next connection is refused again, and the device comes back here.
            _ = log_in(&chat, self.slot, intended) => true,
        }
    }

    /// Waits before the next connection.
    async fn wait(&mut self, failure: &CallFailure) {
        self.failures = self.failures.saturating_add(1);
        let asked_for = failure.retry_after.map(|wait| wait.min(Duration::from_secs(10)));
        let wait = back_off(&RECONNECT, self.failures.saturating_add(1), asked_for, &mut self.rng);
        let clock = self.chat.plan.engine.clock;
        let mut stop = self.chat.mode.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|mode| *mode == Mode::Stop) => {}
            () = clock.sleep(wait) => {}
        }
    }

    /// Keeps the count of devices that have everything and have said so.
    fn update(&mut self) {
        let unacknowledged = self.device.acknowledge_due(self.now(), true).is_some();
        let settled = self.connected && self.device.is_current() && !unacknowledged;
        if settled != self.settled {
            self.settled = settled;
            if settled {
                self.chat.settled.fetch_add(1, Ordering::Relaxed);
                self.chat.changed.notify_waiters();
            } else {
                self.chat.settled.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn record(&self, change: SessionChange) {
        let (engine, resume) = (&self.chat.plan.engine, self.resume());
        engine.recorder.record(Event::Session(SessionEvent {
            at: engine.clock.now(),
            system: engine.system.clone(),
            session: World::session_number(self.slot),
            user: resume.user,
            device: resume.device,
            change,
        }));
    }
}

/// Waits for news, and leaves it there to be looked at.
async fn told(shares: &mut watch::Receiver<Shares>) -> Result<(), watch::error::RecvError> {
    shares.changed().await?;
    shares.mark_changed();
    Ok(())
}

/// Waits for what is under way; for ever when nothing is.
async fn pending(under_way: &mut Option<Acknowledging>) -> Answered<u64> {
    match under_way {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
