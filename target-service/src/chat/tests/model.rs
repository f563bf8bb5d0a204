//! Random commands, compared with a model made of plain maps; and the same log cut into batches in every way.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_proto::chat::v1::{AcceptOutboxCommand, command::Command as Kind};
use proptest::prelude::*;

use super::support::{Shard, acknowledge, fence, memory, open, send, sign_up, trim};
use crate::chat::{Machine, Reply, ids};

const USERS: u8 = 4;
const DEVICES: u8 = 2;

/// One random step, in small numbers so that repeats and collisions are common.
#[derive(Clone, Debug)]
pub(super) enum Step {
    SignUp {
        user: u8,
    },
    Open {
        user: u8,
        device: u8,
        nonce: u8,
    },
    Send {
        from: u8,
        device: u8,
        to: u8,
        client_id: u8,
        body: u8,
        stale: bool,
    },
    Pump {
        repeat: u8,
        skip: u8,
        limit: u8,
    },
    Acknowledge {
        user: u8,
        device: u8,
        ahead: u8,
    },
    Fence {
        user: u8,
        device: u8,
    },
    Wait {
        ms: u16,
    },
}

impl Step {
    /// A fixed mix, the same for each number.
    pub(super) fn numbered(n: u32) -> Self {
        let mut x = n.wrapping_mul(2_654_435_761) ^ 0x5bd1;
        let mut pick = |below: u32| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x % below) as u8
        };
        let (user, device) = (pick(4), pick(2));
        match pick(12) {
            0 => Self::SignUp { user },
            1 => Self::Open {
                user,
                device,
                nonce: pick(3),
            },
            2 => Self::Fence { user, device },
            3..=4 => Self::Acknowledge {
                user,
                device,
                ahead: pick(3),
            },
            5..=6 => Self::Pump {
                repeat: pick(3),
                skip: 0,
                limit: 1 + pick(5),
            },
            _ => Self::Send {
                from: user,
                device,
                to: pick(4),
                client_id: pick(200),
                body: pick(3),
                stale: false,
            },
        }
    }

    fn any() -> impl Strategy<Value = Self> {
        let who = || (0..USERS, 0..DEVICES);
        prop_oneof![
            1 => (0..USERS).prop_map(|user| Self::SignUp { user }),
            2 => (who(), 0..3u8).prop_map(|((user, device), nonce)| Self::Open { user, device, nonce }),
            8 => (who(), 0..USERS, 0..40u8, 0..2u8, prop::bool::weighted(0.1)).prop_map(
                |((from, device), to, client_id, body, stale)| Self::Send { from, device, to, client_id, body, stale }
            ),
            4 => (0..3u8, 0..2u8, 0..6u8).prop_map(|(repeat, skip, limit)| Self::Pump { repeat, skip, limit }),
            3 => (who(), 0..4u8).prop_map(|((user, device), ahead)| Self::Acknowledge { user, device, ahead }),
            1 => who().prop_map(|(user, device)| Self::Fence { user, device }),
            1 => (0..2000u16).prop_map(|ms| Self::Wait { ms }),
        ]
    }
}

fn phone(user: u8) -> String {
    format!("555000{user}")
}

type Message = (u64, u64, Vec<u8>);

/// Where a client id was used: conversation, position, body.
type Use = (u64, u64, Vec<u8>);

#[derive(Debug, Default)]
struct ModelDevice {
    session: u64,
    nonce: u64,
    old_nonces: BTreeSet<u64>,
    acknowledged: u64,
    stream: Vec<Message>,
}

/// The service as one would explain it: no tables, no marks, no counters.
#[derive(Debug, Default)]
struct Model {
    users: BTreeMap<u8, u64>,
    devices: BTreeMap<(u64, u32), ModelDevice>,
    conversations: BTreeMap<u64, Vec<Message>>,
    used: BTreeMap<(u64, u32, u64), Use>,
    /// Everything sent, in order, with its recipient.
    sent: Vec<(u64, Message)>,
    delivered: usize,
    trimmed: usize,
    pending: BTreeMap<u64, Vec<Message>>,
    fenced: BTreeSet<u64>,
    newest_session: BTreeMap<(u64, u32), u64>,
}

/// A machine and the model side by side.
pub(super) struct Driver {
    pub(super) shard: Shard,
    model: Model,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self {
            shard: Shard::alone(),
            model: Model::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::SignUp { user } => self.sign_up(user),
            Step::Open { user, device, nonce } => self.open(user, device, nonce),
            Step::Send {
                from,
                device,
                to,
                client_id,
                body,
                stale,
            } => self.send(from, device, to, client_id, body, stale),
            Step::Pump { repeat, skip, limit } => self.pump(repeat, skip, limit),
            Step::Acknowledge { user, device, ahead } => self.acknowledge(user, device, ahead),
            Step::Fence { user, device } => self.fence(user, device),
            Step::Wait { ms } => self.shard.time_ms += u64::from(ms),
        }
    }

    fn sign_up(&mut self, user: u8) {
        let reply = self.shard.run(sign_up(&phone(user)));
        let Reply::SignedUp { user: id, created } = reply else {
            panic!("{reply:?}");
        };
        let before = self.model.users.insert(user, id);
        assert_eq!(created, before.is_none());
        assert!(before.is_none_or(|before| before == id));
        let distinct: BTreeSet<_> = self.model.users.values().collect();
        assert_eq!(distinct.len(), self.model.users.len());
    }

    fn open(&mut self, user: u8, device: u8, nonce: u8) {
        let Some(&user) = self.model.users.get(&user) else {
            return;
        };
        let (device, nonce) = (u32::from(device) + 1, u64::from(nonce));
        let reply = self.shard.run(open(user, device, nonce));
        let first = !self.model.devices.keys().any(|(owner, _)| *owner == user);
        let pending = if first { self.model.pending.remove(&user) } else { None };
        let it = self.model.devices.entry((user, device)).or_default();
        it.stream.extend(pending.unwrap_or_default());
        let fenced = self.model.fenced.contains(&it.session);
        if it.session != 0 && it.nonce == nonce && !fenced {
            assert!(
                matches!(reply, Reply::Opened { session, .. } if session == it.session),
                "{reply:?}"
            );
            return;
        }
        if it.old_nonces.contains(&nonce) {
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
            return;
        }
        let Reply::Opened {
            session,
            acknowledged,
            last_sequence,
            ..
        } = reply
        else {
            panic!("{reply:?}");
        };
        assert!(session > it.session);
        assert_eq!((acknowledged, last_sequence), (it.acknowledged, it.stream.len() as u64));
        if it.session != 0 && it.nonce != nonce {
            it.old_nonces.insert(it.nonce);
        }
        (it.session, it.nonce) = (session, nonce);
    }

    fn send(&mut self, from: u8, device: u8, to: u8, client_id: u8, body: u8, stale: bool) {
        let (Some(&from), Some(&to)) = (self.model.users.get(&from), self.model.users.get(&to)) else {
            return;
        };
        let device = u32::from(device) + 1;
        let Some(session) = self.model.devices.get(&(from, device)).map(|it| it.session) else {
            return;
        };
        let session = session - u64::from(stale);
        let (client_id, body) = (u64::from(client_id), vec![b'a' + body]);
        let text = String::from_utf8(body.clone()).unwrap();
        let reply = self.shard.run(send((from, device, session), to, client_id, &text));
        let conversation = ids::conversation_id(from, to);
        if let Some((first, position, old)) = self.model.used.get(&(from, device, client_id)) {
            let same = from != to && *first == conversation && *old == body;
            let again = Reply::Sent {
                conversation,
                position: *position,
                repeated: true,
            };
            assert_eq!(same, reply == again, "{reply:?}");
            assert!(same || matches!(reply, Reply::Refused(_)));
            return;
        }
        let newest = self.model.newest_session.entry((from, device)).or_default();
        if from == to || self.model.fenced.contains(&session) || session < *newest {
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
            return;
        }
        *newest = session;
        let messages = self.model.conversations.entry(conversation).or_default();
        messages.push((from, client_id, body.clone()));
        let position = messages.len() as u64;
        let want = Reply::Sent {
            conversation,
            position,
            repeated: false,
        };
        assert_eq!(reply, want);
        self.model
            .used
            .insert((from, device, client_id), (conversation, position, body.clone()));
        self.model.sent.push((to, (from, client_id, body)));
    }

    /// Carries some of the outbox over, perhaps with items that were carried before, perhaps leaving some out.
    fn pump(&mut self, repeat: u8, skip: u8, limit: u8) {
        let taken = self.model.delivered;
        let from = taken.saturating_sub(repeat.into()).max(self.model.trimmed);
        let first = if skip > 0 { taken + usize::from(skip) } else { from };
        let items = self
            .shard
            .machine
            .outbox_pending(0, first as u64, usize::from(limit) + usize::from(repeat))
            .unwrap();
        let upto = items.last().map_or(0, |it| it.outbox_sequence as usize);
        if skip == 0 {
            for (to, message) in self.model.sent.iter().take(upto).skip(taken) {
                let mut devices = 0;
                for (_, it) in self.model.devices.range_mut((*to, 0)..=(*to, u32::MAX)) {
                    it.stream.push(message.clone());
                    devices += 1;
                }
                // The sender's own devices.
                for (_, it) in self.model.devices.range_mut((message.0, 0)..=(message.0, u32::MAX)) {
                    it.stream.push(message.clone());
                }
                if devices == 0 {
                    self.model.pending.entry(*to).or_default().push(message.clone());
                }
            }
            self.model.delivered = taken.max(upto);
        }
        let reply = self
            .shard
            .run(Kind::AcceptOutbox(AcceptOutboxCommand { from_shard: 0, items }));
        let through = self.model.delivered as u64;
        assert_eq!(reply, Reply::Accepted { from_shard: 0, through });
        if repeat == 0 {
            self.shard.run(trim(0, through));
            self.model.trimmed = self.model.delivered;
        }
    }

    fn acknowledge(&mut self, user: u8, device: u8, ahead: u8) {
        let device = u32::from(device) + 1;
        let Some(&user) = self.model.users.get(&user) else {
            return;
        };
        let Some(it) = self.model.devices.get_mut(&(user, device)) else {
            return;
        };
        let sequence = it.acknowledged + u64::from(ahead);
        let reply = self.shard.run(acknowledge((user, device, it.session), sequence));
        if self.model.fenced.contains(&it.session) {
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
            return;
        }
        it.acknowledged = sequence.min(it.stream.len() as u64);
        let acknowledged = it.acknowledged;
        assert_eq!(reply, Reply::Acknowledged { acknowledged });
    }

    fn fence(&mut self, user: u8, device: u8) {
        let Some(user) = self.model.users.get(&user) else {
            return;
        };
        if let Some(it) = self.model.devices.get(&(*user, u32::from(device) + 1)) {
            let fresh = self.model.fenced.insert(it.session);
            let sessions = u64::from(fresh);
            assert_eq!(self.shard.run(fence(&[it.session])), Reply::Fenced { sessions });
        }
    }

    /// Everything that can be read is what the model says.
    fn compare(&self) {
        let machine = &self.shard.machine;
        for (conversation, want) in &self.model.conversations {
            let history = machine.history(*conversation, 0, 1000).unwrap();
            let positions: Vec<u64> = history.messages.iter().map(|m| m.position).collect();
            assert_eq!(positions, (1..=want.len() as u64).collect::<Vec<_>>());
            let got: Vec<Message> = history
                .messages
                .into_iter()
                .map(|m| (m.sender, m.client_id, m.body.to_vec()))
                .collect();
            assert_eq!(&got, want);
        }
        let mut owed = 0;
        for ((user, device), it) in &self.model.devices {
            let state = machine.device_state(*user, *device).unwrap().unwrap();
            let last = it.stream.len() as u64;
            assert_eq!(
                (state.session, state.acknowledged, state.last_sequence),
                (it.session, it.acknowledged, last)
            );
            let shown = machine.deliveries(*user, *device, 0, 1000).unwrap();
            let sequences: Vec<u64> = shown.iter().map(|d| d.sequence).collect();
            assert_eq!(sequences, (it.acknowledged + 1..=last).collect::<Vec<_>>());
            let got: Vec<Message> = shown
                .into_iter()
                .map(|d| (d.sender, d.client_id, d.body.to_vec()))
                .collect();
            assert_eq!(got, it.stream[it.acknowledged as usize..]);
            owed += last - it.acknowledged;
        }
        let counts = machine.counts();
        assert_eq!(counts.delivery_backlog, owed);
        assert_eq!(counts.messages, self.model.sent.len() as u64);
        assert_eq!(counts.accounts, self.model.users.len() as u64);
        assert_eq!(
            counts.outbox_backlog,
            (self.model.sent.len() - self.model.trimmed) as u64
        );
        assert_eq!(
            counts.pending,
            self.model.pending.values().map(Vec::len).sum::<usize>() as u64
        );
        assert_eq!(counts.dead_letters, 0);
    }
}

/// The usual beginning: everybody but one has an account and a device, so that most steps do something.
fn opening() -> Vec<Step> {
    let mut steps = Vec::new();
    for user in 0..USERS - 1 {
        steps.push(Step::SignUp { user });
        steps.push(Step::Open {
            user,
            device: 0,
            nonce: 0,
        });
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_says(steps in prop::collection::vec(Step::any(), 1..120)) {
        let mut driver = Driver::new();
        for step in opening().iter().chain(&steps) {
            driver.step(step);
        }
        driver.compare();
    }

    #[test]
    fn batches_make_no_difference(
        steps in prop::collection::vec(Step::any(), 1..80),
        sizes in prop::collection::vec(1..9usize, 1..9),
        cut in 0..100usize,
    ) {
        let mut driver = Driver::new();
        for step in opening().iter().chain(&steps) {
            driver.step(step);
        }
        let want = driver.shard.machine.digest().unwrap();
        let log = &driver.shard.log;
        let mut other = Machine::open(memory(), 0, 1).unwrap();
        let mut rest = &log[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, behind) = rest.split_at((*size).min(rest.len()));
            other.apply(batch).unwrap();
            if size % 3 == 0 {
                other.checkpoint().unwrap();
            }
            rest = behind;
        }
        prop_assert_eq!(other.digest().unwrap(), want);

        let (past, future) = log.split_at(cut.min(log.len()));
        let mut source = Machine::open(memory(), 0, 1).unwrap();
        source.apply(past).unwrap();
        let (index, term) = source.applied();
        let mut installed = Machine::open(memory(), 0, 1).unwrap();
        installed.install(index, term, &source.snapshot().unwrap()).unwrap();
        installed.apply(future).unwrap();
        prop_assert_eq!(installed.digest().unwrap(), want);
    }
}

#[test]
fn the_fixed_mix_exercises_every_kind_of_command() {
    let mut driver = Driver::new();
    for n in 0..400 {
        driver.step(&Step::numbered(n));
    }
    driver.compare();
    let counts = driver.shard.machine.counts();
    assert!(counts.messages > 20 && counts.delivered > 20, "{counts:?}");
    assert!(counts.delivered > counts.delivery_backlog, "{counts:?}");
    assert!(driver.shard.log.len() >= 200);
}
