//! A small town: a few people with two devices each, and what they do, written down as a service that keeps its word would
//! have it. Tests spoil it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    base::Nanos,
    history::{
        Answer, ChangeKind, Class, Event, FORMAT, GroupChange, GroupStatus, Header, NodeStatus, Notice, Noticed,
        Observed, Operation, Outcome, Phase, PhaseEvent, ReadBack, ReadItem, SessionChange, SessionEvent, Shown,
        Subject, Told,
    },
};

/// The log of the town's group.
pub(super) const GROUP: &str = "c:900";
/// Devices of each.
pub(super) const DEVICES: u32 = 2;
/// When the load ends, in milliseconds.
pub(super) const LOAD_END: u64 = 60_000;

pub(super) struct Town {
    pub(super) events: Vec<Event>,
    /// What happens next happens then.
    now: Nanos,
    members: BTreeSet<u64>,
    /// When each came.
    joined: BTreeMap<u64, u64>,
    position: u64,
    items: Vec<ReadItem>,
    changes: Vec<GroupChange>,
    sequences: BTreeMap<(u64, u32), u64>,
    next_id: u64,
}

impl Town {
    /// A town of users `1..=people`, all of them connected.
    pub(super) fn of(people: u64) -> Self {
        let mut town = Self {
            events: Vec::new(),
            now: Nanos::from_millis(1000),
            members: BTreeSet::new(),
            joined: BTreeMap::new(),
            position: 0,
            items: Vec::new(),
            changes: Vec::new(),
            sequences: BTreeMap::new(),
            next_id: 1,
        };
        for (phase, ms) in [
            (Phase::Prepare, 0),
            (Phase::WarmUp, 100),
            (Phase::Steady, 200),
            (Phase::Drain, LOAD_END),
            (Phase::Fence, LOAD_END + 100),
            (Phase::ReadBack, LOAD_END + 200),
            (Phase::TearDown, LOAD_END + 900),
        ] {
            let at = Nanos::from_millis(ms);
            town.events.push(Event::Phase(PhaseEvent { at, phase }));
        }
        for user in 1..=people {
            for device in 1..=DEVICES {
                town.events.push(Event::Session(SessionEvent {
                    at: Nanos::from_millis(150),
                    system: "main".to_owned(),
                    session: session(user, device),
                    user,
                    device,
                    change: SessionChange::Connected {
                        connection: 1,
                        after: 0,
                    },
                }));
            }
        }
        town
    }

    /// Lets ten milliseconds pass.
    pub(super) fn tick(&mut self) -> Nanos {
        self.now = self.now.plus(Duration::from_millis(10));
        self.now
    }

    pub(super) fn operation(&mut self, class: Class, user: u64, subject: Subject) -> Operation {
        let id = self.next_id;
        self.next_id += 1;
        let sent = self.tick();
        Operation {
            id,
            attempt: 1,
            last: true,
            system: "main".to_owned(),
            session: session(user, 1),
            class,
            needs: "shard:0".to_owned(),
            groups: BTreeMap::new(),
            probe: false,
            intended: sent,
            sent,
            done: sent.plus(Duration::from_millis(2)),
            outcome: Outcome::Ok,
            answered_by: Some("n1".to_owned()),
            error: None,
            subject,
        }
    }

    /// The next place in a device's stream.
    fn sequence(&mut self, user: u64, device: u32) -> u64 {
        let sequence = self.sequences.entry((user, device)).or_default();
        *sequence += 1;
        *sequence
    }

    /// Gives every device of `users` a notice.
    pub(super) fn notice(&mut self, users: &BTreeSet<u64>, notice: &Notice) {
        for user in users {
            for device in 1..=DEVICES {
                let noticed = Noticed {
                    at: self.now.plus(Duration::from_millis(5)),
                    system: "main".to_owned(),
                    session: session(*user, device),
                    user: *user,
                    device,
                    connection: 1,
                    incarnation: 1,
                    sequence: self.sequence(*user, device),
                    repeated_on_wire: false,
                    notice: notice.clone(),
                };
                self.events.push(Event::Noticed(noticed));
            }
        }
    }

    fn show(&mut self, users: &BTreeSet<u64>, log: &str, found: &ReadItem) {
        for user in users {
            for device in 1..=DEVICES {
                let shown = Shown {
                    at: self.now.plus(Duration::from_millis(5)),
                    system: "main".to_owned(),
                    session: session(*user, device),
                    user: *user,
                    device,
                    connection: 1,
                    incarnation: 1,
                    sequence: self.sequence(*user, device),
                    log: log.to_owned(),
                    position: found.position,
                    author: found.author,
                    item: found.item,
                    hash: found.hash,
                    repeated_on_wire: false,
                };
                self.events.push(Event::Shown(shown));
            }
        }
    }

    /// Somebody changes who belongs to the group.
    pub(super) fn change(&mut self, kind: ChangeKind, actor: u64, users: &[u64]) -> u64 {
        self.position += 1;
        let concerned: BTreeSet<u64> = match kind {
            ChangeKind::Create => users.iter().copied().chain([actor]).collect(),
            ChangeKind::Join | ChangeKind::Leave => BTreeSet::from([actor]),
            ChangeKind::Add | ChangeKind::Remove => users.iter().copied().collect(),
        };
        let hear = &self.members | &concerned;
        if kind.lets_in() {
            self.members.extend(&concerned);
            self.joined.extend(concerned.iter().map(|user| (*user, self.position)));
        } else {
            self.members.retain(|user| !concerned.contains(user));
        }
        let client_id = self.next_id;
        let subject = Subject::Change {
            log: GROUP.to_owned(),
            change: kind,
            actor,
            users: users.to_vec(),
            client_id,
            position: Some(self.position),
            members: Some(self.members.len() as u64),
        };
        let operation = self.operation(Class::Group, actor, subject);
        self.events.push(Event::Op(operation));
        let change = GroupChange {
            position: self.position,
            kind,
            actor,
            client_id,
            users: concerned.into_iter().collect(),
        };
        self.changes.push(change.clone());
        let log = GROUP.to_owned();
        self.notice(&hear, &Notice::Change { log, change });
        self.position
    }

    /// A member says something in the group; its number.
    pub(super) fn say(&mut self, author: u64) -> u64 {
        self.position += 1;
        let (position, hear) = (self.position, self.members.clone());
        let found = self.put(author, GROUP, position, true, &hear);
        let item = found.item.unwrap_or_default();
        self.items.push(found);
        item
    }

    /// Somebody writes to somebody else.
    pub(super) fn write(&mut self, author: u64, to: u64) -> u64 {
        let log = format!("c:{}", author * 100 + to);
        let found = self.put(author, &log, 1, false, &BTreeSet::from([author, to]));
        let item = found.item.unwrap_or_default();
        self.read_back(&log, vec![found], Vec::new());
        item
    }

    fn put(&mut self, author: u64, log: &str, position: u64, group: bool, hear: &BTreeSet<u64>) -> ReadItem {
        let item = self.next_id;
        let found = ReadItem {
            position,
            author,
            item: Some(item),
            hash: item * 7,
        };
        let subject = Subject::Item {
            item,
            log: log.to_owned(),
            author,
            owed: if group {
                Vec::new()
            } else {
                hear.iter().copied().collect()
            },
            group,
            client_id: item,
            hash: found.hash,
            position: Some(position),
            repeated: Some(false),
        };
        let operation = self.operation(Class::Send, author, subject);
        self.events.push(Event::Op(operation));
        self.show(hear, log, &found);
        found
    }

    fn read_back(&mut self, log: &str, items: Vec<ReadItem>, changes: Vec<GroupChange>) {
        let began = Nanos::from_millis(LOAD_END + 300);
        self.events.push(Event::Read(ReadBack {
            began,
            ended: began.plus(Duration::from_millis(1)),
            system: "main".to_owned(),
            log: log.to_owned(),
            complete: true,
            after: None,
            items,
            changes,
        }));
    }

    /// A member looks at what was said since it came.
    pub(super) fn look(&mut self, user: u64) {
        let from = self.joined[&user];
        let began = self.tick();
        let answer = Answer::Log {
            log: GROUP.to_owned(),
            last_position: self.position,
            items: self.items.iter().filter(|it| it.position >= from).cloned().collect(),
            changes: self.changes.iter().filter(|it| it.position >= from).cloned().collect(),
        };
        self.tell(user, began, answer);
    }

    /// `user` is told `answer`, for which it asked at `began`.
    pub(super) fn tell(&mut self, user: u64, began: Nanos, answer: Answer) {
        self.events.push(Event::Told(Told {
            began,
            ended: began.plus(Duration::from_millis(2)),
            system: "main".to_owned(),
            session: session(user, 1),
            user,
            device: 1,
            answer,
        }));
    }

    /// The town's story to its end: the group is read back, and nobody owes anything.
    pub(super) fn end(mut self) -> Vec<Event> {
        let (items, changes) = (std::mem::take(&mut self.items), std::mem::take(&mut self.changes));
        self.read_back(GROUP, items, changes);
        let status = NodeStatus {
            groups: vec![GroupStatus {
                group: "shard:0".to_owned(),
                leader: true,
                applied: 5,
                digest: 77,
                ..GroupStatus::default()
            }],
            ..NodeStatus::default()
        };
        for (node, leader) in [("n1", true), ("n2", false)] {
            let mut status = status.clone();
            status.groups[0].leader = leader;
            self.events.push(Event::Observed(Observed {
                at: Nanos::from_millis(LOAD_END + 350),
                asked: None,
                system: "main".to_owned(),
                node: node.to_owned(),
                status: Some(status),
            }));
        }
        self.events
    }
}

pub(super) const fn session(user: u64, device: u32) -> u64 {
    user * 10 + device as u64
}

pub(super) fn header() -> Header {
    Header {
        format: FORMAT.to_owned(),
        plan: serde_json::json!({ "systems": [{ "name": "main", "kind": "messaging" }] }),
        started: String::new(),
        versions: BTreeMap::new(),
    }
}
