//! The board: what was seen of each part and when, and the one sentence that follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

/// What the page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// All is well: everybody is served and everything is delivered.
    AllClear,
    /// Something does not work, or is not back yet.
    Degraded,
    /// Users' own way works for no part of the store.
    Down,
    /// It can not tell.
    Unknown,
}

impl Said {
    /// Every word.
    pub const ALL: [Self; 4] = [Self::AllClear, Self::Degraded, Self::Down, Self::Unknown];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllClear => "all_clear",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Said {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|said| said.as_str() == word);
        found.ok_or_else(|| format!("{word:?} is nothing that a status page says"))
    }
}

/// How the page judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// By everything that it must know.
    #[default]
    Whole,
    /// A deliberately wrong page: all is well as soon as every process answers.
    #[cfg(any(test, feature = "plants"))]
    Processes,
}

/// Bounds and times of a board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoardOptions {
    /// How it judges.
    pub rule: Rule,
    /// For how long something that was seen counts.
    pub fresh_for: Duration,
    /// What share of the sessions that were there is enough for all.
    pub sessions_share: f64,
    /// What may be undelivered in the calmest of times: messages under way.
    pub backlog_calm: u64,
    /// For how long everything must have been well.
    pub hold: Duration,
}

impl Default for BoardOptions {
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            fresh_for: Duration::from_secs(3),
            sessions_share: 0.99,
            backlog_calm: 0,
            hold: Duration::from_secs(2),
        }
    }
}

/// What the page says, since when it knows, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// In a word.
    pub said: Said,
    /// The oldest of what it rests on; none when it rests on nothing.
    pub as_of: Option<Duration>,
    /// Sessions that are there, where all gateways said so lately.
    pub sessions: Option<u64>,
    /// Sessions that were there when all was well last.
    pub sessions_before: u64,
    /// What is undelivered, where all nodes said so lately.
    pub backlog: Option<u64>,
    /// What is wrong or not known, each in words.
    pub reasons: Vec<String>,
}

/// Reasons that are said; more are counted.
const REASONS_MAX: usize = 16;

/// The last that was seen of one part.
type Seen<T> = BTreeMap<String, Option<(Duration, Result<T, String>)>>;

/// What was seen of each part of the service.
#[derive(Clone, Debug)]
pub struct Board {
    options: BoardOptions,
    /// Each node's undelivered entries: those of the shards that it leads.
    nodes: Seen<u64>,
    /// Each gateway's sessions.
    gateways: Seen<u64>,
    /// Each part of the store, by the way that users take.
    ways: Seen<()>,
    sessions_before: u64,
    well_since: Option<Duration>,
}

impl Board {
    /// A board for a service of these nodes, gateways and parts. What isn't named here is never needed for an all-clear.
    #[must_use]
    pub fn new(
        nodes: BTreeSet<String>,
        gateways: BTreeSet<String>,
        parts: BTreeSet<String>,
        options: BoardOptions,
    ) -> Self {
        fn unseen<T>(names: BTreeSet<String>) -> Seen<T> {
            names.into_iter().map(|name| (name, None)).collect()
        }
        Self {
            options,
            nodes: unseen(nodes),
            gateways: unseen(gateways),
            ways: unseen(parts),
            sessions_before: 0,
            well_since: None,
        }
    }

    /// A node said how much it owes, or why it was not heard.
    pub fn node(&mut self, name: &str, backlog: Result<u64, String>, now: Duration) {
        note(&mut self.nodes, name, backlog, now);
    }

    /// A gateway said how many sessions it has, or why it was not heard.
    pub fn gateway(&mut self, name: &str, sessions: Result<u64, String>, now: Duration) {
        note(&mut self.gateways, name, sessions, now);
    }

    /// A part of the store served by the way that users take, or why it did not.
    pub fn way(&mut self, part: &str, served: Result<(), String>, now: Duration) {
        note(&mut self.ways, part, served, now);
    }

    /// The sessions that are there now are all that there should be: said by an operator, when users are gone for good.
    pub fn rebase(&mut self, now: Duration) {
        self.sessions_before = self.total(&self.gateways, now).unwrap_or(0);
    }

    fn fresh(&self, at: Duration, now: Duration) -> bool {
        now.saturating_sub(at) <= self.options.fresh_for
    }

    /// What all parts of a kind say together; none unless each said it lately.
    fn total(&self, seen: &Seen<u64>, now: Duration) -> Option<u64> {
        seen.values().try_fold(0_u64, |sum, seen| match seen {
            Some((at, Ok(count))) if self.fresh(*at, now) => Some(sum.saturating_add(*count)),
            _ => None,
        })
    }

    /// What is wrong, and what isn't known, of one kind of part.
    fn look<T>(&self, kind: &str, seen: &Seen<T>, now: Duration, wrong: &mut Vec<String>, unknown: &mut Vec<String>) {
        for (name, seen) in seen {
            match seen {
                None => unknown.push(format!("{kind} {name} was never heard")),
                Some((at, _)) if !self.fresh(*at, now) => {
                    let ago = now.saturating_sub(*at).as_millis();
                    unknown.push(format!("{kind} {name} was asked last {ago} ms ago"));
                }
                Some((_, Ok(_))) => {}
                Some((_, Err(why))) => wrong.push(format!("{kind} {name}: {why}")),
            }
        }
    }

    /// Says how things are at `now`. To be called after each round of questions: that all is well must have been so at
    /// each call for a while.
    pub fn say(&mut self, now: Duration) -> Statement {
        let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
        self.look("node", &self.nodes, now, &mut wrong, &mut unknown);
        self.look("gateway", &self.gateways, now, &mut wrong, &mut unknown);
        self.look("part", &self.ways, now, &mut wrong, &mut unknown);
        let (sessions, backlog) = (self.total(&self.gateways, now), self.total(&self.nodes, now));
        if self.judges_wholly() {
            self.amounts(sessions, backlog, &mut wrong);
        }
        let said = if self.all_shut(now) {
            Said::Down
        } else if !wrong.is_empty() {
            Said::Degraded
        } else if !unknown.is_empty() || self.is_blind() {
            Said::Unknown
        } else {
            Said::AllClear
        };
        let said = self.held(said, now, &mut unknown);
        if said == Said::AllClear {
            self.sessions_before = sessions.unwrap_or(0).max(self.enough());
        }
        let times = self.nodes.values().map(at).chain(self.gateways.values().map(at));
        let oldest = times.chain(self.ways.values().map(at)).min();
        wrong.append(&mut unknown);
        let more = wrong.len().saturating_sub(REASONS_MAX);
        wrong.truncate(REASONS_MAX);
        if more > 0 {
            wrong.push(format!("and {more} more"));
        }
        Statement {
            said,
            as_of: oldest.flatten(),
            sessions,
            sessions_before: self.sessions_before,
            backlog,
            reasons: wrong,
        }
    }

    const fn judges_wholly(&self) -> bool {
        match self.options.rule {
            Rule::Whole => true,
            #[cfg(any(test, feature = "plants"))]
            Rule::Processes => false,
        }
    }

    /// Whether sessions are back and what was owed is delivered, where that is known.
    fn amounts(&self, sessions: Option<u64>, backlog: Option<u64>, wrong: &mut Vec<String>) {
        if let Some(there) = sessions
            && there < self.enough()
        {
            let before = self.sessions_before;
            wrong.push(format!("{there} sessions are there, of {before} that were"));
        }
        if let Some(owed) = backlog
            && owed > self.options.backlog_calm
        {
            let calm = self.options.backlog_calm;
            wrong.push(format!("{owed} entries are undelivered, more than {calm}"));
        }
    }

    /// How many sessions are enough for all that were there.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count far below 2^53, rounded up"
    )]
    fn enough(&self) -> u64 {
        (self.sessions_before as f64 * self.options.sessions_share.clamp(0.0, 1.0)).ceil() as u64
    }

    /// Whether users' own way was tried lately and is shut for every part.
    fn all_shut(&self, now: Duration) -> bool {
        let shut = |seen: &Option<(Duration, Result<(), String>)>| {
            seen.as_ref()
                .is_some_and(|(at, served)| self.fresh(*at, now) && served.is_err())
        };
        !self.ways.is_empty() && self.ways.values().all(shut)
    }

    /// A board that was given nothing to look at sees nothing.
    fn is_blind(&self) -> bool {
        self.ways.is_empty() || self.nodes.is_empty()
    }

    /// An all-clear is held back until it has lasted.
    fn held(&mut self, said: Said, now: Duration, unknown: &mut Vec<String>) -> Said {
        if said != Said::AllClear {
            self.well_since = None;
            return said;
        }
        let since = *self.well_since.get_or_insert(now);
        let lasted = now.saturating_sub(since);
        if lasted >= self.options.hold || !self.judges_wholly() {
            return Said::AllClear;
        }
        let (lasted, hold) = (lasted.as_millis(), self.options.hold.as_millis());
        unknown.push(format!("all has been well for {lasted} ms, not for {hold} yet"));
        Said::Unknown
    }
}

fn note<T>(seen: &mut Seen<T>, name: &str, what: Result<T, String>, now: Duration) {
    // What wasn't named when the board was made is none of its business, and no way to make it grow.
    if let Some(seen) = seen.get_mut(name) {
        *seen = Some((now, what));
    }
}

fn at<T>(seen: &Option<(Duration, T)>) -> Option<Duration> {
    seen.as_ref().map(|(at, _)| *at)
}
