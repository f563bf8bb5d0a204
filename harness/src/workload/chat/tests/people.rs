//! Groups of the service in memory, and the load that lives in them.

use super::*;
use crate::{
    history::{Answer, ChangeKind, GroupChange, History, Notice, Noticed, Told},
    workload::{
        GroupSpec,
        people::{Caller, PeopleClient, Regroup, Regrouped},
    },
};

/// Most members of a group here.
const MEMBERS_MAX: usize = 12;

#[derive(Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<u64, u64>,
    removed: Vec<u64>,
    maker: u64,
    pub(super) changes: Vec<GroupChange>,
}

fn refusal(reason: &str) -> CallFailure {
    CallFailure {
        retryable: false,
        ..CallFailure::refused(reason)
    }
}

impl State {
    /// Those whom a message to `group` is for; none when `sender` may not.
    pub(super) fn recipients(&self, group: u64, sender: u64) -> Result<Vec<u64>, CallFailure> {
        let group = self.groups.get(&group).ok_or_else(|| refusal("NO_SUCH_CONVERSATION"))?;
        if !group.members.contains_key(&sender) {
            return Err(refusal("NOT_MEMBER"));
        }
        Ok(group.members.keys().copied().collect())
    }

    /// The next position of a conversation.
    pub(super) fn next_position(&self, conversation: u64) -> u64 {
        let messages = self.conversations.get(&conversation).map_or(0, Vec::len);
        let changes = self.groups.get(&conversation).map_or(0, |group| group.changes.len());
        (messages + changes) as u64 + 1
    }

    /// Appends to the streams of the devices of `users`.
    pub(super) fn push(&mut self, users: &[u64], event: impl Fn(u64) -> StreamEvent) {
        for ((user, _), inbox) in &mut self.devices {
            if users.contains(user) {
                inbox.items.push(event(inbox.items.len() as u64 + 1));
                inbox.wake.as_ref().map(|wake| wake.send(()));
            }
        }
    }

    fn page(&self, conversation: u64, after: u64) -> Page {
        let items = self.conversations.get(&conversation).into_iter().flatten();
        let changes = self.groups.get(&conversation).map_or(&[][..], |group| &group.changes);
        Page {
            items: items.filter(|it| it.position > after).cloned().collect(),
            changes: changes.iter().filter(|it| it.position > after).cloned().collect(),
            last_position: self.next_position(conversation) - 1,
        }
    }

    fn change(&mut self, order: &Regroup) -> Result<Regrouped, CallFailure> {
        let id = match order.change {
            ChangeKind::Create => group_id(order.caller.user, order.caller.device, order.client_id),
            _ => order.group,
        };
        let position = self.next_position(id);
        let actor = order.caller.user;
        if order.change == ChangeKind::Create {
            self.groups.entry(id).or_default().maker = actor;
        }
        let group = self
            .groups
            .get_mut(&id)
            .ok_or_else(|| refusal("NO_SUCH_CONVERSATION"))?;
        let inside = group.members.contains_key(&actor);
        let allowed = match order.change {
            ChangeKind::Create => true,
            ChangeKind::Join => !group.removed.contains(&actor),
            ChangeKind::Remove => inside && group.maker == actor,
            ChangeKind::Add | ChangeKind::Leave => inside,
        };
        if !allowed {
            return Err(refusal("NOT_MEMBER"));
        }
        let lets_in = order.change.lets_in();
        let mut users = order.users.clone();
        if !matches!(order.change, ChangeKind::Add | ChangeKind::Remove) {
            users.push(actor);
        }
        users.retain(|user| group.members.contains_key(user) != lets_in);
        users.sort_unstable();
        users.dedup();
        if lets_in && group.members.len() + users.len() > MEMBERS_MAX {
            return Err(refusal("GROUP_FULL"));
        }
        let before: Vec<u64> = group.members.keys().copied().collect();
        for user in &users {
            if lets_in {
                group.members.insert(*user, position);
                group.removed.retain(|other| other != user);
            } else {
                group.members.remove(user);
                if order.change == ChangeKind::Remove {
                    group.removed.push(*user);
                }
            }
        }
        let members = group.members.len() as u64;
        if users.is_empty() {
            return Ok(Regrouped {
                position: position - 1,
                members,
            });
        }
        let change = GroupChange {
            position,
            kind: order.change,
            actor,
            client_id: order.client_id,
            users: users.clone(),
        };
        group.changes.push(change.clone());
        let concerned = [&before[..], &users].concat();
        self.push(&concerned, |sequence| StreamEvent::Notice {
            sequence,
            notice: Notice::Change {
                log: format!("c:{id}"),
                change: change.clone(),
            },
        });
        Ok(Regrouped { position, members })
    }
}

fn group_id(user: u64, device: u32, client_id: u64) -> u64 {
    (1 << 63) | (user << 40) | (u64::from(device) << 32) | client_id
}

#[async_trait]
impl PeopleClient for Client {
    fn group_of(&self, user: u64, device: u32, client_id: u64) -> u64 {
        group_id(user, device, client_id)
    }
    fn home_of(&self, conversation: u64) -> String {
        format!("shard:{}", conversation % PARTS)
    }
    async fn regroup(&self, change: &Regroup, _within: Duration) -> Answered<Regrouped> {
        match self.0.refused() {
            Some(failure) => Answered::failed(failure),
            None => Answered {
                result: lock(&self.0.state).change(change),
                by: None,
            },
        }
    }
    async fn look(&self, caller: Caller, conversation: u64, _within: Duration) -> Answered<Page> {
        let state = lock(&self.0.state);
        let joined = state
            .groups
            .get(&conversation)
            .and_then(|group| group.members.get(&caller.user));
        match joined {
            Some(joined) => Answered::ok(state.page(conversation, joined - 1), None),
            None if !state.groups.contains_key(&conversation) => Answered::ok(state.page(conversation, 0), None),
            None => Answered::failed(refusal("NOT_MEMBER")),
        }
    }
    async fn audit(&self, conversation: u64, after: u64, _within: Duration) -> Answered<Page> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        let mut page = lock(&self.0.state).page(conversation, after);
        if page.changes.is_empty() {
            page.items.truncate(7);
        }
        Answered::ok(page, None)
    }
}

fn group_load() -> LoadSpec {
    LoadSpec {
        class: Class::Group,
        probe: None,
        group: Some(GroupSpec {
            groups: 2,
            members: 10,
            changes_percent: 50,
        }),
        ..load()
    }
}

fn subjects(recorder: &Recorder) -> Vec<Operation> {
    let classes = [Class::Group, Class::Send];
    classes.into_iter().flat_map(|class| ops(recorder, class)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_life_in_groups_is_lived_whole_and_its_messages_reach_their_members() {
    let (mut workload, recorder, service) = stage(Behaviour::default(), group_load());
    assert!(run(&mut workload, &service).await, "it drains");
    assert_eq!(workload.owed(), 0);
    let operations = subjects(&recorder);
    let done = |wanted: ChangeKind| {
        let done = operations.iter().filter(|op| {
            op.outcome == Outcome::Ok && matches!(&op.subject, Subject::Change { change, .. } if *change == wanted)
        });
        done.count()
    };
    for kind in [
        ChangeKind::Create,
        ChangeKind::Add,
        ChangeKind::Join,
        ChangeKind::Leave,
        ChangeKind::Remove,
    ] {
        assert!(done(kind) > 1, "{kind:?} happened {} times", done(kind));
    }
    let refused = |error: &str| {
        operations
            .iter()
            .filter(|op| op.error.as_deref() == Some(error))
            .count()
    };
    assert!(refused("GROUP_FULL") > 0, "nobody came to a full group");
    assert!(refused("NOT_MEMBER") > 0, "no stranger tried to talk");
    let events = recorder.recorded().events;
    let looked = events.iter().filter(
        |event| matches!(event, Event::Told(Told { answer: Answer::Log { items, .. }, .. }) if !items.is_empty()),
    );
    assert!(looked.count() > 5);
    let noticed = events.iter().filter(|event| {
        matches!(
            event,
            Event::Noticed(Noticed {
                notice: Notice::Change { .. },
                ..
            })
        )
    });
    assert!(noticed.count() > 50, "every member hears of every change");

    let history = History::new(recorder.header().clone(), events);
    let system = &history.systems["main"];
    assert!(system.groups.len() > 2, "people made groups of their own");
    let talked: Vec<_> = system
        .items
        .values()
        .filter(|item| item.group && item.acked.is_some())
        .collect();
    assert!(talked.len() > 100);
    assert!(
        talked.iter().all(|item| item.owed.contains(&item.author)),
        "its author is a member"
    );
    let owed = system
        .deliveries
        .iter()
        .filter(|it| it.fate == crate::history::Fate::Must);
    assert!(owed.clone().count() > 1000);
    assert!(owed.clone().all(|it| it.shown.is_some()), "everything was shown");
    let kept = crate::check::judge(&history, crate::check::ALL);
    let broken: Vec<_> = kept.iter().filter(|it| it.broken > 0).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_member_never_gets_stays_owed() {
    let behaviour = Behaviour {
        lose_delivery: Some(50),
        ..Behaviour::default()
    };
    let (mut workload, _, service) = stage(behaviour, group_load());
    assert!(!run(&mut workload, &service).await, "it can't drain");
    assert!(workload.owed() > 0);
}

#[test]
fn a_load_of_groups_needs_a_group() {
    let spec = LoadSpec {
        group: Some(GroupSpec::default()),
        ..group_load()
    };
    assert!(check(&spec).is_err());
    assert!(check(&group_load()).is_ok());
}
