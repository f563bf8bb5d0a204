//! Lists, marks and presence of the service in memory, and the loads that ask for them.

use super::*;
use crate::{
    history::{Answer, History, Marks, Membership, Notice, Online, Thread, Told},
    workload::{
        home::{Home, HomeClient},
        people::Caller,
    },
};

impl State {
    /// What `user` belongs to or once did: each conversation as far as it is the user's.
    fn threads(&self, user: u64) -> Vec<Thread> {
        let all = self.conversations.iter();
        all.filter_map(|(id, items)| {
            let last = self.next_position(*id) - 1;
            let (joined, left) = match self.groups.get(id) {
                Some(group) => {
                    let stay = Membership::of(&group.changes).stays(user).last().copied()?;
                    (stay.joined, stay.left.unwrap_or(0))
                }
                None if *id >> 32 == user || *id & u64::from(u32::MAX) == user => (0, 0),
                None => return None,
            };
            let last_position = if left > 0 { left } else { last };
            let (delivered, read) = self.marks.get(&(user, *id)).copied().unwrap_or_default();
            let after = read.max(joined).max(left);
            let unread = items.iter().filter(|it| it.author != user && it.position > after);
            let unread = unread.filter(|it| it.position <= last_position).count() as u64;
            Some(Thread {
                log: format!("c:{id}"),
                group: self.groups.contains_key(id),
                last_position,
                marks: Marks {
                    delivered,
                    read,
                    unread,
                },
                joined,
                left,
            })
        })
        .collect()
    }
}

#[async_trait]
impl HomeClient for Client {
    async fn open(&self, caller: Caller, _within: Duration) -> Answered<Home> {
        let dead = self.0.refused().is_some();
        let home = Home {
            current: !dead,
            more: false,
            threads: lock(&self.0.state).threads(caller.user),
        };
        Answered::ok(home, None)
    }

    async fn acquit(
        &self,
        caller: Caller,
        conversation: u64,
        delivered: u64,
        read: u64,
        _within: Duration,
    ) -> Answered<Marks> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        let mut state = lock(&self.0.state);
        let log = format!("c:{conversation}");
        let Some(thread) = state.threads(caller.user).into_iter().find(|it| it.log == log) else {
            return Answered::failed(CallFailure {
                retryable: false,
                ..CallFailure::refused("NO_SUCH_CONVERSATION")
            });
        };
        let end = if self.0.behaviour.early_receipts {
            u64::MAX
        } else {
            thread.last_position
        };
        let before = thread.marks;
        let read = read.min(end).max(before.read);
        let delivered = delivered.min(end).max(before.delivered).max(read);
        state.marks.insert((caller.user, conversation), (delivered, read));
        let receipt = Notice::Receipt {
            log,
            user: caller.user,
            delivered,
            read,
            unread: 0,
        };
        state.push(&[caller.user], |sequence| StreamEvent::Notice {
            sequence,
            notice: receipt.clone(),
        });
        let left = state.threads(caller.user).into_iter().find(|it| it.log == thread.log);
        let marks = left.map_or(before, |it| it.marks);
        Answered::ok(marks, None)
    }

    async fn presence(&self, user: u64, _within: Duration) -> Answered<Vec<Online>> {
        let state = lock(&self.0.state);
        let own = state.devices.range((user, 0)..=(user, u32::MAX));
        let believes = self.0.behaviour.ghosts;
        let devices = own.map(|((_, device), inbox)| Online {
            device: *device,
            online: believes && inbox.wake.is_some(),
            owed: inbox.items.len() as u64 - inbox.acknowledged,
        });
        Answered::ok(devices.collect(), None)
    }
}

fn social(class: Class) -> LoadSpec {
    LoadSpec {
        class,
        users: 0,
        probe: None,
        ..load()
    }
}

fn all_of_it() -> Vec<LoadSpec> {
    let mut loads = vec![load()];
    loads.extend([Class::Open, Class::Receipt, Class::Presence].map(social));
    loads
}

fn judged(recorder: &Recorder) -> BTreeMap<&'static str, crate::check::Finding> {
    let history = History::new(recorder.header().clone(), recorder.recorded().events);
    let found = crate::check::judge(&history, crate::check::ALL);
    found.into_iter().map(|finding| (finding.name, finding)).collect()
}

#[tokio::test(start_paused = true)]
async fn people_open_read_and_look_who_is_there_and_everybody_opens_once_more() {
    let (mut workload, recorder, service) = stage_all(Behaviour::default(), all_of_it());
    assert!(run(&mut workload, &service).await, "it drains");
    for class in [Class::Open, Class::Receipt, Class::Presence, Class::Read] {
        assert!(ops(&recorder, class).len() > 20, "{class:?}");
    }
    let events = recorder.recorded().events;
    let claims = ops(&recorder, Class::Receipt).into_iter().filter(|op| {
        matches!(&op.subject, Subject::Receipt { delivered, marks: Some(marks), .. } if *delivered > marks.delivered)
    });
    assert!(claims.count() > 2, "nobody claimed too much");
    let stopped = events.iter().filter_map(|event| match event {
        Event::Op(op) if op.class == Class::Open => Some(op.done),
        _ => None,
    });
    let stopped = stopped.max().unwrap();
    let last: std::collections::BTreeSet<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Told(Told {
                user,
                began,
                answer: Answer::Threads { current: true, .. },
                ..
            }) if *began > stopped => Some(*user),
            _ => None,
        })
        .collect();
    assert_eq!(
        last.len(),
        usize::try_from(load().users).unwrap(),
        "everybody was asked once more"
    );
    let found = judged(&recorder);
    for name in ["unread-count", "early-receipt", "receipt-regress", "shrinking-history"] {
        assert_eq!(found[name].verdict, crate::check::Verdict::Pass, "{:?}", found[name]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_says_what_it_is_told_is_caught() {
    let behaviour = Behaviour {
        early_receipts: true,
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage_all(behaviour, all_of_it());
    run(&mut workload, &service).await;
    let found = judged(&recorder);
    assert_eq!(found["early-receipt"].verdict, crate::check::Verdict::Fail);
}

#[tokio::test(start_paused = true)]
async fn devices_fall_silent_and_come_back_and_a_ghost_among_them_is_caught() {
    for ghosts in [false, true] {
        let behaviour = Behaviour {
            ghosts,
            ..Behaviour::default()
        };
        let (mut workload, recorder, service) = stage_all(behaviour, all_of_it());
        workload.prepare().await.expect("it prepares");
        workload.start().await.expect("it starts");
        let lever = workload.lever();
        lever
            .doze()
            .hold("1-doze", 0.5, service.clock)
            .await
            .expect("some fall silent");
        service.clock.sleep(Duration::from_secs(16)).await;
        let (_, evidence) = lever.doze().release("1-doze", service.clock).await;
        assert!(evidence.starts_with("0 of"), "{evidence}");
        service.clock.sleep(Duration::from_secs(1)).await;
        workload.stop_sending().await;
        assert!(
            workload.drain(Duration::from_secs(20)).await,
            "what was swallowed comes after all"
        );
        workload.fence().await.expect("it fences");
        workload.read_back().await;
        workload.shut_down().await;
        let found = &judged(&recorder)["ghost-online"];
        let expected = if ghosts {
            crate::check::Verdict::Fail
        } else {
            crate::check::Verdict::Pass
        };
        assert_eq!(found.verdict, expected, "{found:?}");
    }
}

#[test]
fn a_load_that_brings_nobody_needs_one_that_does() {
    assert!(check(&social(Class::Open)).is_ok());
    let bringing = LoadSpec {
        users: 5,
        ..social(Class::Open)
    };
    assert!(check(&bringing).is_err());
}
