//! The calls about groups, receipts, contacts and lists of conversations.

use firedrill_proto::chat::v1::{
    AcquitRequest, AcquitResponse, AuditRequest, AuditResponse, ChangeGroupRequest, ChangeGroupResponse,
    ContactsRequest, ContactsResponse, GroupChangeKind, HistoryRequest, HistoryResponse, ImportContactsRequest,
    ImportContactsResponse, MembersRequest, MembersResponse, OpenRequest, OpenResponse,
};

use super::{
    Client,
    calls::{Attempt, admin, messaging},
};
use crate::chat::ids;

impl Client {
    /// Makes a group or changes who belongs to it; the request's `epoch` is filled in.
    pub async fn change_group(&self, request: ChangeGroupRequest) -> Attempt<ChangeGroupResponse> {
        let caller = request.caller.unwrap_or_default();
        let group = match request.kind() {
            GroupChangeKind::GroupCreate => ids::group_id(caller.user, caller.device, request.client_id),
            _ => request.group,
        };
        let request = |epoch| ChangeGroupRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).change_group(request).await };
        self.routed(self.router().shard_of_conversation(group), request, call)
            .await
    }

    /// All of a conversation and its members, for operators; the request's `epoch` is filled in.
    pub async fn audit(&self, request: AuditRequest) -> Attempt<AuditResponse> {
        let shard = self.router().shard_of_conversation(request.conversation);
        let request = |epoch| AuditRequest { epoch, ..request };
        let call = |channel, request| async move { admin(channel).audit(request).await };
        self.routed(shard, request, call).await
    }

    /// The user's conversations, current or marked as not; the request's `epoch` is filled in.
    pub async fn open(&self, request: OpenRequest) -> Attempt<OpenResponse> {
        let shard = self.router().shard_of_user(request.caller.unwrap_or_default().user);
        let request = |epoch| OpenRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).open(request).await };
        self.routed(shard, request, call).await
    }

    /// The user's conversations and where a stream goes on behind them, linearizably; the request's `epoch` is filled in.
    pub async fn sync(&self, request: OpenRequest) -> Attempt<OpenResponse> {
        let shard = self.router().shard_of_user(request.caller.unwrap_or_default().user);
        let request = |epoch| OpenRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).sync(request).await };
        self.routed(shard, request, call).await
    }

    /// Moves a user's marks in a conversation forward; the request's `epoch` is filled in.
    pub async fn acquit(&self, request: AcquitRequest) -> Attempt<AcquitResponse> {
        let shard = self.router().shard_of_user(request.caller.unwrap_or_default().user);
        let request = |epoch| AcquitRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).acquit(request).await };
        self.routed(shard, request, call).await
    }

    /// Adds numbers to an address book; the request's `epoch` is filled in.
    pub async fn import_contacts(&self, request: ImportContactsRequest) -> Attempt<ImportContactsResponse> {
        let shard = self.router().shard_of_user(request.caller.unwrap_or_default().user);
        let request = |epoch| ImportContactsRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).import_contacts(request).await };
        self.routed(shard, request, call).await
    }

    /// The user's contacts; the request's `epoch` is filled in.
    pub async fn contacts(&self, request: ContactsRequest) -> Attempt<ContactsResponse> {
        let shard = self.router().shard_of_user(request.caller.unwrap_or_default().user);
        let request = |epoch| ContactsRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).contacts(request).await };
        self.routed(shard, request, call).await
    }

    /// Who belongs to a group; the request's `epoch` is filled in.
    pub async fn members(&self, request: MembersRequest) -> Attempt<MembersResponse> {
        let shard = self.router().shard_of_conversation(request.group);
        let request = |epoch| MembersRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).members(request).await };
        self.routed(shard, request, call).await
    }

    /// A page of a conversation as one of its members sees it; the request's `epoch` is filled in.
    pub async fn history(&self, request: HistoryRequest) -> Attempt<HistoryResponse> {
        let shard = self.router().shard_of_conversation(request.conversation);
        let request = |epoch| HistoryRequest { epoch, ..request };
        let call = |channel, request| async move { messaging(channel).history(request).await };
        self.routed(shard, request, call).await
    }
}
