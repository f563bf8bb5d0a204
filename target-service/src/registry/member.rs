//! One member: its own sessions, its copies of the others', and what it says to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    MemberId,
    copy::Copy,
    message::{Body, Envelope, News, Stamp},
};

/// How members keep their copies alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Versions first, then what is lacking, one other member at a time.
    #[default]
    Digests,
    /// The whole state, to everybody, at each reconnect.
    Naive,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Digests, Self::Naive];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digests => "digests",
            Self::Naive => "naive",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == word);
        found.ok_or_else(|| format!("the registry's mode is {word:?}: write digests or naive"))
    }
}

/// How a member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberOptions {
    /// How copies are kept alike.
    pub mode: Mode,
    /// Rounds, beyond the logarithm of the number of members, for which news keep a member talking.
    pub rounds_more: u32,
    /// Without news, a member talks every so many rounds, to each of the others in turn.
    pub idle_rounds: u32,
    /// Sessions at one member; one more is refused.
    pub sessions_max: usize,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            rounds_more: 3,
            idle_rounds: 50,
            sessions_max: 100_000,
        }
    }
}

/// One member of the registry.
#[derive(Debug)]
pub struct Member {
    id: MemberId,
    options: MemberOptions,
    copies: BTreeMap<MemberId, Copy>,
    connected: BTreeSet<MemberId>,
    /// Rounds for which there is still something to talk about.
    rounds_left: u32,
    idle: u32,
    turn: MemberId,
    rng: ChaCha8Rng,
    out: Vec<Envelope>,
}

impl Member {
    /// The member `id` among `members`, in its life `incarnation`, which is higher for each start and never 0.
    #[must_use]
    pub fn new(
        id: MemberId,
        members: impl IntoIterator<Item = MemberId>,
        incarnation: u64,
        options: MemberOptions,
        rng: ChaCha8Rng,
    ) -> Self {
        let mut copies: BTreeMap<MemberId, Copy> = members.into_iter().map(|id| (id, Copy::default())).collect();
        copies.insert(id, Copy::born(incarnation.max(1)));
        Self {
            id,
            options,
            copies,
            connected: BTreeSet::new(),
            rounds_left: 0,
            idle: 0,
            turn: id,
            rng,
            out: Vec::new(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// A session was opened here; false when there is no room for it.
    pub fn open(&mut self, session: u64) -> bool {
        let full = self.own().opened().len() >= self.options.sessions_max;
        if full && !self.own().opened().contains_key(&session) {
            return false;
        }
        self.change(|own| own.open(session));
        true
    }

    /// A session ended here.
    pub fn end(&mut self, session: u64) {
        self.change(|own| own.end(session));
    }

    fn own(&self) -> &Copy {
        &self.copies[&self.id]
    }

    fn change(&mut self, change: impl FnOnce(&mut Copy) -> bool) {
        let before = self.own().stamp();
        let Some(own) = self.copies.get_mut(&self.id) else {
            return;
        };
        if !change(own) {
            return;
        }
        match self.options.mode {
            Mode::Digests => self.stir(),
            Mode::Naive => {
                let news = self.own().since(self.id, before);
                self.broadcast(vec![news]);
            }
        }
    }

    /// There is something to talk about.
    fn stir(&mut self) {
        let members = u32::try_from(self.copies.len()).unwrap_or(u32::MAX);
        self.rounds_left = members.next_power_of_two().ilog2() + self.options.rounds_more;
    }

    fn broadcast(&mut self, news: Vec<News>) {
        let news: Arc<[News]> = news.into();
        let to: Vec<MemberId> = self.connected.iter().copied().collect();
        for to in to {
            self.say(to, Body::News(news.clone()));
        }
    }

    fn say(&mut self, to: MemberId, body: Body) {
        self.out.push(Envelope {
            from: self.id,
            to,
            body,
        });
    }

    /// `peer` can be reached, again or for the first time.
    pub fn link_up(&mut self, peer: MemberId) {
        if peer == self.id || !self.copies.contains_key(&peer) || !self.connected.insert(peer) {
            return;
        }
        match self.options.mode {
            Mode::Digests => self.stir(),
            Mode::Naive => {
                let whole: Vec<News> = self.copies.iter().map(|(id, copy)| copy.whole(*id)).collect();
                self.broadcast(whole);
            }
        }
    }

    /// `peer` can't be reached any more. Its sessions are still known, but not counted as there.
    pub fn link_down(&mut self, peer: MemberId) {
        self.connected.remove(&peer);
    }

    /// One round: talks to another member if there is anything to talk about, or if it is time to make sure.
    pub fn tick(&mut self) {
        if self.options.mode == Mode::Naive || self.connected.is_empty() {
            return;
        }
        if self.rounds_left > 0 {
            self.rounds_left -= 1;
            let at = self.rng.random_range(0..self.connected.len());
            if let Some(peer) = self.connected.iter().nth(at).copied() {
                self.ask(peer);
            }
            return;
        }
        self.idle += 1;
        if self.idle >= self.options.idle_rounds {
            self.idle = 0;
            let next = self.connected.range(self.turn.saturating_add(1)..).next();
            if let Some(peer) = next.or_else(|| self.connected.first()).copied() {
                self.turn = peer;
                self.ask(peer);
            }
        }
    }

    fn ask(&mut self, peer: MemberId) {
        let digest = self.copies.iter().map(|(id, copy)| (*id, copy.stamp())).collect();
        self.say(peer, Body::Digest(digest));
    }

    /// Takes a message in. What concerns nobody that this member knows is passed over.
    pub fn receive(&mut self, from: MemberId, body: &Body) {
        match body {
            Body::Digest(theirs) => {
                if let Some(heard) = theirs.get(&self.id) {
                    self.outlive(*heard);
                }
                let mut news = Vec::new();
                let mut lacking = BTreeMap::new();
                for (id, copy) in &self.copies {
                    let has = theirs.get(id).copied().unwrap_or_default();
                    if copy.stamp() > has {
                        news.push(copy.since(*id, has));
                    } else if copy.stamp() < has {
                        lacking.insert(*id, copy.stamp());
                    }
                }
                if !news.is_empty() || !lacking.is_empty() {
                    self.say(from, Body::Answer { news, lacking });
                }
            }
            Body::Answer { news, lacking } => {
                self.take(news);
                let missing: Vec<News> = lacking
                    .iter()
                    .filter_map(|(id, has)| {
                        let copy = self.copies.get(id)?;
                        (copy.stamp() > *has).then(|| copy.since(*id, *has))
                    })
                    .collect();
                if !missing.is_empty() {
                    self.say(from, Body::News(missing.into()));
                }
            }
            Body::News(news) => self.take(news),
        }
    }

    /// Somebody has heard of a later life of this member than this one: this one starts a later one still, since its
    /// sessions are the ones that are there.
    fn outlive(&mut self, heard: Stamp) {
        if heard > self.own().stamp()
            && let Some(own) = self.copies.get_mut(&self.id)
        {
            own.outlive(heard);
            self.stir();
        }
    }

    fn take(&mut self, news: &[News]) {
        let mut learnt = false;
        for news in news {
            // Nobody tells a member of its own sessions.
            if news.owner != self.id
                && let Some(copy) = self.copies.get_mut(&news.owner)
            {
                learnt |= copy.take(news);
            }
        }
        if learnt && self.options.mode == Mode::Digests {
            self.stir();
        }
    }

    /// What it has to say, in order.
    pub fn drain(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.out)
    }

    /// Where `session` is open, as far as this member knows, at itself or at one that it reaches.
    #[must_use]
    pub fn holder(&self, session: u64) -> Option<MemberId> {
        let holds = |id: &&MemberId| {
            self.copies
                .get(*id)
                .is_some_and(|copy| copy.opened().contains_key(&session))
        };
        std::iter::once(&self.id).chain(&self.connected).find(holds).copied()
    }

    /// Sessions that are open here.
    #[must_use]
    pub fn own_sessions(&self) -> usize {
        self.own().opened().len()
    }

    /// Sessions that are open, as far as this member knows, at itself and at those that it reaches.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let there = std::iter::once(&self.id).chain(&self.connected);
        there
            .filter_map(|id| self.copies.get(id))
            .map(|copy| copy.opened().len())
            .sum()
    }

    /// Whether it has nothing left to talk about, but to make sure now and then.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.rounds_left == 0 && self.out.is_empty()
    }

    /// How new everything is that it knows.
    #[must_use]
    pub fn stamps(&self) -> BTreeMap<MemberId, Stamp> {
        self.copies.iter().map(|(id, copy)| (*id, copy.stamp())).collect()
    }

    /// A print of everything that it knows: equal for members that know the same.
    #[must_use]
    pub fn print(&self) -> u64 {
        let mut bytes = Vec::new();
        for (id, copy) in &self.copies {
            for number in [u64::from(*id), copy.stamp().incarnation, copy.stamp().version] {
                bytes.extend(number.to_be_bytes());
            }
            for session in copy.opened().keys() {
                bytes.extend(session.to_be_bytes());
            }
        }
        xxh3_64(&bytes)
    }
}
