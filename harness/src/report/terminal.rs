//! The summary that a person reads when a run has ended: the verdict first, then why, then the figures.

use std::fmt::Write as _;

use crate::{
    base::{Exit, Nanos},
    check::Verdict,
    history::{Class, FaultOutcome, FaultWindow, Phase},
    recovery::{Figure, Row},
};

use super::{
    bars::bar,
    budget::BudgetVerdict,
    judgement::Judgement,
    series::{Series, series},
};

/// How wide the bars are.
const COLUMNS: usize = 72;
/// Reasons shown before the rest is only counted.
const REASONS_MAX: usize = 6;
/// Faults shown before the rest is only counted.
const FAULTS_MAX: usize = 12;

/// Colours where the reader is a terminal.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        let code = match verdict {
            Verdict::Pass => "32",
            Verdict::Fail => "31",
            Verdict::Unknown => "33",
            Verdict::NotJudged => "2",
        };
        self.with(code, text)
    }
}

/// The summary, with colours if the reader is a terminal.
#[must_use]
pub fn summary(judgement: &Judgement, colour: bool) -> String {
    let paint = Paint(colour);
    let mut out = String::new();
    // Writing into a string can't fail.
    let _ = headline(&mut out, judgement, paint)
        .and_then(|()| timeline(&mut out, judgement, paint))
        .and_then(|()| faults(&mut out, judgement, paint))
        .and_then(|()| table(&mut out, judgement, paint))
        .and_then(|()| distributions(&mut out, judgement, paint))
        .and_then(|()| budgets(&mut out, judgement, paint))
        .and_then(|()| promises(&mut out, judgement, paint))
        .and_then(|()| footer(&mut out, judgement, paint));
    out
}

fn headline(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let facts = &judgement.history.facts;
    let exit = judgement.exit();
    let word = match exit {
        Exit::Pass => "✔ PASS",
        Exit::Promise => "✘ FAIL: a promise is broken",
        Exit::Budget => "✘ FAIL: a budget is exceeded",
        Exit::Inconclusive => "? INCONCLUSIVE: the run proves nothing",
        Exit::Interrupted => "? INTERRUPTED",
        Exit::HealFailed => "✘ HEAL FAILED: this host is dirty, run `firedrill heal`",
        _ => "✘ THE HARNESS FAILED",
    };
    let word = paint.verdict(judgement.verdict(), &paint.bold(word));
    writeln!(out)?;
    writeln!(
        out,
        "{word}   {}   {}",
        paint.bold(&facts.scenario),
        paint.dim(&format!(
            "seed {} · {} · exit {}",
            facts.seed,
            facts.backend,
            exit.code()
        ))
    )?;
    if !facts.about.is_empty() {
        writeln!(out, "{}", paint.dim(facts.about.lines().next().unwrap_or_default()))?;
    }
    for reason in judgement.reasons.iter().take(REASONS_MAX) {
        writeln!(out, "  • {reason}")?;
    }
    if judgement.reasons.len() > REASONS_MAX {
        writeln!(
            out,
            "  • and {} more, see run.json",
            judgement.reasons.len() - REASONS_MAX
        )?;
    }
    Ok(())
}

/// A bar of goodput for each class over the time under load, with a line that marks when a fault was active.
fn timeline(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let history = &judgement.history;
    let from = history.phases.start(Phase::Steady).unwrap_or_default();
    let to = history.phases.start(Phase::Fence).unwrap_or(history.ended);
    if to <= from {
        return Ok(());
    }
    writeln!(out)?;
    for system in history.systems.values() {
        let series = series(history, system);
        for class in [Class::Send, Class::Deliver, Class::Open, Class::Put, Class::Request] {
            if let Some(bar) = goodput(&series, class, from, to) {
                let label = if history.systems.len() > 1 {
                    format!("{}.{}", system.name, class.name())
                } else {
                    class.name().to_owned()
                };
                writeln!(out, "  {label:>9} {}", paint.with("36", &bar))?;
            }
        }
    }
    let marks: String = (0..COLUMNS)
        .map(|column| {
            let (begin, end) = (column_at(column, from, to), column_at(column + 1, from, to));
            let active = |f: &FaultWindow| {
                f.bursts == 0
                    && f.effective.is_some_and(|at| at < end)
                    && f.ended()
                        .is_none_or(|at| at > begin || f.effective.is_some_and(|e| e >= begin))
            };
            if history.faults.iter().any(active) { '▔' } else { ' ' }
        })
        .collect();
    writeln!(out, "  {:>9} {}", "faults", paint.with("31", marks.trim_end()))?;
    let span = to.since(from).as_secs_f64();
    writeln!(
        out,
        "  {:>9} {}",
        "",
        paint.dim(&format!("0 s{:>width$.0} s", span, width = COLUMNS - 5))
    )
}

#[expect(clippy::cast_possible_truncation, reason = "a column's share of a run")]
fn column_at(column: usize, from: Nanos, to: Nanos) -> Nanos {
    let span = u128::from(to.0 - from.0);
    Nanos(from.0 + (span * column as u128 / COLUMNS as u128) as u64)
}

fn goodput(series: &Series, class: Class, from: Nanos, to: Nanos) -> Option<String> {
    let buckets = series.classes.get(&class)?;
    let width = Nanos::from_duration(series.width).0.max(1);
    let bucket = |at: Nanos| usize::try_from(at.0 / width).unwrap_or(usize::MAX).min(buckets.len());
    let columns: Vec<f64> = (0..COLUMNS)
        .map(|column| {
            let (first, last) = (
                bucket(column_at(column, from, to)),
                bucket(column_at(column + 1, from, to)),
            );
            let slice = &buckets[first.min(buckets.len() - 1)..last.max(first + 1).min(buckets.len())];
            #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
            let mean = slice.iter().map(|b| b.done_ok).sum::<u64>() as f64 / slice.len().max(1) as f64;
            mean
        })
        .collect();
    // A catch-up after an outage would flatten everything else: the usual height is the median.
    let mut sorted = columns.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[sorted.len() * 2 / 3].max(1e-9);
    let mark = |value: &f64| {
        if *value <= 0.0 { ' ' } else { bar(value / usual * 6.0) }
    };
    Some(columns.iter().map(mark).collect())
}

fn faults(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let faults: Vec<&FaultWindow> = judgement.history.faults.iter().filter(|f| f.parent.is_none()).collect();
    if faults.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let origin = judgement.history.phases.start(Phase::Disturb).unwrap_or_default();
    for fault in faults.iter().take(FAULTS_MAX) {
        let mark = match fault.outcome {
            FaultOutcome::Installed => paint.with("31", "⚡"),
            FaultOutcome::Skipped | FaultOutcome::Indeterminate => paint.with("33", "?"),
        };
        let when = fault
            .effective
            .or(fault.requested)
            .map_or(0.0, |at| at.since(origin).as_secs_f64());
        let lasted = match (fault.effective, fault.ended()) {
            (Some(from), Some(to)) if to > from => format!("{:.2} s", to.since(from).as_secs_f64()),
            (Some(_), Some(_)) => "momentary".to_owned(),
            (Some(_), None) => "not healed".to_owned(),
            (None, _) => fault.outcome.as_str().to_owned(),
        };
        let bursts = if fault.bursts > 0 {
            format!(" in {} bursts", fault.bursts)
        } else {
            String::new()
        };
        let hit = match fault.targets.as_slice() {
            targets if targets.len() > 4 => format!("{} targets", targets.len()),
            targets => targets.join(" "),
        };
        writeln!(
            out,
            "  {mark} {:<16} at {when:>6.2} s for {lasted}{bursts}  {}",
            fault.id,
            paint.dim(&hit)
        )?;
    }
    if faults.len() > FAULTS_MAX {
        writeln!(out, "    and {} more", faults.len() - FAULTS_MAX)?;
    }
    Ok(())
}

/// How long the gaps of a kind of fault were that was done several times, with a bar for each, in their order.
fn distributions(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let found = &judgement.repeated;
    if !found.is_empty() {
        writeln!(out)?;
    }
    for one in found {
        let bars = paint.with("36", &one.picture());
        writeln!(out, "  {:<28} {}  {bars}", one.title(), one.words())?;
    }
    Ok(())
}

fn table(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let rows: Vec<&Row> = judgement
        .rows()
        .filter(|row| row.group == "all" && matches!(row.class, "send" | "deliver" | "open" | "put" | "request"))
        .filter(|row| !row.fault.contains('.'))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = [
        "recovery",
        "class",
        "impact",
        "failover",
        "first ok",
        "steady",
        "after heal",
        "drained",
        "worst gap",
        "downtime",
        "±",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(|h| (*h).to_owned()).collect()];
    let count = judgement.history.faults.iter().filter(|f| f.parent.is_none()).count();
    for row in &rows {
        // With one fault, the run's row says the same again.
        if count == 1 && row.fault != "run" {
            continue;
        }
        let name = if judgement.history.systems.len() > 1 {
            format!("{}.{}", row.system, row.fault)
        } else {
            row.fault.clone()
        };
        let cells = [
            &row.impact_ms,
            &row.failover_ms,
            &row.first_ok_ms,
            &row.steady_ms,
            &row.steady_after_heal_ms,
            &row.drained_after_heal_ms,
            &row.worst_gap_ms,
            &row.downtime_ms,
        ];
        let mut line = vec![name, row.class.to_owned()];
        line.extend(cells.iter().map(|f| f.human()));
        line.push(Figure::millis(row.bound_ms, 0.0).human());
        lines.push(line);
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0))
        .collect();
    for (number, line) in lines.iter().enumerate() {
        let text: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column < 2 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        let text = text.join("  ");
        writeln!(out, "  {}", if number == 0 { paint.dim(&text) } else { text })?;
    }
    Ok(())
}

fn budgets(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    if judgement.budgets.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for budget in &judgement.budgets {
        let (mark, verdict) = match budget.verdict {
            BudgetVerdict::Pass => ("✔", Verdict::Pass),
            BudgetVerdict::Fail => ("✘", Verdict::Fail),
            BudgetVerdict::Unknown => ("?", Verdict::Unknown),
        };
        let mark = paint.verdict(verdict, mark);
        writeln!(
            out,
            "  {mark} {:<38} {}",
            budget.expr,
            paint.dim(&format!("measured {}", budget.actual_in_words()))
        )?;
    }
    Ok(())
}

fn promises(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let of = |verdict| judgement.findings.iter().filter(move |f| f.verdict == verdict);
    let kept: u64 = of(Verdict::Pass).map(|f| f.obligations).sum();
    writeln!(out)?;
    writeln!(
        out,
        "  {} {} promises kept over {kept} obligations, {} broken, {} unknown, {} not judged",
        paint.verdict(
            if of(Verdict::Fail).next().is_some() {
                Verdict::Fail
            } else {
                Verdict::Pass
            },
            if of(Verdict::Fail).next().is_some() {
                "✘"
            } else {
                "✔"
            }
        ),
        of(Verdict::Pass).count(),
        of(Verdict::Fail).count(),
        of(Verdict::Unknown).count(),
        of(Verdict::NotJudged).count(),
    )?;
    for finding in of(Verdict::Fail) {
        let witness = finding.witness.as_deref().unwrap_or_default();
        writeln!(
            out,
            "    {} {witness}",
            paint.verdict(Verdict::Fail, &format!("{}:", finding.name))
        )?;
    }
    let silent: Vec<&str> = of(Verdict::NotJudged).map(|f| f.name).collect();
    if !silent.is_empty() {
        writeln!(out, "    {}", paint.dim(&format!("not judged: {}", silent.join(", "))))?;
    }
    Ok(())
}

fn footer(out: &mut String, judgement: &Judgement, paint: Paint) -> std::fmt::Result {
    let load = &judgement.load;
    writeln!(
        out,
        "  load: {} offered, {} ok, {} failed, {} unknown, {} shed; generator lag p99 {:.2} ms",
        load.offered, load.ok, load.failed, load.unknown, load.shed, load.lag_p99_ms
    )?;
    writeln!(out, "  {} {}", paint.dim("again:"), judgement.reproduce())
}
