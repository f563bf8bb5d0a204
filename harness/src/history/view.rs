//! A history with its indexes: what judges and figures are drawn from, built once, n log n.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Announced, Event, FaultWindow, HarnessEvent, HarnessKind, Header, Membership, Noticed, Observed, Operation, Phase,
    Phases, ProcessEvent, ReadBack, RunFacts, SessionEvent, Shown, Told, Trace, fault_windows,
    items::{Fate, Item, Logical},
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

    /// From when on sessions are ended on purpose, else the history's end.
    #[must_use]
    pub fn fenced_from(&self) -> Nanos {
        let ends = [Phase::Fence, Phase::ReadBack, Phase::TearDown];
        ends.iter()
            .find_map(|phase| self.phases.start(*phase))
            .unwrap_or(self.ended)
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
}
