//! What the command's exit code means. The numbers are a contract: scripts and CI depend on them.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was shown to hold.
    Pass = 0,
    /// A fault of the harness itself.
    Internal = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The scenario is invalid.
    Invalid = 3,
    /// This machine, backend or build can't do what the scenario asks for.
    Capability = 4,
    /// The run proves nothing: neither that the system held nor that it failed.
    Inconclusive = 5,
    /// A recovery or service budget was exceeded.
    Budget = 6,
    /// A promise to the users was broken.
    Promise = 7,
    /// Something that a fault changed could not be undone: the host is dirty.
    HealFailed = 8,
    /// Interrupted, after healing.
    Interrupted = 130,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: &[Self] = &[
        Self::Pass,
        Self::Internal,
        Self::Usage,
        Self::Invalid,
        Self::Capability,
        Self::Inconclusive,
        Self::Budget,
        Self::Promise,
        Self::HealFailed,
        Self::Interrupted,
    ];

    /// When several apply to a run, or to several runs, the first of these is returned.
    pub const PRECEDENCE: &[Self] = &[
        Self::Interrupted,
        Self::HealFailed,
        Self::Internal,
        Self::Usage,
        Self::Invalid,
        Self::Capability,
        Self::Promise,
        Self::Budget,
        Self::Inconclusive,
        Self::Pass,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code that stands for all of `several`; [`Exit::Pass`] when there are none.
    #[must_use]
    pub fn worst(several: impl IntoIterator<Item = Self>) -> Self {
        let several: std::collections::BTreeSet<Self> = several.into_iter().collect();
        Self::PRECEDENCE
            .iter()
            .copied()
            .find(|exit| several.contains(exit))
            .unwrap_or(Self::Pass)
    }

    /// The exit code with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|exit| exit.code() == code)
    }

    /// In a few words.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Pass => "pass: everything asked for was shown to hold",
            Self::Internal => "internal error: the harness itself failed",
            Self::Usage => "usage: the command line was wrong",
            Self::Invalid => "invalid scenario: the message names line, column and remedy",
            Self::Capability => "capability missing: this machine, backend or build can't do what the scenario asks",
            Self::Inconclusive => {
                "inconclusive: the run proves nothing, neither that the system held nor that it failed"
            }
            Self::Budget => "budget exceeded: a recovery time or a service level was worse than the scenario allows",
            Self::Promise => "promise broken: a message was lost, duplicated, reordered or otherwise mistreated",
            Self::HealFailed => "heal failed: something a fault changed could not be undone; run `firedrill heal`",
            Self::Interrupted => "interrupted, after healing",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stands_for_all() {
        assert_eq!(Exit::worst([]), Exit::Pass);
        assert_eq!(Exit::worst([Exit::Budget, Exit::Promise, Exit::Pass]), Exit::Promise);
        assert_eq!(Exit::worst([Exit::Inconclusive, Exit::Budget]), Exit::Budget);
        assert_eq!(
            Exit::worst([Exit::Promise, Exit::Internal, Exit::HealFailed]),
            Exit::HealFailed
        );
        assert_eq!(Exit::worst([Exit::HealFailed, Exit::Interrupted]), Exit::Interrupted);
    }

    #[test]
    fn the_numbers_are_the_contract() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
        assert_eq!(Exit::PRECEDENCE.len(), Exit::ALL.len());
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(*exit));
        }
    }
}
