//! A simulated flap: hosts whose back-end network goes away for a while and comes back, and what their registry then
//! says until it is quiet.
//!
//! Time is virtual, in microseconds; a seed decides delays, reconnects and the members' own choices, so the same seed
//! counts the same. Links between hosts break and come back each at its own instant; members of one host never lose each
//! other. While the network is away sessions end and others are opened, so there is something to agree on. Taking a
//! message in costs its host time, as its entries do: that is what makes a queue grow.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Envelope, Host, Member, MemberId, MemberOptions, Mode};
use crate::env::Streams;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Flap {
    /// How copies are kept alike.
    pub mode: Mode,
    /// Members, in all.
    pub members: u32,
    /// Members in one process.
    pub per_host: u32,
    /// Sessions at each member.
    pub sessions: u32,
    /// How many times the network goes away and comes back.
    pub flaps: u32,
    /// How long it is away and back each time, in milliseconds.
    pub away_ms: u64,
    /// Within how long the links are back, each at its own instant, in milliseconds.
    pub reconnect_ms: u64,
    /// Room in each host's queue.
    pub queue_max: usize,
    /// The seed.
    pub seed: u64,
}

impl Flap {
    /// One flap of a second with four members in each process, 20 sessions at each member, links back within 200 ms.
    #[must_use]
    pub const fn new(mode: Mode, members: u32, seed: u64) -> Self {
        Self {
            mode,
            members,
            per_host: 4,
            sessions: 20,
            flaps: 1,
            away_ms: 1000,
            reconnect_ms: 200,
            queue_max: 1 << 20,
            seed,
        }
    }
}

/// What was counted from the first heal until all was quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heal {
    /// Messages that members said to others, in their own process or elsewhere.
    pub messages: u64,
    /// Stamps and sessions in them.
    pub entries: u64,
    /// The deepest queue of any host.
    pub queue_peak: usize,
    /// Messages that found no room.
    pub dropped: u64,
    /// Until all members knew the same for good, counted from the last heal; none when they never did.
    pub agreed_ms: Option<u64>,
    /// A print of what they knew in the end, and of the order in which they came to it.
    pub print: u64,
}

/// How long a message is under way, in microseconds, drawn anew for each.
const DELAY_US: std::ops::Range<u64> = 100..2000;
/// What taking a message in costs, and each of its entries, in nanoseconds.
const MESSAGE_NS: u64 = 20_000;
const ENTRY_NS: u64 = 200;
/// A member's round.
const ROUND_US: u64 = 20_000;
/// How long after the last heal the simulation goes on.
const LASTS_US: u64 = 20_000_000;
/// Before the first flap, so that everybody knows everybody.
const CALM_US: u64 = 3_000_000;

enum Event {
    Round,
    Arrive(Envelope),
    Work(usize),
    Link { a: usize, b: usize, up: bool },
    Change,
}

struct Sim {
    flap: Flap,
    hosts: Vec<Host>,
    home: BTreeMap<MemberId, usize>,
    reach: BTreeMap<(usize, usize), bool>,
    due: BTreeMap<(u64, u64), Event>,
    serial: u64,
    busy_until_ns: Vec<u64>,
    working: Vec<bool>,
    rng: ChaCha8Rng,
    counting: bool,
    messages: u64,
    entries: u64,
    print: u64,
}

/// Runs `flap`.
#[must_use]
pub fn run(flap: Flap) -> Heal {
    Sim::new(flap).run()
}

impl Sim {
    fn new(flap: Flap) -> Self {
        let streams = Streams::new(flap.seed);
        let ids: Vec<MemberId> = (0..flap.members).collect();
        let mut home = BTreeMap::new();
        let mut hosts = Vec::new();
        for chunk in ids.chunks(flap.per_host.max(1) as usize) {
            let members = chunk.iter().map(|id| {
                let options = MemberOptions {
                    mode: flap.mode,
                    ..MemberOptions::default()
                };
                let rng = streams.stream(&format!("member {id}"));
                Member::new(*id, ids.iter().copied(), 1, options, rng)
            });
            let mut host = Host::new(members, flap.queue_max);
            for id in chunk {
                home.insert(*id, hosts.len());
                for session in 0..flap.sessions {
                    host.open(session_of(*id, session));
                }
            }
            hosts.push(host);
        }
        let many = hosts.len();
        Self {
            flap,
            hosts,
            home,
            reach: BTreeMap::new(),
            due: BTreeMap::new(),
            serial: 0,
            busy_until_ns: vec![0; many],
            working: vec![false; many],
            rng: streams.stream("flap"),
            counting: false,
            messages: 0,
            entries: 0,
            print: 0,
        }
    }

    fn at(&mut self, us: u64, event: Event) {
        self.serial += 1;
        self.due.insert((us, self.serial), event);
    }

    /// All links between hosts change within `over_us` of `from_us`.
    fn links(&mut self, from_us: u64, over_us: u64, up: bool) {
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                let at = from_us + self.rng.random_range(0..=over_us);
                self.at(at, Event::Link { a, b, up });
            }
        }
    }

    fn run(mut self) -> Heal {
        let (away, back) = (self.flap.away_ms * 1000, self.flap.reconnect_ms * 1000);
        self.links(0, back, true);
        let mut healed = 0;
        for flap in 0..u64::from(self.flap.flaps) {
            let down = CALM_US + flap * 2 * away;
            self.links(down, 10_000, false);
            self.at(down + away / 2, Event::Change);
            healed = down + away;
            self.links(healed, back, true);
        }
        let first_heal = CALM_US + away;
        self.at(ROUND_US, Event::Round);
        let mut agreed = None;
        while let Some(((now, _), event)) = self.due.pop_first() {
            if now > healed + LASTS_US {
                break;
            }
            self.counting = now >= first_heal;
            let round = matches!(event, Event::Round);
            self.happen(now, event);
            if round && now > healed + back {
                let (alike, quiet) = (self.alike(), self.quiet());
                if !alike {
                    agreed = None;
                } else if agreed.is_none() {
                    agreed = Some(now);
                }
                if alike && quiet {
                    break;
                }
            }
        }
        let status = self.hosts.iter().map(Host::status);
        Heal {
            messages: self.messages,
            entries: self.entries,
            queue_peak: status.clone().map(|host| host.queue_peak).max().unwrap_or(0),
            dropped: status.map(|host| host.dropped).sum(),
            agreed_ms: agreed.map(|us| (us - healed) / 1000),
            print: self.print,
        }
    }

    fn happen(&mut self, now: u64, event: Event) {
        match event {
            Event::Round => {
                for host in 0..self.hosts.len() {
                    self.hosts[host].tick();
                    self.send(host, now);
                }
                self.at(now + ROUND_US, Event::Round);
            }
            Event::Arrive(envelope) => {
                let (from, to) = (self.home[&envelope.from], self.home[&envelope.to]);
                // What was under way when a link broke is lost with it.
                if self.reaches(from, to) {
                    self.print = self.print.rotate_left(5) ^ now ^ u64::from(envelope.to);
                    self.hosts[to].deliver(envelope);
                    self.work(to, now);
                }
            }
            Event::Work(host) => {
                self.working[host] = false;
                if let Some(entries) = self.hosts[host].take_in() {
                    let cost = MESSAGE_NS + ENTRY_NS * entries as u64;
                    self.busy_until_ns[host] = self.busy_until_ns[host].max(now * 1000) + cost;
                    self.send(host, now);
                    self.work(host, now);
                }
            }
            Event::Link { a, b, up } => {
                self.reach.insert((a, b), up);
                let (of_a, of_b): (Vec<_>, Vec<_>) = (self.hosts[a].ids().collect(), self.hosts[b].ids().collect());
                self.hosts[a].link(&of_b, up);
                self.hosts[b].link(&of_a, up);
                self.send(a, now);
                self.send(b, now);
            }
            Event::Change => {
                for id in 0..self.flap.members {
                    let host = &mut self.hosts[self.home[&id]];
                    host.end(session_of(id, 0));
                    host.open(session_of(
                        id,
                        self.flap.sessions + u32::try_from(now / 1_000_000).unwrap_or(0),
                    ));
                }
                for host in 0..self.hosts.len() {
                    self.send(host, now);
                }
            }
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        a == b || self.reach.get(&(a.min(b), a.max(b))).copied().unwrap_or(false)
    }

    /// Has `host` take its next message in when it has time for it.
    fn work(&mut self, host: usize, now: u64) {
        if !self.working[host] && self.hosts[host].queue() > 0 {
            self.working[host] = true;
            let free = self.busy_until_ns[host].div_ceil(1000).max(now);
            self.at(free, Event::Work(host));
        }
    }

    fn send(&mut self, host: usize, now: u64) {
        let before = self.hosts[host].queue();
        let away = self.hosts[host].drain();
        let within = self.hosts[host].queue().saturating_sub(before);
        if self.counting {
            self.messages += (away.len() + within) as u64;
            self.entries += away.iter().map(|envelope| envelope.body.entries() as u64).sum::<u64>();
        }
        for envelope in away {
            let at = now + self.rng.random_range(DELAY_US);
            self.at(at, Event::Arrive(envelope));
        }
        self.work(host, now);
    }

    /// Whether everybody knows the same.
    fn alike(&self) -> bool {
        let mut prints = self
            .hosts
            .iter()
            .flat_map(|host| host.ids().filter_map(|id| host.member(id)));
        let Some(first) = prints.next().map(Member::print) else {
            return true;
        };
        prints.all(|member| member.print() == first)
    }

    /// Whether nothing is under way and nobody has news left to talk about.
    fn quiet(&self) -> bool {
        let members = || {
            self.hosts
                .iter()
                .flat_map(|host| host.ids().filter_map(|id| host.member(id)))
        };
        members().all(Member::is_quiet)
            && self.hosts.iter().all(|host| host.queue() == 0)
            && !self.due.values().any(|event| matches!(event, Event::Arrive(_)))
    }
}

/// A session that stands for the `session`th device of `member`'s share of the users.
fn session_of(member: MemberId, session: u32) -> u64 {
    (u64::from(session) << 32 | u64::from(member)) + 1
}
