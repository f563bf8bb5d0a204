//! Several runs of one command: where each goes, and what is said of them together.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use firedrill_proto::firedrill::v1::RunEnded;
use serde_json::{Value, json};

use super::output::github;
use crate::{
    base::Exit,
    report::{self, Readings},
};

/// One run to be.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The scenario file's text.
    pub(super) yaml: String,
    /// Its path, as given.
    pub(super) path: String,
    /// The scenario's name.
    pub(super) scenario: String,
    /// The seed.
    pub(super) seed: u64,
    /// The run's folder; none leaves it to the controller.
    pub(super) dir: Option<PathBuf>,
}

/// One run that was.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) job: Job,
    pub(super) dir: PathBuf,
    pub(super) exit: Exit,
    pub(super) verdict: String,
    /// What it measured: its run.json, or null when it could not be judged.
    pub(super) run_json: serde_json::Value,
}

/// The folders of batches tried before giving up.
const BATCHES_MAX: u32 = 10_000;

/// The first run that another one is too: both would have one folder, and the same seed tells nothing new.
pub(super) fn repeated(jobs: &[Job]) -> Option<&Job> {
    let mut seen = BTreeSet::new();
    jobs.iter().find(|job| !seen.insert((&job.scenario, job.seed)))
}

/// Gives each run its folder, and returns the one for what they came to together: for a single run the one that was
/// named, or none; for several, one below what was named or below a new `runs/batch-N`.
///
/// # Errors
/// In words, when no new folder can be made.
pub(super) fn place(jobs: &mut [Job], named: Option<&Path>) -> Result<Option<PathBuf>, String> {
    if let [job] = jobs {
        job.dir = named.map(Path::to_owned);
        return Ok(None);
    }
    let top = match named {
        Some(named) => named.to_owned(),
        None => new_batch(Path::new("runs"))?,
    };
    for job in jobs {
        job.dir = Some(top.join(&job.scenario).join(job.seed.to_string()));
    }
    Ok(Some(top))
}

fn new_batch(runs: &Path) -> Result<PathBuf, String> {
    let failed = |dir: &Path, error: &io::Error| format!("failed to make {}: {error}", dir.display());
    fs::create_dir_all(runs).map_err(|error| failed(runs, &error))?;
    for number in 1..=BATCHES_MAX {
        let dir = runs.join(format!("batch-{number}"));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&dir, &error)),
        }
    }
    Err(format!(
        "{} holds {BATCHES_MAX} batches: remove some, or name a folder with --out",
        runs.display()
    ))
}

/// What several runs came to, for a person.
pub(super) fn table(done: &[Outcome], exit: Exit) -> String {
    let mut text = format!("\n{} runs, exit {}\n", done.len(), exit.code());
    for outcome in done {
        let Outcome {
            job,
            dir,
            exit,
            verdict,
            ..
        } = outcome;
        text.push_str(&format!(
            "  {verdict:<8} exit {:<3} {} seed {}  {}\n",
            exit.code(),
            job.scenario,
            job.seed,
            dir.display()
        ));
    }
    text.push_str(&report::spread_table(&readings(done)));
    text
}

fn readings(done: &[Outcome]) -> Readings {
    let mut readings = Readings::default();
    for outcome in done {
        readings.take(&outcome.run_json);
    }
    readings
}

/// What several runs came to, for a program. `stopped` says why runs that were asked for are not there.
pub(super) fn summary(done: &[Outcome], exit: Exit, stopped: Option<&str>) -> Value {
    let readings = readings(done);
    let runs: Vec<_> = done
        .iter()
        .map(|outcome| {
            json!({
                "scenario": outcome.job.scenario,
                "seed": outcome.job.seed,
                "dir": outcome.dir,
                "verdict": outcome.verdict,
                "exit_code": outcome.exit.code(),
            })
        })
        .collect();
    json!({
        "schema": "firedrill.summary/v1",
        "exit_code": exit.code(),
        "stopped": stopped,
        "runs": runs,
        "left_out": readings.left_out,
        "inconclusive": readings.inconclusive,
        "figures": report::spreads(&readings),
    })
}

/// Writes the summary above the runs' folders.
///
/// # Errors
/// In words.
pub(super) fn write(summary: &Value, top: &Path) -> Result<(), String> {
    let path = top.join("summary.json");
    fs::create_dir_all(top)
        .and_then(|()| fs::write(&path, format!("{summary:#}\n")))
        .map_err(|error| format!("failed to write {}: {error}", path.display()))
}

/// The one document of `--format json`: of a single run its run.json, of several the summary with each run.json in it.
pub(super) fn document(done: &[Outcome], mut summary: Value, several: bool) -> Value {
    if let ([only], false) = (done, several) {
        return only.run_json.clone();
    }
    let runs = summary["runs"].as_array_mut();
    for (run, outcome) in runs.into_iter().flatten().zip(done) {
        run["run_json"] = outcome.run_json.clone();
    }
    summary
}

/// The annotation of one run: nothing for a pass.
pub(super) fn annotation(job: &Job, dir: &Path, ended: &RunEnded) -> String {
    if ended.exit_code == 0 {
        return String::new();
    }
    let level = if ended.verdict == "fail" { "error" } else { "warning" };
    let reasons = ended.reasons.join("\n");
    let text = format!(
        "{} seed {}: {} (exit {})\n{reasons}\n{}",
        job.scenario,
        job.seed,
        ended.verdict,
        ended.exit_code,
        dir.display()
    );
    github(level, &job.path, 0, 0, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(seed: u64) -> Job {
        Job {
            yaml: String::new(),
            path: "x.yaml".to_owned(),
            scenario: "x".to_owned(),
            seed,
            dir: None,
        }
    }

    #[test]
    fn one_run_gets_the_folder_that_was_named_and_several_get_one_each() {
        let out = Path::new("out");
        let mut one = [job(1)];
        assert_eq!(place(&mut one, Some(out)), Ok(None));
        assert_eq!(one[0].dir.as_deref(), Some(out));
        let mut two = [job(1), job(2)];
        assert_eq!(place(&mut two, Some(out)), Ok(Some(out.to_owned())));
        assert_eq!(two[1].dir.as_deref(), Some(Path::new("out/x/2")));
        let mut unnamed = [job(1)];
        assert_eq!(place(&mut unnamed, None), Ok(None));
        assert_eq!(unnamed[0].dir, None);
    }

    #[test]
    fn batches_without_a_name_are_numbered() {
        let runs = tempfile::tempdir().unwrap();
        let made = [0, 1].map(|_| new_batch(runs.path()).unwrap());
        assert_eq!(made, [runs.path().join("batch-1"), runs.path().join("batch-2")]);
    }

    #[test]
    fn the_same_scenario_and_seed_twice_is_seen() {
        assert!(repeated(&[job(1), job(2)]).is_none());
        assert_eq!(repeated(&[job(1), job(2), job(1)]).map(|job| job.seed), Some(1));
    }

    #[test]
    fn a_summary_holds_the_spread_of_each_figure_over_the_runs() {
        let dir = tempfile::tempdir().unwrap();
        let done: Vec<Outcome> = (1..=6_u32)
            .map(|seed| Outcome {
                job: job(u64::from(seed)),
                dir: dir.path().join(seed.to_string()),
                exit: Exit::Pass,
                verdict: "pass".to_owned(),
                run_json: json!({
                    "scenario": "x", "exit_code": 0,
                    "recovery": [{
                        "fault": "run", "system": "main", "class": "send", "group": "all",
                        "downtime_ms": if seed == 6 { json!("never") } else { json!(f64::from(seed) * 100.0) },
                    }],
                }),
            })
            .collect();
        let said = table(&done, Exit::Pass);
        assert!(said.contains("6 runs, exit 0") && said.contains("seed 6"), "{said}");
        let whole = summary(&done, Exit::Pass, None);
        write(&whole, dir.path()).unwrap();
        let document = document(&done, whole, true);
        assert_eq!(document["runs"][5]["run_json"]["recovery"][0]["downtime_ms"], "never");
        let text = fs::read_to_string(dir.path().join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(summary["runs"].as_array().unwrap().len(), 6);
        let figures = summary["figures"].as_array().unwrap();
        assert_eq!(figures.len(), 1);
        let downtime = &figures[0];
        assert_eq!(
            (&downtime["figure"], &downtime["min"]),
            (&json!("downtime_ms"), &json!(100.0))
        );
        assert_eq!(
            (&downtime["median"], &downtime["max"]),
            (&json!(350.0), &json!("never"))
        );
        assert_eq!((&downtime["values"], &downtime["never"]), (&json!(5), &json!(1)));
        assert_eq!(downtime["median_interval"], json!([100.0, "never"]));
    }

    #[test]
    fn a_pass_annotates_nothing_and_a_failure_names_its_reasons() {
        let ended = |exit_code, verdict: &str| RunEnded {
            verdict: verdict.to_owned(),
            exit_code,
            reasons: vec!["one lost".to_owned()],
            ..RunEnded::default()
        };
        assert_eq!(annotation(&job(1), Path::new("d"), &ended(0, "pass")), "");
        let text = annotation(&job(1), Path::new("d"), &ended(7, "fail"));
        assert!(text.starts_with("::error file=x.yaml::"), "{text}");
        assert!(text.contains("one lost"));
    }
}
