//! The plan for a person: what will happen when, what is expected, and where the numbers come from.

use std::fmt::Write as _;

use super::model::{Plan, Start};
use crate::scenario::{Promises, WhenEvent};
use crate::system::{DiskKind, SystemKind};
use crate::workload::{LifeSpec, ScheduleSpec};

/// The plan as text, one aligned table after another.
#[must_use]
pub fn table(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String never fails.
    let _ = write(plan, &mut out);
    out
}

fn write(plan: &Plan, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "{}  (seed {}, backend {}, {} run(s))",
        plan.scenario, plan.seed, plan.backend, plan.repeat
    )?;
    writeln!(out, "{}\n", plan.about)?;
    let systems: Vec<[String; 2]> = plan
        .systems
        .iter()
        .map(|system| [system.name.clone(), system_text(&system.kind)])
        .collect();
    rows(out, "system", &systems)?;
    let loads: Vec<[String; 2]> = plan
        .loads
        .iter()
        .map(|load| [load.system.clone(), load_text(load)])
        .collect();
    rows(out, "load", &loads)?;
    rows(out, "timeline", &timeline(plan))?;
    rows(out, "expected", &expected(plan))?;
    if let Some(claims) = &plan.claims {
        let now = claims.now.iter().map(|text| ["rehearsed".to_owned(), text.clone()]);
        let later = claims.later.iter().map(|text| ["not yet".to_owned(), text.clone()]);
        rows(out, "claims", &now.chain(later).collect::<Vec<_>>())?;
    }
    let ratios: Vec<[String; 4]> = plan
        .ratios
        .iter()
        .map(|ratio| {
            let status = if ratio.kept { "kept" } else { "waived" };
            [
                ratio.ratio.clone(),
                status.to_owned(),
                ratio.value.clone(),
                ratio.why.clone(),
            ]
        })
        .collect();
    rows(out, "ratios of the real event", &ratios)?;
    let provenance: Vec<[String; 4]> = plan
        .provenance
        .iter()
        .map(|entry| {
            [
                entry.of.clone(),
                entry.is.name().to_owned(),
                entry.row.clone(),
                entry.note.clone(),
            ]
        })
        .collect();
    rows(out, "where the numbers come from", &provenance)
}

/// An aligned table under a title; nothing when there are no rows. The last column is not padded.
fn rows<const N: usize>(out: &mut String, title: &str, rows: &[[String; N]]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    writeln!(out, "{title}")?;
    for row in rows {
        let mut line = String::from(" ");
        for (width, cell) in widths.iter().zip(row) {
            write!(line, " {cell:<width$} ")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}

fn system_text(kind: &SystemKind) -> String {
    match kind {
        SystemKind::Messaging(spec) => {
            let mut text = format!("messaging, {} nodes, {} shards", spec.nodes, spec.shards);
            if !spec.zones.is_empty() {
                text += &format!(", zones {}", spec.zones.join(" "));
            }
            for (from, to) in &spec.latency_ms {
                for (other, ms) in to {
                    text += &format!(", {ms} ms from {from} to {other}");
                }
            }
            if let Some(limit) = spec.login_per_s {
                text += &format!(", at most {limit} log-ins/s");
            }
            if spec.status_page.is_some() {
                text += ", a status page";
            }
            if let Some(verification) = &spec.verification {
                text += &format!(", sign-ups with a code ({} ms on its way)", verification.delay_ms);
            }
            if let Some(gateways) = &spec.gateways {
                text += &format!(
                    ", {} gateways a zone (found for {} ms, missed for {} ms, health rule {}, registry {})",
                    gateways.per_zone,
                    gateways.ttl_ms,
                    gateways.negative_ttl_ms,
                    gateways.health_rule,
                    gateways.registry
                );
            }
            if let Some(plant) = &spec.plant {
                text += &format!(", PLANT {plant}");
            }
            text
        }
        SystemKind::Command(spec) => {
            let disk = match spec.disk {
                None => "",
                Some(DiskKind::Volatile) => ", disks that forget what is not synced",
                Some(DiskKind::Lying) => ", disks that LIE about their fsync",
            };
            let nodes = spec.nodes.len();
            format!("command, {nodes} nodes{disk}, `{}`", spec.command.join(" "))
        }
        SystemKind::Scripted(spec) => format!("scripted, {} outage(s)", spec.outages.len()),
    }
}

fn load_text(load: &crate::workload::LoadSpec) -> String {
    let rate = match &load.schedule {
        ScheduleSpec::Constant { per_s } => format!("{per_s}/s at constant spacing"),
        ScheduleSpec::Poisson { per_s } => format!("{per_s}/s, independent arrivals"),
        ScheduleSpec::Ramp {
            from_per_s,
            to_per_s,
            over_ms,
        } => {
            format!("{from_per_s}/s to {to_per_s}/s over {}", seconds(*over_ms))
        }
        ScheduleSpec::Steps { steps } => format!("{} rates in turn", steps.len()),
    };
    let class = load.class.name();
    let mut text = format!("{class} {rate}, {} bytes", load.size_bytes);
    match class {
        "send" => {
            let sessions = u64::from(load.users) * u64::from(load.devices);
            text += &format!(
                ", {} accounts x {} devices = {sessions} sessions",
                load.users, load.devices
            );
        }
        "group" => {
            let groups = load.group.unwrap_or_default();
            text += &format!(
                ", {} accounts x {} devices in {} groups of {} from the start",
                load.users, load.devices, groups.groups, groups.members
            );
        }
        "sign_up" => {
            if let Some(LifeSpec::SignUp(it)) = load.life {
                text += &format!(
                    ", {} % of numbers that were signed up before, {} % twice at a time",
                    it.again_percent, it.at_once_percent
                );
            }
        }
        "contacts" => {
            if let Some(LifeSpec::Contacts(it)) = load.life {
                text += &format!(
                    ", {} accounts x {} devices with {} numbers each, {} % imports",
                    load.users, load.devices, it.book, it.import_percent
                );
            }
        }
        "open" | "receipt" | "presence" => text += ", by the people of the other loads",
        "put" => text += &format!(", {} keys", load.users),
        _ => text += &format!(", {} sessions", load.users),
    }
    text += &format!(
        ", at most {} attempts of {} each",
        load.retry.attempts,
        seconds(load.op_timeout_ms)
    );
    if let Some(probe) = &load.probe {
        text += &format!(", probe {}/s for each part", probe.per_s);
    }
    text
}

/// One row for each thing that happens: when, what, and how long.
fn timeline(plan: &Plan) -> Vec<[String; 3]> {
    let conditions: Vec<&str> = plan.steady.require.iter().map(|expr| expr.text.as_str()).collect();
    let mut rows = vec![[
        "before 0s".to_owned(),
        "steady".to_owned(),
        format!(
            "{} for {}, awaited at most {}",
            conditions.join(" and "),
            seconds(plan.steady.for_ms),
            seconds(plan.steady.within_ms)
        ),
    ]];
    for step in &plan.steps {
        let when = match step.at {
            Start::At { ms } => seconds(ms),
            Start::When { event, within_ms } => {
                let event = match event {
                    WhenEvent::LeaderElected => "a leader is elected",
                    WhenEvent::Steady => "it is steady",
                };
                format!("when {event}, within {}", seconds(within_ms))
            }
        };
        // A fault writes itself as a map of one entry; its value is shown as compact JSON.
        let value = serde_json::to_value(&step.fault).unwrap_or_default();
        let value = value
            .get(step.fault.kind())
            .map(ToString::to_string)
            .unwrap_or_default();
        let lasts = match (step.heal_after_ms, step.lasts_ms()) {
            (Some(ms), _) => format!(", healed after {}", seconds(ms)),
            (None, 0) if step.fault.info().heals => ", healed at the end of the steps".to_owned(),
            (None, 0) => String::new(),
            (None, ms) => format!(", ends by itself after {}", seconds(ms)),
        };
        let system = if plan.systems.len() > 1 {
            format!(" of {}", step.system)
        } else {
            String::new()
        };
        rows.push([
            when,
            step.id.clone(),
            format!("{}{system}{lasts}", value.replace('"', "")),
        ]);
    }
    let end = seconds(plan.steps_end_ms());
    rows.push([
        end,
        "settle".to_owned(),
        format!(
            "steady for {} again, awaited at most {}",
            seconds(plan.settle.hold_ms),
            seconds(plan.settle.within_ms)
        ),
    ]);
    rows.push([
        "then".to_owned(),
        "drain".to_owned(),
        format!(
            "the load ends; what is owed is awaited at most {}",
            seconds(plan.drain_within_ms)
        ),
    ]);
    rows.push([
        "then".to_owned(),
        "judge".to_owned(),
        "sessions are fenced, everything is read back and judged".to_owned(),
    ]);
    rows
}

fn expected(plan: &Plan) -> Vec<[String; 2]> {
    let recovery = plan
        .expect
        .recovery
        .iter()
        .map(|expr| ["recovery".to_owned(), expr.text.clone()]);
    let slo = plan
        .expect
        .slo
        .iter()
        .map(|expr| ["service level".to_owned(), expr.text.clone()]);
    let promises = match &plan.expect.promises {
        Promises::All => "all".to_owned(),
        Promises::These(names) => names.join(", "),
    };
    let fails = plan.expect.exit.map(|code| {
        let broken = plan.expect.breaks.join(" or ");
        let broken = if broken.is_empty() {
            String::new()
        } else {
            format!(", breaking {broken}")
        };
        ["must fail".to_owned(), format!("exit code {code}{broken}")]
    });
    recovery
        .chain(slo)
        .chain([["promises".to_owned(), promises]])
        .chain(fails)
        .collect()
}

/// Milliseconds as seconds, without superfluous digits.
#[expect(
    clippy::cast_precision_loss,
    reason = "for display: a day in milliseconds is far below 2^52"
)]
fn seconds(ms: u64) -> String {
    format!("{}s", ms as f64 / 1000.0)
}
