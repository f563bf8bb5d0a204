//! Devices' streams at the leader of their shard. A stream is fed from the device's durable sequence, never from memory,
//! so that whatever a slow or broken one missed is there when it comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use firedrill_proto::chat::v1::{DevicePresence, Position, SubscribeEvent, subscribe_event::Event};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;

use super::api::{Answer, Refusal, Subscription};
use crate::chat::{ChatError, DeviceState, Machine};

/// Deliveries read at once.
const READ_MAX: usize = 32;

/// A place that is kept free in each queue, for the reason why a stream ends.
const RESERVED: usize = 1;

/// A user and its device.
pub(super) type DeviceKey = (u64, u32);

#[derive(Debug)]
struct Stream {
    session: u64,
    /// The last sequence pushed.
    after: u64,
    events: mpsc::Sender<Answer<SubscribeEvent>>,
    /// The device's last sign of life.
    alive_at: Duration,
    beat_at: Duration,
    /// Its heartbeat waits for a confirmed read.
    beat_asked: bool,
}

impl Stream {
    fn room(&self) -> usize {
        self.events.capacity().saturating_sub(RESERVED)
    }

    fn push(&self, event: Event) {
        // There is room, or the device is gone; then the next look at it removes it.
        let _ = self.events.try_send(Ok(SubscribeEvent { event: Some(event) }));
    }
}

/// The streams of one shard.
#[derive(Debug)]
pub(super) struct Streams {
    queue: usize,
    heartbeat: Duration,
    presence: Duration,
    rng: ChaCha8Rng,
    streams: BTreeMap<DeviceKey, Stream>,
    by_session: BTreeMap<u64, DeviceKey>,
    beats: BTreeSet<(Duration, DeviceKey)>,
    /// Their queue is full, and there is more for them.
    stalled: BTreeSet<DeviceKey>,
    /// Every device is said to be online.
    #[cfg(feature = "plants")]
    ghosts: bool,
}

impl Streams {
    pub(super) fn new(queue: usize, heartbeat: Duration, presence: Duration, rng: ChaCha8Rng) -> Self {
        Self {
            queue,
            heartbeat,
            presence,
            rng,
            streams: BTreeMap::new(),
            by_session: BTreeMap::new(),
            beats: BTreeSet::new(),
            stalled: BTreeSet::new(),
            #[cfg(feature = "plants")]
            ghosts: false,
        }
    }

    /// `ghost-online`.
    #[cfg(feature = "plants")]
    pub(super) const fn with_ghosts(mut self, ghosts: bool) -> Self {
        self.ghosts = ghosts;
        self
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Opens a stream behind `after`; one that the device had before ends with `replaced`.
    pub(super) fn open(
        &mut self,
        device: DeviceKey,
        session: u64,
        after: u64,
        replaced: Refusal,
        now: Duration,
    ) -> Subscription {
        self.end(device, replaced);
        let (events, subscription) = mpsc::channel(self.queue + RESERVED);
        // The first heartbeat is jittered, so that devices that came together don't stay together.
        let beat_at = now + self.heartbeat.mul_f64(self.rng.random_range(0.0..1.0));
        let stream = Stream {
            session,
            after,
            events,
            alive_at: now,
            beat_at,
            beat_asked: false,
        };
        self.beats.insert((beat_at, device));
        self.by_session.insert(session, device);
        self.streams.insert(device, stream);
        subscription
    }

    fn remove(&mut self, device: DeviceKey) -> Option<Stream> {
        let stream = self.streams.remove(&device)?;
        self.beats.remove(&(stream.beat_at, device));
        self.by_session.remove(&stream.session);
        self.stalled.remove(&device);
        Some(stream)
    }

    fn end(&mut self, device: DeviceKey, why: Refusal) {
        if let Some(stream) = self.remove(device) {
            let _ = stream.events.try_send(Err(why));
        }
    }

    /// Ends the stream of a session, if it has one.
    pub(super) fn end_session(&mut self, session: u64, why: Refusal) {
        if let Some(device) = self.by_session.get(&session) {
            self.end(*device, why);
        }
    }

    /// Ends all, for the same reason.
    pub(super) fn end_all(&mut self, why: &Refusal) {
        for stream in std::mem::take(&mut self.streams).into_values() {
            let _ = stream.events.try_send(Err(why.clone()));
        }
        self.by_session.clear();
        self.beats.clear();
        self.stalled.clear();
    }

    /// Pushes to all devices of a user.
    pub(super) fn push_all(&mut self, user: u64, machine: &Machine) -> Result<(), ChatError> {
        let devices: Vec<_> = self
            .streams
            .range((user, 0)..=(user, u32::MAX))
            .map(|it| *it.0)
            .collect();
        devices.into_iter().try_for_each(|device| self.push(device, machine))
    }

    /// A device gave a sign of life.
    pub(super) fn alive(&mut self, device: DeviceKey, now: Duration) {
        if let Some(stream) = self.streams.get_mut(&device) {
            stream.alive_at = now;
        }
    }

    /// Whether a device is there: its stream is open, takes what it is given, and was heard of lately. A connection
    /// that died without a word counts for as long as the last of these says, and no longer.
    pub(super) fn presence(&self, device: DeviceKey, state: DeviceState, now: Duration) -> DevicePresence {
        let stream = self.streams.get(&device).filter(|stream| !stream.events.is_closed());
        let silent = stream.map(|stream| now.saturating_sub(stream.alive_at));
        let takes = stream.is_some_and(|stream| stream.room() > 0);
        let online = takes && silent.is_some_and(|silent| silent <= self.presence);
        #[cfg(feature = "plants")]
        let online = online || self.ghosts;
        DevicePresence {
            device: device.1,
            online,
            alive_ms_ago: silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
            owed: state.last_sequence - state.acknowledged,
        }
    }

    /// Pushes what `device` is owed, as far as there is room.
    pub(super) fn push(&mut self, device: DeviceKey, machine: &Machine) -> Result<(), ChatError> {
        let Some(stream) = self.streams.get_mut(&device) else {
            return Ok(());
        };
        if stream.events.is_closed() {
            self.remove(device);
            return Ok(());
        }
        loop {
            let room = stream.room();
            if room == 0 {
                self.stalled.insert(device);
                return Ok(());
            }
            let owed = machine.entries(device.0, device.1, stream.after, room.min(READ_MAX))?;
            if owed.is_empty() {
                self.stalled.remove(&device);
                return Ok(());
            }
            for (sequence, entry) in owed {
                stream.after = sequence;
                stream.push(entry);
            }
        }
    }

    /// Pushes to those that had no room and may have some now.
    pub(super) fn resume(&mut self, machine: &Machine) -> Result<(), ChatError> {
        let stalled: Vec<_> = self.stalled.iter().copied().collect();
        for device in stalled {
            let look = self
                .streams
                .get(&device)
                .is_some_and(|stream| stream.room() > 0 || stream.events.is_closed());
            if look {
                self.push(device, machine)?;
            }
        }
        Ok(())
    }

    /// Devices whose heartbeat is due: each needs a confirmed read and then [`Streams::beat`]. Gone ones are removed.
    pub(super) fn beats_due(&mut self, now: Duration) -> Vec<(DeviceKey, u64)> {
        let mut due = Vec::new();
        while let Some(&(at, device)) = self.beats.first()
            && at <= now
        {
            self.beats.pop_first();
            let Some(stream) = self.streams.get_mut(&device) else {
                continue;
            };
            if stream.events.is_closed() {
                self.remove(device);
                continue;
            }
            stream.beat_at = now + self.heartbeat;
            self.beats.insert((stream.beat_at, device));
            // One at a time: without a majority they would pile up.
            if !std::mem::replace(&mut stream.beat_asked, true) {
                due.push((device, stream.session));
            }
        }
        due
    }

    /// The heartbeat itself, at a state that is current.
    pub(super) fn beat(&mut self, device: DeviceKey, session: u64, machine: &Machine) -> Result<(), ChatError> {
        self.push(device, machine)?;
        let Some(stream) = self.streams.get_mut(&device).filter(|stream| stream.session == session) else {
            return Ok(());
        };
        stream.beat_asked = false;
        if stream.room() == 0 {
            return Ok(());
        }
        if let Some(DeviceState {
            last_sequence,
            incarnation,
            ..
        }) = machine.device_state(device.0, device.1)?
        {
            stream.push(Event::Position(Position {
                last_sequence,
                incarnation,
                current: stream.after >= last_sequence,
            }));
        }
        Ok(())
    }
}
