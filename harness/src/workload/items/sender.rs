//! What is sent at an instant of a schedule: an item under the next key, or a request.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::Shared;
use crate::{
    base::Nanos,
    history::{Class, Subject},
    workload::{
        Agenda, Budget, LoadSpec, Schedule, ScheduleSpec, WorkloadError,
        client::{OpClient, Put},
        engine::{Intent, Policy},
        payload,
        release::{Executor, Release},
    },
};

/// The schedules start this long after they are made, so that the first instant is not missed.
const START_AFTER: Duration = Duration::from_millis(20);
/// Keys tried to find one that a part holds.
const PROBE_KEYS_MAX: u32 = 4096;

/// For each part: its name, and a log that it holds. A system that names no parts has one probe of the whole.
pub(super) fn probes(loads: &[LoadSpec], client: &dyn OpClient) -> Result<Vec<(String, String)>, WorkloadError> {
    if probing(loads).is_none() {
        return Ok(Vec::new());
    }
    let parts = client.parts();
    if parts.is_empty() {
        return Ok(vec![(String::new(), "l:probe".to_owned())]);
    }
    let find = |part: String| {
        let mut keys = (0..PROBE_KEYS_MAX).map(|number| format!("l:probe-{number}"));
        let log = keys.find(|log| client.needs(log) == part).ok_or_else(|| {
            WorkloadError(format!(
                "none of {PROBE_KEYS_MAX} keys is held by {part}: its probe has nothing to put"
            ))
        })?;
        Ok((part, log))
    };
    parts.into_iter().map(find).collect()
}

fn probing(loads: &[LoadSpec]) -> Option<(usize, f64)> {
    loads
        .iter()
        .enumerate()
        .find_map(|(number, load)| Some((number, load.probe?.per_s)))
}

/// Every log that the load puts something into.
pub(super) fn logs(shared: &Shared) -> Vec<String> {
    let mut logs = BTreeSet::new();
    for (number, load) in shared.loads.iter().enumerate() {
        if load.class == Class::Put {
            logs.extend((0..load.users).map(|key| log(number, key)));
        }
    }
    if probing(&shared.loads).is_some_and(|(load, _)| shared.loads[load].class == Class::Put) {
        logs.extend(shared.probes.iter().map(|(_, log)| log.clone()));
    }
    logs.into_iter().collect()
}

/// The `key`th log of load `number`: a list, since each item is put once and stays. Under a `k:` a later one would replace it.
fn log(number: usize, key: u32) -> String {
    format!("l:{number}-{key}")
}

/// Begins to send. Schedule number n is load n; those behind are probes.
pub(super) fn start(shared: &Arc<Shared>, executor: &Executor) -> Result<Release, WorkloadError> {
    let engine = &shared.engine;
    let begin = engine.clock.now().plus(START_AFTER);
    let mut agenda = Agenda::default();
    let mut senders = Vec::new();
    let policies: Vec<Policy> = shared.loads.iter().map(|load| policy(load, begin)).collect();
    for (number, load) in shared.loads.iter().enumerate() {
        let name = format!("load {number}");
        let schedule = Schedule::new(&load.schedule, begin, &engine.streams, &name);
        agenda.add_paced(schedule.map_err(|e| WorkloadError(format!("{name}: {e}")))?);
        senders.push(Sender {
            load: number,
            turn: 0,
            before: sessions(&shared.loads[..number]),
            probe: None,
            policy: policies[number].clone(),
        });
    }
    if let Some((load, per_s)) = probing(&shared.loads) {
        let clients = sessions(&shared.loads);
        let gap = Duration::from_secs_f64(1.0 / per_s.clamp(1e-3, 1e6));
        let parts = u32::try_from(shared.probes.len()).unwrap_or(u32::MAX).max(1);
        for (turn, (part, log)) in (0u32..).zip(&shared.probes) {
            let spec = ScheduleSpec::Constant { per_s };
            add(
                &mut agenda,
                engine.streams,
                &spec,
                begin.plus(gap * turn / parts),
                &format!("probe {part}"),
            )?;
            senders.push(Sender {
                load,
                turn: 0,
                before: 0,
                probe: Some((clients + u64::from(turn) + 1, part.clone(), log.clone())),
                policy: Policy {
                    budget: None,
                    ..policies[load].clone()
                },
            });
        }
    }
    let (shared, handle) = (Arc::clone(shared), executor.handle().clone());
    let submit = move |at, number: usize| {
        let sender: &mut Sender = &mut senders[number];
        let (intent, put) = sender.next(&shared, at);
        let max = match sender.probe {
            Some(_) => u64::MAX,
            None => u64::from(shared.loads[sender.load].in_flight_max),
        };
        let Some(entered) = shared.engine.enter(max) else {
            shared.engine.shed(&intent);
            return;
        };
        let (shared, policy) = (Arc::clone(&shared), sender.policy.clone());
        handle.spawn(async move {
            perform(&shared, &intent, put.as_ref(), &policy).await;
            drop(entered);
        });
    };
    Release::start(executor, engine.clock, agenda, Arc::clone(&engine.lever), submit)
}

fn add(
    agenda: &mut Agenda,
    streams: crate::base::Streams,
    spec: &ScheduleSpec,
    begin: Nanos,
    name: &str,
) -> Result<(), WorkloadError> {
    let schedule = Schedule::new(spec, begin, &streams, name);
    agenda.add(schedule.map_err(|e| WorkloadError(format!("{name}: {e}")))?);
    Ok(())
}

fn policy(load: &LoadSpec, now: Nanos) -> Policy {
    Policy {
        retry: load.retry,
        within: Duration::from_millis(load.op_timeout_ms),
        budget: Some(Arc::new(Mutex::new(Budget::new(load.retry, now)))),
    }
}

/// The sessions of these loads together. Requests are spread over as many as their load says; puts have none of their
/// own, and those of all loads are numbered through from 1.
fn sessions(loads: &[LoadSpec]) -> u64 {
    loads.iter().map(sessions_of).sum()
}

fn sessions_of(load: &LoadSpec) -> u64 {
    match load.class {
        Class::Request => u64::from(load.users.max(1)),
        _ => 0,
    }
}

/// Draws one operation after another for one schedule.
struct Sender {
    load: usize,
    turn: u64,
    /// The sessions of the loads before this one.
    before: u64,
    /// The probe's session, part and log.
    probe: Option<(u64, String, String)>,
    policy: Policy,
}

impl Sender {
    fn next(&mut self, shared: &Shared, intended: Nanos) -> (Intent, Option<Put>) {
        let load = &shared.loads[self.load];
        let turn = self.turn;
        self.turn += 1;
        let id = shared.engine.next_id();
        let key = turn % u64::from(load.users.max(1));
        let (session, log) = match &self.probe {
            Some((number, _, log)) => (*number, log.clone()),
            None => {
                let session = match sessions_of(load) {
                    0 => 0,
                    sessions => self.before + turn % sessions + 1,
                };
                (session, log(self.load, u32::try_from(key).unwrap_or(0)))
            }
        };
        let mut intent = Intent {
            id,
            session,
            class: load.class,
            needs: match &self.probe {
                Some((_, part, _)) => part.clone(),
                None => shared.client.needs(&log),
            },
            groups: shared.labels.clone(),
            probe: self.probe.is_some(),
            intended,
            subject: Subject::Nothing,
        };
        if load.class != Class::Put {
            return (intent, None);
        }
        let body = payload::encode(id, usize::try_from(load.size_bytes).unwrap_or(usize::MAX));
        intent.subject = Subject::Item {
            group: false,
            item: id,
            log: log.clone(),
            author: 0,
            owed: shared.client.shown_to(),
            client_id: turn + 1,
            hash: payload::hash(&body),
            position: None,
            repeated: None,
        };
        (intent, Some(Put { item: id, log, body }))
    }
}

async fn perform(shared: &Shared, intent: &Intent, put: Option<&Put>, policy: &Policy) {
    let (engine, client, within) = (&shared.engine, &shared.client, policy.within);
    // What became of it has been recorded.
    match put {
        Some(put) => drop(engine.perform(intent, policy, || client.put(put, within)).await),
        None => drop(engine.perform(intent, policy, || client.request(within)).await),
    }
}
