//! The whole load against a service in memory, on a virtual clock.

mod accounts;
mod home;
mod people;

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::{
    base::Nanos,
    history::{
        Event, FORMAT, GroupStatus, Header, NodeStatus, Operation, Outcome, ReadBack, ReadItem, SessionChange, Shown,
        Subject,
    },
    workload::{
        ProbeSpec, RetrySpec, ScheduleSpec,
        client::{Account, Answered, CallFailure, DeviceStream, Opened, Outgoing, Page, Placed, Resume, StreamEvent},
        payload,
        people::Caller,
    },
};

const PARTS: u64 = 3;

/// A whole messaging service in one lock: right by construction, except for what a test asks of it.
struct Service {
    clock: RunClock,
    state: Mutex<State>,
    /// Streams end when this fires.
    cut: broadcast::Sender<()>,
    behaviour: Behaviour,
}

/// What is wrong with the service.
#[derive(Clone, Copy, Default)]
struct Behaviour {
    /// Refuses everything within these milliseconds, and breaks streams at their start.
    dead: Option<(u64, u64)>,
    /// Commits each n-th send and never answers it.
    swallow_answer: Option<u64>,
    /// Never delivers each n-th message.
    lose_delivery: Option<u64>,
    /// Begins a resumed stream one message too early, as at-least-once allows.
    repeats: bool,
    /// Takes this long for an answer, in milliseconds.
    slow_ms: u64,
    log_ins_per_s: Option<f64>,
    /// Forgets every account from this time on, in milliseconds.
    forget_accounts: Option<u64>,
    /// Leaves this sequence of a device's stream out, the first time that it is its turn.
    skip_sequence: Option<u64>,
    /// The second replica is at the first one's index so many milliseconds after it was first asked for its digest.
    replica_behind_ms: Option<u64>,
    /// Gives everybody the contact of the first account, as an import of its own.
    phantom_contacts: bool,
    /// Marks go wherever they are told to.
    early_receipts: bool,
    /// Whoever has opened a stream is online for good.
    ghosts: bool,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, u64>,
    devices: BTreeMap<(u64, u32), Inbox>,
    conversations: BTreeMap<u64, Vec<ReadItem>>,
    groups: BTreeMap<u64, people::Group>,
    books: BTreeMap<u64, std::collections::BTreeSet<String>>,
    /// Up to where a user was given and has read a conversation.
    marks: BTreeMap<(u64, u64), (u64, u64)>,
    sent: BTreeMap<(u64, u32, u64), u64>,
    fenced: Vec<u64>,
    sends: u64,
    log_ins: Vec<Nanos>,
    digests_asked: Option<Nanos>,
    forgot: bool,
    skipped: bool,
}

#[derive(Default)]
struct Inbox {
    session: u64,
    items: Vec<StreamEvent>,
    acknowledged: u64,
    wake: Option<mpsc::UnboundedSender<()>>,
}

impl Service {
    fn refused(&self) -> Option<CallFailure> {
        let (from, to) = self.behaviour.dead?;
        let now = self.clock.now();
        (now >= Nanos::from_millis(from) && now < Nanos::from_millis(to)).then(|| CallFailure::refused("NO_QUORUM"))
    }

    fn pair(a: u64, b: u64) -> u64 {
        (a.min(b) << 32) | a.max(b)
    }
}

struct Client(Arc<Service>);

#[async_trait]
impl ChatClient for Client {
    fn parts(&self) -> Vec<String> {
        (0..PARTS).map(|part| format!("shard:{part}")).collect()
    }
    fn home_of_phone(&self, _phone: &str) -> String {
        "shard:0".to_owned()
    }
    fn home_of_user(&self, user: u64) -> String {
        format!("shard:{}", user % PARTS)
    }
    fn conversation(&self, a: u64, b: u64) -> (u64, String) {
        (Service::pair(a, b), format!("shard:{}", (a + b) % PARTS))
    }

    async fn sign_up(&self, phone: &str, _within: Duration) -> Answered<Account> {
        let forgets = self.0.behaviour.forget_accounts.map(Nanos::from_millis);
        let mut state = lock(&self.0.state);
        if forgets.is_some_and(|from| self.0.clock.now() >= from) && !std::mem::replace(&mut state.forgot, true) {
            // Ids go on: what is forgotten is whose they were.
            state.users = (0..1000).map(|n| (format!("gone {n}"), n)).collect();
        }
        let next = state.users.len() as u64 + 1;
        let created = !state.users.contains_key(phone);
        let user = *state.users.entry(phone.to_owned()).or_insert(next);
        Answered::ok(Account { user, created }, Some("n1".to_owned()))
    }

    async fn open_session(&self, user: u64, device: u32, nonce: u64, _within: Duration) -> Answered<Opened> {
        let now = self.0.clock.now();
        let mut state = lock(&self.0.state);
        if let Some(limit) = self.0.behaviour.log_ins_per_s {
            let recent = state
                .log_ins
                .iter()
                .filter(|at| now.since(**at) < Duration::from_secs(1))
                .count();
            if f64::from(u32::try_from(recent).expect("few")) >= limit {
                return Answered::failed(CallFailure::refused("OVERLOADED"));
            }
            state.log_ins.push(now);
        }
        let inbox = state.devices.entry((user, device)).or_default();
        inbox.session = nonce;
        let opened = Opened {
            session: nonce,
            acknowledged: inbox.acknowledged,
            incarnation: 1,
        };
        Answered::ok(opened, None)
    }

    async fn send(&self, message: &Outgoing, _within: Duration) -> Answered<Placed> {
        let service = &self.0;
        service
            .clock
            .sleep(Duration::from_millis(service.behaviour.slow_ms))
            .await;
        if let Some(failure) = service.refused() {
            return Answered::failed(failure);
        }
        let swallowed = {
            let mut state = lock(&service.state);
            if state.fenced.contains(&message.session) {
                return Answered::failed(CallFailure::refused("SESSION_ENDED"));
            }
            let key = (message.sender, message.device, message.client_id);
            if let Some(position) = state.sent.get(&key) {
                let repeated = Placed {
                    position: *position,
                    repeated: true,
                };
                return Answered::ok(repeated, None);
            }
            let (conversation, recipients) = if message.group == 0 {
                let pair = Service::pair(message.sender, message.recipient);
                (pair, vec![message.recipient])
            } else {
                match state.recipients(message.group, message.sender) {
                    Ok(recipients) => (message.group, recipients),
                    Err(failure) => return Answered::failed(failure),
                }
            };
            let position = state.next_position(conversation);
            state.conversations.entry(conversation).or_default().push(ReadItem {
                position,
                author: message.sender,
                item: payload::decode(&message.body),
                hash: payload::hash(&message.body),
            });
            state.sent.insert(key, position);
            state.sends += 1;
            let every = |n: Option<u64>| n.is_some_and(|n| state.sends.is_multiple_of(n));
            let (swallowed, lost) = (
                every(service.behaviour.swallow_answer),
                every(service.behaviour.lose_delivery),
            );
            let recipients = if lost { Vec::new() } else { recipients };
            state.push(&recipients, |sequence| StreamEvent::Delivery {
                sequence,
                conversation,
                position,
                author: message.sender,
                body: message.body.clone(),
            });
            if !swallowed {
                let placed = Placed {
                    position,
                    repeated: false,
                };
                return Answered::ok(placed, Some("n1".to_owned()));
            }
            swallowed
        };
        assert!(swallowed);
        std::future::pending().await
    }

    async fn subscribe(&self, resume: Resume, _within: Duration) -> Answered<Box<dyn DeviceStream>> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        let mut state = lock(&self.0.state);
        let inbox = state.devices.entry((resume.user, resume.device)).or_default();
        if inbox.session != resume.session {
            return Answered::failed(CallFailure::refused("SESSION_ENDED"));
        }
        let (wake, woken) = mpsc::unbounded_channel();
        inbox.wake = Some(wake);
        drop(state);
        let mut resume = resume;
        if self.0.behaviour.repeats {
            resume.after = resume.after.saturating_sub(1);
        }
        let stream = Stream {
            service: Arc::clone(&self.0),
            resume,
            woken,
            cut: self.0.cut.subscribe(),
            beat: false,
        };
        Answered::ok(Box::new(stream), None)
    }

    async fn acknowledge(&self, resume: Resume, _within: Duration) -> Answered<u64> {
        // Long enough for others to become due meanwhile.
        self.0.clock.sleep(Duration::from_millis(700)).await;
        let mut state = lock(&self.0.state);
        let inbox = state.devices.entry((resume.user, resume.device)).or_default();
        inbox.acknowledged = inbox.acknowledged.max(resume.after);
        Answered::ok(inbox.acknowledged, None)
    }

    async fn history(&self, reader: Caller, conversation: u64, after: u64, _within: Duration) -> Answered<Page> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        if ![conversation >> 32, conversation & u64::from(u32::MAX)].contains(&reader.user) {
            return Answered::failed(CallFailure::refused("NOT_MEMBER"));
        }
        let state = lock(&self.0.state);
        let all = state.conversations.get(&conversation).cloned().unwrap_or_default();
        let page = Page {
            last_position: all.len() as u64,
            items: all.into_iter().filter(|item| item.position > after).take(7).collect(),
            changes: Vec::new(),
        };
        Answered::ok(page, None)
    }

    async fn fence(&self, _part: &str, sessions: &[u64], _within: Duration) -> Answered<()> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        lock(&self.0.state).fenced.extend(sessions);
        Answered::ok((), None)
    }

    async fn digests(&self) -> Vec<(String, Option<NodeStatus>)> {
        let now = self.0.clock.now();
        let asked = *lock(&self.0.state).digests_asked.get_or_insert(now);
        let behind = Duration::from_millis(self.0.behaviour.replica_behind_ms.unwrap_or(0));
        let at = |applied| {
            let group = GroupStatus {
                group: "shard:0".to_owned(),
                applied,
                digest: applied * 31,
                ..GroupStatus::default()
            };
            Some(NodeStatus {
                groups: vec![group],
                ..NodeStatus::default()
            })
        };
        let second = if now.since(asked) < behind { 90 } else { 100 };
        vec![("n1".to_owned(), at(100)), ("n2".to_owned(), at(second))]
    }
}

struct Stream {
    service: Arc<Service>,
    resume: Resume,
    woken: mpsc::UnboundedReceiver<()>,
    cut: broadcast::Receiver<()>,
    beat: bool,
}

#[async_trait]
impl DeviceStream for Stream {
    async fn next(&mut self) -> Result<StreamEvent, CallFailure> {
        loop {
            {
                let mut state = lock(&self.service.state);
                let turn = Some(self.resume.after + 1) == self.service.behaviour.skip_sequence;
                if turn && !std::mem::replace(&mut state.skipped, true) {
                    self.resume.after += 1;
                }
                let inbox = state.devices.entry((self.resume.user, self.resume.device)).or_default();
                let after = usize::try_from(self.resume.after).expect("few");
                if let Some(item) = inbox.items.get(after) {
                    self.resume.after += 1;
                    self.beat = true;
                    return Ok(item.clone());
                }
                if std::mem::take(&mut self.beat) {
                    return Ok(StreamEvent::Position {
                        last_sequence: self.resume.after,
                        incarnation: 1,
                        current: true,
                    });
                }
            }
            tokio::select! {
                biased;
                _ = self.cut.recv() => return Err(CallFailure::unknown("connection lost")),
                _ = self.woken.recv() => {}
                () = self.service.clock.sleep(Duration::from_secs(1)) => self.beat = true,
            }
        }
    }
}

fn load() -> LoadSpec {
    LoadSpec {
        system: "main".to_owned(),
        class: Class::Send,
        users: 20,
        devices: 2,
        size_bytes: 64,
        schedule: ScheduleSpec::Constant { per_s: 100.0 },
        retry: RetrySpec::default(),
        op_timeout_ms: 500,
        in_flight_max: 1000,
        probe: Some(ProbeSpec { per_s: 10.0 }),
        request: None,
        group: None,
        life: None,
    }
}

fn stage(behaviour: Behaviour, load: LoadSpec) -> (ChatWorkload, Recorder, Arc<Service>) {
    stage_all(behaviour, vec![load])
}

fn stage_all(behaviour: Behaviour, loads: Vec<LoadSpec>) -> (ChatWorkload, Recorder, Arc<Service>) {
    let clock = RunClock::start_virtual();
    let recorder = Recorder::in_memory(Header {
        format: FORMAT.to_owned(),
        plan: serde_json::Value::Null,
        started: String::new(),
        versions: BTreeMap::new(),
    });
    let service = Arc::new(Service {
        clock,
        state: Mutex::default(),
        cut: broadcast::Sender::new(4),
        behaviour,
    });
    let group = |zone: &str| ClientGroup {
        labels: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
        client: Arc::new(Client(Arc::clone(&service))),
    };
    let workload = ChatWorkload::new(ChatSetting {
        system: "main".to_owned(),
        number: 3,
        loads,
        groups: vec![group("a"), group("b")],
        reader: Arc::new(Client(Arc::clone(&service))),
        login_per_s: behaviour.log_ins_per_s,
        recorder: recorder.clone(),
        clock,
        streams: Streams::new(7),
    });
    (workload.expect("a valid load"), recorder, service)
}

/// Prepares, sends for five seconds, and ends as a controller does. True when it drained.
async fn run(workload: &mut ChatWorkload, service: &Service) -> bool {
    workload.prepare().await.expect("prepared");
    workload.start().await.expect("started");
    let begin = service.clock.now();
    if let Some((from, _)) = service.behaviour.dead {
        service.clock.sleep_until(Nanos::from_millis(from)).await;
        // Nobody listening would be a test that tests nothing.
        assert!(service.cut.send(()).expect("streams") > 10);
    }
    service.clock.sleep_until(begin.plus(Duration::from_secs(5))).await;
    workload.stop_sending().await;
    let drained = workload.drain(Duration::from_secs(10)).await;
    workload.fence().await.expect("fenced");
    workload.read_back().await;
    workload.shut_down().await;
    drained
}

fn ops(recorder: &Recorder, class: Class) -> Vec<Operation> {
    let events = recorder.recorded().events.into_iter();
    let ops = events.filter_map(|event| match event {
        Event::Op(op) if op.class == class => Some(op),
        _ => None,
    });
    ops.collect()
}

fn shown(recorder: &Recorder) -> Vec<Shown> {
    let events = recorder.recorded().events.into_iter();
    let shown = events.filter_map(|event| match event {
        Event::Shown(shown) => Some(shown),
        _ => None,
    });
    shown.collect()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_run_is_recorded_whole() {
    let (mut workload, recorder, service) = stage(Behaviour::default(), load());
    assert!(run(&mut workload, &service).await);
    let sends = ops(&recorder, Class::Send);
    let probes = sends.iter().filter(|op| op.probe).count();
    let loads: Vec<_> = sends.iter().filter(|op| !op.probe).collect();
    assert!((498..=500).contains(&loads.len()), "{}", loads.len());
    assert!((145..=150).contains(&probes), "{probes}");
    assert!(
        sends
            .iter()
            .all(|op| op.outcome == Outcome::Ok && op.last && op.attempt == 1)
    );
    assert!(
        loads
            .windows(2)
            .all(|pair| pair[1].intended.since(pair[0].intended) == Duration::from_millis(10))
    );
    for part in 0..PARTS {
        let needs = format!("shard:{part}");
        assert!(
            sends.iter().any(|op| op.probe && op.needs == needs),
            "no probe of {needs}"
        );
        assert!(loads.iter().any(|op| op.needs == needs), "no load on {needs}");
    }
    // Each message was shown to both devices of its recipient (a prober has one), with the body it was sent with.
    let shown = shown(&recorder);
    for op in &sends {
        let Subject::Item {
            item,
            log,
            author,
            owed,
            client_id,
            hash,
            position,
            repeated,
            group: false,
        } = &op.subject
        else {
            panic!("a send is about an item");
        };
        assert_eq!((*item, *repeated), (op.id, Some(false)));
        assert_eq!(op.id >> 48, 3, "identities carry the system's number");
        assert!(*client_id >= 1);
        let of = shown.iter().filter(|shown| shown.item == Some(*item));
        let mut devices = 0;
        for shown in of {
            devices += 1;
            assert_eq!((&shown.log, shown.hash, shown.author), (log, *hash, *author));
            assert_eq!((Some(shown.position), shown.user), (*position, owed[0]));
        }
        assert_eq!(devices, if op.probe { 1 } else { 2 });
    }
    let progress = workload.progress();
    assert_eq!((progress.owed, progress.sessions_connected), (0, 0));
    assert_eq!(progress.classes[&Class::Send].ok, sends.len() as u64);
    assert_eq!(progress.classes[&Class::Deliver].ok, shown.len() as u64);
    let read: u64 = recorder
        .recorded()
        .events
        .iter()
        .map(|event| match event {
            Event::Read(read) if read.after.is_none() => {
                assert!(read.complete);
                read.items.len() as u64
            }
            _ => 0,
        })
        .sum();
    assert_eq!(read, sends.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn client_ids_count_up_and_identities_repeat_by_seed() {
    let once = async || {
        let (mut workload, recorder, service) = stage(Behaviour::default(), load());
        run(&mut workload, &service).await;
        let mut sends = ops(&recorder, Class::Send);
        sends.sort_by_key(|op| op.id);
        sends
            .iter()
            .map(|op| (op.id, op.session, op.subject.clone()))
            .collect::<Vec<_>>()
    };
    let first = once().await;
    assert_eq!(first, once().await);
    let mut last = BTreeMap::new();
    for (_, session, subject) in &first {
        let Subject::Item { client_id, .. } = subject else {
            panic!("a send")
        };
        let previous = last.insert(session, *client_id).unwrap_or(0);
        assert_eq!(*client_id, previous + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_shows_as_attempts_and_devices_come_back() {
    let behaviour = Behaviour {
        dead: Some((3000, 4000)),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await);
    let sends = ops(&recorder, Class::Send);
    let refused: Vec<_> = sends.iter().filter(|op| op.outcome == Outcome::Failed).collect();
    assert!(refused.len() > 50, "{}", refused.len());
    assert!(refused.iter().all(|op| op.error.as_deref() == Some("NO_QUORUM")));
    let inside = |at: Nanos| at >= Nanos::from_millis(3000) && at <= Nanos::from_millis(4000);
    assert!(refused.iter().all(|op| inside(op.sent)));
    assert!(
        sends.iter().any(|op| op.attempt > 1),
        "retries are recorded as attempts"
    );
    assert!(
        sends.iter().all(|op| !op.probe || op.attempt == 1),
        "a probe is never retried"
    );
    // Every operation has exactly one last attempt, and it is its highest.
    let mut by_id: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for op in &sends {
        by_id.entry(op.id).or_default().push(op);
    }
    for attempts in by_id.values() {
        assert!(attempts.iter().zip(1..).all(|(op, n)| op.attempt == n), "in order");
        assert!(attempts.iter().all(|op| op.intended == attempts[0].intended));
        assert_eq!(attempts.iter().filter(|op| op.last).count(), 1);
        assert!(attempts[attempts.len() - 1].last);
    }
    let events = recorder.recorded().events;
    let count = |wanted: fn(&SessionChange) -> bool| {
        let changes = events
            .iter()
            .filter(|event| matches!(event, Event::Session(s) if wanted(&s.change)));
        changes.count()
    };
    let devices = workload.progress().sessions_total;
    assert_eq!(count(|c| matches!(c, SessionChange::Lost { .. })) as u64, devices);
    assert_eq!(
        count(|c| matches!(c, SessionChange::Connected { .. })) as u64,
        2 * devices
    );
    assert_eq!(count(|c| matches!(c, SessionChange::Fenced)) as u64, devices);
    let syncs = ops(&recorder, Class::Sync);
    assert!(
        syncs
            .iter()
            .filter(|op| op.outcome == Outcome::Failed)
            .all(|op| inside(op.sent))
    );
    assert_eq!(
        syncs.iter().filter(|op| op.outcome == Outcome::Ok).count() as u64,
        2 * devices
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_repeated_on_the_wire_is_recorded_as_such_and_shown_once() {
    let behaviour = Behaviour {
        dead: Some((3000, 3500)),
        repeats: true,
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await);
    let shown = shown(&recorder);
    assert!(shown.iter().filter(|shown| shown.repeated_on_wire).count() > 10);
    let mut seen = BTreeMap::new();
    for shown in &shown {
        let times: &mut u32 = seen.entry((shown.session, shown.sequence)).or_default();
        assert_eq!(shown.repeated_on_wire, *times > 0, "{shown:?}");
        *times += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_swallowed_answer_is_unknown_and_its_retry_is_the_first_answer_again() {
    let behaviour = Behaviour {
        swallow_answer: Some(50),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await);
    let sends = ops(&recorder, Class::Send);
    let unknown: Vec<_> = sends.iter().filter(|op| op.outcome == Outcome::Unknown).collect();
    assert!(unknown.len() >= 10, "{}", unknown.len());
    assert!(
        unknown
            .iter()
            .all(|op| op.done.since(op.sent) == Duration::from_millis(500))
    );
    let retried = sends.iter().filter(|op| {
        matches!(
            op.subject,
            Subject::Item {
                repeated: Some(true),
                ..
            }
        ) && op.outcome == Outcome::Ok
            && op.attempt == 2
    });
    assert!(retried.count() > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_delivered_stays_owed() {
    let behaviour = Behaviour {
        lose_delivery: Some(100),
        ..Behaviour::default()
    };
    let (mut workload, _, service) = stage(behaviour, load());
    assert!(!run(&mut workload, &service).await, "it can't drain");
    let owed = workload.owed();
    assert!((6..=13).contains(&owed), "{owed}");
    assert_eq!(workload.progress().classes[&Class::Deliver].failed, owed);
}

/// What was read while the load ran, and the whole logs at the end.
fn reads(recorder: &Recorder) -> (Vec<ReadBack>, Vec<ReadBack>) {
    let events = recorder.recorded().events.into_iter();
    let reads = events.filter_map(|event| match event {
        Event::Read(read) => Some(read),
        _ => None,
    });
    reads.partition(|read| read.after.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_conversation_of_every_part_is_read_while_the_load_runs() {
    let (mut workload, recorder, service) = stage(Behaviour::default(), load());
    assert!(run(&mut workload, &service).await);
    let (mid_run, whole) = reads(&recorder);
    let ops = ops(&recorder, Class::Read);
    assert_eq!(ops.len(), mid_run.len());
    assert!(ops.iter().all(|op| op.probe && op.last && op.outcome == Outcome::Ok));
    let mut by_log: BTreeMap<&str, Vec<&ReadBack>> = BTreeMap::new();
    for read in &mid_run {
        by_log.entry(&read.log).or_default().push(read);
    }
    assert_eq!(by_log.len() as u64, PARTS);
    for (log, reads) in by_log {
        assert!((9..=10).contains(&reads.len()), "twice a second: {}", reads.len());
        assert!(reads.iter().all(|read| read.complete));
        // Each goes on where the one before it ended, and together they hold the log but for its last half second.
        let found: Vec<_> = reads.iter().flat_map(|read| &read.items).collect();
        let whole = whole.iter().find(|read| read.log == log).expect("read back as well");
        assert!(found.iter().zip(&whole.items).all(|(found, stored)| *found == stored));
        let left = whole.items.len() - found.len();
        assert!(
            found.len() >= 40 && left <= 6,
            "{} of {}",
            found.len(),
            whole.items.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_refused_is_no_read_and_is_not_tried_again() {
    let behaviour = Behaviour {
        dead: Some((3000, 4000)),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await);
    let ops = ops(&recorder, Class::Read);
    let failed: Vec<_> = ops.iter().filter(|op| op.outcome == Outcome::Failed).collect();
    assert_eq!(failed.len() as u64, 2 * PARTS, "a second of reads");
    assert!(ops.iter().all(|op| op.attempt == 1 && op.last));
    let (mid_run, _) = reads(&recorder);
    assert_eq!(mid_run.len(), ops.len() - failed.len());
}

fn losses(recorder: &Recorder) -> Vec<String> {
    let events = recorder.recorded().events.into_iter();
    let losses = events.filter_map(|event| match event {
        Event::Session(session) => match session.change {
            SessionChange::Lost { reason } => Some(reason),
            _ => None,
        },
        _ => None,
    });
    losses.collect()
}

#[tokio::test(start_paused = true)]
async fn a_device_gives_a_stream_up_that_skips_and_then_gets_what_was_missing() {
    let behaviour = Behaviour {
        skip_sequence: Some(5),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await, "what was skipped comes after all");
    assert_eq!(losses(&recorder), [crate::history::LOST_TO_A_GAP]);
    let (mut workload, recorder, service) = stage(Behaviour::default(), load());
    assert!(run(&mut workload, &service).await);
    assert!(losses(&recorder).is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_number_is_signed_up_again_after_the_load() {
    for forget_accounts in [None, Some(6000)] {
        let behaviour = Behaviour {
            forget_accounts,
            ..Behaviour::default()
        };
        let (mut workload, recorder, service) = stage(behaviour, load());
        assert!(run(&mut workload, &service).await);
        let mut accounts: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
        for op in ops(&recorder, Class::SignUp) {
            assert_eq!((op.outcome, op.last), (Outcome::Ok, true));
            let Subject::Account { phone, user, .. } = op.subject else {
                panic!("a sign-up is about an account");
            };
            accounts.entry(phone).or_default().push(user);
        }
        assert!(accounts.len() > 20, "users and probers: {}", accounts.len());
        for (phone, users) in accounts {
            assert_eq!(users.len(), 2, "{phone}");
            assert_eq!(users[0] == users[1], forget_accounts.is_none(), "{phone}: {users:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_are_asked_until_they_are_at_one_index_but_not_for_ever() {
    for (behind_ms, second) in [(7000, 100), (3_600_000, 90)] {
        let behaviour = Behaviour {
            replica_behind_ms: Some(behind_ms),
            ..Behaviour::default()
        };
        let (mut workload, recorder, service) = stage(behaviour, load());
        let began = service.clock.now();
        assert!(run(&mut workload, &service).await);
        assert!(service.clock.now().since(began) < Duration::from_secs(30), "bounded");
        let events = recorder.recorded().events.into_iter();
        let told: Vec<_> = events
            .filter_map(|event| match event {
                Event::Observed(observed) => Some((observed.node, observed.status?.groups[0].applied)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [("n1".to_owned(), 100), ("n2".to_owned(), second)]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_load_never_waits_for_answers_and_sheds_beyond_its_room() {
    let behaviour = Behaviour {
        slow_ms: 400,
        ..Behaviour::default()
    };
    let mut spec = load();
    let (mut workload, recorder, service) = stage(behaviour, spec.clone());
    run(&mut workload, &service).await;
    let sends = ops(&recorder, Class::Send);
    assert!(
        sends
            .iter()
            .all(|op| op.sent.since(op.intended) < Duration::from_millis(2)),
        "open loop"
    );
    assert!(sends.iter().filter(|op| !op.probe).count() >= 498);

    spec.in_flight_max = 20;
    let (mut workload, recorder, service) = stage(behaviour, spec);
    run(&mut workload, &service).await;
    let sends = ops(&recorder, Class::Send);
    let shed: Vec<_> = sends.iter().filter(|op| op.outcome == Outcome::Shed).collect();
    assert!(shed.len() > 100, "{}", shed.len());
    assert!(shed.iter().all(|op| op.last && op.sent == op.done && !op.probe));
    assert!(
        sends.iter().filter(|op| op.probe).all(|op| op.outcome == Outcome::Ok),
        "a probe is never held back"
    );
}

#[tokio::test(start_paused = true)]
async fn log_ins_stay_below_the_services_limit() {
    let behaviour = Behaviour {
        log_ins_per_s: Some(20.0),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    assert!(run(&mut workload, &service).await);
    let log_ins = ops(&recorder, Class::LogIn);
    assert!(log_ins.iter().all(|op| op.outcome == Outcome::Ok), "none was refused");
    let took = log_ins[log_ins.len() - 1].done.since(log_ins[0].sent);
    assert!(took > Duration::from_millis(2300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_at_the_end_is_unknown() {
    let behaviour = Behaviour {
        swallow_answer: Some(1),
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, load());
    workload.prepare().await.expect("prepared");
    workload.start().await.expect("started");
    service.clock.sleep(Duration::from_millis(300)).await;
    // Cut short, as by an interrupt: nothing is awaited.
    workload.shut_down().await;
    let sends = ops(&recorder, Class::Send);
    assert!(sends.len() >= 25, "{}", sends.len());
    assert!(
        sends
            .iter()
            .all(|op| op.outcome == Outcome::Unknown && op.last && op.error.as_deref() == Some("given up"))
    );
}

#[tokio::test]
async fn loads_that_can_not_be_sent_are_refused() {
    for (change, says) in [
        ((|load: &mut LoadSpec| load.users = 1) as fn(&mut LoadSpec), "2 users"),
        (|load| load.devices = 11, "1 to 10 devices"),
        (|load| load.class = Class::Put, "not of `put`"),
        (|load| load.op_timeout_ms = 0, "at least 1"),
    ] {
        let mut spec = load();
        change(&mut spec);
        let reader: Arc<dyn ChatClient> = Arc::new(Client(Arc::new(Service {
            clock: RunClock::start(),
            state: Mutex::default(),
            cut: broadcast::Sender::new(1),
            behaviour: Behaviour::default(),
        })));
        let setting = ChatSetting {
            system: "main".to_owned(),
            number: 0,
            loads: vec![spec],
            groups: vec![ClientGroup {
                labels: BTreeMap::new(),
                client: Arc::clone(&reader),
            }],
            reader,
            login_per_s: None,
            recorder: Recorder::in_memory(Header {
                format: FORMAT.to_owned(),
                plan: serde_json::Value::Null,
                started: String::new(),
                versions: BTreeMap::new(),
            }),
            clock: RunClock::start(),
            streams: Streams::new(1),
        };
        let refused = ChatWorkload::new(setting).err().expect("refused").0;
        assert!(refused.contains(says), "{refused}");
    }
}
