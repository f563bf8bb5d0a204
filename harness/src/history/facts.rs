//! What a judge needs to know of the plan, read from the header's JSON.
//!
//! Judging stands below the plan, so it doesn't know the plan's types. What is missing or odd here falls back to a
//! stated default: a history written by a later version must still be readable.

use std::time::Duration;

use serde_json::Value;

use super::Class;

/// The stretch that has to be inside the band before a system counts as recovered, unless the scenario says otherwise.
pub const HOLD: Duration = Duration::from_secs(2);
/// The generator's lag (sent less intended) at p99 beyond which a run proves nothing, unless the scenario says otherwise.
pub const LAG_P99_MS_MAX: f64 = 25.0;
/// The share of operations that the generator may fail to send before a run proves nothing.
pub const SHED_RATIO_MAX: f64 = 0.01;
/// Fewer operations than this in a phase prove nothing about it.
pub const PHASE_OPERATIONS_MIN: u64 = 20;

/// The plan, as far as judging needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// The backend.
    pub backend: String,
    /// The systems: name and kind.
    pub systems: Vec<(String, String)>,
    /// What is offered: one for each load.
    pub loads: Vec<LoadFacts>,
    /// The stretch that has to be inside the band, see [`HOLD`].
    pub hold: Duration,
    /// The thresholds of the steady state, as written (`send.success >= 99.9%`).
    pub steady_require: Vec<String>,
    /// Recovery budgets, as written.
    pub recovery_budgets: Vec<String>,
    /// Service-level budgets, as written.
    pub slo_budgets: Vec<String>,
    /// The promises that were asked for by name; none when all of them were.
    pub promises: Option<Vec<String>>,
    /// The limit on the generator's lag at p99, ms.
    pub lag_p99_ms_max: f64,
    /// The limit on the share of operations shed, 0 to 1.
    pub shed_ratio_max: f64,
    /// The least number of operations of a load in a phase.
    pub phase_operations_min: u64,
    /// How often each node is asked for its status, where the plan says so.
    pub observe_every: Option<Duration>,
    /// Where the numbers come from, as rows of text cells: for the report only.
    pub provenance: Vec<Vec<(String, String)>>,
    /// The ratios that were kept or waived: for the report only.
    pub ratios: Vec<Vec<(String, String)>>,
    /// The identifiers of the planned steps, in order.
    pub steps: Vec<String>,
}

impl Class {
    /// Its word in scenarios, budgets and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::LogIn => "log_in",
            Self::Send => "send",
            Self::Deliver => "deliver",
            Self::Sync => "sync",
            Self::Read => "read",
            Self::Group => "group",
            Self::Contacts => "contacts",
            Self::Open => "open",
            Self::Receipt => "receipt",
            Self::Presence => "presence",
            Self::Put => "put",
            Self::Request => "request",
        }
    }
}

/// One load of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadFacts {
    /// The system it goes to; empty where there is only one.
    pub system: String,
    /// The class, in snake case.
    pub class: String,
}

impl RunFacts {
    /// Reads what is needed from the plan's JSON. Never fails: what is missing takes its default.
    #[must_use]
    pub fn from_plan(plan: &Value) -> Self {
        let limits = &plan["limits"];
        Self {
            scenario: text(&plan["scenario"], "unnamed"),
            about: text(&plan["about"], ""),
            seed: plan["seed"].as_u64().unwrap_or(0),
            backend: text(&plan["backend"], "unknown"),
            systems: list(&plan["systems"])
                .iter()
                .map(|system| (text(&system["name"], "main"), kind_of(system)))
                .collect(),
            loads: list(&plan["loads"])
                .iter()
                .map(|load| LoadFacts {
                    system: text(&load["system"], ""),
                    class: text(&load["class"], ""),
                })
                .collect(),
            hold: plan["settle"]["hold_ms"]
                .as_u64()
                .filter(|ms| *ms > 0)
                .map_or(HOLD, Duration::from_millis),
            steady_require: expressions(&plan["steady"]["require"]),
            recovery_budgets: expressions(&plan["expect"]["recovery"]),
            slo_budgets: expressions(&plan["expect"]["slo"]),
            promises: plan["expect"]["promises"].as_array().map(|names| {
                names
                    .iter()
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect()
            }),
            lag_p99_ms_max: limits["lag_p99_ms"].as_f64().unwrap_or(LAG_P99_MS_MAX),
            shed_ratio_max: limits["shed_ratio"].as_f64().unwrap_or(SHED_RATIO_MAX),
            phase_operations_min: limits["phase_operations"].as_u64().unwrap_or(PHASE_OPERATIONS_MIN),
            observe_every: plan["observe_ms"].as_u64().map(Duration::from_millis),
            provenance: rows(&plan["provenance"]),
            ratios: rows(&plan["ratios"]),
            steps: list(&plan["steps"]).iter().map(|step| text(&step["id"], "?")).collect(),
        }
    }
}

fn text(value: &Value, otherwise: &str) -> String {
    value.as_str().unwrap_or(otherwise).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The kind of a system: a plain string, a tag inside, or the one key of an object.
fn kind_of(system: &Value) -> String {
    let kind = &system["kind"];
    if let Some(name) = kind.as_str() {
        return name.to_owned();
    }
    if let Some(name) = kind["kind"].as_str() {
        return name.to_owned();
    }
    kind.as_object()
        .and_then(|object| object.keys().next())
        .map_or_else(|| "unknown".to_owned(), Clone::clone)
}

/// Expressions are strings, or objects that carry their text.
fn expressions(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(|entry| {
            entry
                .as_str()
                .or_else(|| entry["expr"].as_str())
                .or_else(|| entry["text"].as_str())
                .map(str::to_owned)
        })
        .collect()
}

/// A list of objects (or an object of objects) as rows of name and text.
fn rows(value: &Value) -> Vec<Vec<(String, String)>> {
    let cells = |entry: &Value| -> Vec<(String, String)> {
        match entry {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
            other => vec![("value".to_owned(), plain(other))],
        }
    };
    match value {
        Value::Array(entries) => entries.iter().map(cells).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, entry)| {
                let mut row = vec![("name".to_owned(), name.clone())];
                row.extend(cells(entry));
                row
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_is_called_what_the_history_calls_it() {
        for class in [
            Class::SignUp,
            Class::LogIn,
            Class::Send,
            Class::Deliver,
            Class::Sync,
            Class::Group,
            Class::Contacts,
            Class::Open,
            Class::Receipt,
            Class::Presence,
            Class::Put,
        ] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
    }

    #[test]
    fn an_empty_plan_takes_every_default() {
        let facts = RunFacts::from_plan(&Value::Null);
        assert_eq!(facts.scenario, "unnamed");
        assert_eq!(facts.hold, HOLD);
        assert!(facts.promises.is_none());
        assert!((facts.lag_p99_ms_max - LAG_P99_MS_MAX).abs() < f64::EPSILON);
    }

    #[test]
    fn what_the_plan_says_is_taken() {
        let facts = RunFacts::from_plan(&json!({
            "scenario": "x", "seed": 7, "backend": "process",
            "systems": [{"name": "w", "kind": {"messaging": {"nodes": 3}}}, {"name": "t", "kind": "command"}],
            "loads": [{"system": "w", "class": "send"}],
            "settle": {"hold_ms": 500},
            "steady": {"require": ["send.success >= 99.9%", {"expr": "send.p99 < 50ms"}]},
            "expect": {"recovery": ["send.steady < 2s"], "promises": ["lost-acked"]},
            "limits": {"lag_p99_ms": 9},
            "ratios": {"one": {"kept": true, "why": "so"}},
            "provenance": [{"what": "k", "value": 210}],
            "steps": [{"id": "1-kill"}],
        }));
        assert_eq!(
            facts.systems,
            [("w".into(), "messaging".into()), ("t".into(), "command".into())]
        );
        assert_eq!(facts.hold, Duration::from_millis(500));
        assert_eq!(facts.steady_require.len(), 2);
        assert_eq!(facts.promises, Some(vec!["lost-acked".to_owned()]));
        assert_eq!(facts.ratios[0][0], ("name".to_owned(), "one".to_owned()));
        assert_eq!(facts.provenance[0].len(), 2);
        assert_eq!(facts.steps, ["1-kill"]);
    }
}
