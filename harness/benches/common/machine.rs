//! The machine that a figure was measured on, as far as figures depend on it.

use std::{fs, path::Path, time::Duration};

use firedrill::base::sync_times;

use super::{Distribution, show};

const SYNCS: usize = 200;
const SYNCS_WITHIN: Duration = Duration::from_secs(5);

/// System, cores and build.
pub(crate) fn describe() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) {
        "a debug build: its figures are not worth keeping"
    } else {
        "a release build"
    };
    format!(
        "{} {} {}, {cores} cores, {build}",
        std::env::consts::OS,
        release.trim(),
        std::env::consts::ARCH
    )
}

/// What a write of 4 KiB and its fdatasync cost in `dir`.
pub(crate) fn fsync(dir: &Path) -> std::io::Result<String> {
    let times = Distribution::of(sync_times(dir, SYNCS, SYNCS_WITHIN)?);
    let at = |per_mille| times.at(per_mille).map_or("–".to_owned(), show);
    Ok(format!("p50 {}, p99 {}, worst {}", at(500), at(990), at(1000)))
}

/// The load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = text.split_whitespace().take(3).collect();
    match averages[..] {
        [] => "unknown".to_owned(),
        _ => averages.join(" "),
    }
}
