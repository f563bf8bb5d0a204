//! The table of requests: what each is called, its class at the gate, the shard that it is for, and what it is answered with.
//!
//! Everything that has to name every request is made from it: how one is turned away, where it waits, what the metrics call
//! it. Carrying one out is `calls.rs`.

use firedrill_proto::chat::v1::{
    AbortOperationRequest, AbortOperationResponse, AcknowledgeRequest, AcknowledgeResponse, AcquitRequest,
    AcquitResponse, AuditRequest, AuditResponse, Caller, ChangeGroupRequest, ChangeGroupResponse, ContactsRequest,
    ContactsResponse, DigestRequest, DigestResponse, FenceRequest, FenceResponse, HistoryRequest, HistoryResponse,
    ImportContactsRequest, ImportContactsResponse, MembersRequest, MembersResponse, MoveReplicaRequest,
    MoveReplicaResponse, OpenRequest, OpenResponse, OpenSessionRequest, OpenSessionResponse, PresenceRequest,
    PresenceResponse, RampLoginsRequest, RampLoginsResponse, RequestCodeRequest, RequestCodeResponse, RoutesRequest,
    RoutesResponse, SendRequest, SendResponse, SetVerificationRequest, SetVerificationResponse, SignUpRequest,
    SignUpResponse, StatusRequest, StatusResponse, SubscribeRequest, TransferLeaderRequest, TransferLeaderResponse,
};

use super::{
    admission::Class,
    api::{Refusal, Subscription},
    inbox::Reply,
};
use crate::chat::ids;

/// The id that decides which shard a request is for: a user's or a conversation's.
enum Home {
    Of(u64),
    Phone(String),
    /// It is for the node, or names its shard itself.
    Nowhere,
}

macro_rules! requests {
    ($($variant:ident($asked:ty) -> $answer:ty, $name:literal, $class:expr, $home:expr;)+) => {
        /// One call, and where its answer goes.
        #[derive(Debug)]
        pub(crate) enum Request {
            $($variant($asked, Reply<$answer>),)+
        }

        impl Request {
            /// Turns it away. Whoever doesn't listen any more needs no answer.
            pub(crate) fn refuse(self, refusal: Refusal) {
                match self {
                    $(Self::$variant(_, to) => drop(to.send(Err(refusal))),)+
                }
            }

            /// What it is called.
            pub(crate) const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(..) => $name,)+
                }
            }

            /// The queue that it waits in; none for operators.
            pub(crate) const fn class(&self) -> Option<Class> {
                match self {
                    $(Self::$variant(..) => $class,)+
                }
            }

            fn home(&self) -> Home {
                match self {
                    $(Self::$variant(asked, _) => {
                        let home: fn(&$asked) -> Home = $home;
                        home(asked)
                    })+
                }
            }
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),+];
    };
}

fn user(caller: &Option<Caller>) -> Home {
    Home::Of(caller.unwrap_or_default().user)
}

fn conversation(asked: &SendRequest) -> Home {
    Home::Of(match asked.group {
        0 => ids::conversation_id(asked.sender, asked.recipient),
        group => group,
    })
}

/// A group that is to be made has an id already.
fn group(asked: &ChangeGroupRequest) -> Home {
    let by = asked.caller.unwrap_or_default();
    Home::Of(match asked.group {
        0 => ids::group_id(by.user, by.device, asked.client_id),
        group => group,
    })
}

requests! {
    Code(RequestCodeRequest) -> RequestCodeResponse, "request_code", Some(Class::SignUp), |it| Home::Phone(it.phone.clone());
    SignUp(SignUpRequest) -> SignUpResponse, "sign_up", Some(Class::SignUp), |it| Home::Phone(it.phone.clone());
    OpenSession(OpenSessionRequest) -> OpenSessionResponse, "open_session", Some(Class::Login), |it| Home::Of(it.user);
    Send(SendRequest) -> SendResponse, "send", Some(Class::Send), conversation;
    Subscribe(SubscribeRequest) -> Subscription, "subscribe", Some(Class::Login), |it| Home::Of(it.user);
    Acknowledge(AcknowledgeRequest) -> AcknowledgeResponse, "acknowledge", Some(Class::Acknowledge), |it| Home::Of(it.user);
    Presence(PresenceRequest) -> PresenceResponse, "presence", Some(Class::Sync), |it| Home::Of(it.user);
    Open(OpenRequest) -> OpenResponse, "open", Some(Class::Sync), |it| user(&it.caller);
    Sync(OpenRequest) -> OpenResponse, "sync", Some(Class::Sync), |it| user(&it.caller);
    Acquit(AcquitRequest) -> AcquitResponse, "acquit", Some(Class::Acknowledge), |it| user(&it.caller);
    ImportContacts(ImportContactsRequest) -> ImportContactsResponse, "import_contacts", Some(Class::SignUp), |it| user(&it.caller);
    Contacts(ContactsRequest) -> ContactsResponse, "contacts", Some(Class::Sync), |it| user(&it.caller);
    ChangeGroup(ChangeGroupRequest) -> ChangeGroupResponse, "change_group", Some(Class::Send), group;
    Members(MembersRequest) -> MembersResponse, "members", Some(Class::Sync), |it| Home::Of(it.group);
    History(HistoryRequest) -> HistoryResponse, "history", Some(Class::Sync), |it| Home::Of(it.conversation);
    Audit(AuditRequest) -> AuditResponse, "audit", None, |it| Home::Of(it.conversation);
    Routes(RoutesRequest) -> RoutesResponse, "routes", None, |_| Home::Nowhere;
    Status(StatusRequest) -> StatusResponse, "status", None, |_| Home::Nowhere;
    TransferLeader(TransferLeaderRequest) -> TransferLeaderResponse, "transfer_leader", None, |_| Home::Nowhere;
    Fence(FenceRequest) -> FenceResponse, "fence", None, |_| Home::Nowhere;
    SetVerification(SetVerificationRequest) -> SetVerificationResponse, "set_verification", None, |_| Home::Nowhere;
    RampLogins(RampLoginsRequest) -> RampLoginsResponse, "ramp_logins", None, |_| Home::Nowhere;
    Digest(DigestRequest) -> DigestResponse, "digest", None, |_| Home::Nowhere;
    MoveReplica(MoveReplicaRequest) -> MoveReplicaResponse, "move_replica", None, |_| Home::Nowhere;
    AbortOperation(AbortOperationRequest) -> AbortOperationResponse, "abort_operation", None, |_| Home::Nowhere;
}

impl Request {
    /// The shard that it is for, of `shards`; none where it is for the node, or there is no such phone number.
    pub(crate) fn shard(&self, shards: u32) -> Option<u32> {
        match self.home() {
            Home::Of(id) => Some(ids::owner(id, shards)),
            Home::Phone(phone) => ids::phone_shard(&phone, shards).ok(),
            Home::Nowhere => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::oneshot;

    use super::*;
    use crate::node::Reason;

    #[test]
    fn every_request_has_a_name_of_its_own_which_metrics_can_carry() {
        let names: BTreeSet<_> = NAMES.iter().collect();
        assert_eq!(names.len(), NAMES.len());
        assert!(
            NAMES
                .iter()
                .all(|name| name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'))
        );
    }

    #[test]
    fn a_send_and_the_history_of_its_conversation_are_for_one_shard() {
        for (sender, recipient) in [(1, 2), (7 << 48 | 1, 9 << 48 | 3), (5, u64::MAX)] {
            let send = SendRequest {
                sender,
                recipient,
                ..SendRequest::default()
            };
            let read = HistoryRequest {
                conversation: ids::conversation_id(sender, recipient),
                ..HistoryRequest::default()
            };
            let (send, read) = (
                Request::Send(send, oneshot::channel().0),
                Request::History(read, oneshot::channel().0),
            );
            assert_eq!(send.shard(13), read.shard(13));
            assert_eq!((send.class(), read.class()), (Some(Class::Send), Some(Class::Sync)));
        }
    }

    #[test]
    fn who_is_turned_away_is_told_why() {
        let (to, mut answer) = oneshot::channel();
        let request = Request::Status(StatusRequest {}, to);
        assert_eq!((request.class(), request.shard(4)), (None, None));
        request.refuse(Refusal::new(Reason::Expired, "too late"));
        assert_eq!(answer.try_recv().unwrap().unwrap_err().reason, Reason::Expired);
    }
}
