//! A process with several members: one bounded queue before them, and links to whole processes.

use std::collections::{BTreeMap, VecDeque};

use super::{MemberId, member::Member, message::Envelope};

/// What a host's registry looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStatus {
    /// Members in this process.
    pub members: usize,
    /// Sessions open at them.
    pub own_sessions: usize,
    /// Sessions open anywhere within reach, as the first of them knows.
    pub sessions: usize,
    /// Messages that wait to be taken in.
    pub queue: usize,
    /// The most that ever waited.
    pub queue_peak: usize,
    /// How many may.
    pub queue_max: usize,
    /// Messages that found no room.
    pub dropped: u64,
    /// Messages taken in.
    pub received: u64,
    /// Messages said to members elsewhere.
    pub sent: u64,
}

/// The members of one process.
#[derive(Debug)]
pub struct Host {
    members: BTreeMap<MemberId, Member>,
    queue: VecDeque<Envelope>,
    queue_max: usize,
    queue_peak: usize,
    dropped: u64,
    received: u64,
    sent: u64,
}

impl Host {
    /// A process with `members`, which reach each other, and room for `queue_max` messages that wait.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member>, queue_max: usize) -> Self {
        let mut host = Self {
            members: members.into_iter().map(|member| (member.id(), member)).collect(),
            queue: VecDeque::new(),
            queue_max,
            queue_peak: 0,
            dropped: 0,
            received: 0,
            sent: 0,
        };
        let own: Vec<MemberId> = host.members.keys().copied().collect();
        host.link(&own, true);
        host
    }

    /// Its members' numbers.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.members.keys().copied()
    }

    /// The member `id`, if it lives here.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// A session was opened in this process; false when there is no room for it. Sessions are spread over the members.
    pub fn open(&mut self, session: u64) -> bool {
        self.of(session).is_some_and(|member| member.open(session))
    }

    /// A session ended in this process.
    pub fn end(&mut self, session: u64) {
        if let Some(member) = self.of(session) {
            member.end(session);
        }
    }

    fn of(&mut self, session: u64) -> Option<&mut Member> {
        let members = self.members.len().max(1) as u64;
        let at = usize::try_from(session % members).unwrap_or(0);
        self.members.values_mut().nth(at)
    }

    /// Another process, with these members, can be reached, or can't any more.
    pub fn link(&mut self, theirs: &[MemberId], up: bool) {
        for member in self.members.values_mut() {
            for peer in theirs {
                if up {
                    member.link_up(*peer);
                } else {
                    member.link_down(*peer);
                }
            }
        }
    }

    /// A message came; false when there was no room for it.
    pub fn deliver(&mut self, envelope: Envelope) -> bool {
        if self.queue.len() >= self.queue_max {
            self.dropped += 1;
            return false;
        }
        self.queue.push_back(envelope);
        self.queue_peak = self.queue_peak.max(self.queue.len());
        true
    }

    /// Takes the oldest message in, and says how many entries it had; none when none waits.
    pub fn take_in(&mut self) -> Option<usize> {
        let Envelope { from, to, body } = self.queue.pop_front()?;
        self.received += 1;
        if let Some(member) = self.members.get_mut(&to) {
            member.receive(from, &body);
        }
        Some(body.entries())
    }

    /// Messages that wait to be taken in.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue.len()
    }

    /// One round of each member.
    pub fn tick(&mut self) {
        for member in self.members.values_mut() {
            member.tick();
        }
    }

    /// What its members have to say to members elsewhere. What they say to each other waits in the queue like the rest.
    pub fn drain(&mut self) -> Vec<Envelope> {
        let said: Vec<Envelope> = self.members.values_mut().flat_map(Member::drain).collect();
        let mut away = Vec::new();
        for envelope in said {
            if self.members.contains_key(&envelope.to) {
                self.deliver(envelope);
            } else {
                away.push(envelope);
            }
        }
        self.sent += away.len() as u64;
        away
    }

    /// What it looks like from outside.
    #[must_use]
    pub fn status(&self) -> HostStatus {
        HostStatus {
            members: self.members.len(),
            own_sessions: self.members.values().map(Member::own_sessions).sum(),
            sessions: self.members.values().next().map_or(0, Member::sessions),
            queue: self.queue.len(),
            queue_peak: self.queue_peak,
            queue_max: self.queue_max,
            dropped: self.dropped,
            received: self.received,
            sent: self.sent,
        }
    }
}
