//! report.html: the run as one self-contained page. Everything is inside the file: no network, no fonts, no library.

use minijinja::{AutoEscape, Environment, Value, context, value::Serde};
use serde::Serialize;

use crate::{base::Nanos, check::Verdict, history::Phase, recovery::Row};

use super::{
    judgement::Judgement,
    output::Output,
    run_json,
    series::{Bucket, series},
};

const TEMPLATE: &str = include_str!("report.html.jinja");

/// Writes report.html.
pub(super) struct Html;

impl Output for Html {
    fn file_name(&self) -> &'static str {
        "report.html"
    }

    fn about(&self) -> &'static str {
        "the run as one self-contained page"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment
            .add_template("report", TEMPLATE)
            .map_err(|e| e.to_string())?;
        let facts = &judgement.history.facts;
        let page = environment
            .get_template("report")
            .and_then(|template| {
                template.render(context! {
                    title => facts.scenario.as_str(),
                    about => facts.about.as_str(),
                    verdict => judgement.verdict().as_str(),
                    exit => judgement.exit().code(),
                    exit_about => judgement.exit().about(),
                    reasons => Value::from(Serde(&judgement.reasons)),
                    seed => facts.seed,
                    backend => facts.backend.as_str(),
                    started => judgement.history.header.started.as_str(),
                    versions => Value::from(Serde(&judgement.history.header.versions)),
                    reproduce => judgement.reproduce(),
                    load => Value::from(Serde(run_json::document(judgement).load_cells())),
                    rows => Value::from(Serde(table_rows(judgement))),
                    repeated => Value::from(Serde(distributions(judgement))),
                    promises => Value::from(Serde(promises(judgement))),
                    budgets => Value::from(Serde(budgets(judgement))),
                    faults => Value::from(Serde(faults(judgement))),
                    ratios => Value::from(Serde(tabular(&facts.ratios))),
                    provenance => Value::from(Serde(tabular(&facts.provenance))),
                    data => data(judgement)?,
                })
            })
            .map_err(|e| e.to_string())?;
        Ok(page.into_bytes())
    }
}

#[derive(Serialize)]
struct Cells {
    fault: String,
    system: String,
    class: &'static str,
    group: String,
    main: bool,
    figures: Vec<String>,
    bound: String,
}

fn table_rows(judgement: &Judgement) -> Vec<Cells> {
    judgement
        .rows()
        .map(|row: &Row| Cells {
            fault: row.fault.clone(),
            system: row.system.clone(),
            class: row.class,
            group: row.group.clone(),
            main: row.group == "all" && !row.fault.contains('.'),
            figures: [
                &row.impact_ms,
                &row.detect_ms,
                &row.failover_ms,
                &row.first_ok_ms,
                &row.steady_ms,
                &row.first_ok_after_heal_ms,
                &row.steady_after_heal_ms,
                &row.drained_after_heal_ms,
                &row.sessions_back_after_heal_ms,
                &row.redundant_after_heal_ms,
                &row.worst_gap_ms,
                &row.downtime_ms,
            ]
            .iter()
            .map(|f| f.human())
            .chain([&row.relapses, &row.lost_user_seconds].iter().map(|f| count(f.value())))
            .collect(),
            bound: crate::recovery::Figure::millis(row.bound_ms, 0.0).human(),
        })
        .collect()
}

#[derive(Serialize)]
struct Distribution {
    title: String,
    words: String,
    picture: String,
}

fn distributions(judgement: &Judgement) -> Vec<Distribution> {
    let found = judgement.repeated.iter();
    found
        .map(|one| Distribution {
            title: one.title(),
            words: one.words(),
            picture: one.picture(),
        })
        .collect()
}

fn count(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v}"))
}

#[derive(Serialize)]
struct PromiseCells {
    name: &'static str,
    about: &'static str,
    verdict: &'static str,
    obligations: u64,
    text: String,
}

fn promises(judgement: &Judgement) -> Vec<PromiseCells> {
    let mut cells: Vec<(Verdict, PromiseCells)> = judgement
        .findings
        .iter()
        .map(|finding| {
            let about = crate::check::promise_named(finding.name).map_or("", |p| p.about());
            let text = finding.witness.as_deref().or(finding.reason.as_deref());
            (
                finding.verdict,
                PromiseCells {
                    name: finding.name,
                    about,
                    verdict: finding.verdict.as_str(),
                    obligations: finding.obligations,
                    text: text.unwrap_or_default().to_owned(),
                },
            )
        })
        .collect();
    // What is broken or open comes first.
    cells.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    cells.into_iter().map(|(_, cells)| cells).collect()
}

#[derive(Serialize)]
struct BudgetCells {
    expr: String,
    actual: String,
    verdict: super::budget::BudgetVerdict,
    why: String,
}

fn budgets(judgement: &Judgement) -> Vec<BudgetCells> {
    judgement
        .budgets
        .iter()
        .map(|b| BudgetCells {
            expr: b.expr.clone(),
            actual: b.actual_in_words(),
            verdict: b.verdict,
            why: b.why.clone(),
        })
        .collect()
}

#[derive(Serialize)]
struct FaultCells {
    id: String,
    kind: String,
    targets: String,
    outcome: &'static str,
    from: String,
    lasted: String,
    evidence: String,
}

fn faults(judgement: &Judgement) -> Vec<FaultCells> {
    let seconds = |at: Nanos| at.as_millis_f64() / 1e3;
    judgement
        .history
        .faults
        .iter()
        .map(|f| FaultCells {
            id: f.id.clone(),
            kind: f.kind.clone(),
            targets: f.targets.join(" "),
            outcome: f.outcome.as_str(),
            from: f
                .effective
                .map_or_else(|| "–".to_owned(), |at| format!("{:.3} s", seconds(at))),
            lasted: match (f.effective, f.ended()) {
                (Some(from), Some(to)) => format!("{:.3} s", to.since(from).as_secs_f64()),
                (Some(_), None) => "not healed".to_owned(),
                (None, _) => "–".to_owned(),
            },
            evidence: f.evidence.clone(),
        })
        .collect()
}

#[derive(Serialize)]
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Rows of named cells as a table; the first row's names are the head.
fn tabular(rows: &[Vec<(String, String)>]) -> Option<Table> {
    let head: Vec<String> = rows.first()?.iter().map(|(name, _)| name.clone()).collect();
    let rows = rows
        .iter()
        .map(|row| {
            head.iter()
                .map(|name| {
                    row.iter()
                        .find(|(n, _)| n == name)
                        .map_or_else(String::new, |(_, v)| v.clone())
                })
                .collect()
        })
        .collect();
    Some(Table { head, rows })
}

/// What the pictures are drawn from.
#[derive(Serialize)]
struct Data<'a> {
    width_ms: f64,
    from_ms: f64,
    to_ms: f64,
    phases: Vec<(Phase, f64)>,
    faults: Vec<(&'a str, f64, f64)>,
    systems: Vec<SystemData<'a>>,
}

#[derive(Serialize)]
struct SystemData<'a> {
    name: &'a str,
    classes: Vec<ClassData>,
    sessions: Vec<u64>,
    owed: Vec<u64>,
    gaps: Vec<GapData>,
}

#[derive(Serialize)]
struct ClassData {
    class: &'static str,
    per_s: Vec<f64>,
    offered_per_s: Vec<f64>,
    bad: Vec<u64>,
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    band_ms: Option<f64>,
}

#[derive(Serialize)]
struct GapData {
    class: &'static str,
    all_ms: Vec<f64>,
}

/// The data as JSON that can stand inside a script element.
fn data(judgement: &Judgement) -> Result<Value, minijinja::Error> {
    let history = &judgement.history;
    let ms = |at: Nanos| (at.as_millis_f64() * 10.0).round() / 10.0;
    let from = history.phases.start(Phase::WarmUp).unwrap_or_default();
    let to = history.phases.start(Phase::Fence).unwrap_or(history.ended).max(from);
    let mut width_ms = 100.0;
    let systems = history
        .systems
        .values()
        .map(|system| {
            let series = series(history, system);
            width_ms = crate::base::millis(series.width);
            let found = judgement.recovery.get(&system.name);
            let classes = series
                .classes
                .iter()
                .map(|(class, buckets)| {
                    let band = found.and_then(|f| f.bands.get(class));
                    class_data(
                        class.name(),
                        buckets,
                        width_ms,
                        band.map(|b| crate::base::millis(b.p99_max)),
                    )
                })
                .collect();
            let gaps = found
                .into_iter()
                .flat_map(|f| f.rows.iter().filter(|r| r.is_summary()))
                .filter_map(|row| {
                    Some(GapData {
                        class: row.class,
                        all_ms: row.client_gap_ms.as_ref()?.all_ms.clone(),
                    })
                })
                .collect();
            SystemData {
                name: &system.name,
                classes,
                sessions: series.sessions,
                owed: series.owed,
                gaps,
            }
        })
        .collect();
    let data = Data {
        width_ms,
        from_ms: ms(from),
        to_ms: ms(to),
        phases: history
            .phases
            .all()
            .iter()
            .map(|(phase, at)| (*phase, ms(*at)))
            .collect(),
        faults: history
            .faults
            .iter()
            .filter(|f| f.bursts == 0)
            .filter_map(|f| Some((f.id.as_str(), ms(f.effective?), ms(f.ended().unwrap_or(to)))))
            .collect(),
        systems,
    };
    let json = serde_json::to_string(&data)
        .map_err(|e| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, e.to_string()))?;
    // Names come from outside: nothing in them may end the script element.
    Ok(Value::from_safe_string(
        json.replace('<', "\\u003c")
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029"),
    ))
}

fn class_data(class: &'static str, buckets: &[Bucket], width_ms: f64, band_ms: Option<f64>) -> ClassData {
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
    let per_s = |count: u64| (count as f64 * 1e4 / width_ms).round() / 10.0;
    let rounded = |ms: Option<f64>| ms.map(|ms| (ms * 100.0).round() / 100.0);
    ClassData {
        class,
        per_s: buckets.iter().map(|b| per_s(b.done_ok)).collect(),
        offered_per_s: buckets.iter().map(|b| per_s(b.offered)).collect(),
        bad: buckets.iter().map(|b| b.failed + b.unknown + b.shed).collect(),
        p50: buckets.iter().map(|b| rounded(b.p50_ms)).collect(),
        p99: buckets.iter().map(|b| rounded(b.p99_ms)).collect(),
        band_ms,
    }
}
