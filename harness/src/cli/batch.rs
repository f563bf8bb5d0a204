//! Several runs of one command: where each goes, and what is said of them together.

use std::{
    fs,
    path::{Path, PathBuf},
};

use firedrill_proto::firedrill::v1::RunEnded;
use serde_json::json;

use super::output::{github, note};
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

/// Gives each run its folder: the one that was named for a single run, one below it for each of several.
pub(super) fn place(jobs: &mut [Job], named: Option<&Path>) {
    let Some(named) = named else { return };
    let several = jobs.len() > 1;
    for job in jobs {
        let below = named.join(&job.scenario).join(job.seed.to_string());
        job.dir = Some(if several { below } else { named.to_owned() });
    }
}

/// Writes what several runs came to, above their folders, and says it.
///
/// # Errors
/// In words, when the summary can't be written.
pub(super) fn summarise(done: &[Outcome], named: Option<&Path>) -> Result<(), String> {
    let worst = Exit::worst(done.iter().map(|outcome| outcome.exit));
    note(&format!("\n{} runs, exit {}", done.len(), worst.code()));
    for outcome in done {
        let Outcome {
            job,
            dir,
            exit,
            verdict,
            ..
        } = outcome;
        note(&format!(
            "  {verdict:<8} exit {:<3} {} seed {}  {}",
            exit.code(),
            job.scenario,
            job.seed,
            dir.display()
        ));
    }
    let mut readings = Readings::default();
    for outcome in done {
        readings.take(&outcome.run_json);
    }
    note(&report::spread_table(&readings));
    let Some(named) = named else { return Ok(()) };
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
    let summary = json!({
        "schema": "firedrill.summary/v1",
        "exit_code": worst.code(),
        "runs": runs,
        "left_out": readings.left_out,
        "inconclusive": readings.inconclusive,
        "figures": report::spreads(&readings),
    });
    let path = named.join("summary.json");
    fs::write(&path, format!("{summary:#}\n")).map_err(|error| format!("failed to write {}: {error}", path.display()))
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
        let mut one = [job(1)];
        place(&mut one, Some(Path::new("out")));
        assert_eq!(one[0].dir.as_deref(), Some(Path::new("out")));
        let mut two = [job(1), job(2)];
        place(&mut two, Some(Path::new("out")));
        assert_eq!(two[1].dir.as_deref(), Some(Path::new("out/x/2")));
        let mut unnamed = [job(1)];
        place(&mut unnamed, None);
        assert_eq!(unnamed[0].dir, None);
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
        summarise(&done, Some(dir.path())).unwrap();
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
            run_json: String::new(),
        };
        assert_eq!(annotation(&job(1), Path::new("d"), &ended(0, "pass")), "");
        let text = annotation(&job(1), Path::new("d"), &ended(7, "fail"));
        assert!(text.starts_with("::error file=x.yaml::"), "{text}");
        assert!(text.contains("one lost"));
    }
}
