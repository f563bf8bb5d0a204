//! A run's folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders tried under one name before giving up.
const NUMBERS_MAX: u32 = 10_000;

/// Makes a run's folder: `asked` if it is not there or empty, else `runs/<scenario>/<seed>`, numbered when it is there.
///
/// A folder with anything in it is never written to: an old run must stay what it was.
///
/// # Errors
/// In words, with the path and the remedy.
pub(super) fn make(asked: Option<PathBuf>, scenario: &str, seed: u64) -> Result<PathBuf, String> {
    let failed = |dir: &Path, error: &io::Error| format!("make the run's folder {}: {error}", dir.display());
    if let Some(dir) = asked {
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
        let mut entries = fs::read_dir(&dir).map_err(|error| failed(&dir, &error))?;
        if entries.next().is_some() {
            return Err(format!(
                "{} is not empty: name a new folder, an old run is never written over",
                dir.display()
            ));
        }
        return dir.canonicalize().map_err(|error| failed(&dir, &error));
    }
    let parent = Path::new("runs").join(scenario);
    fs::create_dir_all(&parent).map_err(|error| failed(&parent, &error))?;
    for number in 1..=NUMBERS_MAX {
        let name = if number == 1 {
            seed.to_string()
        } else {
            format!("{seed}-{number}")
        };
        let dir = parent.join(name);
        match fs::create_dir(&dir) {
            Ok(()) => return dir.canonicalize().map_err(|error| failed(&dir, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&dir, &error)),
        }
    }
    Err(format!(
        "{} holds {NUMBERS_MAX} runs of this seed: remove some, or name a folder with --out",
        parent.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let top = tempfile::tempdir().expect("a temporary folder");
        let fresh = top.path().join("a/b");
        assert!(make(Some(fresh.clone()), "x", 1).is_ok());
        fs::write(fresh.join("run.json"), "{}").expect("it was made");
        let refused = make(Some(fresh), "x", 1).expect_err("not empty");
        assert!(refused.contains("not empty"), "{refused}");
    }
}
