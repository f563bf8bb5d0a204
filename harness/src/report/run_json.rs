//! run.json: the run for machines. Its shape is a contract; `run.schema.json` beside this file says it and a test holds
//! the two together.

use serde::Serialize;

use crate::{base::Nanos, recovery::Row};

use super::{budget::BudgetResult, judgement::Judgement, output::Output, repeated::Repeated};

/// The version of the contract.
pub const SCHEMA: &str = "firedrill.run/v1";

/// Writes run.json.
pub(super) struct RunJson;

impl Output for RunJson {
    fn file_name(&self) -> &'static str {
        "run.json"
    }

    fn about(&self) -> &'static str {
        "verdict, faults, recovery figures, promises and budgets, for machines"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let mut text = serde_json::to_vec_pretty(&document(judgement)).map_err(|e| e.to_string())?;
        text.push(b'\n');
        Ok(text)
    }
}

/// The whole document.
#[derive(Debug, Serialize)]
pub struct RunDocument<'a> {
    schema: &'static str,
    scenario: &'a str,
    about: &'a str,
    seed: u64,
    backend: &'a str,
    started: &'a str,
    duration_ms: f64,
    verdict: &'static str,
    exit_code: u8,
    /// Every code that applies, the returned one first.
    exit_codes: Vec<u8>,
    reasons: &'a [String],
    faults: Vec<FaultDocument<'a>>,
    recovery: Vec<&'a Row>,
    /// Distributions over the faults of a kind.
    repeated: &'a [Repeated],
    promises: Vec<PromiseDocument<'a>>,
    budgets: &'a [BudgetResult],
    load: LoadDocument,
    reproduce: String,
    versions: &'a std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct FaultDocument<'a> {
    id: &'a str,
    kind: &'a str,
    system: &'a str,
    targets: &'a [String],
    needs: &'a [String],
    outcome: &'static str,
    /// From when the oldest word is that says whom it hits.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_ms: Option<f64>,
    requested_ms: Option<f64>,
    effective_ms: Option<f64>,
    heal_requested_ms: Option<f64>,
    healed_ms: Option<f64>,
    evidence: &'a str,
    /// For a burst of a flap: the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    burst_of: Option<&'a str>,
    /// For such a whole: how many bursts it has.
    #[serde(skip_serializing_if = "is_zero")]
    bursts: usize,
}

#[derive(Debug, Serialize)]
struct PromiseDocument<'a> {
    name: &'static str,
    verdict: &'static str,
    obligations: u64,
    broken: u64,
    witness: Option<&'a str>,
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct LoadDocument {
    offered: u64,
    ok: u64,
    failed: u64,
    unknown: u64,
    shed: u64,
    lag_p99_ms: f64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes what it may skip by reference"
)]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn ms(at: Option<Nanos>) -> Option<f64> {
    at.map(|at| (at.as_millis_f64() * 1000.0).round() / 1000.0)
}

/// run.json of a judgement.
#[must_use]
pub fn document(judgement: &Judgement) -> RunDocument<'_> {
    let facts = &judgement.history.facts;
    RunDocument {
        schema: SCHEMA,
        scenario: &facts.scenario,
        about: &facts.about,
        seed: facts.seed,
        backend: &facts.backend,
        started: &judgement.history.header.started,
        duration_ms: ms(Some(judgement.history.ended)).unwrap_or_default(),
        verdict: judgement.verdict().as_str(),
        exit_code: judgement.exit().code(),
        exit_codes: judgement.exits.iter().map(|e| e.code()).collect(),
        reasons: &judgement.reasons,
        faults: judgement
            .history
            .faults
            .iter()
            .map(|fault| FaultDocument {
                id: &fault.id,
                kind: &fault.kind,
                system: &fault.system,
                targets: &fault.targets,
                needs: &fault.needs,
                outcome: fault.outcome.as_str(),
                resolved_ms: ms(fault.resolved),
                requested_ms: ms(fault.requested),
                effective_ms: ms(fault.effective),
                heal_requested_ms: ms(fault.heal_requested),
                healed_ms: ms(fault.healed),
                evidence: &fault.evidence,
                burst_of: fault.parent.as_deref(),
                bursts: fault.bursts,
            })
            .collect(),
        recovery: judgement.rows().collect(),
        repeated: &judgement.repeated,
        promises: judgement
            .findings
            .iter()
            .map(|finding| PromiseDocument {
                name: finding.name,
                verdict: finding.verdict.as_str(),
                obligations: finding.obligations,
                broken: finding.broken,
                witness: finding.witness.as_deref(),
                reason: finding.reason.as_deref(),
            })
            .collect(),
        budgets: &judgement.budgets,
        load: LoadDocument {
            offered: judgement.load.offered,
            ok: judgement.load.ok,
            failed: judgement.load.failed,
            unknown: judgement.load.unknown,
            shed: judgement.load.shed,
            lag_p99_ms: judgement.load.lag_p99_ms,
        },
        reproduce: judgement.reproduce(),
        versions: &judgement.history.header.versions,
    }
}

impl RunDocument<'_> {
    /// The load as name and number, for a table.
    pub(super) fn load_cells(&self) -> Vec<(&'static str, String)> {
        let load = &self.load;
        vec![
            ("offered", load.offered.to_string()),
            ("ok", load.ok.to_string()),
            ("failed", load.failed.to_string()),
            ("unknown", load.unknown.to_string()),
            ("shed", load.shed.to_string()),
            ("generator lag p99", format!("{:.2} ms", load.lag_p99_ms)),
        ]
    }
}
