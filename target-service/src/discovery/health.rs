//! What a gateway says of itself, and when: its health rule.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// What a gateway does about its door when it can't reach the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthRule {
    /// It withdraws itself. Right when it alone is cut off; when all are, nobody is to be found any more.
    On,
    /// It says nothing of the store: clients find it, and hear there what doesn't work.
    Off,
    /// It stays, marked: clients are sent to the others while there are any, and to all when there are none.
    #[default]
    FailStatic,
}

impl HealthRule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::On, Self::Off, Self::FailStatic];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::FailStatic => "fail_static",
        }
    }
}

impl fmt::Display for HealthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HealthRule {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == word);
        found.ok_or_else(|| format!("the health rule is {word:?}: write on, off or fail_static"))
    }
}

/// Times and thresholds of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    /// The rule.
    pub rule: HealthRule,
    /// How often a word is said again. Less than half the lease, so that one lost word costs nothing.
    pub renew_every: Duration,
    /// Probes of the store that fail in a row until it counts as out of reach.
    pub fall: u32,
    /// Probes that succeed in a row until it counts as within reach.
    pub rise: u32,
    /// After a withdrawal, gateways come back over this time, each at its own instant; nothing is all at once.
    pub readmit_over: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            rule: HealthRule::default(),
            renew_every: Duration::from_secs(3),
            fall: 3,
            rise: 2,
            readmit_over: Duration::ZERO,
        }
    }
}

/// What to tell the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Here I am.
    Publish {
        /// Whether work can be done here.
        healthy: bool,
    },
    /// Take my door away.
    Withdraw,
}

/// One gateway's side of the directory.
#[derive(Clone, Debug)]
pub struct Publisher {
    options: PublisherOptions,
    /// Where in the readmission this gateway stands, from nothing to all of it.
    place: Duration,
    failed: u32,
    succeeded: u32,
    /// None until the first probes have told.
    reaches: Option<bool>,
    withdrew: bool,
    back_at: Option<Duration>,
    /// The word that the directory has taken, and when to say one again.
    taken: Option<Word>,
    again_at: Duration,
}

impl Publisher {
    /// The publisher of the gateway `name`.
    #[must_use]
    pub fn new(name: &str, options: PublisherOptions) -> Self {
        // A thousandth's place: enough to spread gateways, and the same at each start.
        let thousandths = u32::try_from(xxh3_64(name.as_bytes()) % 1000).unwrap_or(0);
        Self {
            place: options.readmit_over * thousandths / 1000,
            options,
            failed: 0,
            succeeded: 0,
            reaches: None,
            withdrew: false,
            back_at: None,
            taken: None,
            again_at: Duration::ZERO,
        }
    }

    /// Notes whether a probe of the store was answered.
    pub fn probed(&mut self, answered: bool, now: Duration) {
        if answered {
            self.failed = 0;
            self.succeeded = self.succeeded.saturating_add(1);
        } else {
            self.succeeded = 0;
            self.failed = self.failed.saturating_add(1);
        }
        let was = self.reaches;
        if self.failed >= self.options.fall {
            self.reaches = Some(false);
        } else if self.succeeded >= self.options.rise {
            self.reaches = Some(true);
        }
        if was != self.reaches {
            self.back_at = (self.reaches == Some(true) && self.withdrew).then(|| now + self.place);
        }
    }

    /// Whether the store is within reach, as far as probes tell; none before they do.
    #[must_use]
    pub const fn reaches(&self) -> Option<bool> {
        self.reaches
    }

    /// What should stand in the directory now; none is nothing yet.
    fn wanted(&self, now: Duration) -> Option<Word> {
        match (self.options.rule, self.reaches) {
            (HealthRule::Off, _) => Some(Word::Publish { healthy: true }),
            (HealthRule::FailStatic, reaches) => Some(Word::Publish {
                healthy: reaches.unwrap_or(false),
            }),
            (HealthRule::On, Some(true)) if self.back_at.is_none_or(|at| now >= at) => {
                Some(Word::Publish { healthy: true })
            }
            (HealthRule::On, Some(false)) => Some(Word::Withdraw),
            (HealthRule::On, _) => None,
        }
    }

    /// What to tell the directory now, if anything: something new, or the same again before the lease runs out. A word
    /// that was not taken is said again after a quarter of [`PublisherOptions::renew_every`].
    pub fn word(&mut self, now: Duration) -> Option<Word> {
        let wanted = self.wanted(now)?;
        let same = self.taken == Some(wanted);
        if same && (wanted == Word::Withdraw || now < self.again_at) {
            return None;
        }
        if !same && self.taken.is_none() && now < self.again_at {
            return None;
        }
        self.taken = None;
        self.again_at = now + self.options.renew_every / 4;
        Some(wanted)
    }

    /// Notes that the directory took `word`.
    pub fn told(&mut self, word: Word, now: Duration) {
        self.withdrew = word == Word::Withdraw;
        self.taken = Some(word);
        self.again_at = now + self.options.renew_every;
    }
}
