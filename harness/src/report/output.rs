//! The files of a run's folder that are drawn from its judgement. One file each, and one line in [`ALL`].

use std::{fs, io, path::Path};

use super::{hlog, html, judgement::Judgement, junit, otlp, run_json, series};

/// Something written from a judgement into a run's folder.
pub trait Output: Sync {
    /// The file's name.
    fn file_name(&self) -> &'static str;
    /// What it is for, in a few words.
    fn about(&self) -> &'static str;
    /// Its content.
    ///
    /// # Errors
    /// What failed, in words.
    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String>;
}

/// Every output.
pub const ALL: &[&dyn Output] = &[
    &run_json::RunJson,
    &junit::Junit,
    &html::Html,
    &series::SeriesCsv,
    &hlog::LatencyLog,
    &otlp::TraceJson,
];

/// Writes every output into `dir`, which exists. Each is whole or absent: it is written beside its place and renamed.
///
/// # Errors
/// When a file can't be made or written; the message names it.
pub fn write_all(judgement: &Judgement, dir: &Path) -> io::Result<()> {
    for output in ALL {
        let path = dir.join(output.file_name());
        let named = |e: String| io::Error::other(format!("{}: {e}", path.display()));
        let content = output.render(judgement).map_err(&named)?;
        let beside = dir.join(format!(".{}.partial", output.file_name()));
        fs::write(&beside, content).map_err(|e| named(e.to_string()))?;
        fs::rename(&beside, &path).map_err(|e| named(e.to_string()))?;
    }
    Ok(())
}
