//! What a node's process takes of the machine's memory, as the kernel says it (Linux).

use std::{fs, path::Path};

use crate::common::Result;

/// The resident bytes of the process that was started with the configuration `config`.
pub(crate) fn resident(config: &Path) -> Result<u64> {
    let wanted = config.display().to_string();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let is_number = folder
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|it| it.is_ascii_digit()));
        // A process may end while it is looked at.
        let Some(line) = is_number.then(|| fs::read(folder.join("cmdline")).ok()).flatten() else {
            continue;
        };
        if !line.split(|it| *it == 0).any(|argument| argument == wanted.as_bytes()) {
            continue;
        }
        let status = fs::read_to_string(folder.join("status"))?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = kilobytes.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        return Ok(kilobytes.ok_or("the kernel doesn't say VmRSS")? * 1024);
    }
    Err(format!("no process was started with {wanted}").into())
}
