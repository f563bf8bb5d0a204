//! How people open the app, say what they have read, and ask who is there.

use std::time::Duration;

use async_trait::async_trait;
use firedrill_proto::chat::v1::{AcquitRequest, OpenRequest, OpenResponse, Thread as WireThread};

use super::{
    client::{ChatOverGrpc, lane},
    people::{lane_of, log, who},
};
use crate::{
    history::{Marks, Online, Thread},
    workload::{
        client::Answered,
        home::{Home, HomeClient},
        people::Caller,
    },
};

#[async_trait]
impl HomeClient for ChatOverGrpc {
    async fn open(&self, caller: Caller, within: Duration) -> Answered<Home> {
        let entry = self.ready(lane_of(caller), within).await;
        let request = OpenRequest {
            caller: Some(who(caller)),
            after: 0,
            epoch: 0,
        };
        self.answered(&entry, entry.client.open(request).await, home)
    }

    async fn acquit(
        &self,
        caller: Caller,
        conversation: u64,
        delivered: u64,
        read: u64,
        within: Duration,
    ) -> Answered<Marks> {
        let entry = self.ready(lane_of(caller), within).await;
        let request = AcquitRequest {
            caller: Some(who(caller)),
            conversation,
            delivered,
            read,
            epoch: 0,
        };
        self.answered(&entry, entry.client.acquit(request).await, |answer| Marks {
            delivered: answer.delivered,
            read: answer.read,
            unread: answer.unread,
        })
    }

    async fn presence(&self, user: u64, within: Duration) -> Answered<Vec<Online>> {
        let entry = self.ready(lane(user, 0), within).await;
        self.answered(&entry, entry.client.presence(user).await, |answer| {
            let devices = answer.devices.iter().map(|device| Online {
                device: device.device,
                online: device.online,
                owed: device.owed,
            });
            devices.collect()
        })
    }
}

fn home(answer: OpenResponse) -> Home {
    Home {
        current: answer.current,
        more: answer.next != 0,
        threads: answer.threads.into_iter().map(thread).collect(),
    }
}

fn thread(thread: WireThread) -> Thread {
    Thread {
        log: log(thread.conversation),
        group: thread.group,
        last_position: thread.last_position,
        marks: Marks {
            delivered: thread.delivered,
            read: thread.read,
            unread: thread.unread,
        },
        joined: thread.joined,
        left: thread.left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_conversations_is_translated_whole() {
        let wire = WireThread {
            conversation: 7,
            group: true,
            last_position: 9,
            unread: 2,
            delivered: 8,
            read: 5,
            joined: 6,
            left: 1,
            ..WireThread::default()
        };
        let home = home(OpenResponse {
            threads: vec![wire],
            next: 7,
            current: true,
            ..OpenResponse::default()
        });
        assert!(home.current && home.more);
        let marks = Marks {
            delivered: 8,
            read: 5,
            unread: 2,
        };
        assert_eq!(
            home.threads,
            [Thread {
                log: "c:7".to_owned(),
                group: true,
                last_position: 9,
                marks,
                joined: 6,
                left: 1,
            }]
        );
        assert_eq!(home.threads[0].unread_after(), 6);
    }
}
