//! `firedrill compare`: two sets of runs beside each other, and what of the difference is noise.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{
    check::runs_below,
    output::{note, out, out_json},
};
use crate::{
    base::{Exit, did_you_mean},
    report::{self, FIGURES, Readings},
};

const EXAMPLES: &str = "\
Examples:
  firedrill run leader-kill --repeat 10 --out /tmp/before
  firedrill run leader-kill --repeat 10 --out /tmp/after
  firedrill compare /tmp/before /tmp/after      every figure: the medians, the difference, and whether it is noise
  firedrill compare /tmp/before /tmp/after --figure downtime --figure worst_gap
                                            fewer figures need fewer runs to tell
  firedrill compare /tmp/once /tmp/again        the same system twice: what it calls worse is chance, in 1 of 20 at most

How to read it: B - A is how much longer B takes, and the interval is where that difference lies. `worse` and `better` are
differences beyond chance and beyond the error bounds of the readings; `noise` is one that is not; `can't tell` means too
few runs, and says how many would do. All runs are judged again by this build. See docs/recovery-time.md.

Ends with 0, with 6 when any figure is worse, with 2 when there is nothing to compare.";

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A run's folder, or a folder above several: what it was before
    a: PathBuf,
    /// The same for what it is now
    b: PathBuf,
    /// Compare only this figure, such as downtime or first_ok; may be given several times
    #[arg(long = "figure", value_name = "NAME")]
    figures: Vec<String>,
    /// How the comparison is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the comparison is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Human,
    /// One JSON value, for programs
    Json,
}

pub(super) fn main(args: &Args) -> Exit {
    let known = || FIGURES.iter().map(|(name, _)| name.trim_end_matches("_ms"));
    if let Some(unknown) = args
        .figures
        .iter()
        .find(|name| !known().any(|known| known == name.as_str()))
    {
        note(&format!(
            "there is no figure `{unknown}`; {}",
            did_you_mean(unknown, known())
        ));
        return Exit::Usage;
    }
    let (a, b) = match (readings(&args.a), readings(&args.b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(problem), _) | (_, Err(problem)) => {
            note(&problem);
            return Exit::Usage;
        }
    };
    let comparison = report::compare(&a, &b, &args.figures);
    if comparison.figures.is_empty() {
        note(&format!(
            "{} and {} have no figure in common: they must hold runs of the same scenario",
            args.a.display(),
            args.b.display()
        ));
        for said in &comparison.notes {
            note(&format!("  {said}"));
        }
        return Exit::Usage;
    }
    match args.format {
        Format::Human => {
            let count = |readings: &Readings| readings.runs.values().sum::<usize>();
            out(&format!(
                "A  {}, {} runs\nB  {}, {} runs\n\n{}",
                args.a.display(),
                count(&a),
                args.b.display(),
                count(&b),
                comparison.table()
            ));
        }
        Format::Json => out_json(&comparison.document()),
    }
    if comparison.is_worse() {
        Exit::Budget
    } else {
        Exit::Pass
    }
}

/// Every run at and below `dir`, judged again: so that a change of the judgement is no difference of the system.
fn readings(dir: &Path) -> Result<Readings, String> {
    let mut readings = Readings::default();
    for run in runs_below(dir)? {
        let judgement = report::judge(&run).map_err(|error| format!("failed to judge {}: {error}", run.display()))?;
        let document = serde_json::to_value(report::document(&judgement)).map_err(|error| error.to_string())?;
        readings.take(&document);
    }
    Ok(readings)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{
        base::Nanos,
        history::{
            FILE_NAME, Recorder, RecorderLimits,
            synth::{Effect, Script, Scripted},
        },
    };

    /// Runs whose outage lasts about this long, each with a seed of its own.
    fn runs_in(dir: &Path, outage_ms: u64, count: u64) {
        for seed in 1..=count {
            let outage = Scripted::ms(5000, 5000 + outage_ms + seed * 15, Effect::Refuse);
            let script = Script {
                gap: Duration::from_millis(25),
                users: 4,
                devices: 1,
                outages: vec![outage],
                load_end: Nanos::from_millis(11_000),
                ..Script::default()
            };
            let dir = dir.join("scripted").join(seed.to_string());
            fs::create_dir_all(&dir).unwrap();
            let recorder = Recorder::create(&dir.join(FILE_NAME), script.header(), RecorderLimits::default()).unwrap();
            for event in script.events() {
                recorder.record(event);
            }
            recorder.finish().unwrap();
        }
    }

    fn compared(a: &Path, b: &Path, figures: &[&str]) -> Exit {
        main(&Args {
            a: a.to_owned(),
            b: b.to_owned(),
            figures: figures.iter().map(|name| (*name).to_owned()).collect(),
            format: Format::Json,
        })
    }

    #[test]
    fn only_what_is_worse_beyond_noise_fails() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        runs_in(&at("before"), 1000, 5);
        runs_in(&at("slow"), 3000, 5);
        assert_eq!(compared(&at("before"), &at("slow"), &["downtime"]), Exit::Budget);
        assert_eq!(
            compared(&at("slow"), &at("before"), &["downtime"]),
            Exit::Pass,
            "better"
        );
        assert_eq!(compared(&at("before"), &at("before"), &[]), Exit::Pass, "noise");
        let one = at("before").join("scripted/1");
        assert_eq!(compared(&one, &at("slow"), &[]), Exit::Pass, "one run is an anecdote");
        let (before, slow) = (readings(&at("before")).unwrap(), readings(&at("slow")).unwrap());
        let table = report::compare(&before, &slow, &["downtime".to_owned()]).table();
        let line = table
            .lines()
            .find(|line| line.contains("send downtime"))
            .expect("a line");
        assert!(line.contains("+2.0") && line.ends_with("worse"), "{table}");
    }

    #[test]
    fn what_can_not_be_compared_is_usage() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        runs_in(&at("a"), 1000, 1);
        assert_eq!(compared(&at("a"), &at("nowhere"), &[]), Exit::Usage);
        assert_eq!(compared(&at("a"), &at("a"), &["downtme"]), Exit::Usage);
        fs::create_dir_all(at("noise")).unwrap();
        fs::write(at("noise").join(FILE_NAME), "noise").unwrap();
        assert_eq!(compared(&at("a"), &at("noise"), &[]), Exit::Usage);
    }
}
