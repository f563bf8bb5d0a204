//! Groups at their limit, one send to all of them, and opening the app, through crashes and without a majority.

use std::{collections::BTreeSet, time::Duration};

use firedrill_proto::chat::v1::{
    AuditRequest, AuditResponse, Caller, ChangeGroupRequest, GroupChangeKind, OpenRequest, SendRequest,
};

use super::{
    super::{ClientApi as _, Reason},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::chat::{ids, validate::GROUP_MEMBERS_MAX};

fn caller(person: &Person) -> Option<Caller> {
    Some(Caller {
        user: person.user,
        device: 1,
        session: person.sessions[&1],
    })
}

fn change(by: &Person, kind: GroupChangeKind, group: u64, users: Vec<u64>) -> ChangeGroupRequest {
    ChangeGroupRequest {
        caller: caller(by),
        client_id: 1,
        kind: kind.into(),
        group,
        users,
        open: true,
        epoch: 1,
    }
}

fn open(person: &Person) -> OpenRequest {
    OpenRequest {
        caller: caller(person),
        after: 0,
        epoch: 1,
    }
}

async fn make(cluster: &Cluster, by: &Person, users: Vec<u64>) -> u64 {
    let request = change(by, GroupChangeKind::GroupCreate, 0, users);
    let made = cluster.call(async |node| node.change_group(request.clone(), patient()).await);
    made.await.group
}

async fn audit(cluster: &Cluster, group: u64) -> AuditResponse {
    let request = AuditRequest {
        conversation: group,
        epoch: 1,
        ..AuditRequest::default()
    };
    cluster.call(async |node| node.audit(request, patient()).await).await
}

#[tokio::test(start_paused = true)]
async fn concurrent_joins_through_a_failover_never_fill_a_group_beyond_its_limit() {
    let mut cluster = Cluster::start(3, 1, |config| config.bounds.group_members = 4);
    let mut people = Vec::new();
    for n in 0..9 {
        people.push(cluster.person(&format!("1555000{n}")).await);
    }
    let group = make(&cluster, &people[0], Vec::new()).await;
    let mut joins = Vec::new();
    for person in &people[1..] {
        for node in cluster.nodes() {
            let (handle, request) = (
                cluster.handle(node),
                change(person, GroupChangeKind::GroupJoin, group, Vec::new()),
            );
            joins.push(tokio::spawn(
                async move { handle.change_group(request, patient()).await },
            ));
        }
    }
    tokio::task::yield_now().await;
    let leader = cluster.leader(0).await;
    cluster.crash(leader, true);
    for join in joins {
        drop(join.await.unwrap());
    }
    let (mut inside, mut outside) = (1, 0);
    for person in &people[1..] {
        let request = change(person, GroupChangeKind::GroupJoin, group, Vec::new());
        let joined = cluster
            .until("answer", async || {
                for node in cluster.nodes() {
                    match cluster.handle(node).change_group(request.clone(), patient()).await {
                        Ok(_) => return Some(true),
                        Err(refusal) if refusal.reason == Reason::GroupFull => return Some(false),
                        Err(_) => {}
                    }
                }
                None
            })
            .await;
        *(if joined { &mut inside } else { &mut outside }) += 1;
    }
    assert_eq!((inside, outside), (4, 5));
    let audited = audit(&cluster, group).await;
    assert_eq!(
        (audited.members.len(), audited.last_position),
        (4, 4),
        "each joined once"
    );
    cluster.up(leader);
    cluster.converge(0).await;
}

#[tokio::test(start_paused = true)]
async fn one_send_reaches_two_devices_of_each_of_200_members_through_a_crash() {
    let mut cluster = Cluster::start(3, 3, |_| {});
    let mut people = Vec::new();
    for n in 0..GROUP_MEMBERS_MAX {
        people.push(cluster.person(&format!("1555{n:05}")).await);
    }
    let others = people[1..].iter().map(|it| it.user).collect();
    let group = make(&cluster, &people[0], others).await;
    let say = |client_id| SendRequest {
        group,
        recipient: 0,
        ..people[0].message(&people[1], client_id)
    };
    let home = ids::owner(group, 3);
    let leader = cluster.leader(home).await;
    let sent = cluster.handle(leader).send(say(2), patient()).await.unwrap();
    assert_eq!(sent.position, 2);
    // It was answered and has gone nowhere yet.
    cluster.crash(leader, true);
    let again = say(3);
    cluster
        .call(async |node| node.send(again.clone(), patient()).await)
        .await;
    for person in &people {
        for device in 1..=2 {
            let shown = cluster
                .until("delivery", async || {
                    let (shown, _) = cluster.shown(person, device, 0).await;
                    (shown.len() >= 2).then_some(shown)
                })
                .await;
            in_order(2..=3, shown.iter().map(|delivery| delivery.position));
        }
    }
    cluster.up(leader);
    for shard in 0..3 {
        cluster.converge(shard).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_app_opens_while_nothing_can_be_sent() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=3 {
        cluster.send(&a, &b, id).await;
    }
    let request = open(&b);
    let unread = cluster
        .until("three unread", async || {
            let leader = cluster.handle(cluster.leader(0).await);
            let page = leader.open(request, patient()).await.ok()?;
            (page.threads.first()?.unread == 3).then_some(page)
        })
        .await;
    assert!(unread.current);
    cluster.converge(0).await;
    for node in 1..=3 {
        let others: Vec<u64> = (1..=3).filter(|other| *other != node).collect();
        cluster.isolate(node, &others);
    }
    for when in [Duration::ZERO, Duration::from_secs(5)] {
        cluster.clock.sleep(when).await;
        for node in cluster.nodes() {
            let handle = cluster.handle(node);
            let asked = cluster.clock.now();
            let page = handle.open(request, patient()).await.unwrap();
            let took = cluster.clock.now() - asked;
            assert!(took <= Duration::from_millis(300), "{took:?}");
            assert_eq!((page.current, page.threads[0].unread), (false, 3));
            assert!(handle.send(a.message(&b, 4), patient()).await.is_err());
        }
    }
    cluster.heal();
    cluster
        .until("a current answer", async || {
            let leader = cluster.handle(cluster.leader(0).await);
            leader.open(request, patient()).await.ok()?.current.then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_can_not_resume_fetches_the_state_at_a_limited_rate() {
    let cluster = Cluster::start(1, 1, |config| {
        config.bounds.syncs_per_second = 1;
        config.bounds.sync_burst = 1;
    });
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=5 {
        cluster.send(&a, &b, id).await;
    }
    cluster.shown(&b, 1, 4).await;
    let mut foreign = b.subscribe(1, 3);
    foreign.incarnation = 9;
    let refused = cluster.handle(1).subscribe(foreign, patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Resync);
    let page = cluster.handle(1).sync(open(&b), patient()).await.unwrap();
    assert_eq!((page.current, page.last_sequence, page.threads[0].unread), (true, 5, 5));
    let refused = cluster.handle(1).sync(open(&b), patient()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Overloaded);
    cluster.clock.sleep(refused.retry_after.unwrap()).await;
    assert!(cluster.handle(1).sync(open(&b), patient()).await.is_ok());
    cluster.send(&a, &b, 6).await;
    let (shown, _) = cluster
        .until("the next", async || {
            let shown = cluster.shown(&b, 1, page.last_sequence).await;
            (!shown.0.is_empty()).then_some(shown)
        })
        .await;
    let ids: BTreeSet<u64> = shown.iter().map(|delivery| delivery.client_id).collect();
    assert_eq!(ids, BTreeSet::from([6]));
}
