//! A history with its indexes: what judges and figures are drawn from, built once, n log n.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Announced, Class, Event, FaultWindow, HarnessEvent, HarnessKind, Header, Membership, Noticed, Observed, Operation,
    Outcome, Phase, Phases, ProcessEvent, ReadBack, RunFacts, SessionChange, SessionEvent, Shown, Subject, Told, Trace,
    fault_windows, is_decision,
};
use crate::base::Nanos;

/// A whole history.
#[derive(Clone, Debug)]
pub struct History {
    /// Its first record.
    pub header: Header,
    /// The plan, as far as judging needs it.
    pub facts: RunFacts,
    /// The phases.
    pub phases: Phases,
    /// The faults of all systems, see [`fault_windows`].
    pub faults: Vec<FaultWindow>,
    /// What the harness noticed about itself.
    pub harness: Vec<HarnessEvent>,
    /// The systems, by name.
    pub systems: BTreeMap<String, SystemView>,
    /// The time of the last event.
    pub ended: Nanos,
    /// The run as a trace.
    pub trace: Trace,
}

/// What happened to one system.
#[derive(Clone, Debug, Default)]
pub struct SystemView {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Every attempt, in the order of `done`.
    pub attempts: Vec<Operation>,
    /// Every operation with its attempts put together, in the order of `intended`.
    pub operations: Vec<Logical>,
    /// What was put into logs, by identity.
    pub items: BTreeMap<u64, Item>,
    /// Identities that two operations used: a mistake of the generator.
    pub item_conflicts: Vec<u64>,
    /// What was shown, in the order of time.
    pub shown: Vec<Shown>,
    /// What devices were given beside messages, in the order of time.
    pub noticed: Vec<Noticed>,
    /// What users were told on asking, in the order of their asking.
    pub told: Vec<Told>,
    /// Who belonged to each group, by the group's log: of those that were read to their end.
    pub groups: BTreeMap<String, Membership>,
    /// The devices, by account and device.
    pub devices: BTreeMap<(u64, u32), Device>,
    /// The reads of logs, those in mid-run and those of the whole at the end, in the order of their beginning.
    pub reads: Vec<ReadBack>,
    /// What the system said of itself, in the order of time.
    pub observed: Vec<Observed>,
    /// What the status page said, in the order of asking.
    pub announced: Vec<Announced>,
    /// Processes that started and ended, in the order of time.
    pub processes: Vec<ProcessEvent>,
    /// Session changes, in the order of time.
    pub sessions: Vec<SessionEvent>,
    /// What was owed to each device, in the order of `intended`.
    pub deliveries: Vec<Delivery>,
    /// The groups each session belongs to, as `zone:europe`.
    pub session_groups: BTreeMap<u64, BTreeSet<String>>,
}

/// One operation with its attempts put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Logical {
    /// Its number.
    pub id: u64,
    /// Its class.
    pub class: Class,
    /// The session that did it.
    pub session: u64,
    /// What it needed.
    pub needs: String,
    /// True for the probe's.
    pub probe: bool,
    /// When the schedule meant it.
    pub intended: Nanos,
    /// When its first attempt was sent.
    pub sent: Nanos,
    /// When the attempt that decided it was sent: the first that was acknowledged, else the last.
    pub decided_sent: Nanos,
    /// When it was decided.
    pub done: Nanos,
    /// Acknowledged by any attempt; else unknown by any; else failed; shed when it never left.
    pub outcome: Outcome,
    /// How many attempts.
    pub attempts: u32,
    /// Why it is not ok.
    pub error: Option<String>,
    /// When the first of its attempts was over that was not ok, even if a later one was.
    pub first_error: Option<Nanos>,
}

/// What may be demanded of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged, or somebody saw it: it must be there.
    Must,
    /// It may have happened.
    May,
    /// It surely did not happen.
    Not,
}

/// One item put into a log, over all its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its identity.
    pub item: u64,
    /// The operation.
    pub operation: u64,
    /// The log.
    pub log: String,
    /// Who put it.
    pub author: u64,
    /// Who is owed it; of a group those who belonged to it at the item's position, as far as that is known.
    pub owed: Vec<u64>,
    /// True when it went to a group.
    pub group: bool,
    /// Hash of its body.
    pub hash: u64,
    /// The session that sent it.
    pub session: u64,
    /// The number its device gave it.
    pub client_id: u64,
    /// When its first attempt was sent.
    pub sent: Nanos,
    /// When its last attempt was over.
    pub over: Nanos,
    /// When it was first acknowledged.
    pub acked: Option<Nanos>,
    /// The node that acknowledged it first.
    pub acked_by: Option<String>,
    /// Every position an answer named, with when.
    pub positions: Vec<(u64, Nanos)>,
    /// When anybody first saw it: shown on a device, or found by a read.
    pub seen: Option<Nanos>,
    /// Its position in its log: as the last complete read has it, else as an answer or a showing named it.
    pub position: Option<u64>,
    /// What may be demanded.
    pub fate: Fate,
    /// How many attempts.
    pub attempts: u32,
    /// True when an attempt other than the last was unknown.
    pub retried_after_unknown: bool,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// Its session in the generator.
    pub session: u64,
    /// When it was surely known to the service: its log-in acknowledged, or its stream open.
    pub registered: Option<Nanos>,
    /// What happened on it, in order: indexes into the lists of [`SystemView`].
    pub timeline: Vec<(Nanos, DeviceEvent)>,
}

/// One thing that happened on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// An index into [`SystemView::shown`].
    Shown(usize),
    /// An index into [`SystemView::noticed`].
    Noticed(usize),
    /// An index into [`SystemView::sessions`].
    Session(usize),
}

/// One message owed to one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The item.
    pub item: u64,
    /// The recipient.
    pub user: u64,
    /// The recipient's device.
    pub device: u32,
    /// The device's session in the generator.
    pub session: u64,
    /// When the message was meant to be sent.
    pub intended: Nanos,
    /// When it was first sent.
    pub sent: Nanos,
    /// When it was acknowledged.
    pub acked: Option<Nanos>,
    /// When the device first showed it.
    pub shown: Option<Nanos>,
    /// What the message may demand.
    pub fate: Fate,
    /// When the sending was over.
    pub over: Nanos,
    /// What the sending needed.
    pub needs: String,
    /// True for the probe's.
    pub probe: bool,
    /// True when the sending was shed.
    pub shed: bool,
}

impl History {
    /// Builds the indexes. Events may come in any order; the trace is told in the order in which they come.
    #[must_use]
    pub fn new(header: Header, events: Vec<Event>) -> Self {
        let facts = RunFacts::from_plan(&header.plan);
        let mut systems: BTreeMap<String, SystemView> = BTreeMap::new();
        for (name, kind) in &facts.systems {
            view(&mut systems, name).kind.clone_from(kind);
        }
        let ended = events.iter().map(Event::at).max().unwrap_or_default();
        let trace = Trace::of(&header, &events);
        let (mut phases, mut faults, mut harness) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Phase(e) => phases.push(e),
                Event::Fault(e) => faults.push(e),
                Event::Harness(e) => harness.push(e),
                Event::Op(e) => view(&mut systems, &e.system.clone()).attempts.push(e),
                Event::Shown(e) => view(&mut systems, &e.system.clone()).shown.push(e),
                Event::Noticed(e) => view(&mut systems, &e.system.clone()).noticed.push(e),
                Event::Told(e) => view(&mut systems, &e.system.clone()).told.push(e),
                Event::Session(e) => view(&mut systems, &e.system.clone()).sessions.push(e),
                Event::Observed(e) => view(&mut systems, &e.system.clone()).observed.push(e),
                Event::Announced(e) => view(&mut systems, &e.system.clone()).announced.push(e),
                Event::Read(e) => view(&mut systems, &e.system.clone()).reads.push(e),
                Event::Process(e) => view(&mut systems, &e.system.clone()).processes.push(e),
            }
        }
        faults.sort_by_key(|e| e.at);
        harness.sort_by_key(|e| e.at);
        for system in systems.values_mut() {
            system.index();
        }
        Self {
            header,
            facts,
            phases: Phases::new(&phases),
            faults: fault_windows(&faults),
            harness,
            systems,
            ended,
            trace,
        }
    }

    /// The system's own faults, wholes and bursts.
    pub fn faults_of<'a>(&'a self, system: &'a str) -> impl Iterator<Item = &'a FaultWindow> {
        self.faults.iter().filter(move |f| f.system == system)
    }

    /// True when the harness noticed something of this kind.
    #[must_use]
    pub fn noticed(&self, kind: HarnessKind) -> bool {
        self.harness.iter().any(|e| e.kind == kind)
    }

    /// When the load ended: the drain's beginning, else the history's end.
    #[must_use]
    pub fn load_end(&self) -> Nanos {
        self.phases.load_end().unwrap_or(self.ended)
    }

    /// When the system began to be stopped; what follows proves nothing about it.
    #[must_use]
    pub fn tear_down(&self) -> Nanos {
        self.phases.start(Phase::TearDown).unwrap_or(Nanos(u64::MAX))
    }
}

fn view<'a>(systems: &'a mut BTreeMap<String, SystemView>, name: &str) -> &'a mut SystemView {
    if !systems.contains_key(name) {
        let new = SystemView {
            name: name.to_owned(),
            kind: "unknown".to_owned(),
            ..SystemView::default()
        };
        systems.insert(name.to_owned(), new);
    }
    systems.get_mut(name).expect("just put in")
}

impl SystemView {
    /// The device's name in a witness.
    #[must_use]
    pub fn device_name(user: u64, device: u32) -> String {
        format!("device {device} of user {user}")
    }

    /// The devices of `user`.
    pub fn devices_of(&self, user: u64) -> impl Iterator<Item = (u32, &Device)> {
        self.devices
            .range((user, 0)..=(user, u32::MAX))
            .map(|((_, device), it)| (*device, it))
    }

    /// What `device` was shown, in order, without what it dropped as repeated on the wire.
    pub fn shown_on<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = &'a Shown> {
        device.timeline.iter().filter_map(|(_, event)| match event {
            DeviceEvent::Shown(index) => Some(&self.shown[*index]).filter(|s| !s.repeated_on_wire),
            DeviceEvent::Noticed(_) | DeviceEvent::Session(_) => None,
        })
    }

    /// The last complete read of the whole of each log.
    #[must_use]
    pub fn final_reads(&self) -> BTreeMap<&str, &ReadBack> {
        self.reads
            .iter()
            .filter(|r| r.complete && r.after.is_none())
            .map(|r| (r.log.as_str(), r))
            .collect()
    }

    fn index(&mut self) {
        self.attempts.sort_by_key(|o| (o.done, o.id, o.attempt));
        self.shown.sort_by_key(|e| e.at);
        self.noticed.sort_by_key(|e| e.at);
        self.told.sort_by_key(|e| (e.began, e.ended));
        self.sessions.sort_by_key(|e| e.at);
        self.observed.sort_by_key(|e| e.at);
        self.announced.sort_by_key(|e| (e.asked, e.at));
        self.processes.sort_by_key(|e| e.at);
        self.reads.sort_by_key(|e| (e.began, e.ended));
        self.index_operations();
        self.index_sightings();
        self.index_groups();
        self.index_devices();
        self.index_deliveries();
    }

    fn index_operations(&mut self) {
        let mut operations: BTreeMap<(Class, u64), Logical> = BTreeMap::new();
        let mut conflicts = BTreeSet::new();
        for attempt in &self.attempts {
            let groups = self.session_groups.entry(attempt.session).or_default();
            for (label, value) in &attempt.groups {
                groups.insert(format!("{label}:{value}"));
            }
            operations
                .entry((attempt.class, attempt.id))
                .and_modify(|op| op.take(attempt))
                .or_insert_with(|| Logical::new(attempt));
            let Subject::Item { item, .. } = &attempt.subject else {
                continue;
            };
            match self.items.get_mut(item) {
                None => {
                    self.items.extend(Item::new(attempt).map(|new| (*item, new)));
                }
                Some(known) if known.operation == attempt.id => known.take(attempt),
                Some(_) => {
                    conflicts.insert(*item);
                }
            }
        }
        self.item_conflicts = conflicts.into_iter().collect();
        self.operations = operations.into_values().collect();
        self.operations.sort_by_key(|o| (o.intended, o.id));
    }

    /// What may have happened did happen once any observer saw it. What surely failed stays so: seeing it is a breach of
    /// its own. Where it stands is taken from the final read, which is the authority.
    fn index_sightings(&mut self) {
        let mut seen: BTreeMap<u64, (Nanos, u64)> = BTreeMap::new();
        let shown = self
            .shown
            .iter()
            .filter_map(|s| Some((s.item?, &s.log, s.at, s.position)));
        let read = self
            .reads
            .iter()
            .flat_map(|r| r.items.iter().map(move |i| (i.item, &r.log, r.ended, i.position)))
            .filter_map(|(item, log, at, position)| Some((item?, log, at, position)));
        let told = self.told.iter().flat_map(|told| {
            let messages = told.answer.messages().into_iter();
            messages.flat_map(move |(log, items)| {
                let found = items.iter();
                found.filter_map(move |it| Some((it.item?, log, told.ended, it.position)))
            })
        });
        for (item, log, at, position) in shown.chain(read).chain(told) {
            // Found in a log that is not its own it is misplaced, and has not been seen where it belongs.
            if self.items.get(&item).is_some_and(|known| known.log == *log) {
                let first = seen.entry(item).or_insert((at, position));
                *first = (*first).min((at, position));
            }
        }
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for (log, read) in self.final_reads() {
            for found in &read.items {
                if let Some(item) = found
                    .item
                    .filter(|i| self.items.get(i).is_some_and(|known| known.log == log))
                {
                    places.entry(item).or_insert(found.position);
                }
            }
        }
        for item in self.items.values_mut() {
            let sighting = seen.get(&item.item).copied();
            item.seen = sighting.map(|(at, _)| at);
            if item.seen.is_some() && item.fate == Fate::May {
                item.fate = Fate::Must;
            }
            let answered = item.positions.first().map(|(position, _)| *position);
            let read = places.get(&item.item).copied();
            item.position = read.or(answered).or(sighting.map(|(_, position)| position));
        }
    }

    /// A message to a group is owed to those who belonged to it at the message's position.
    fn index_groups(&mut self) {
        let whole = self
            .final_reads()
            .into_iter()
            .filter(|(_, read)| !read.changes.is_empty());
        let groups = whole.map(|(log, read)| (log.to_owned(), Membership::of(&read.changes)));
        self.groups = groups.collect();
        for item in self.items.values_mut().filter(|item| item.group) {
            if let (Some(group), Some(position)) = (self.groups.get(&item.log), item.position) {
                item.owed = group.members_at(position).collect();
            }
        }
    }

    fn index_devices(&mut self) {
        for attempt in &self.attempts {
            let Subject::Device { user, device, .. } = attempt.subject else {
                continue;
            };
            let known = self.devices.entry((user, device)).or_default();
            known.session = attempt.session;
            if attempt.outcome == Outcome::Ok {
                known.registered = Some(known.registered.map_or(attempt.done, |r| r.min(attempt.done)));
            }
        }
        for (index, event) in self.sessions.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Session(index)));
            if matches!(event.change, SessionChange::Connected { .. }) {
                known.registered = Some(known.registered.map_or(event.at, |r| r.min(event.at)));
            }
        }
        for (index, event) in self.shown.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Shown(index)));
        }
        for (index, event) in self.noticed.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Noticed(index)));
        }
        let mut devices = std::mem::take(&mut self.devices);
        for device in devices.values_mut() {
            // Of one instant, a connection's opening comes before what it brought, and that in its sequence.
            device
                .timeline
                .sort_by_key(|(at, event)| (*at, self.entry(*event).map(|entry| entry.sequence)));
        }
        self.devices = devices;
    }

    fn index_deliveries(&mut self) {
        let mut first_shown: BTreeMap<(u64, u64, u32), Nanos> = BTreeMap::new();
        for shown in self.shown.iter().filter(|s| !s.repeated_on_wire) {
            if let Some(item) = shown.item {
                first_shown.entry((item, shown.user, shown.device)).or_insert(shown.at);
            }
        }
        let operations: BTreeMap<u64, &Logical> = self
            .operations
            .iter()
            .filter(|o| matches!(o.class, Class::Send | Class::Group | Class::Put | Class::Request))
            .map(|o| (o.id, o))
            .collect();
        let mut deliveries = Vec::new();
        for item in self.items.values() {
            let operation = operations.get(&item.operation);
            for user in &item.owed {
                for ((_, device), known) in self.devices.range((*user, 0)..=(*user, u32::MAX)) {
                    // A device that came while the message was on its way may or may not be owed it.
                    if known.registered.is_none_or(|r| r > item.sent) {
                        continue;
                    }
                    deliveries.push(Delivery {
                        item: item.item,
                        user: *user,
                        device: *device,
                        session: known.session,
                        intended: operation.map_or(item.sent, |o| o.intended),
                        sent: item.sent,
                        acked: item.acked,
                        shown: first_shown.get(&(item.item, *user, *device)).copied(),
                        fate: item.fate,
                        over: item.over,
                        needs: operation.map_or_else(String::new, |o| o.needs.clone()),
                        probe: operation.is_some_and(|o| o.probe),
                        shed: operation.is_some_and(|o| o.outcome == Outcome::Shed),
                    });
                }
            }
        }
        deliveries.sort_by_key(|d| (d.intended, d.item, d.user, d.device));
        self.deliveries = deliveries;
    }
}

fn served(outcome: Outcome, error: Option<&str>) -> bool {
    outcome == Outcome::Ok || (outcome == Outcome::Failed && is_decision(error))
}

impl Logical {
    fn new(attempt: &Operation) -> Self {
        Self {
            id: attempt.id,
            class: attempt.class,
            session: attempt.session,
            needs: attempt.needs.clone(),
            probe: attempt.probe,
            intended: attempt.intended,
            sent: attempt.sent,
            decided_sent: attempt.sent,
            done: attempt.done,
            outcome: attempt.outcome,
            attempts: 1,
            error: attempt.error.clone(),
            first_error: (!served(attempt.outcome, attempt.error.as_deref())).then_some(attempt.done),
        }
    }

    /// Attempts come in the order of `done`.
    fn take(&mut self, attempt: &Operation) {
        self.attempts += 1;
        self.sent = self.sent.min(attempt.sent);
        self.intended = self.intended.min(attempt.intended);
        if !served(attempt.outcome, attempt.error.as_deref()) {
            self.first_error.get_or_insert(attempt.done);
        }
        if self.outcome == Outcome::Ok {
            return;
        }
        self.done = attempt.done;
        self.decided_sent = attempt.sent;
        self.error.clone_from(&attempt.error);
        self.outcome = match (self.outcome, attempt.outcome) {
            (_, Outcome::Ok) => Outcome::Ok,
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
            (Outcome::Shed, Outcome::Shed) => Outcome::Shed,
            _ => Outcome::Failed,
        };
    }

    /// Whether its user had an answer: it was acknowledged, or the service decided that it may not be.
    #[must_use]
    pub fn served(&self) -> bool {
        served(self.outcome, self.error.as_deref())
    }

    /// From the intent to the decision: what its user waited.
    #[must_use]
    pub const fn waited(&self) -> std::time::Duration {
        self.done.since(self.intended)
    }
}

impl Item {
    /// When it was first certain that it must be there: its acknowledgement, else its first sighting, else the end of
    /// its last attempt.
    #[must_use]
    pub fn certain(&self) -> Nanos {
        self.acked.or(self.seen).unwrap_or(self.over)
    }

    fn new(attempt: &Operation) -> Option<Self> {
        let Subject::Item {
            item,
            log,
            author,
            owed,
            group,
            client_id,
            hash,
            ..
        } = &attempt.subject
        else {
            return None;
        };
        let mut new = Self {
            item: *item,
            operation: attempt.id,
            log: log.clone(),
            author: *author,
            owed: owed.clone(),
            group: *group,
            hash: *hash,
            session: attempt.session,
            client_id: *client_id,
            sent: attempt.sent,
            over: attempt.done,
            acked: None,
            acked_by: None,
            positions: Vec::new(),
            seen: None,
            position: None,
            fate: Fate::Not,
            attempts: 0,
            retried_after_unknown: false,
        };
        new.take(attempt);
        Some(new)
    }

    fn take(&mut self, attempt: &Operation) {
        if self.attempts > 0 && self.fate == Fate::May {
            self.retried_after_unknown = true;
        }
        self.attempts += 1;
        self.sent = self.sent.min(attempt.sent);
        self.over = self.over.max(attempt.done);
        match attempt.outcome {
            Outcome::Ok => {
                self.fate = Fate::Must;
                if self.acked.is_none() {
                    self.acked = Some(attempt.done);
                    self.acked_by.clone_from(&attempt.answered_by);
                }
            }
            Outcome::Unknown if self.fate == Fate::Not => self.fate = Fate::May,
            Outcome::Unknown | Outcome::Failed | Outcome::Shed => {}
        }
        if let Subject::Item {
            position: Some(position),
            ..
        } = attempt.subject
        {
            self.positions.push((position, attempt.done));
        }
    }
}
