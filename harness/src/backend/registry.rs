//! The backends there are, and what each can do, so that a plan can be checked without starting one.

use super::Capability;

/// A backend, as the planner and the help know it.
#[derive(Clone, Copy, Debug)]
pub struct BackendInfo {
    /// As in `--backend`.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// What it can do.
    pub capabilities: &'static [Capability],
}

/// Every backend; the first is the default.
pub const ALL: &[BackendInfo] = &[BackendInfo {
    name: "process",
    about: "nodes are child processes on this machine, with userspace links between them; needs no root and no Docker",
    capabilities: &[
        Capability::Processes,
        Capability::Freeze,
        Capability::Links,
        Capability::ClientLinks,
        Capability::Delay,
    ],
}];

/// The backend called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static BackendInfo> {
    ALL.iter().find(|backend| backend.name == name)
}
