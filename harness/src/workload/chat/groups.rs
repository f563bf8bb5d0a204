//! Life in groups: their members talk, come, let others in, go, are removed and come back; strangers try to talk, and
//! members look at what was said.
//!
//! Who belongs to a group is believed here from the answers, so that most of what is asked for may be done. The service's
//! word counts: what is judged is who belonged to it by the group's own log.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand_chacha::ChaCha8Rng;

use super::{
    Chat,
    life::{Deed, Life, below, policy},
    prepare::patient,
    world::World,
};
use crate::{
    base::Nanos,
    history::{Answer, ChangeKind, Class, Event, Subject, Told},
    workload::{
        GroupSpec, WorkloadError,
        client::{CallFailure, Outgoing},
        engine::{Intent, Policy, lock},
        payload,
        people::{Caller, Regroup, Regrouped},
    },
};

/// Groups that people may make while the load runs, for each one that there was from the start.
const MADE_FOR_EACH: usize = 3;
/// Members of those, at most.
const MADE_MEMBERS: usize = 8;
const PREPARED_WITHIN: Duration = Duration::from_secs(3);
/// The refusal of somebody who doesn't belong to the group, or may not do this in it.
const NOT_MEMBER: &str = "NOT_MEMBER";

/// A group as it is believed to be: people by their number.
#[derive(Clone, Debug)]
struct Group {
    load: usize,
    maker: usize,
    members: BTreeSet<usize>,
    /// Who was removed: they may not come back by themselves.
    removed: BTreeSet<usize>,
}

/// All groups that were made, by id.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<BTreeMap<u64, Group>>);

impl Book {
    /// Every group that was made, or tried to.
    pub(super) fn all(&self) -> Vec<u64> {
        lock(&self.0).keys().copied().collect()
    }

    fn of_load(&self, load: usize) -> Vec<(u64, Group)> {
        let book = lock(&self.0);
        let own = book.iter().filter(|(_, group)| group.load == load);
        own.map(|(id, group)| (*id, group.clone())).collect()
    }

    fn make(&self, id: u64, group: Group) {
        lock(&self.0).insert(id, group);
    }

    fn take(&self, id: u64, change: ChangeKind, actor: usize, users: &BTreeSet<usize>) {
        let mut book = lock(&self.0);
        let Some(group) = book.get_mut(&id) else { return };
        match change {
            ChangeKind::Create | ChangeKind::Add => {
                group.members.extend(users);
                group.removed.retain(|person| !users.contains(person));
                if change == ChangeKind::Create {
                    group.members.insert(actor);
                }
            }
            ChangeKind::Join => drop(group.members.insert(actor)),
            ChangeKind::Leave => drop(group.members.remove(&actor)),
            ChangeKind::Remove => {
                group.members.retain(|person| !users.contains(person));
                group.removed.extend(users);
            }
        }
    }

    /// `person` was told that it may not.
    fn shut_out(&self, id: u64, person: usize) {
        if let Some(group) = lock(&self.0).get_mut(&id) {
            group.members.remove(&person);
            group.removed.insert(person);
        }
    }
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    /// Says something in a group, as a member or as a stranger.
    Say { person: usize, stranger: bool },
    /// Changes who belongs to it.
    Change {
        change: ChangeKind,
        person: usize,
        users: BTreeSet<usize>,
    },
    /// Looks at what was said.
    Look { person: usize },
}

/// The life of the people of one load.
pub(super) struct GroupLife {
    load: usize,
    people: Range<usize>,
    spec: GroupSpec,
    size: usize,
    policy: Policy,
    turn: usize,
    rng: ChaCha8Rng,
}

impl GroupLife {
    pub(super) fn new(chat: &Chat, load: usize) -> Self {
        let spec = &chat.plan.loads[load];
        Self {
            load,
            people: chat.ranges[load].clone(),
            spec: spec.group.unwrap_or_default(),
            size: usize::try_from(spec.size_bytes).unwrap_or(usize::MAX),
            policy: policy(chat, load),
            turn: 0,
            rng: chat.plan.engine.streams.stream(&format!("groups {load}")),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        below(&mut self.rng, bound)
    }

    fn one_of(&mut self, people: impl IntoIterator<Item = usize>) -> Option<usize> {
        let people: Vec<usize> = people.into_iter().collect();
        let at = self.below(people.len());
        people.get(at).copied()
    }

    /// What somebody does in `group`, one of `groups` of this load.
    fn draw(&mut self, group: &Group, groups: usize) -> Act {
        let everybody = self.people.clone();
        let outside: Vec<usize> = everybody.filter(|person| !group.members.contains(person)).collect();
        let welcome: Vec<usize> = outside
            .iter()
            .copied()
            .filter(|it| !group.removed.contains(it))
            .collect();
        let others: Vec<usize> = group.members.iter().copied().filter(|it| *it != group.maker).collect();
        let changes = self.below(100) < self.spec.changes_percent as usize;
        let wish = self.below(100);
        let act = match (changes, wish) {
            (false, _) => None,
            (true, 0..34) => self.one_of(welcome).map(|person| (ChangeKind::Join, person, None)),
            (true, 34..50) => {
                let (member, new) = (self.one_of(group.members.iter().copied()), self.one_of(outside.clone()));
                member
                    .zip(new)
                    .map(|(member, new)| (ChangeKind::Add, member, Some(new)))
            }
            (true, 50..62) => self.one_of(others).map(|person| (ChangeKind::Leave, person, None)),
            (true, 62..74) => self
                .one_of(others)
                .map(|person| (ChangeKind::Remove, group.maker, Some(person))),
            (true, 74..78) if groups < MADE_FOR_EACH * self.spec.groups as usize => {
                let maker = self.one_of(self.people.clone());
                let users = (0..self.below(MADE_MEMBERS))
                    .filter_map(|_| self.one_of(self.people.clone()))
                    .collect();
                return match maker {
                    Some(person) => Act::Change {
                        change: ChangeKind::Create,
                        person,
                        users,
                    },
                    None => Act::Look { person: group.maker },
                };
            }
            (true, 78..90) => {
                return Act::Look {
                    person: self.one_of(group.members.iter().copied()).unwrap_or(group.maker),
                };
            }
            (true, _) => {
                if let Some(person) = self.one_of(outside) {
                    return Act::Say { person, stranger: true };
                }
                None
            }
        };
        match act {
            Some((change, person, other)) => Act::Change {
                change,
                person,
                users: other.into_iter().collect(),
            },
            None => Act::Say {
                person: self.one_of(group.members.iter().copied()).unwrap_or(group.maker),
                stranger: false,
            },
        }
    }
}

impl Life for GroupLife {
    fn next(&mut self, chat: &Arc<Chat>, intended: Nanos) -> Deed {
        let groups = chat.groups.of_load(self.load);
        self.turn += 1;
        // There is one from the start, or the load had not been prepared.
        let (id, group) = groups[self.turn % groups.len()].clone();
        let act = self.draw(&group, groups.len());
        let (person, policy) = (act.person(), self.policy.clone());
        let slot = chat.world.people[person].first_slot + self.below(chat.world.people[person].devices as usize);
        let deed = Doing {
            load: self.load,
            id,
            slot,
            size: self.size,
            policy,
        };
        deed.of(chat, act, intended)
    }
}

impl Act {
    const fn person(&self) -> usize {
        match self {
            Self::Say { person, .. } | Self::Change { person, .. } | Self::Look { person } => *person,
        }
    }
}

/// Somebody who does something with a group, from one device.
struct Doing {
    load: usize,
    id: u64,
    slot: usize,
    size: usize,
    policy: Policy,
}

impl Doing {
    fn of(mut self, chat: &Arc<Chat>, act: Act, intended: Nanos) -> Deed {
        let intent = self.intend(chat, &act, intended);
        Deed::new(chat, intent, |chat, intent| async move {
            match act {
                Act::Say { .. } => self.say(&chat, &intent).await,
                Act::Change { change, users, .. } => drop(self.change(&chat, &intent, change, &users).await),
                Act::Look { .. } => self.look(&chat, &intent).await,
            }
        })
    }

    /// What is meant; a group that is made has its id from here on.
    fn intend(&mut self, chat: &Chat, act: &Act, intended: Nanos) -> Intent {
        let device = &chat.world.slots[self.slot];
        let person = &chat.world.people[device.person];
        let client = &chat.plan.groups[person.group].client;
        let id = chat.plan.engine.next_id();
        let (class, subject) = match act {
            Act::Say { stranger, .. } => {
                let subject = Subject::Item {
                    item: id,
                    log: format!("c:{}", self.id),
                    author: person.user,
                    owed: Vec::new(),
                    group: true,
                    client_id: device.next_client_id(),
                    hash: payload::hash(&payload::encode(id, self.size)),
                    position: None,
                    repeated: None,
                };
                (if *stranger { Class::Group } else { Class::Send }, subject)
            }
            Act::Change { change, users, .. } => {
                let client_id = device.next_client_id();
                if *change == ChangeKind::Create {
                    self.id = client.group_of(person.user, device.device, client_id);
                }
                let subject = Subject::Change {
                    log: format!("c:{}", self.id),
                    change: *change,
                    actor: person.user,
                    users: users.iter().map(|other| chat.world.people[*other].user).collect(),
                    client_id,
                    position: None,
                    members: None,
                };
                (Class::Group, subject)
            }
            Act::Look { .. } => (Class::Group, Subject::Nothing),
        };
        Intent {
            id,
            session: World::session_number(self.slot),
            class,
            needs: client.home_of(self.id),
            groups: chat.plan.groups[person.group].labels.clone(),
            probe: false,
            intended,
            subject,
        }
    }

    fn caller(&self, chat: &Chat) -> Caller {
        let device = &chat.world.slots[self.slot];
        Caller {
            user: chat.world.people[device.person].user,
            device: device.device,
            session: device.session(),
        }
    }

    async fn say(&self, chat: &Chat, intent: &Intent) {
        let Subject::Item { item, client_id, .. } = &intent.subject else {
            return;
        };
        let body = payload::encode(*item, self.size);
        let person = chat.world.slots[self.slot].person;
        let client = &chat.plan.groups[chat.world.people[person].group].client;
        lock(&chat.ledger).intend_for_group(*item, intent.intended);
        let call = || {
            let caller = self.caller(chat);
            let message = Outgoing {
                sender: caller.user,
                device: caller.device,
                session: caller.session,
                recipient: 0,
                group: self.id,
                client_id: *client_id,
                body: body.clone(),
            };
            async move { client.send(&message, self.policy.within).await }
        };
        match chat.plan.engine.perform(intent, &self.policy, call).await {
            Ok(_) => {}
            Err(failure) if failure.reason == NOT_MEMBER => chat.groups.shut_out(self.id, person),
            Err(_) => {}
        }
    }

    async fn change(
        &self,
        chat: &Chat,
        intent: &Intent,
        change: ChangeKind,
        users: &BTreeSet<usize>,
    ) -> Result<Regrouped, CallFailure> {
        let Subject::Change {
            client_id,
            users: accounts,
            ..
        } = &intent.subject
        else {
            return Err(CallFailure::refused("not a change"));
        };
        let person = chat.world.slots[self.slot].person;
        let client = &chat.plan.groups[chat.world.people[person].group].client;
        if change == ChangeKind::Create {
            // Whatever becomes of it: it may be there, and is to be read back.
            let group = Group {
                load: self.load,
                maker: person,
                members: BTreeSet::new(),
                removed: BTreeSet::new(),
            };
            chat.groups.make(self.id, group);
        }
        let call = || {
            let order = Regroup {
                caller: self.caller(chat),
                client_id: *client_id,
                change,
                group: self.id,
                users: accounts.clone(),
            };
            async move { client.regroup(&order, self.policy.within).await }
        };
        let done = chat.plan.engine.perform(intent, &self.policy, call).await;
        match &done {
            Ok(_) => chat.groups.take(self.id, change, person, users),
            Err(failure) if failure.reason == NOT_MEMBER => chat.groups.shut_out(self.id, person),
            Err(_) => {}
        }
        done
    }

    async fn look(&self, chat: &Chat, intent: &Intent) {
        let engine = &chat.plan.engine;
        let caller = self.caller(chat);
        let person = chat.world.slots[self.slot].person;
        let client = &chat.plan.groups[chat.world.people[person].group].client;
        let began = engine.clock.now();
        let call = || client.look(self.caller(chat), self.id, self.policy.within);
        let Ok(page) = engine.perform(intent, &self.policy, call).await else {
            return;
        };
        engine.recorder.record(Event::Told(Told {
            began,
            ended: engine.clock.now(),
            system: engine.system.clone(),
            session: intent.session,
            user: caller.user,
            device: caller.device,
            answer: Answer::Log {
                log: format!("c:{}", self.id),
                last_position: page.last_position,
                items: page.items,
                changes: page.changes,
            },
        }));
    }
}

/// Makes the groups that there are from the start. Their members are dealt from the load's people in turn.
pub(super) async fn prepare(chat: &Arc<Chat>) -> Result<(), WorkloadError> {
    for (load, spec) in chat.plan.loads.iter().enumerate() {
        let Some(group) = spec.group else { continue };
        let people = chat.ranges[load].clone();
        let members = (group.members as usize).clamp(1, people.len());
        let mut dealt = people.clone().cycle();
        for number in 0..group.groups {
            let users: BTreeSet<usize> = dealt.by_ref().take(members).collect();
            let Some(maker) = users.first().copied() else { continue };
            let mut doing = Doing {
                load,
                id: 0,
                slot: chat.world.people[maker].first_slot,
                size: 0,
                policy: patient(PREPARED_WITHIN),
            };
            let (change, person) = (ChangeKind::Create, maker);
            let act = Act::Change {
                change,
                person,
                users: users.clone(),
            };
            let intent = doing.intend(chat, &act, chat.plan.engine.clock.now());
            let made = doing.change(chat, &intent, change, &users).await;
            made.map_err(|e| {
                WorkloadError(format!(
                    "group {number} could not be made: {}: is the service up?",
                    e.reason
                ))
            })?;
        }
    }
    Ok(())
}
