//! What people do on their second device: they make groups, come and go, talk there, read, import their address books
//! and open the app, all of it through whatever goes wrong.

use std::collections::BTreeSet;

use firedrill_proto::chat::v1::{
    AcquitRequest, Caller as Who, ChangeGroupRequest, GroupChangeKind, ImportContactsRequest, OpenRequest, SendRequest,
};
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    client::{Caller, EPOCH, World},
    records::{Change, MessageKey, body},
};
use crate::{
    chat::ids,
    node::{Call, ClientApi as _, NodeHandle},
};

/// The device that does this.
pub(super) const DEVICE: u32 = 2;

/// How far beyond what it was shown a device sometimes claims to have read: the service knows better.
const BEYOND: u64 = 100_000;

/// One person, as its second device.
pub(super) struct Social {
    caller: Caller,
    world: World,
    user: u64,
    session: u64,
    client_id: u64,
    /// Groups that it believes to belong to, and those that it made.
    mine: BTreeSet<u64>,
    made: BTreeSet<u64>,
}

impl Social {
    pub(super) fn new(caller: Caller, user: u64, session: u64) -> Self {
        Self {
            world: caller.world(),
            caller,
            user,
            session,
            client_id: 0,
            mine: BTreeSet::new(),
            made: BTreeSet::new(),
        }
    }

    /// Does one thing after the other until the load ends.
    pub(super) async fn live(mut self) {
        // The first group of a simulation is one short of full before anybody joins.
        let fill = std::mem::take(&mut *self.world.fill.borrow_mut());
        self.change(GroupChangeKind::GroupCreate, 0, fill).await;
        self.import().await;
        while self.world.loading.get() {
            self.caller.pause(30..500).await;
            let group = self.world.groups.borrow().choose(&mut self.caller.rng).copied();
            let Some(group) = group else { continue };
            match self.caller.rng.random_range(0..100) {
                0..40 => self.say(group).await,
                40..58 => self.change(GroupChangeKind::GroupJoin, group, Vec::new()).await,
                58..66 => self.change(GroupChangeKind::GroupLeave, group, Vec::new()).await,
                66..76 => self.somebody(GroupChangeKind::GroupRemove, group).await,
                76..82 => self.somebody(GroupChangeKind::GroupAdd, group).await,
                82..92 => self.read().await,
                92..95 => self.import().await,
                _ => self.open().await,
            }
        }
    }

    fn who(&self) -> Option<Who> {
        Some(Who {
            user: self.user,
            device: DEVICE,
            session: self.session,
        })
    }

    fn next_key(&mut self) -> MessageKey {
        self.client_id += 1;
        MessageKey {
            sender: self.user,
            device: DEVICE,
            client_id: self.client_id,
        }
    }

    /// Says something in a group: mostly in one that it belongs to.
    async fn say(&mut self, any: u64) {
        let mine: Vec<u64> = self.mine.iter().copied().collect();
        let group = match mine.choose(&mut self.caller.rng) {
            Some(group) if self.caller.rng.random_bool(0.8) => *group,
            _ => any,
        };
        let key = self.next_key();
        let request = SendRequest {
            sender: self.user,
            device: DEVICE,
            session: self.session,
            client_id: key.client_id,
            body: body(key, group),
            epoch: EPOCH,
            group,
            ..SendRequest::default()
        };
        let now = self.world.clock.now();
        self.world.records.borrow_mut().tried(key, 0, group, now);
        let send = async |node: NodeHandle, call: Call, _: u64| node.send(request.clone(), call).await;
        let home = ids::owner(group, self.world.shards);
        match self.caller.settle(home, "send to a group", send).await {
            Ok(answer) => {
                let mut records = self.world.records.borrow_mut();
                records.acknowledged(key, answer.conversation, answer.position);
            }
            // Removed meanwhile, or never let in.
            Err(_) => drop(self.mine.remove(&group)),
        }
    }

    /// Removes or lets in somebody, where it may.
    async fn somebody(&mut self, kind: GroupChangeKind, any: u64) {
        let whose = if kind == GroupChangeKind::GroupRemove {
            &self.made
        } else {
            &self.mine
        };
        let group = whose.iter().next().copied().unwrap_or(any);
        let people = self.world.people.borrow().clone();
        if let Some(user) = people.choose(&mut self.caller.rng) {
            self.change(kind, group, vec![*user]).await;
        }
    }

    async fn change(&mut self, kind: GroupChangeKind, group: u64, users: Vec<u64>) {
        let key = self.next_key();
        let id = match kind {
            GroupChangeKind::GroupCreate => ids::group_id(self.user, DEVICE, key.client_id),
            _ => group,
        };
        let request = ChangeGroupRequest {
            caller: self.who(),
            client_id: key.client_id,
            kind: kind.into(),
            group,
            users: users.clone(),
            open: true,
            epoch: EPOCH,
        };
        let change = Change {
            group: id,
            kind,
            users,
            position: None,
        };
        self.world.records.borrow_mut().changes.insert(key, change);
        let ask = async |node: NodeHandle, call: Call, _: u64| node.change_group(request.clone(), call).await;
        let home = ids::owner(id, self.world.shards);
        let Ok(answer) = self.caller.settle(home, "change a group", ask).await else {
            return;
        };
        self.world
            .records
            .borrow_mut()
            .changed(key, answer.group, answer.position, answer.members);
        match kind {
            GroupChangeKind::GroupCreate => {
                self.made.insert(id);
                self.mine.insert(id);
                self.world.groups.borrow_mut().push(id);
            }
            GroupChangeKind::GroupJoin => drop(self.mine.insert(id)),
            GroupChangeKind::GroupLeave => drop(self.mine.remove(&id)),
            _ => {}
        }
    }

    /// Says how far it has read some conversation; sometimes it says too much.
    async fn read(&mut self) {
        let seen = self.world.records.borrow().furthest((self.user, DEVICE));
        let seen: Vec<(u64, u64)> = seen.into_iter().collect();
        let Some(&(conversation, position)) = seen.choose(&mut self.caller.rng) else {
            return;
        };
        let read = if self.caller.rng.random_bool(0.2) {
            position + BEYOND
        } else {
            position
        };
        let request = AcquitRequest {
            caller: self.who(),
            conversation,
            delivered: read,
            read,
            epoch: EPOCH,
        };
        let acquit = async |node: NodeHandle, call: Call, _: u64| node.acquit(request, call).await;
        let account = ids::owner(self.user, self.world.shards);
        if let Ok(answer) = self.caller.settle(account, "say what was read", acquit).await {
            let mut records = self.world.records.borrow_mut();
            records.acquitted(conversation, self.user, answer.delivered, answer.read);
        }
    }

    /// Imports the numbers of some others, and one that nobody has.
    async fn import(&mut self) {
        let mut phones: Vec<String> = self.world.phones.to_vec();
        phones.retain(|_| self.caller.rng.random_bool(0.5));
        phones.push("19999999".to_owned());
        let request = ImportContactsRequest {
            caller: self.who(),
            phones: phones.clone(),
            epoch: EPOCH,
        };
        self.world.records.borrow_mut().importing(self.user, &phones);
        let import = async |node: NodeHandle, call: Call, _: u64| node.import_contacts(request.clone(), call).await;
        let account = ids::owner(self.user, self.world.shards);
        if self.caller.settle(account, "import contacts", import).await.is_ok() {
            self.world.records.borrow_mut().imported(self.user, &phones);
        }
    }

    /// Opens the app: one attempt, answered from wherever it can be.
    async fn open(&mut self) {
        let device = (self.user, DEVICE);
        let before = self.world.records.borrow().last_sequence(device);
        let request = OpenRequest {
            caller: self.who(),
            after: 0,
            epoch: EPOCH,
        };
        let open = async |node: NodeHandle, call: Call, _: u64| node.open(request, call).await;
        let account = ids::owner(self.user, self.world.shards);
        if let Ok(page) = self.caller.attempt(account, open).await {
            let mut records = self.world.records.borrow_mut();
            records.opened_app(device, before, &page);
        }
    }
}
