//! What is sent at an instant of a schedule, and by whom.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Chat,
    life::{self, Life},
    prepare::probing,
    reader,
    world::World,
};
use crate::{
    base::Nanos,
    history::{Class, Subject},
    workload::{
        Agenda, Budget, Schedule, ScheduleSpec, WorkloadError,
        client::Outgoing,
        engine::{Intent, Policy, lock},
        payload,
        release::{Executor, Release},
    },
};

/// The schedules start this long after they are made, so that the first instant is not missed.
const START_AFTER: Duration = Duration::from_millis(20);

/// A probe of one part: two accounts whose conversation it holds.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// The load whose probe it is.
    pub(super) load: usize,
    pub(super) pair: (usize, usize),
    pub(super) part: String,
}

/// Begins to send. Schedule number n is load n; those behind are probes, and then the reads.
pub(super) fn start(chat: &Arc<Chat>, executor: &Executor) -> Result<Release, WorkloadError> {
    let engine = &chat.plan.engine;
    let begin = engine.clock.now().plus(START_AFTER);
    let mut agenda = Agenda::default();
    let schedule = |spec: &ScheduleSpec, begin: Nanos, name: &str| {
        let schedule = Schedule::new(spec, begin, &engine.streams, name);
        schedule.map_err(|e| WorkloadError(format!("{name}: {e}")))
    };
    for (number, load) in chat.plan.loads.iter().enumerate() {
        agenda.add_paced(schedule(&load.schedule, begin, &format!("load {number}"))?);
    }
    let mut add = |spec: &ScheduleSpec, begin: Nanos, name: &str| Ok(agenda.add(schedule(spec, begin, name)?));
    if let Some((_, per_s)) = probing(&chat.plan.loads) {
        // Probes of different parts take turns instead of coming at once.
        let gap = Duration::from_secs_f64(1.0 / per_s.clamp(1e-3, 1e6));
        let parts = u32::try_from(chat.probes.len()).unwrap_or(u32::MAX).max(1);
        for (turn, probe) in (0u32..).zip(&chat.probes) {
            let begin = begin.plus(gap * turn / parts);
            add(
                &ScheduleSpec::Constant { per_s },
                begin,
                &format!("probe {}", probe.part),
            )?;
        }
    }
    let watches = reader::watches(chat);
    let per_s = reader::per_s(watches.len());
    let gap = Duration::from_secs_f64(1.0 / per_s);
    let watched = u32::try_from(watches.len()).unwrap_or(u32::MAX).max(1);
    for (turn, watch) in (0u32..).zip(&watches) {
        let begin = begin.plus(gap * turn / watched);
        add(
            &ScheduleSpec::Constant { per_s },
            begin,
            &format!("read {}", watch.part),
        )?;
    }
    let mut senders = senders(chat);
    let sending = senders.len();
    let mut lives: Vec<Option<Box<dyn Life>>> = (0..chat.plan.loads.len()).map(|load| life::of(chat, load)).collect();
    let (chat, handle) = (Arc::clone(chat), executor.handle().clone());
    let submit = move |at, number: usize| {
        if let Some(Some(life)) = lives.get_mut(number) {
            let deed = life.next(&chat, at);
            let room = u64::from(chat.plan.loads[number].in_flight_max);
            let Some(entered) = chat.plan.engine.enter(room) else {
                chat.plan.engine.shed(&deed.intent);
                return;
            };
            handle.spawn(async move {
                deed.work.await;
                drop(entered);
            });
            return;
        }
        let Some(sender) = senders.get_mut(number) else {
            let (chat, watch) = (Arc::clone(&chat), &watches[number - sending]);
            let watch = Arc::clone(watch);
            // As many as can be sent within one's time-out: nothing holds a read back.
            if let Some(entered) = chat.plan.engine.enter(u64::MAX) {
                handle.spawn(async move {
                    reader::read(&chat, &watch, at).await;
                    drop(entered);
                });
            }
            return;
        };
        let send = sender.next(&chat, at);
        let Some(entered) = chat.plan.engine.enter(sender.in_flight_max) else {
            chat.plan.engine.shed(&send.intent);
            return;
        };
        let sessions = chat.world.sessions_of(send.recipient);
        let own = chat.world.sessions_of(send.sender);
        let own = own.filter(|_| send.syncs_own);
        lock(&chat.ledger).intend(send.intent.id, at, sessions.chain(own));
        let chat = Arc::clone(&chat);
        handle.spawn(async move {
            perform(&chat, send).await;
            drop(entered);
        });
    };
    Release::start(executor, engine.clock, agenda, Arc::clone(&engine.lever), submit)
}

/// Draws one message after another for one schedule.
struct Sender {
    pairs: Vec<(usize, usize)>,
    turn: usize,
    probe: bool,
    size: usize,
    in_flight_max: u64,
    policy: Policy,
}

/// One message, on its way.
struct Send {
    intent: Intent,
    slot: usize,
    sender: usize,
    recipient: usize,
    /// The sender's own devices are owed it too.
    syncs_own: bool,
    size: usize,
    policy: Policy,
}

fn senders(chat: &Chat) -> Vec<Sender> {
    let now = chat.plan.engine.clock.now();
    let policies: Vec<Policy> = chat
        .plan
        .loads
        .iter()
        .map(|load| Policy {
            retry: load.retry,
            within: Duration::from_millis(load.op_timeout_ms),
            budget: Some(Arc::new(Mutex::new(Budget::new(load.retry, now)))),
        })
        .collect();
    let size = |number: usize| usize::try_from(chat.plan.loads[number].size_bytes).unwrap_or(usize::MAX);
    let loads = chat.pairs.iter().enumerate().map(|(number, pairs)| Sender {
        pairs: pairs.clone(),
        turn: 0,
        probe: false,
        size: size(number),
        in_flight_max: u64::from(chat.plan.loads[number].in_flight_max),
        policy: policies[number].clone(),
    });
    let probes = chat.probes.iter().map(|probe| Sender {
        pairs: vec![probe.pair],
        turn: 0,
        probe: true,
        size: size(probe.load),
        in_flight_max: u64::MAX,
        policy: Policy {
            budget: None,
            ..policies[probe.load].clone()
        },
    });
    loads.chain(probes).collect()
}

impl Sender {
    /// The next message: pairs in turn, then the other way round, from each device in turn.
    fn next(&mut self, chat: &Chat, intended: Nanos) -> Send {
        let (round, index) = (self.turn / self.pairs.len(), self.turn % self.pairs.len());
        self.turn += 1;
        let (a, b) = self.pairs[index];
        let (sender, recipient) = if round.is_multiple_of(2) { (a, b) } else { (b, a) };
        let person = &chat.world.people[sender];
        let device = round / 2 % person.devices as usize;
        let slot = person.first_slot + device;
        let group = &chat.plan.groups[person.group];
        let other = chat.world.people[recipient].user;
        let (conversation, needs) = group.client.conversation(person.user, other);
        let id = chat.plan.engine.next_id();
        let syncs_own = group.client.syncs_own_devices();
        let mut owed = vec![other];
        owed.extend(syncs_own.then_some(person.user));
        let subject = Subject::Item {
            item: id,
            log: format!("c:{conversation}"),
            author: person.user,
            owed,
            group: false,
            client_id: chat.world.slots[slot].next_client_id(),
            hash: 0,
            position: None,
            repeated: None,
        };
        let intent = Intent {
            id,
            session: World::session_number(slot),
            class: Class::Send,
            needs,
            groups: group.labels.clone(),
            probe: self.probe,
            intended,
            subject,
        };
        Send {
            intent,
            slot,
            sender,
            recipient,
            syncs_own,
            size: self.size,
            policy: self.policy.clone(),
        }
    }
}

async fn perform(chat: &Chat, mut send: Send) {
    let device = &chat.world.slots[send.slot];
    let person = &chat.world.people[device.person];
    let client = &chat.plan.groups[person.group].client;
    let body = payload::encode(send.intent.id, send.size);
    let mut client_id = 0;
    if let Subject::Item {
        hash, client_id: own, ..
    } = &mut send.intent.subject
    {
        *hash = payload::hash(&body);
        client_id = *own;
    }
    let message = Outgoing {
        sender: person.user,
        device: device.device,
        session: 0,
        recipient: chat.world.people[send.recipient].user,
        group: 0,
        client_id,
        body,
    };
    let within = send.policy.within;
    let call = || {
        // A log-in in between gives the device another session.
        let message = Outgoing {
            session: device.session(),
            ..message.clone()
        };
        async move { client.send(&message, within).await }
    };
    let engine = &chat.plan.engine;
    if engine.perform(&send.intent, &send.policy, call).await.is_ok() {
        lock(&chat.ledger).acknowledged(send.intent.id, engine.clock.now(), within);
        chat.changed.notify_waiters();
    }
}
