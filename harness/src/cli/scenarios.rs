//! Finding scenario files.

use std::path::{Path, PathBuf};

/// Where scenarios are looked for, unless said.
pub(super) const FOLDER: &str = "scenarios";
/// How deep folders are searched.
const DEPTH_MAX: usize = 4;
/// How many files are listed at most.
const FILES_MAX: usize = 1000;

/// The scenario files under a folder, in order of their paths.
pub(super) fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(folder, DEPTH_MAX, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
            && found.len() < FILES_MAX
        {
            found.push(path);
        }
    }
    Ok(())
}

/// The file that `name` means: a path, or the name of a scenario under [`FOLDER`].
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.is_file() {
        return Some(path.to_owned());
    }
    let stem = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == name);
    files(Path::new(FOLDER)).ok()?.into_iter().find(stem)
}
