//! What /proc says of a process. Linux only.

use std::fs;
use std::io;
use std::path::PathBuf;

/// The variable that marks every process of a run.
pub const MARKER: &str = "FIREDRILL_RUN";
/// The variable that says which of the run's systems a process belongs to.
pub const SYSTEM: &str = "FIREDRILL_SYSTEM";

/// One process, told from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// One line of /proc/PID/stat or /proc/PID/task/TID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    group: u32,
    start_ticks: u64,
}

impl ProcessId {
    /// The process that has this number now; none when there is none or it is only waiting to be reaped.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = stat(&format!("/proc/{pid}/stat")).ok()?;
        (!matches!(stat.state, 'Z' | 'X')).then_some(Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// This process.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn own() -> io::Result<Self> {
        let pid = std::process::id();
        Self::of(pid).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat can not be read: is /proc mounted?")))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The states of all threads of a process, such as `TTT`; empty when it is gone.
#[must_use]
pub fn thread_states(pid: u32) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return String::new();
    };
    let stats = tasks
        .flatten()
        .filter_map(|task| stat(&task.path().join("stat").to_string_lossy()).ok());
    let mut states: Vec<char> = stats.map(|stat| stat.state).collect();
    states.sort_unstable();
    states.into_iter().collect()
}

/// The states of all threads of all processes of a group, so that a program behind a wrapper is seen too; zombies, which
/// do nothing any more, are left out.
#[must_use]
pub fn group_states(group: u32) -> String {
    let members = all().into_iter().filter(|pid| group_of(*pid) == Some(group));
    let mut states: Vec<char> = members
        .flat_map(|pid| thread_states(pid).into_bytes())
        .map(char::from)
        .collect();
    states.retain(|state| !matches!(state, 'Z' | 'X'));
    states.sort_unstable();
    states.into_iter().collect()
}

/// The run that a process belongs to; none when it belongs to none, is gone, or is somebody else's.
#[must_use]
pub fn marker_of(pid: u32) -> Option<String> {
    variable_of(pid, MARKER)
}

/// The system, within its run, that a process belongs to.
#[must_use]
pub fn system_of(pid: u32) -> Option<String> {
    variable_of(pid, SYSTEM)
}

fn variable_of(pid: u32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The number of the process group that a process belongs to; none when it is gone.
#[must_use]
pub fn group_of(pid: u32) -> Option<u32> {
    Some(stat(&format!("/proc/{pid}/stat")).ok()?.group)
}

/// The number of every process there is.
#[must_use]
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Every process that carries the marker of `run`, by number.
#[must_use]
pub fn marked(run: &str) -> Vec<ProcessId> {
    let mut found: Vec<ProcessId> = all()
        .into_iter()
        .filter(|pid| marker_of(*pid).as_deref() == Some(run))
        .filter_map(ProcessId::of)
        .collect();
    found.sort_unstable();
    found
}

/// This boot of the machine: process numbers and start times mean nothing in another.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The lowest port that the kernel gives to outgoing connections.
#[must_use]
pub fn ephemeral_ports_begin() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

fn stat(path: &str) -> io::Result<Stat> {
    let line = fs::read_to_string(PathBuf::from(path))?;
    parse_stat(&line).ok_or_else(|| io::Error::other(format!("{path} is not as expected: {line}")))
}

/// The program's name may hold spaces and parentheses, so fields are counted from the last parenthesis on.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3, the process group field 5, the start time field 22.
    let group = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        state,
        group,
        start_ticks,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_is_alive_and_one_that_started_at_another_time_is_not() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        let other = ProcessId {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        assert!(!other.is_alive(), "the same number is not the same process");
        assert!(thread_states(own.pid).contains(['R', 'S', 'D']));
        assert!(!boot_id().is_empty());
        assert!(ephemeral_ports_begin() > 1024);
    }

    #[test]
    fn names_with_parentheses_do_not_confuse_it() {
        let line = "42 (a) b (c) T 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                state: 'T',
                group: 2,
                start_ticks: 987
            })
        );
        assert_eq!(parse_stat("42 (a) T 1 2"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(line in ".{0,200}") {
            let _ = parse_stat(&line);
        }
    }
}
