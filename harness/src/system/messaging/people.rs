//! How the social loads reach the service.

use std::time::Duration;

use async_trait::async_trait;
use firedrill_proto::chat::v1::{
    AuditRequest, Caller as Who, ChangeGroupRequest, GroupChange as WireChange, GroupChangeKind, HistoryRequest,
    Notice as WireNotice, StoredMessage, notice::What,
};
use target_service::chat::ids;

use super::{
    client::{ChatOverGrpc, PAGE, lane, read_item},
    contacts,
};
use crate::{
    history::{ChangeKind, GroupChange, Notice},
    target::group_of,
    workload::{
        client::{Answered, Page},
        people::{Caller, PeopleClient, Regroup, Regrouped},
    },
};

#[async_trait]
impl PeopleClient for ChatOverGrpc {
    fn group_of(&self, user: u64, device: u32, client_id: u64) -> u64 {
        ids::group_id(user, device, client_id)
    }

    fn home_of(&self, conversation: u64) -> String {
        group_of(ids::owner(conversation, self.shards()))
    }

    async fn regroup(&self, change: &Regroup, within: Duration) -> Answered<Regrouped> {
        let entry = self.ready(lane_of(change.caller), within).await;
        let request = ChangeGroupRequest {
            caller: Some(who(change.caller)),
            client_id: change.client_id,
            kind: wire_kind(change.change).into(),
            group: if change.change == ChangeKind::Create {
                0
            } else {
                change.group
            },
            users: change.users.clone(),
            open: true,
            epoch: 0,
        };
        self.answered(&entry, entry.client.change_group(request).await, |answer| Regrouped {
            position: answer.position,
            members: answer.members,
        })
    }

    async fn look(&self, caller: Caller, conversation: u64, within: Duration) -> Answered<Page> {
        let entry = self.ready(lane_of(caller), within).await;
        let request = HistoryRequest {
            conversation,
            after: 0,
            limit: PAGE,
            epoch: 0,
            caller: Some(who(caller)),
        };
        self.answered(&entry, entry.client.history(request).await, |answer| {
            page(&answer.messages, answer.last_position)
        })
    }

    async fn audit(&self, conversation: u64, after: u64, within: Duration) -> Answered<Page> {
        let entry = self.operators(within).await;
        let request = AuditRequest {
            conversation,
            after,
            limit: PAGE,
            epoch: 0,
        };
        self.answered(&entry, entry.client.audit(request).await, |answer| {
            page(&answer.messages, answer.last_position)
        })
    }
}

pub(super) const fn lane_of(caller: Caller) -> u64 {
    lane(caller.user, caller.device)
}

pub(super) const fn who(caller: Caller) -> Who {
    Who {
        user: caller.user,
        device: caller.device,
        session: caller.session,
    }
}

const fn wire_kind(change: ChangeKind) -> GroupChangeKind {
    match change {
        ChangeKind::Create => GroupChangeKind::GroupCreate,
        ChangeKind::Add => GroupChangeKind::GroupAdd,
        ChangeKind::Join => GroupChangeKind::GroupJoin,
        ChangeKind::Leave => GroupChangeKind::GroupLeave,
        ChangeKind::Remove => GroupChangeKind::GroupRemove,
    }
}

/// A page with its messages and its changes told apart.
pub(super) fn page(stored: &[StoredMessage], last_position: u64) -> Page {
    let messages = stored.iter().filter(|message| message.change.is_none());
    let changes = stored.iter().filter_map(|message| {
        let change = translate(message.change.as_ref()?, message.client_id)?;
        Some(GroupChange {
            position: message.position,
            ..change
        })
    });
    Page {
        items: messages.map(read_item).collect(),
        changes: changes.collect(),
        last_position,
    }
}

/// None for a kind of change that this version doesn't know.
fn translate(change: &WireChange, client_id: u64) -> Option<GroupChange> {
    let kind = match change.kind() {
        GroupChangeKind::GroupCreate => ChangeKind::Create,
        GroupChangeKind::GroupAdd => ChangeKind::Add,
        GroupChangeKind::GroupJoin => ChangeKind::Join,
        GroupChangeKind::GroupLeave => ChangeKind::Leave,
        GroupChangeKind::GroupRemove => ChangeKind::Remove,
        GroupChangeKind::Unspecified => return None,
    };
    Some(GroupChange {
        position: change.position,
        kind,
        actor: change.actor,
        client_id,
        users: change.users.clone(),
    })
}

/// What an entry that is no message says.
pub(super) fn notice(notice: WireNotice) -> Notice {
    match notice.what {
        Some(What::Change(change)) => translate(&change, 0).map_or(Notice::Other, |translated| Notice::Change {
            log: log(change.conversation),
            change: translated,
        }),
        Some(What::Receipt(receipt)) => Notice::Receipt {
            log: log(receipt.conversation),
            user: receipt.user,
            delivered: receipt.delivered,
            read: receipt.read,
            unread: receipt.unread,
        },
        Some(What::Contact(contact)) => Notice::Contact {
            contact: contacts::translate(contact),
        },
        None => Notice::Other,
    }
}

pub(super) fn log(conversation: u64) -> String {
    format!("c:{conversation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(position: u64, change: Option<GroupChangeKind>) -> StoredMessage {
        StoredMessage {
            position,
            client_id: 7,
            change: change.map(|kind| WireChange {
                conversation: 9,
                position,
                kind: kind.into(),
                actor: 3,
                users: vec![3, 4],
            }),
            ..StoredMessage::default()
        }
    }

    #[test]
    fn messages_and_changes_of_a_page_are_told_apart() {
        let page = page(
            &[
                stored(1, Some(GroupChangeKind::GroupCreate)),
                stored(2, None),
                stored(3, Some(GroupChangeKind::Unspecified)),
            ],
            3,
        );
        assert_eq!(page.items.iter().map(|it| it.position).collect::<Vec<_>>(), [2]);
        let made = GroupChange {
            position: 1,
            kind: ChangeKind::Create,
            actor: 3,
            client_id: 7,
            users: vec![3, 4],
        };
        assert_eq!(page.changes, [made], "what isn't known isn't guessed");
    }

    #[test]
    fn every_kind_goes_over_the_wire_and_comes_back() {
        for kind in [
            ChangeKind::Create,
            ChangeKind::Add,
            ChangeKind::Join,
            ChangeKind::Leave,
            ChangeKind::Remove,
        ] {
            let wire = stored(1, Some(wire_kind(kind))).change;
            assert_eq!(wire.and_then(|it| translate(&it, 0)).map(|it| it.kind), Some(kind));
        }
        assert_eq!(notice(WireNotice::default()), Notice::Other);
    }
}
