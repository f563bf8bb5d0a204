//! From a scenario to a plan.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::error::PlanError;
use super::model::{
    ClaimsPlan, ExpectPlan, LimitsPlan, Plan, ProvenancePlan, RatioPlan, SCHEMA, SettlePlan, Start, SteadyPlan,
    StepPlan,
};
use crate::backend::{self, Capability};
use crate::base::{Expr, did_you_mean};
use crate::history::Class;
use crate::scenario::{
    ClientKind, DiskKind as DiskEntry, EffectEntry, LoadEntry, Loaded, Ratio, Ready, SHARDS, Scenario, Schedule, Step,
    SystemEntry, SystemKind as Kind,
};
use crate::system::{
    CommandSpec, DiskKind, GatewaysSpec, MessagingSpec, ScriptedEffect, ScriptedOutage, ScriptedSpec, StatusPageSpec,
    SystemKind, SystemSpec, VerificationSpec,
};
use crate::workload::{
    ContactsSpec, GroupSpec, LifeSpec, LoadSpec, ProbeSpec, RequestSpec, RetrySpec, ScheduleSpec, SignUpSpec, StepSpec,
};

/// The default of how long one attempt may take.
const TIMEOUT_MS: u64 = 2000;
/// The default of how many operations may be under way at one time.
const IN_FLIGHT_MAX: u32 = 20_000;
/// What may be undelivered in the calmest of times, unless a scenario says.
const BACKLOG_CALM: u64 = 500;
/// The default of how long a healthy answer of a scripted system takes.
const SERVICE_US: u64 = 1000;

/// Plans one run of a scenario. `seed` overrides the scenario's own; `backend` is a name of [`backend::ALL`].
///
/// # Errors
/// When the scenario or the backend makes no sense, or when backend, system or build can't do what it asks for.
pub fn plan(loaded: &Loaded, seed: Option<u64>, backend: &str) -> Result<Plan, PlanError> {
    let scenario = &loaded.scenario;
    let backend = backend::find(backend).ok_or_else(|| {
        let names = backend::ALL.iter().map(|backend| backend.name);
        PlanError::Invalid(format!(
            "there is no backend `{backend}`; {}",
            did_you_mean(backend, names)
        ))
    })?;
    for (name, system) in scenario.systems() {
        buildable(name, system)?;
    }
    let steps: Vec<StepPlan> = scenario
        .fault_ids()
        .into_iter()
        .zip(&scenario.steps)
        .map(|(id, step)| one_step(scenario, backend, id, step))
        .collect::<Result<_, _>>()?;
    Ok(Plan {
        schema: SCHEMA.to_owned(),
        scenario: scenario.name.to_string(),
        path: loaded.path.clone(),
        about: scenario.about.trim().to_owned(),
        seed: seed.or(scenario.seed).unwrap_or(1),
        backend: backend.name.to_owned(),
        systems: scenario
            .systems()
            .into_iter()
            .map(|(name, system)| one_system(name, system))
            .collect(),
        loads: scenario
            .load
            .iter()
            .map(|load| one_load(scenario, load))
            .collect::<Result<_, _>>()?,
        steady: SteadyPlan {
            for_ms: scenario.steady_state.lasts.as_millis(),
            within_ms: scenario.steady_state.within.as_millis(),
            require: steady_conditions(scenario)?,
        },
        steps,
        settle: SettlePlan {
            hold_ms: scenario.settle.hold.as_millis(),
            within_ms: scenario.settle.within.as_millis(),
        },
        drain_within_ms: scenario.drain_within.as_millis(),
        expect: ExpectPlan {
            recovery: scenario.expect.recovery.clone(),
            slo: scenario.expect.slo.clone(),
            promises: scenario.expect.promises.clone(),
            exit: scenario.expect.exit,
            breaks: scenario.expect.breaks.clone(),
        },
        limits: LimitsPlan {
            lag_p99_ms: scenario.limits.lag_p99.as_millis(),
            shed_ratio: scenario.limits.shed_percent / 100.0,
            phase_operations: scenario.limits.min_operations,
        },
        repeat: scenario.repeat,
        claims: scenario.claims.as_ref().map(|claims| ClaimsPlan {
            now: claims.now.clone(),
            later: claims.later.clone(),
        }),
        ratios: ratios(scenario),
        provenance: provenance(scenario),
    })
}

/// What this build can't start.
fn buildable(name: &str, system: &SystemEntry) -> Result<(), PlanError> {
    if system.kind == Kind::Messaging && !cfg!(feature = "messaging") {
        return Err(PlanError::Capability(format!(
            "system `{name}` is of kind messaging, and this build leaves it out; build with `--features messaging`"
        )));
    }
    match &system.plant {
        Some(plant) if !cfg!(feature = "plants") => Err(PlanError::Capability(format!(
            "system `{name}` asks for the plant `{plant}`, and this build has no plants; build with `--features plants`"
        ))),
        _ => Ok(()),
    }
}

/// What a kind of system can do for the faults, beside what the backend can do to its processes.
#[must_use]
pub fn capabilities_of(system: &SystemEntry) -> BTreeSet<Capability> {
    let disk = system.disk.map(|_| Capability::VolatileDisk);
    let list: &[Capability] = match (system.kind, system.client) {
        (Kind::Messaging, _) => &[
            Capability::Observe,
            Capability::LeaderTransfer,
            Capability::Placement,
            Capability::VolatileDisk,
            Capability::Load,
            Capability::Sessions,
        ],
        (Kind::Command, Some(ClientKind::Etcd)) => &[Capability::Observe, Capability::Load],
        (Kind::Command, _) | (Kind::Scripted, _) => &[Capability::Load],
    };
    let verified = system.verification.is_some().then_some(Capability::Verification);
    let found = system.gateways.is_some().then_some(Capability::Discovery);
    list.iter().copied().chain(disk).chain(verified).chain(found).collect()
}

fn one_step(
    scenario: &Scenario,
    backend: &backend::BackendInfo,
    id: String,
    step: &Step,
) -> Result<StepPlan, PlanError> {
    let (name, system) = system_of(scenario, step.system.as_deref())?;
    let mut has = capabilities_of(system);
    // A scripted system has no processes and no links: no backend can do anything to it.
    if system.kind != Kind::Scripted {
        has.extend(backend.capabilities);
    }
    let missing: Vec<&str> = step
        .fault
        .needs()
        .difference(&has)
        .map(|capability| capability.name())
        .collect();
    if !missing.is_empty() {
        return Err(PlanError::Capability(format!(
            "step `{id}` needs {}, which neither the backend `{}` nor a system of kind {} has; `firedrill list backends` says what there is",
            missing.join(" and "),
            backend.name,
            system.kind.name(),
        )));
    }
    let at = match (&step.at, &step.when) {
        (Some(at), _) => Start::At { ms: at.as_millis() },
        (None, Some(when)) => Start::When {
            event: when.event,
            within_ms: when.within.as_millis(),
        },
        (None, None) => return Err(PlanError::Invalid(format!("step `{id}` needs a time; add `at: 5s`"))),
    };
    Ok(StepPlan {
        id,
        at,
        fault: step.fault.clone(),
        heal_after_ms: step.heal_after.map(crate::base::HumanDuration::as_millis),
        system: name.to_owned(),
    })
}

fn system_of<'a>(scenario: &'a Scenario, name: Option<&str>) -> Result<(&'a str, &'a SystemEntry), PlanError> {
    // The rules have seen to it for every scenario that was read from a file.
    scenario
        .system_named(name)
        .ok_or_else(|| PlanError::Invalid(format!("there is no system `{}`", name.unwrap_or("main"))))
}

fn one_system(name: &str, system: &SystemEntry) -> SystemSpec {
    let kind = match system.kind {
        Kind::Messaging => SystemKind::Messaging(messaging(system)),
        Kind::Command => SystemKind::Command(command(system)),
        Kind::Scripted => SystemKind::Scripted(scripted(system)),
    };
    SystemSpec {
        name: name.to_owned(),
        kind,
    }
}

/// For how long clients remember where gateways are, and that there are none, unless a scenario says.
const DISCOVERY_TTL_MS: u64 = 10_000;
const NEGATIVE_TTL_MS: u64 = 5_000;

fn gateways(system: &SystemEntry, per_zone: u32) -> GatewaysSpec {
    let discovery = system.discovery.clone().unwrap_or_default();
    GatewaysSpec {
        per_zone,
        ttl_ms: discovery.ttl.map_or(DISCOVERY_TTL_MS, |ttl| ttl.as_millis()),
        negative_ttl_ms: discovery.negative_ttl.map_or(NEGATIVE_TTL_MS, |ttl| ttl.as_millis()),
        health_rule: discovery.health_rule.unwrap_or_default().as_str().to_owned(),
        registry: system.registry.unwrap_or_default().as_str().to_owned(),
    }
}

fn latencies(system: &SystemEntry) -> BTreeMap<String, BTreeMap<String, u64>> {
    let each = system.latency_between_zones.iter().flatten();
    each.map(|(from, to)| {
        let to = to.iter().map(|(zone, latency)| (zone.clone(), latency.as_millis()));
        (from.clone(), to.collect())
    })
    .collect()
}

fn messaging(system: &SystemEntry) -> MessagingSpec {
    let mut settings = BTreeMap::new();
    if let Some(timeout) = system.election_timeout {
        let min = timeout.as_millis();
        settings.insert(
            "timing".to_owned(),
            json!({ "election_ms_min": min, "election_ms_max": min * 2 }),
        );
    }
    if let Some(capacity) = system.capacity {
        settings.insert("capacity.per_second".to_owned(), whole(capacity.per_s()).into());
    }
    if let Some(ramp) = &system.login_ramp {
        let nodes = u32::try_from(system.nodes.count()).unwrap_or(u32::MAX);
        let from = whole((ramp.from.per_s() / f64::from(nodes.max(1))).ceil());
        let ramp = json!({ "from_per_second": from, "over_ms": ramp.over.as_millis() });
        settings.insert("login_ramp".to_owned(), ramp);
    }
    for protection in system.without.iter().flatten() {
        settings.insert(format!("protections.{}", protection.name()), false.into());
    }
    MessagingSpec {
        nodes: u32::try_from(system.nodes.count()).unwrap_or(u32::MAX),
        zones: system.zones.iter().flatten().map(ToString::to_string).collect(),
        shards: system.shards.unwrap_or(SHARDS),
        login_per_s: system.login_limit.map(|rate| rate.per_s()),
        plant: system.plant.as_ref().map(ToString::to_string),
        gateways: system.gateways.map(|per_zone| gateways(system, per_zone)),
        latency_ms: latencies(system),
        replicas: system.replicas,
        status_page: system.status_page.as_ref().map(|page| StatusPageSpec {
            backlog_calm: page.calm.unwrap_or(BACKLOG_CALM),
        }),
        verification: system.verification.as_ref().map(|it| VerificationSpec {
            delay_ms: it.delay.map_or(0, crate::base::HumanDuration::as_millis),
        }),
        settings,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and the cast saturates"
)]
const fn whole(rate: f64) -> u32 {
    rate as u32
}

fn command(system: &SystemEntry) -> CommandSpec {
    let ready = match &system.ready {
        Some(Ready::Tcp(port)) => format!("tcp:{port}"),
        Some(Ready::Http(path)) => format!("http:{path}"),
        Some(Ready::Grpc(service)) => format!("grpc:{service}"),
        None => String::new(),
    };
    let client = match system.client {
        Some(ClientKind::Tcp) => "tcp",
        Some(ClientKind::Http) => "http",
        Some(ClientKind::GrpcHealth) => "grpc_health",
        Some(ClientKind::Etcd) => "etcd",
        None => "",
    };
    CommandSpec {
        nodes: system
            .roster()
            .nodes
            .into_iter()
            .map(|node| (node.name, node.zone))
            .collect(),
        command: system.command.clone().unwrap_or_default(),
        env: system.env.clone().unwrap_or_default(),
        ports: system.port_names(),
        peers: system.peers.clone().unwrap_or_default(),
        ready,
        disk: system.disk.map(|disk| match disk {
            DiskEntry::Volatile => DiskKind::Volatile,
            DiskEntry::Lying => DiskKind::Lying,
        }),
        client: client.to_owned(),
    }
}

fn scripted(system: &SystemEntry) -> ScriptedSpec {
    let outages = system
        .outages
        .iter()
        .flatten()
        .map(|outage| ScriptedOutage {
            at_ms: outage.at.as_millis(),
            for_ms: outage.lasts.as_millis(),
            effect: match &outage.effect {
                EffectEntry::Dead => ScriptedEffect::Dead {},
                EffectEntry::Silent => ScriptedEffect::Silent {},
                EffectEntry::Errors(share) => ScriptedEffect::Errors { share: *share },
                EffectEntry::Slow(factor) => ScriptedEffect::Slow { factor: *factor },
                EffectEntry::Flapping { on, off } => ScriptedEffect::Flapping {
                    on_ms: on.as_millis(),
                    off_ms: off.as_millis(),
                },
            },
            reaction: None,
        })
        .collect();
    ScriptedSpec {
        service_us: system
            .service_time
            .map_or(SERVICE_US, |time| time.as_millis().saturating_mul(1000)),
        outages,
    }
}

fn one_load(scenario: &Scenario, load: &LoadEntry) -> Result<LoadSpec, PlanError> {
    let (system, _) = system_of(scenario, load.system.as_deref())?;
    let (class, users, devices, size) = if let Some(send) = &load.send {
        (Class::Send, send.users, send.devices, send.size.bytes())
    } else if let Some(group) = &load.group {
        (Class::Group, group.users, group.devices, group.size.bytes())
    } else if load.sign_up.is_some() {
        (Class::SignUp, 0, 1, 0)
    } else if let Some(contacts) = &load.contacts {
        (Class::Contacts, contacts.users, contacts.devices, 0)
    } else if load.open.is_some() {
        (Class::Open, 0, 1, 0)
    } else if load.receipt.is_some() {
        (Class::Receipt, 0, 1, 0)
    } else if load.presence.is_some() {
        (Class::Presence, 0, 1, 0)
    } else if let Some(put) = &load.put {
        (Class::Put, put.keys, 1, put.size.bytes())
    } else if let Some(request) = &load.request {
        (Class::Request, request.sessions, 1, 0)
    } else {
        return Err(PlanError::Invalid(
            "a load needs one of send, group, sign_up, contacts, open, receipt, presence, put, request".to_owned(),
        ));
    };
    Ok(LoadSpec {
        system: system.to_owned(),
        class,
        users,
        devices,
        size_bytes: u32::try_from(size).unwrap_or(u32::MAX),
        schedule: schedule(&load.rate),
        retry: load.retry.as_ref().map_or_else(RetrySpec::default, |retry| RetrySpec {
            attempts: retry.attempts,
            base_ms: retry.base.as_millis(),
            cap_ms: retry.cap.as_millis(),
            budget_percent: retry.budget_percent,
            budget_per_s: retry.budget_per_s,
            back_off: retry.back_off,
            budget: retry.budget,
        }),
        op_timeout_ms: load.timeout.map_or(TIMEOUT_MS, crate::base::HumanDuration::as_millis),
        in_flight_max: load.in_flight_max.unwrap_or(IN_FLIGHT_MAX),
        probe: load.probe.map(|rate| ProbeSpec { per_s: rate.per_s() }),
        request: load.request.as_ref().map(|request| RequestSpec {
            path: request.path.clone().unwrap_or_default(),
            send: request.send.clone().unwrap_or_default(),
            expect: request.expect.clone().unwrap_or_default(),
        }),
        group: load.group.as_ref().map(|group| GroupSpec {
            groups: group.groups,
            members: group.members(),
            changes_percent: group.changes_percent,
        }),
        life: life(load),
    })
}

fn life(load: &LoadEntry) -> Option<LifeSpec> {
    let sign_up = load.sign_up.as_ref().map(|it| {
        LifeSpec::SignUp(SignUpSpec {
            again_percent: it.again_percent,
            at_once_percent: it.at_once_percent,
        })
    });
    sign_up.or_else(|| {
        load.contacts.as_ref().map(|it| {
            LifeSpec::Contacts(ContactsSpec {
                book: it.book,
                import_percent: it.import_percent,
            })
        })
    })
}

fn schedule(schedule: &Schedule) -> ScheduleSpec {
    match schedule {
        Schedule::Constant(rate) => ScheduleSpec::Constant { per_s: rate.per_s() },
        Schedule::Poisson(rate) => ScheduleSpec::Poisson { per_s: rate.per_s() },
        Schedule::Ramp(ramp) => ScheduleSpec::Ramp {
            from_per_s: ramp.from.per_s(),
            to_per_s: ramp.to.per_s(),
            over_ms: ramp.over.as_millis(),
        },
        Schedule::Steps(steps) => ScheduleSpec::Steps {
            steps: steps
                .iter()
                .map(|step| StepSpec {
                    per_s: step.rate.per_s(),
                    for_ms: step.lasts.as_millis(),
                })
                .collect(),
        },
    }
}

/// The conditions as given, or that nearly all of each load succeeds.
fn steady_conditions(scenario: &Scenario) -> Result<Vec<Expr>, PlanError> {
    let given = &scenario.steady_state.require;
    if !given.is_empty() {
        return Ok(given.clone());
    }
    let several = scenario.systems().len() > 1;
    let mut conditions: Vec<Expr> = Vec::new();
    for load in &scenario.load {
        let spec = one_load(scenario, load)?;
        let class = spec.class.name();
        let select = if several {
            format!("[system:{}]", spec.system)
        } else {
            String::new()
        };
        let condition: Expr = format!("{class}{select}.success >= 99%")
            .parse()
            .map_err(|error: crate::base::expr::ExprError| PlanError::Invalid(error.to_string()))?;
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    Ok(conditions)
}

fn ratios(scenario: &Scenario) -> Vec<RatioPlan> {
    let Some(ratios) = &scenario.ratios else {
        return Vec::new();
    };
    ratios
        .all()
        .into_iter()
        .map(|(name, ratio)| match ratio {
            Ratio::Kept { value, why } => RatioPlan {
                ratio: name.to_owned(),
                kept: true,
                value: value.clone(),
                why: why.clone(),
            },
            Ratio::Waived { value, why } => RatioPlan {
                ratio: name.to_owned(),
                kept: false,
                value: value.clone().unwrap_or_default(),
                why: why.clone(),
            },
        })
        .collect()
}

fn provenance(scenario: &Scenario) -> Vec<ProvenancePlan> {
    scenario
        .provenance
        .iter()
        .flat_map(|entry| {
            entry.of.iter().map(|of| ProvenancePlan {
                of: of.clone(),
                is: entry.is,
                row: entry.row.clone().unwrap_or_default(),
                note: entry.note.clone(),
            })
        })
        .collect()
}
