//! What is expected: the steady state, budgets and promises.

use super::findings::Findings;
use super::loads::classes;
use crate::base::expr::{EVERY_FAULT, SELECTORS, Scope};
use crate::base::{Exit, Expr, did_you_mean};
use crate::check;
use crate::scenario::model::{Promises, Scenario};
use crate::scenario::system::{ClientKind, SystemEntry, SystemKind};

pub(super) fn steady(scenario: &Scenario, found: &mut Findings<'_>) {
    let steady = &scenario.steady_state;
    found.check(
        !steady.lasts.get().is_zero() && steady.lasts <= steady.within,
        "steady_state.for",
        || {
            format!(
                "`for: {}` does not fit; write more than 0s and at most `within`, which is {}",
                steady.lasts, steady.within
            )
        },
    );
    for (i, expr) in steady.require.iter().enumerate() {
        let path = format!("steady_state.require[{i}]");
        expression(scenario, expr, Scope::Service, &path, found);
        // What a workload can say while it runs: these, of all clients of a system together.
        if !matches!(expr.figure.name, "success" | "p50" | "p99") {
            found.add(
                &path,
                format!(
                    "`{}` is only known after the run; use success, p50 or p99 here",
                    expr.figure.name
                ),
            );
        }
        if let Some(key) = expr.select.keys().find(|key| *key != "system") {
            found.add(
                &path,
                format!("`{key}` can't be selected while the run goes on; leave it out here"),
            );
        }
    }
    let settle = &scenario.settle;
    found.check(
        !settle.hold.get().is_zero() && settle.hold <= settle.within,
        "settle.hold",
        || {
            format!(
                "`hold: {}` does not fit; write more than 0s and at most `within`, which is {}",
                settle.hold, settle.within
            )
        },
    );
}

pub(super) fn expectations(scenario: &Scenario, found: &mut Findings<'_>) {
    for (i, expr) in scenario.expect.recovery.iter().enumerate() {
        expression(scenario, expr, Scope::Recovery, &format!("expect.recovery[{i}]"), found);
    }
    for (i, expr) in scenario.expect.slo.iter().enumerate() {
        expression(scenario, expr, Scope::Service, &format!("expect.slo[{i}]"), found);
    }
    if let Promises::These(names) = &scenario.expect.promises {
        found.check(!names.is_empty(), "expect.promises", || {
            "no promise is listed; write `all`, or the promises to judge".to_owned()
        });
    }
    let listed = match &scenario.expect.promises {
        Promises::All => &[][..],
        Promises::These(names) => names,
    };
    for (key, names) in [("promises", listed), ("breaks", &scenario.expect.breaks)] {
        for (i, name) in names
            .iter()
            .enumerate()
            .filter(|(_, name)| check::promise_named(name).is_none())
        {
            let known = check::ALL.iter().map(|promise| promise.name());
            found.add(
                &format!("expect.{key}[{i}]"),
                format!("there is no promise `{name}`; {}", did_you_mean(name, known)),
            );
        }
    }
    if let Some(code) = scenario.expect.exit {
        found.check(Exit::from_code(code).is_some(), "expect.exit", || {
            format!("`{code}` is not an exit code; see `firedrill explain exit-codes`")
        });
    }
}

fn expression(scenario: &Scenario, expr: &Expr, scope: Scope, path: &str, found: &mut Findings<'_>) {
    if expr.figure.scope != scope {
        let place = match expr.figure.scope {
            Scope::Recovery => "expect.recovery",
            Scope::Service => "steady_state.require or expect.slo",
        };
        found.add(
            path,
            format!("`{}` does not belong here; put it under {place}", expr.figure.name),
        );
    }
    let classes = classes(scenario);
    if !classes.is_empty() && !classes.contains(expr.class.as_str()) {
        let known: Vec<&str> = classes.into_iter().collect();
        found.add(
            path,
            format!("no load brings about `{}`; there are {}", expr.class, known.join(", ")),
        );
    }
    found.check(expr.figure.name != "drained" || expr.class == "deliver", path, || {
        format!(
            "`{}.drained` is never measured; only deliveries drain: write `deliver.drained`",
            expr.class
        )
    });
    let systems = scenario.systems();
    told_by_systems(&systems, expr, path, found);
    for key in SELECTORS {
        let Some(value) = expr.select.get(*key) else { continue };
        let known: Vec<String> = match *key {
            "system" => systems.iter().map(|(name, _)| (*name).to_owned()).collect(),
            "zone" => systems
                .iter()
                .flat_map(|(_, system)| system.zones.iter().flatten().map(ToString::to_string))
                .collect(),
            "fault" => ["run", EVERY_FAULT]
                .map(str::to_owned)
                .into_iter()
                .chain(scenario.fault_ids())
                .collect(),
            _ => continue,
        };
        // A burst of a flap is written with its number behind the flap's id.
        let known_or_burst = known.iter().any(|name| {
            name == value
                || (*key == "fault"
                    && value
                        .rsplit_once('.')
                        .is_some_and(|(flap, burst)| flap == name && burst.parse::<u32>().is_ok()))
        });
        if !known_or_burst {
            found.add(
                path,
                format!(
                    "there is no {key} `{value}`; {}",
                    did_you_mean(value, known.iter().map(String::as_str))
                ),
            );
        }
    }
}

/// Figures that rest on what a system says of itself need one that says it.
fn told_by_systems(systems: &[(&str, &SystemEntry)], expr: &Expr, path: &str, found: &mut Findings<'_>) {
    let says = |entry: &SystemEntry| match expr.figure.name {
        "detect" | "failover" | "redundant" => {
            entry.kind != SystemKind::Command || entry.client == Some(ClientKind::Etcd)
        }
        "sessions_back" => entry.kind != SystemKind::Command,
        _ => true,
    };
    let mut asked = systems
        .iter()
        .filter(|(name, _)| expr.system().is_none_or(|wanted| wanted == *name))
        .peekable();
    found.check(asked.peek().is_none() || asked.any(|(_, entry)| says(entry)), path, || {
        format!(
            "`{}` is never measured here: the system says nothing of it; write `first_ok`, `steady` or `worst_gap`, \
             which its clients see",
            expr.figure.name
        )
    });
}
