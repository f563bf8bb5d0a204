//! What was seen, and when it was first true.

use crate::backend::SignalEvidence;
use crate::base::Nanos;

/// That a fault bites, or that it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When it was first true of everything concerned.
    pub at: Nanos,
    /// What was seen, in words.
    pub text: String,
}

impl Evidence {
    /// All of these together: true when the last of them was.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>, otherwise: Nanos) -> Self {
        let mut at = None;
        let mut texts = Vec::new();
        for part in parts {
            at = at.max(Some(part.at));
            texts.push(part.text);
        }
        Self {
            at: at.unwrap_or(otherwise),
            text: texts.join("; "),
        }
    }
}

impl From<SignalEvidence> for Evidence {
    fn from(seen: SignalEvidence) -> Self {
        Self {
            at: seen.effective,
            text: format!("{}: {}", seen.node, seen.text),
        }
    }
}
