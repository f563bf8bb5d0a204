//! Before the load: everybody signs up and logs in, paced below the service's own limit, and opens their streams.

use std::{sync::Arc, time::Duration};

use rand::Rng as _;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    Chat, Mode, Plan,
    sender::Probe,
    world::{Held, World, pairs},
};
use crate::{
    base::Nanos,
    history::{Class, Subject},
    workload::{
        LoadSpec, RetrySpec, ScheduleSpec, WorkloadError,
        client::{Account, CallFailure, Opened},
        engine::{Intent, Policy},
        ledger::Ledger,
        schedule::Schedule,
    },
};

/// Sign-ups under way at one time.
pub(super) const SIGN_UPS_AT_ONCE: usize = 32;
/// Share of the service's log-in limit that is used.
const LOG_IN_SHARE: f64 = 0.85;
/// Log-ins per second where the service has no limit.
const LOG_INS_PER_S: f64 = 500.0;
/// Streams must be open this long after the last log-in.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Probing accounts at most; with this many, each of hundreds of parts holds a conversation of two of them.
const PROBERS_MAX: usize = 64;
const PROBERS_A_ROUND: usize = 4;

/// Patient: the run can't begin before it succeeds. 30 attempts take half a minute at most.
pub(super) fn patient(within: Duration) -> Policy {
    Policy {
        retry: RetrySpec {
            attempts: 30,
            base_ms: 50,
            cap_ms: 2000,
            ..RetrySpec::default()
        },
        within,
        budget: None,
    }
}

pub(super) async fn sign_up_and_log_in(plan: Arc<Plan>) -> Result<Chat, WorkloadError> {
    let mut world = World::default();
    let mut ranges = Vec::new();
    for load in &plan.loads {
        let first = world.people.len();
        for _ in 0..load.users {
            add(&plan, &mut world, load.devices);
        }
        ranges.push((first, load));
    }
    sign_up(&plan, &mut world, 0).await?;
    let mut all_pairs = Vec::new();
    let mut people = Vec::new();
    for (number, (first, load)) in ranges.into_iter().enumerate() {
        let mut rng = plan.engine.streams.stream(&format!("pairs {number}"));
        let count = usize::try_from(load.users).unwrap_or(usize::MAX);
        people.push(first..first + count);
        // Who lives in groups writes to nobody alone.
        let writing = if load.class == Class::Send { count } else { 0 };
        all_pairs.push(pairs(first, writing, &mut rng));
    }
    let probes = probes(&plan, &mut world).await?;
    for (a, b) in all_pairs.iter().flatten().copied() {
        hold(&plan, &mut world, a, b);
    }
    let chat = Chat {
        salt: plan.engine.streams.stream("nonces").next_u64(),
        shelf: super::reading::Shelf::of_loads(&plan.loads),
        plan,
        world,
        ranges: people,
        groups: super::groups::Book::default(),
        newcomers: super::sign_up::Newcomers::default(),
        pairs: all_pairs,
        probes,
        ledger: std::sync::Mutex::new(Ledger::default()),
        mode: tokio::sync::watch::Sender::new(Mode::Listen),
        changed: Notify::new(),
        connected: 0.into(),
        settled: 0.into(),
    };
    let chat = Arc::new(chat);
    log_everybody_in(&chat).await?;
    Arc::into_inner(chat).ok_or_else(|| WorkloadError("a log-in outlived its end".to_owned()))
}

/// Adds a user with a phone number that no other user of the run has.
fn add(plan: &Plan, world: &mut World, devices: u32) -> usize {
    let number = world.people.len();
    let phone = format!("+999{:03}{number:07}", plan.number);
    world.add(phone, number % plan.groups.len(), devices)
}

/// Notes which part holds the conversation of two users.
fn hold(plan: &Plan, world: &mut World, a: usize, b: usize) -> String {
    let client = &plan.groups[0].client;
    let (conversation, part) = client.conversation(world.people[a].user, world.people[b].user);
    let held = Held {
        part: part.clone(),
        reader: a,
    };
    world.conversations.insert(conversation, held);
    part
}

/// Signs everybody up from the `from`th user on.
async fn sign_up(plan: &Arc<Plan>, world: &mut World, from: usize) -> Result<(), WorkloadError> {
    let mut tasks = JoinSet::new();
    let mut waiting = (from..world.people.len()).collect::<Vec<_>>().into_iter();
    loop {
        while tasks.len() < SIGN_UPS_AT_ONCE
            && let Some(person) = waiting.next()
        {
            let (plan, phone) = (Arc::clone(plan), world.people[person].phone.clone());
            let group = world.people[person].group;
            let policy = patient(Duration::from_secs(3));
            tasks.spawn(async move { (person, sign_one_up(&plan, group, phone, &policy).await) });
        }
        let Some(ended) = tasks.join_next().await else {
            return Ok(());
        };
        let (person, account) = ended.map_err(|e| WorkloadError(format!("a sign-up ended early: {e}")))?;
        let phone = &world.people[person].phone;
        let account = account
            .map_err(|e| WorkloadError(format!("{phone} could not sign up: {}: is the service up?", e.reason)))?;
        world.people[person].user = account.user;
    }
}

/// Signs one phone number up. One that has an account keeps it.
pub(super) async fn sign_one_up(
    plan: &Plan,
    group: usize,
    phone: String,
    policy: &Policy,
) -> Result<Account, CallFailure> {
    let engine = &plan.engine;
    let intent = signing_up(plan, group, &phone, 0, engine.clock.now());
    let group = &plan.groups[group];
    let call = || group.client.sign_up(&phone, policy.within);
    engine.perform(&intent, policy, call).await
}

/// That somebody of client group `group` means to sign `phone` up. Session 0 stands for the load's own people.
pub(super) fn signing_up(plan: &Plan, group: usize, phone: &str, session: u64, intended: Nanos) -> Intent {
    let group = &plan.groups[group];
    Intent {
        id: plan.engine.next_id(),
        session,
        class: Class::SignUp,
        needs: group.client.home_of_phone(phone),
        groups: group.labels.clone(),
        probe: false,
        intended,
        subject: Subject::Account {
            phone: phone.to_owned(),
            user: None,
            created: None,
        },
    }
}

/// Finds two accounts for each part of the service, signing more up until each part has its pair.
async fn probes(plan: &Arc<Plan>, world: &mut World) -> Result<Vec<Probe>, WorkloadError> {
    let Some((load, _)) = probing(&plan.loads) else {
        return Ok(Vec::new());
    };
    let parts = plan.groups[0].client.parts();
    let first = world.people.len();
    let mut found: Vec<Probe> = Vec::new();
    while found.len() < parts.len() && world.people.len() - first < PROBERS_MAX {
        let from = world.people.len();
        for _ in 0..PROBERS_A_ROUND {
            add(plan, world, 1);
        }
        sign_up(plan, world, from).await?;
        for b in from..world.people.len() {
            for a in first..b {
                let (_, part) = plan.groups[0]
                    .client
                    .conversation(world.people[a].user, world.people[b].user);
                if parts.contains(&part) && found.iter().all(|probe| probe.part != part) {
                    hold(plan, world, a, b);
                    let pair = (a, b);
                    found.push(Probe { load, pair, part });
                }
            }
        }
    }
    if let Some(part) = parts.iter().find(|part| found.iter().all(|probe| probe.part != **part)) {
        return Err(WorkloadError(format!(
            "no conversation among {PROBERS_MAX} probing accounts is held by {part}: its probe has nothing to send"
        )));
    }
    found.sort_by(|a, b| a.part.cmp(&b.part));
    Ok(found)
}

/// The first load with a probe: one probe a part is enough.
pub(super) fn probing(loads: &[LoadSpec]) -> Option<(usize, f64)> {
    loads
        .iter()
        .enumerate()
        .find_map(|(number, load)| Some((number, load.probe?.per_s)))
}

/// Logs every device in, at a constant rate below the limit.
async fn log_everybody_in(chat: &Arc<Chat>) -> Result<(), WorkloadError> {
    let engine = &chat.plan.engine;
    let per_s = chat
        .plan
        .login_per_s
        .map_or(LOG_INS_PER_S, |limit| limit * LOG_IN_SHARE);
    let spec = ScheduleSpec::Constant { per_s };
    let mut schedule = Schedule::new(&spec, engine.clock.now(), &engine.streams, "log-ins")
        .map_err(|e| WorkloadError(format!("log-ins: {e}")))?;
    let mut tasks = JoinSet::new();
    for slot in 0..chat.world.slots.len() {
        let at = schedule.next_instant();
        engine.clock.sleep_until(at).await;
        let chat = Arc::clone(chat);
        tasks.spawn(async move { (slot, log_in(&chat, slot, at).await) });
    }
    while let Some(ended) = tasks.join_next().await {
        let (slot, opened) = ended.map_err(|e| WorkloadError(format!("a log-in ended early: {e}")))?;
        let phone = &chat.world.people[chat.world.slots[slot].person].phone;
        opened.map_err(|e| WorkloadError(format!("{phone} could not log in: {}: is the service up?", e.reason)))?;
    }
    Ok(())
}

/// Logs one device in, patiently.
pub(super) async fn log_in(chat: &Chat, slot: usize, intended: Nanos) -> Result<Opened, CallFailure> {
    let engine = &chat.plan.engine;
    let device = &chat.world.slots[slot];
    let person = &chat.world.people[device.person];
    let group = &chat.plan.groups[person.group];
    let intent = Intent {
        id: engine.next_id(),
        session: World::session_number(slot),
        class: Class::LogIn,
        needs: group.client.home_of_user(person.user),
        groups: group.labels.clone(),
        probe: false,
        intended,
        subject: Subject::Device {
            user: person.user,
            device: device.device,
            session: None,
        },
    };
    let nonce = device.next_nonce(chat.salt);
    let policy = patient(Duration::from_secs(3));
    let call = || {
        let client = &group.client;
        client.open_session(person.user, device.device, nonce, policy.within)
    };
    let opened = engine.perform(&intent, &policy, call).await?;
    device.set_session(opened.session);
    Ok(opened)
}

/// Waits until every device has its stream and is current.
pub(super) async fn all_connected(chat: Arc<Chat>) -> Result<(), WorkloadError> {
    let total = chat.world.slots.len() as u64;
    let clock = chat.plan.engine.clock;
    let deadline = clock.now().plus(CONNECT_WITHIN);
    loop {
        let changed = chat.changed.notified();
        let connected = chat.connected.load(std::sync::atomic::Ordering::Relaxed);
        if connected == total {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = clock.sleep_until(deadline) => {
                return Err(WorkloadError(format!(
                    "{connected} of {total} devices have their stream {} s after logging in: is the service up?",
                    CONNECT_WITHIN.as_secs()
                )));
            }
        }
    }
}
