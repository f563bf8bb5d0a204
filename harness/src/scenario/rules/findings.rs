//! What has been found wrong.

use garde::{Path, Report};

use crate::scenario::paths::{Segment, segments};

/// Collects findings.
pub(super) struct Findings<'a> {
    pub(super) report: &'a mut Report,
}

impl Findings<'_> {
    /// `message` ends with `; remedy`.
    pub(super) fn add(&mut self, path: &str, message: impl Into<String>) {
        let path = segments(path)
            .unwrap_or_default()
            .iter()
            .fold(Path::empty(), |path, segment| match segment {
                Segment::Key(key) => path.join(key.as_str()),
                Segment::Index(index) => path.join(*index),
            });
        self.report.append(path, garde::Error::new(message.into()));
    }

    pub(super) fn check(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.add(path, message());
        }
    }
}
