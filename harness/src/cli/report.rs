//! `firedrill report`: draw a run's files again from its history.

use std::path::PathBuf;

use super::{
    check,
    output::{note, out},
};
use crate::{base::Exit, report};

const EXAMPLES: &str = "\
Examples:
  firedrill report runs/leader-kill/42          draw report.html and the others again, in place
  firedrill report runs/leader-kill/42 --out /tmp/look

The history is only read. Ends with 0 when the files are written, whatever they say.";

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A run's folder
    dir: PathBuf,
    /// Where the files go; the run's folder by default
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Exit {
    let runs = match check::runs_below(&args.dir) {
        Ok(runs) => runs,
        Err(problem) => {
            note(&problem);
            return Exit::Usage;
        }
    };
    if args.out.is_some() && runs.len() > 1 {
        note(&format!(
            "{} holds {} runs and --out names one folder: name one run",
            args.dir.display(),
            runs.len()
        ));
        return Exit::Usage;
    }
    for run in runs {
        let judgement = match report::judge(&run) {
            Ok(judgement) => judgement,
            Err(error) => {
                note(&format!("failed to judge {}: {error}", run.display()));
                return Exit::Usage;
            }
        };
        let to = args.out.clone().unwrap_or_else(|| run.clone());
        let written = std::fs::create_dir_all(&to).and_then(|()| report::write_all(&judgement, &to));
        if let Err(error) = written {
            note(&format!("failed to write the report: {error}"));
            return Exit::Internal;
        }
        for output in report::OUTPUTS {
            out(&format!(
                "{}  {}\n",
                to.join(output.file_name()).display(),
                output.about()
            ));
        }
    }
    Exit::Pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{FILE_NAME, Recorder, RecorderLimits, synth::Script};

    #[test]
    fn the_files_are_drawn_beside_the_history_or_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::default();
        let recorder =
            Recorder::create(&dir.path().join(FILE_NAME), script.header(), RecorderLimits::default()).unwrap();
        for event in script.events() {
            recorder.record(event);
        }
        recorder.finish().unwrap();
        let elsewhere = dir.path().join("look/here");
        let draw = |out: Option<PathBuf>| {
            main(&Args {
                dir: dir.path().to_owned(),
                out,
            })
        };
        assert_eq!(draw(Some(elsewhere.clone())), Exit::Pass);
        assert!(elsewhere.join("report.html").is_file() && !dir.path().join("report.html").exists());
        assert_eq!(draw(None), Exit::Pass);
        assert!(dir.path().join("run.json").is_file());
    }
}
