//! What members say to each other.

use std::{collections::BTreeMap, sync::Arc};

use super::MemberId;

/// How new a copy of one owner's sessions is. Later lives are newer, and within a life higher versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Which life of the owner: higher for each start. 0 is that nothing is known.
    pub incarnation: u64,
    /// How many changes it has made in this life.
    pub version: u64,
}

/// What one owner's sessions became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose sessions.
    pub owner: MemberId,
    /// How new they are after this.
    pub stamp: Stamp,
    /// The version that a copy must have, in the same life, for this to apply; none replaces whatever copy there is.
    pub since: Option<u64>,
    /// Sessions that are there, with the version of their opening.
    pub opened: BTreeMap<u64, u64>,
    /// Sessions that are not there any more, with the version of their end.
    pub ended: BTreeMap<u64, u64>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// How new everything is that the sender has.
    Digest(BTreeMap<MemberId, Stamp>),
    /// An answer to a digest: what it lacked, and what the answerer has itself of those of whom it lacks something.
    Answer {
        /// What the digest's sender lacked.
        news: Vec<News>,
        /// How new the answerer's copies are where the digest's sender had newer ones.
        lacking: BTreeMap<MemberId, Stamp>,
    },
    /// What the receiver lacked, or what a naive sender says to everybody: shared, since it may be said to many.
    News(Arc<[News]>),
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// What.
    pub body: Body,
}

impl Body {
    /// How many stamps and sessions it holds: what it costs to carry and to take in.
    #[must_use]
    pub fn entries(&self) -> usize {
        let of = |news: &[News]| -> usize { news.iter().map(|news| 1 + news.opened.len() + news.ended.len()).sum() };
        match self {
            Self::Digest(stamps) => stamps.len(),
            Self::Answer { news, lacking } => of(news) + lacking.len(),
            Self::News(news) => of(news),
        }
    }
}
