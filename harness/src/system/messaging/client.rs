//! How the load reaches the messaging service: the service's own client library, one attempt for each call.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use firedrill_proto::chat::v1::{
    AcknowledgeRequest, HistoryRequest, SendRequest, StoredMessage, SubscribeRequest, subscribe_event::Event,
};
use target_service::{
    chat::ids,
    client::{Attempt, CallError, ChannelOptions, Channels, Client, Doors, StreamEnd, Subscription},
    discovery::Door,
};

use super::{
    MessagingSpec,
    layout::node_name,
    people::{notice, page, who},
    status,
};
use crate::{
    history::{NodeStatus, ReadItem},
    target::group_of,
    workload::{
        client::{
            Account, Answered, CallFailure, ChatClient, DeviceStream, Opened, Outgoing, Page, Placed, Resume,
            StreamEvent,
        },
        payload,
        people::Caller,
    },
};

/// Messages in one page of a read.
pub(super) const PAGE: u32 = 500;
/// A device gives up on silence by itself; this bound of the library's stands behind it.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The service's word for a code that is not the one that it carried last.
const WRONG_CODE: &str = "WRONG_CODE";

/// How clients come in.
pub(super) enum Way {
    /// To the nodes themselves.
    Nodes(Client),
    /// Through gateways, which are looked up; with the span that calls belong to, as W3C writes it.
    Doors(Doors, String),
}

/// The client for one call, and the gateway's door that it goes through.
pub(super) struct Entry {
    pub(super) client: Client,
    door: Option<Door>,
}

/// A client of the messaging service, over gRPC.
pub(super) struct ChatOverGrpc {
    /// Through the links.
    way: Way,
    /// Past them, for asking nodes of themselves, and for what gateways don't do.
    direct: Client,
    /// Leads nowhere: what a call is made with where there is no door.
    nowhere: Client,
    shards: u32,
    /// A sign-up shows a code that was carried to its phone.
    verified: bool,
}

impl ChatOverGrpc {
    pub(super) fn new(way: Way, direct: Client, spec: &MessagingSpec) -> Self {
        let way = match way {
            Way::Nodes(client) => Way::Nodes(client.with_silence_max(SILENCE_MAX)),
            doors @ Way::Doors(..) => doors,
        };
        Self {
            way,
            direct,
            nowhere: Client::new(Channels::new(BTreeMap::new(), ChannelOptions::default())),
            shards: spec.shards,
            verified: spec.verification.is_some(),
        }
    }

    pub(super) const fn shards(&self) -> u32 {
        self.shards
    }

    /// The client for one call, with a map of the shards if one is to be had.
    pub(super) async fn ready(&self, lane: u64, within: Duration) -> Entry {
        let entry = match &self.way {
            Way::Nodes(client) => Entry {
                client: client.on_lane(lane).with_timeout(within),
                door: None,
            },
            Way::Doors(doors, traceparent) => match doors.door(lane).await {
                Ok(through) => {
                    let client = through.client.with_timeout(within).with_silence_max(SILENCE_MAX);
                    Entry {
                        client: client.with_traceparent(traceparent),
                        door: Some(through.door),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no gateway");
                    Entry {
                        client: self.nowhere.clone(),
                        door: None,
                    }
                }
            },
        };
        if entry.client.router().needs_map() {
            // Without a map the call itself fails as not sent, which says what there is to say.
            let mapped = entry.client.refresh_routes().await;
            if let Err(error) = &mapped {
                tracing::debug!(%error, "no shard map");
            }
            self.came_through(&entry, &mapped);
        }
        entry
    }

    /// The client for one call of an operator's.
    pub(super) async fn operators(&self, within: Duration) -> Entry {
        let entry = match &self.way {
            Way::Nodes(_) => self.ready(0, within).await,
            // A gateway does nothing for operators.
            Way::Doors(..) => Entry {
                client: self.direct.with_timeout(within),
                door: None,
            },
        };
        if entry.client.router().needs_map()
            && let Err(error) = entry.client.refresh_routes().await
        {
            tracing::debug!(%error, "no shard map");
        }
        entry
    }

    /// The code that a sign-up of `phone` has to show; empty where none is asked for.
    async fn code_for(&self, entry: &Entry, phone: &str) -> Result<String, Answered<Account>> {
        if !self.verified {
            return Ok(String::new());
        }
        let asked = entry.client.request_code(phone).await;
        let Answered { result, by } = self.answered(entry, asked, |answer| answer.code);
        result.map_err(|failure| Answered {
            // Without a code no account was asked for, whatever became of the code.
            result: Err(CallFailure {
                surely_not: true,
                ..failure
            }),
            by,
        })
    }

    fn came_through<T>(&self, entry: &Entry, outcome: &Result<T, CallError>) {
        if let (Way::Doors(doors, _), Some(door)) = (&self.way, &entry.door) {
            doors.came_through(door, outcome);
        }
    }

    /// What an attempt came to, and by whom it was answered: by the gateway, where it went through one.
    pub(super) fn answered<T, U>(
        &self,
        entry: &Entry,
        attempt: Attempt<T>,
        translate: impl FnOnce(T) -> U,
    ) -> Answered<U> {
        self.came_through(entry, &attempt.outcome);
        let door = entry.door.as_ref().map(|door| door.name.clone());
        let by = attempt
            .target
            .map(|target| door.unwrap_or_else(|| node_name(target.node)));
        match attempt.outcome {
            Ok(answer) => Answered {
                result: Ok(translate(answer)),
                by,
            },
            // Only a refusal is an answer; who didn't answer isn't named.
            Err(error) => Answered {
                result: Err(failure(&error)),
                by: by.filter(|_| matches!(error, CallError::Refused(_))),
            },
        }
    }
}

fn failure(error: &CallError) -> CallFailure {
    CallFailure {
        surely_not: error.surely_not_done(),
        reason: error.word().to_owned(),
        retryable: error.may_retry(),
        retry_after: error.retry_after(),
    }
}

#[async_trait]
impl ChatClient for ChatOverGrpc {
    fn parts(&self) -> Vec<String> {
        (0..self.shards).map(group_of).collect()
    }

    fn home_of_phone(&self, phone: &str) -> String {
        ids::phone_shard(phone, self.shards).map(group_of).unwrap_or_default()
    }

    fn home_of_user(&self, user: u64) -> String {
        group_of(ids::owner(user, self.shards))
    }

    fn conversation(&self, a: u64, b: u64) -> (u64, String) {
        let conversation = ids::conversation_id(a, b);
        (conversation, group_of(ids::owner(conversation, self.shards)))
    }

    fn syncs_own_devices(&self) -> bool {
        true
    }

    async fn sign_up(&self, phone: &str, within: Duration) -> Answered<Account> {
        let entry = self.ready(0, within).await;
        let code = match self.code_for(&entry, phone).await {
            Ok(code) => code,
            Err(refused) => return refused,
        };
        let signed_up = entry.client.sign_up_verified(phone, &code).await;
        let mut answered = self.answered(&entry, signed_up, |answer| Account {
            user: answer.user,
            created: answer.created,
        });
        if let Err(failure) = &mut answered.result
            && self.verified
            && failure.reason == WRONG_CODE
        {
            // Somebody else asked for a code for the same number in between: the next attempt has one of its own.
            failure.retryable = true;
        }
        answered
    }

    async fn open_session(&self, user: u64, device: u32, nonce: u64, within: Duration) -> Answered<Opened> {
        let entry = self.ready(lane(user, device), within).await;
        self.answered(&entry, entry.client.open_session(user, device, nonce).await, |answer| {
            Opened {
                session: answer.session,
                acknowledged: answer.acknowledged,
                incarnation: answer.incarnation,
            }
        })
    }

    async fn send(&self, message: &Outgoing, within: Duration) -> Answered<Placed> {
        let entry = self.ready(lane(message.sender, message.device), within).await;
        let request = SendRequest {
            sender: message.sender,
            device: message.device,
            session: message.session,
            recipient: message.recipient,
            client_id: message.client_id,
            body: message.body.clone(),
            epoch: 0,
            timeout_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            group: message.group,
        };
        self.answered(&entry, entry.client.send(request).await, |answer| Placed {
            position: answer.position,
            repeated: answer.repeated,
        })
    }

    async fn subscribe(&self, resume: Resume, within: Duration) -> Answered<Box<dyn DeviceStream>> {
        let entry = self.ready(lane(resume.user, resume.device), within).await;
        let request = SubscribeRequest {
            user: resume.user,
            device: resume.device,
            session: resume.session,
            after: resume.after,
            incarnation: resume.incarnation,
            epoch: 0,
        };
        self.answered(&entry, entry.client.subscribe(request).await, |stream| {
            Box::new(Listening(stream)) as Box<dyn DeviceStream>
        })
    }

    async fn acknowledge(&self, resume: Resume, within: Duration) -> Answered<u64> {
        let entry = self.ready(lane(resume.user, resume.device), within).await;
        let request = AcknowledgeRequest {
            user: resume.user,
            device: resume.device,
            session: resume.session,
            sequence: resume.after,
            epoch: 0,
        };
        self.answered(&entry, entry.client.acknowledge(request).await, |answer| {
            answer.acknowledged
        })
    }

    async fn history(&self, reader: Caller, conversation: u64, after: u64, within: Duration) -> Answered<Page> {
        let entry = self.ready(0, within).await;
        let request = HistoryRequest {
            conversation,
            after,
            limit: PAGE,
            epoch: 0,
            caller: Some(who(reader)),
        };
        self.answered(&entry, entry.client.history(request).await, |answer| {
            page(&answer.messages, answer.last_position)
        })
    }

    async fn fence(&self, part: &str, sessions: &[u64], within: Duration) -> Answered<()> {
        let Some(shard) = part.strip_prefix("shard:").and_then(|shard| shard.parse().ok()) else {
            return Answered::failed(CallFailure::refused(format!("there is no part {part}")));
        };
        let entry = self.operators(within).await;
        self.answered(&entry, entry.client.fence(shard, sessions).await, |_| ())
    }

    async fn digests(&self) -> Vec<(String, Option<NodeStatus>)> {
        // A digest scans the whole shard.
        let direct = self.direct.with_timeout(Duration::from_secs(3));
        let nodes: Vec<u64> = direct.channels().nodes().collect();
        let mut seen = BTreeMap::new();
        for node in nodes {
            let status = match direct.status(node).await {
                Ok(status) => with_digests(&direct, node, status::translate(&status)).await,
                Err(_) => None,
            };
            seen.insert(node_name(node), status);
        }
        seen.into_iter().collect()
    }
}

/// Adds each group's digest, with the index and term that it is of. None when one is not to be had.
async fn with_digests(direct: &Client, node: u64, mut status: NodeStatus) -> Option<NodeStatus> {
    for group in &mut status.groups {
        let shard = group.group.strip_prefix("shard:")?.parse().ok()?;
        let digest = direct.digest(node, shard).await.ok()?;
        group.applied = digest.applied;
        group.digest = digest.digest;
    }
    Some(status)
}

/// A session keeps to one of the connections; sessions are spread over them evenly.
pub(super) const fn lane(user: u64, device: u32) -> u64 {
    user.wrapping_mul(31).wrapping_add(device as u64)
}

/// A message as a read found it.
pub(super) fn read_item(message: &StoredMessage) -> ReadItem {
    ReadItem {
        position: message.position,
        author: message.sender,
        item: payload::decode(&message.body),
        hash: payload::hash(&message.body),
    }
}

struct Listening(Subscription);

#[async_trait]
impl DeviceStream for Listening {
    async fn next(&mut self) -> Result<StreamEvent, CallFailure> {
        match self.0.next().await {
            Ok(Event::Delivery(delivery)) => Ok(StreamEvent::Delivery {
                sequence: delivery.sequence,
                conversation: delivery.conversation,
                position: delivery.position,
                author: delivery.sender,
                body: delivery.body,
            }),
            Ok(Event::Notice(entry)) => Ok(StreamEvent::Notice {
                sequence: entry.sequence,
                notice: notice(entry),
            }),
            Ok(Event::Position(position)) => Ok(StreamEvent::Position {
                last_sequence: position.last_sequence,
                incarnation: position.incarnation,
                current: position.current,
            }),
            Err(StreamEnd::Refused(error)) => Err(failure(&error)),
            Err(StreamEnd::Lost(_)) => Err(CallFailure::unknown("lost")),
            Err(StreamEnd::Silent(_)) => Err(CallFailure::unknown("silent")),
            Err(StreamEnd::Closed) => Err(CallFailure::unknown("closed")),
        }
    }
}
