//! How the load reaches the messaging service: the service's own client library, one attempt for each call.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use firedrill_proto::chat::v1::{AcknowledgeRequest, SendRequest, SubscribeRequest, subscribe_event::Event};
use target_service::{
    chat::ids,
    client::{Attempt, CallError, Client, StreamEnd, Subscription},
};

use super::{layout::node_name, status};
use crate::{
    history::{NodeStatus, ReadItem},
    target::group_of,
    workload::{
        client::{
            Account, Answered, CallFailure, ChatClient, DeviceStream, Opened, Outgoing, Page, Placed, Resume,
            StreamEvent,
        },
        payload,
    },
};

/// Messages in one page of a read.
const PAGE: u32 = 500;
/// A device gives up on silence by itself; this bound of the library's stands behind it.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// A client of the messaging service, over gRPC.
pub(super) struct ChatOverGrpc {
    /// Through the links.
    client: Client,
    /// Past them, for asking nodes of themselves.
    direct: Client,
    shards: u32,
}

impl ChatOverGrpc {
    pub(super) fn new(client: Client, direct: Client, shards: u32) -> Self {
        Self {
            client: client.with_silence_max(SILENCE_MAX),
            direct,
            shards,
        }
    }

    /// The client for one call, with a map of the shards if one is to be had.
    async fn ready(&self, lane: u64, within: Duration) -> Client {
        let client = self.client.on_lane(lane).with_timeout(within);
        if client.router().needs_map() {
            // Without a map the call itself fails as not sent, which says what there is to say.
            if let Err(error) = client.refresh_routes().await {
                tracing::debug!(%error, "no shard map");
            }
        }
        client
    }
}

fn answered<T, U>(attempt: Attempt<T>, translate: impl FnOnce(T) -> U) -> Answered<U> {
    match attempt.outcome {
        Ok(answer) => Answered {
            result: Ok(translate(answer)),
            by: attempt.target.map(|target| node_name(target.node)),
        },
        Err(error) => {
            // Only a refusal is an answer; who didn't answer isn't named.
            let by = matches!(error, CallError::Refused(_))
                .then_some(attempt.target)
                .flatten();
            Answered {
                result: Err(failure(&error)),
                by: by.map(|target| node_name(target.node)),
            }
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
        let client = self.ready(0, within).await;
        answered(client.sign_up(phone).await, |answer| Account {
            user: answer.user,
            created: answer.created,
        })
    }

    async fn open_session(&self, user: u64, device: u32, nonce: u64, within: Duration) -> Answered<Opened> {
        let client = self.ready(lane(user, device), within).await;
        answered(client.open_session(user, device, nonce).await, |answer| Opened {
            session: answer.session,
            acknowledged: answer.acknowledged,
            incarnation: answer.incarnation,
        })
    }

    async fn send(&self, message: &Outgoing, within: Duration) -> Answered<Placed> {
        let client = self.ready(lane(message.sender, message.device), within).await;
        let request = SendRequest {
            sender: message.sender,
            device: message.device,
            session: message.session,
            recipient: message.recipient,
            client_id: message.client_id,
            body: message.body.clone(),
            epoch: 0,
            timeout_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            group: 0,
        };
        answered(client.send(request).await, |answer| Placed {
            position: answer.position,
            repeated: answer.repeated,
        })
    }

    async fn subscribe(&self, resume: Resume, within: Duration) -> Answered<Box<dyn DeviceStream>> {
        let client = self.ready(lane(resume.user, resume.device), within).await;
        let request = SubscribeRequest {
            user: resume.user,
            device: resume.device,
            session: resume.session,
            after: resume.after,
            incarnation: resume.incarnation,
            epoch: 0,
        };
        answered(client.subscribe(request).await, |stream| {
            Box::new(Listening(stream)) as Box<dyn DeviceStream>
        })
    }

    async fn acknowledge(&self, resume: Resume, within: Duration) -> Answered<u64> {
        let client = self.ready(lane(resume.user, resume.device), within).await;
        let request = AcknowledgeRequest {
            user: resume.user,
            device: resume.device,
            session: resume.session,
            sequence: resume.after,
            epoch: 0,
        };
        answered(client.acknowledge(request).await, |answer| answer.acknowledged)
    }

    async fn history(&self, conversation: u64, after: u64, within: Duration) -> Answered<Page> {
        let client = self.ready(0, within).await;
        answered(client.history(conversation, after, PAGE).await, |answer| Page {
            last_position: answer.last_position,
            items: answer
                .messages
                .iter()
                .map(|message| ReadItem {
                    position: message.position,
                    author: message.sender,
                    item: payload::decode(&message.body),
                    hash: payload::hash(&message.body),
                })
                .collect(),
        })
    }

    async fn fence(&self, part: &str, sessions: &[u64], within: Duration) -> Answered<()> {
        let Some(shard) = part.strip_prefix("shard:").and_then(|shard| shard.parse().ok()) else {
            return Answered::failed(CallFailure::refused(format!("there is no part {part}")));
        };
        let client = self.ready(0, within).await;
        answered(client.fence(shard, sessions).await, |_| ())
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
const fn lane(user: u64, device: u32) -> u64 {
    user.wrapping_mul(31).wrapping_add(device as u64)
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
            Ok(Event::Notice(notice)) => Ok(StreamEvent::Notice {
                sequence: notice.sequence,
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
