//! Histories made from a script, for tests: what a right service and a right harness would have recorded, with outages
//! of exactly known times.

use std::{collections::BTreeMap, time::Duration};

use rand::Rng as _;
use serde_json::json;

use super::{
    Class, Event, FaultChange, FaultEvent, GroupStatus, Header, History, NodeStatus, Observed, Operation, Outcome,
    Phase, PhaseEvent, ProcessChange, ProcessEvent, ReadBack, ReadItem, SessionChange, SessionEvent, Shown, Subject,
};
use crate::base::{Nanos, Streams};

/// What a scripted outage does to what is sent during it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Refused at once.
    Refuse,
    /// Nothing moves until it ends.
    Stall,
    /// This share is refused.
    Errors(f64),
    /// Everything takes this many times longer.
    Slow(f64),
}

/// One scripted outage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scripted {
    pub(crate) from: Nanos,
    pub(crate) to: Nanos,
    pub(crate) effect: Effect,
    /// On for so long, off for so long, in turn; always on without.
    pub(crate) on_off: Option<(Duration, Duration)>,
}

impl Scripted {
    pub(crate) const fn ms(from: u64, to: u64, effect: Effect) -> Self {
        Self {
            from: Nanos::from_millis(from),
            to: Nanos::from_millis(to),
            effect,
            on_off: None,
        }
    }

    /// The end of the burst that `at` falls into; none when it bites nothing then.
    pub(crate) fn bites(&self, at: Nanos) -> Option<Nanos> {
        if at < self.from || at >= self.to {
            return None;
        }
        let Some((on, off)) = self.on_off else {
            return Some(self.to);
        };
        let (on, off) = (Nanos::from_duration(on).0, Nanos::from_duration(off).0);
        let within = (at.0 - self.from.0) % (on + off);
        (within < on).then(|| Nanos(at.0 - within + on).min(self.to))
    }
}

/// The script of a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) users: u64,
    pub(crate) devices: u32,
    /// Whether clients are labelled with zones.
    pub(crate) zones: bool,
    /// The mean gap between two sends.
    pub(crate) gap: Duration,
    /// Exponential gaps instead of constant ones.
    pub(crate) poisson: bool,
    pub(crate) probe_gap: Duration,
    pub(crate) service: Duration,
    pub(crate) retries: u32,
    pub(crate) outages: Vec<Scripted>,
    /// When the faults may begin, and when the load ends.
    pub(crate) disturb: Nanos,
    pub(crate) load_end: Nanos,
    pub(crate) plan: serde_json::Value,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 12,
            devices: 2,
            zones: true,
            gap: Duration::from_millis(5),
            poisson: false,
            probe_gap: Duration::from_millis(50),
            service: Duration::from_millis(2),
            retries: 4,
            outages: Vec::new(),
            disturb: Nanos::from_millis(4000),
            load_end: Nanos::from_millis(16_000),
            plan: json!({
                "scenario": "scripted", "seed": 1, "backend": "scripted",
                "systems": [{"name": "main", "kind": {"messaging": {}}}],
                "loads": [{"system": "main", "class": "send"}],
                "steady": {"require": ["send.success >= 99.9%", "send.p99 < 50ms"]},
                "expect": {"recovery": [], "promises": "all", "slo": []},
                "settle": {"hold_ms": 2000}, "steps": [],
            }),
        }
    }
}

/// When the steady phase begins.
pub(crate) const STEADY: Nanos = Nanos::from_millis(1000);
const TIMEOUT: Duration = Duration::from_secs(2);

struct Sending {
    id: u64,
    author: u64,
    to: u64,
    intended: Nanos,
    probe: bool,
}

struct Attempt {
    sending: usize,
    number: u32,
    last: bool,
    sent: Nanos,
    done: Nanos,
    outcome: Outcome,
    /// When it took effect; none when it didn't.
    commit: Option<Nanos>,
}

impl Script {
    /// The history, indexed.
    pub(crate) fn history(&self) -> History {
        History::new(self.header(), self.events())
    }

    pub(crate) fn header(&self) -> Header {
        Header {
            format: super::FORMAT.to_owned(),
            plan: self.plan.clone(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            versions: BTreeMap::new(),
        }
    }

    /// The history's events.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = self.frame();
        let sendings = self.sendings();
        let mut attempts = self.attempts(&sendings);
        self.commit(&sendings, &mut attempts, &mut events);
        if !self.zones {
            for event in &mut events {
                if let Event::Op(operation) = event {
                    operation.groups.clear();
                }
            }
        }
        events.sort_by_key(Event::at);
        events
    }

    fn bites(&self, at: Nanos) -> Option<(Effect, Nanos)> {
        self.outages.iter().find_map(|o| Some((o.effect, o.bites(at)?)))
    }

    /// Phases, accounts, sessions, faults, and what the system says of itself.
    fn frame(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let after = |ms: u64| self.load_end.plus(Duration::from_millis(ms));
        for (phase, at) in [
            (Phase::Prepare, Nanos(0)),
            (Phase::WarmUp, Nanos::from_millis(500)),
            (Phase::Steady, STEADY),
            (Phase::Disturb, self.disturb),
            (
                Phase::Settle,
                self.outages.iter().map(|o| o.to).max().unwrap_or(self.disturb),
            ),
            (Phase::Drain, self.load_end),
            (Phase::Fence, after(3000)),
            (Phase::ReadBack, after(3100)),
            (Phase::TearDown, after(4000)),
        ] {
            events.push(Event::Phase(PhaseEvent { at, phase }));
        }
        for user in 0..self.users {
            let at = Nanos::from_millis(10 + user);
            events.push(Event::Op(operation(
                1_000_000 + user,
                Class::SignUp,
                user * 10,
                at,
                Subject::Account {
                    phone: format!("+{user:05}"),
                    user: Some(user),
                    created: Some(true),
                },
            )));
            events.push(Event::Op(operation(
                3_000_000 + user,
                Class::SignUp,
                user * 10,
                after(3300 + user),
                Subject::Account {
                    phone: format!("+{user:05}"),
                    user: Some(user),
                    created: Some(false),
                },
            )));
            for device in 0..self.devices {
                let session = user * 10 + u64::from(device);
                let at = Nanos::from_millis(100 + user);
                events.push(Event::Op(operation(
                    2_000_000 + session,
                    Class::LogIn,
                    session,
                    at,
                    Subject::Device {
                        user,
                        device,
                        session: Some(session),
                    },
                )));
                let mut push = |at, change| {
                    events.push(Event::Session(SessionEvent {
                        at,
                        system: "main".to_owned(),
                        session,
                        user,
                        device,
                        change,
                    }));
                };
                push(
                    Nanos::from_millis(200 + user),
                    SessionChange::Connected {
                        connection: 1,
                        after: 0,
                    },
                );
                push(
                    Nanos::from_millis(250 + user),
                    SessionChange::Current {
                        sequence: 0,
                        incarnation: 1,
                    },
                );
                push(after(3050), SessionChange::Fenced);
            }
        }
        self.faults(&mut events);
        self.status(&mut events);
        events
    }

    fn faults(&self, events: &mut Vec<Event>) {
        for (number, outage) in self.outages.iter().enumerate() {
            let mut push = |at, change| {
                events.push(Event::Fault(FaultEvent {
                    at,
                    id: format!("{}-kill", number + 1),
                    kind: "kill".to_owned(),
                    system: "main".to_owned(),
                    targets: vec!["n1".to_owned()],
                    needs: Vec::new(),
                    resolved: None,
                    change,
                }));
            };
            push(outage.from.minus(Duration::from_millis(1)), FaultChange::Requested);
            let (effective, healed) = (outage.from, outage.to);
            push(
                effective,
                FaultChange::Installed {
                    effective,
                    evidence: "gone".to_owned(),
                },
            );
            push(healed.minus(Duration::from_millis(1)), FaultChange::HealRequested);
            push(
                healed,
                FaultChange::Healed {
                    healed,
                    evidence: "back".to_owned(),
                },
            );
        }
    }

    fn status(&self, events: &mut Vec<Event>) {
        let end = self.load_end.plus(Duration::from_millis(3900));
        for node in ["n1", "n2", "n3"] {
            events.push(Event::Process(ProcessEvent {
                at: Nanos(0),
                system: "main".to_owned(),
                node: node.to_owned(),
                pid: 7,
                change: ProcessChange::Started,
            }));
            let mut at = Nanos::from_millis(300);
            while at < end {
                let index = at.0 / 1_000_000;
                events.push(Event::Observed(Observed {
                    at,
                    asked: None,
                    system: "main".to_owned(),
                    node: node.to_owned(),
                    status: Some(NodeStatus {
                        groups: vec![GroupStatus {
                            group: "shard:0".to_owned(),
                            leader: node == "n1",
                            term: 1,
                            commit: index,
                            applied: index,
                            digest: if at > self.load_end { index * 31 + 7 } else { 0 },
                        }],
                        backlog: 0,
                        placement: None,
                        gauges: BTreeMap::new(),
                    }),
                }));
                at = at.plus(Duration::from_millis(200));
            }
        }
    }

    fn sendings(&self) -> Vec<Sending> {
        let mut rng = Streams::new(self.seed).stream("schedule");
        let mut sendings = Vec::new();
        let mut at = Nanos::from_millis(600);
        while at < self.load_end {
            let author = rng.next_u64() % self.users;
            sendings.push((at, author, false));
            let factor = if self.poisson {
                -f64::ln(1.0 - unit(&mut rng))
            } else {
                1.0
            };
            at = at.plus(self.gap.mul_f64(factor));
        }
        let mut at = Nanos::from_millis(601);
        while at < self.load_end {
            sendings.push((at, 0, true));
            at = at.plus(self.probe_gap);
        }
        sendings.sort_unstable();
        sendings
            .into_iter()
            .zip(1u64..)
            .map(|((intended, author, probe), id)| Sending {
                id,
                author,
                to: author ^ 1,
                intended,
                probe,
            })
            .collect()
    }

    fn attempts(&self, sendings: &[Sending]) -> Vec<Attempt> {
        let mut rng = Streams::new(self.seed).stream("service");
        let mut attempts = Vec::new();
        for (index, sending) in sendings.iter().enumerate() {
            let mut sent = sending.intended;
            for number in 1..=self.retries + 1 {
                let (outcome, done, commit) = self.answer(sent, &mut rng);
                let last = outcome == Outcome::Ok || number > self.retries;
                attempts.push(Attempt {
                    sending: index,
                    number,
                    last,
                    sent,
                    done,
                    outcome,
                    commit,
                });
                if last {
                    break;
                }
                let window = Duration::from_millis(20 << number.min(5));
                sent = done.plus(window.mul_f64(unit(&mut rng)));
            }
        }
        attempts
    }

    /// The outcome of an attempt sent at `sent`, when it is known, and when it took effect.
    fn answer(&self, sent: Nanos, rng: &mut impl rand::Rng) -> (Outcome, Nanos, Option<Nanos>) {
        let took = self.service.mul_f64(0.5 + unit(rng));
        let ok = |done: Nanos| (Outcome::Ok, done, Some(done.minus(Duration::from_micros(200))));
        match self.bites(sent) {
            None => ok(sent.plus(took)),
            Some((Effect::Refuse, _)) => (Outcome::Failed, sent.plus(Duration::from_micros(300)), None),
            Some((Effect::Errors(share), _)) if unit(rng) < share => {
                (Outcome::Failed, sent.plus(Duration::from_micros(300)), None)
            }
            Some((Effect::Errors(_), _)) => ok(sent.plus(took)),
            Some((Effect::Slow(factor), _)) => ok(sent.plus(took.mul_f64(factor))),
            Some((Effect::Stall, end)) if end < sent.plus(TIMEOUT) => ok(end.plus(took)),
            // What stalled beyond its time-out still takes effect, half of the time.
            Some((Effect::Stall, end)) => {
                let commit = (unit(rng) < 0.5).then(|| end.plus(took));
                (Outcome::Unknown, sent.plus(TIMEOUT), commit)
            }
        }
    }

    /// Puts what took effect into logs and device streams, in its order, and writes down what was answered and shown.
    fn commit(&self, sendings: &[Sending], attempts: &mut [Attempt], events: &mut Vec<Event>) {
        attempts.sort_by_key(|a| (a.commit.unwrap_or(a.done), a.sending, a.number));
        let mut stored: BTreeMap<usize, u64> = BTreeMap::new();
        let mut logs: BTreeMap<u64, Vec<ReadItem>> = BTreeMap::new();
        let mut streams: BTreeMap<(u64, u32), (u64, Nanos)> = BTreeMap::new();
        for attempt in attempts.iter() {
            let sending = &sendings[attempt.sending];
            let conversation = sending.author.min(sending.to);
            let repeated = stored.contains_key(&attempt.sending);
            if attempt.commit.is_some() && !repeated {
                let log = logs.entry(conversation).or_default();
                let position = log.len() as u64 + 1;
                log.push(ReadItem {
                    position,
                    author: sending.author,
                    item: Some(sending.id),
                    hash: sending.id ^ 0xabcd,
                });
                stored.insert(attempt.sending, position);
                for device in 0..self.devices {
                    let stream = streams.entry((sending.to, device)).or_default();
                    let mut at = attempt.commit.unwrap_or_default().plus(Duration::from_millis(1));
                    while let Some((Effect::Stall | Effect::Refuse, end)) = self.bites(at) {
                        at = end.plus(Duration::from_micros(500));
                    }
                    *stream = (stream.0 + 1, at.max(stream.1.plus(Duration::from_micros(1))));
                    events.push(Event::Shown(Shown {
                        at: stream.1,
                        system: "main".to_owned(),
                        session: sending.to * 10 + u64::from(device),
                        user: sending.to,
                        device,
                        connection: 1,
                        incarnation: 1,
                        sequence: stream.0,
                        log: format!("c:{conversation}"),
                        position,
                        author: sending.author,
                        item: Some(sending.id),
                        hash: sending.id ^ 0xabcd,
                        repeated_on_wire: false,
                    }));
                }
            }
            let ok = attempt.outcome == Outcome::Ok;
            let mut operation = operation(
                sending.id,
                Class::Send,
                sending.author * 10,
                sending.intended,
                Subject::Item {
                    item: sending.id,
                    log: format!("c:{conversation}"),
                    author: sending.author,
                    owed: vec![sending.to],
                    group: false,
                    client_id: sending.id,
                    hash: sending.id ^ 0xabcd,
                    position: stored.get(&attempt.sending).copied().filter(|_| ok),
                    repeated: ok.then_some(repeated),
                },
            );
            operation.attempt = attempt.number;
            operation.last = attempt.last;
            operation.probe = sending.probe;
            operation.sent = attempt.sent;
            operation.done = attempt.done;
            operation.outcome = attempt.outcome;
            operation.error = (!ok).then(|| "UNAVAILABLE".to_owned());
            if sending.probe {
                operation.session = 999_999;
            }
            events.push(Event::Op(operation));
        }
        let began = self.load_end.plus(Duration::from_millis(3200));
        for (conversation, items) in logs {
            events.push(Event::Read(ReadBack {
                began,
                ended: began.plus(Duration::from_millis(5)),
                system: "main".to_owned(),
                log: format!("c:{conversation}"),
                complete: true,
                after: None,
                items,
                changes: Vec::new(),
            }));
        }
    }
}

fn unit(rng: &mut impl rand::Rng) -> f64 {
    f64::from(rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

fn operation(id: u64, class: Class, session: u64, at: Nanos, subject: Subject) -> Operation {
    let zone = if (session / 10).is_multiple_of(2) {
        "east"
    } else {
        "west"
    };
    Operation {
        id,
        attempt: 1,
        last: true,
        system: "main".to_owned(),
        session,
        class,
        needs: "shard:0".to_owned(),
        groups: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
        probe: false,
        intended: at,
        sent: at,
        done: at.plus(Duration::from_millis(1)),
        outcome: Outcome::Ok,
        answered_by: Some("n1".to_owned()),
        error: None,
        subject,
    }
}
