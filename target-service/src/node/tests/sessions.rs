//! Sessions that somebody makes up.

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, Caller, ContactsRequest, HistoryRequest, OpenRequest, SendRequest, SubscribeRequest,
};

use super::{
    super::{ClientApi as _, Reason},
    cluster::{Cluster, patient},
};
use crate::chat::ids;

#[tokio::test(start_paused = true)]
async fn the_next_counter_opens_nothing_anywhere_and_the_owner_goes_on() {
    let cluster = Cluster::start(3, 2, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    let account = ids::owner(a.user, 2);
    let real = a.sessions[&1];
    // What a counter would have given, what stands next to a real one, and other devices' own.
    let mut guesses: Vec<u64> = (1..50).map(|counter| ids::session_id(account, counter)).collect();
    guesses.extend((1..50).flat_map(|step| [real + step, real - step]));
    guesses.extend([0, u64::MAX, a.sessions[&2], b.sessions[&1]]);
    let home = ids::owner(ids::conversation_id(a.user, b.user), 2);
    let (home, account) = (cluster.leader(home).await, cluster.leader(account).await);
    for guess in guesses {
        let caller = Some(Caller {
            user: a.user,
            device: 1,
            session: guess,
        });
        let say = SendRequest {
            session: guess,
            ..a.message(&b, 1)
        };
        let listen = SubscribeRequest {
            session: guess,
            ..a.subscribe(1, 0)
        };
        let forget = AcknowledgeRequest {
            user: a.user,
            device: 1,
            session: guess,
            sequence: 1,
            epoch: 1,
        };
        let open = OpenRequest {
            caller,
            ..OpenRequest::default()
        };
        let contacts = ContactsRequest {
            caller,
            ..ContactsRequest::default()
        };
        let history = HistoryRequest { caller, ..a.read(&b) };
        let (home, account) = (cluster.handle(home), cluster.handle(account));
        let refused = [
            home.send(say, patient()).await.unwrap_err(),
            home.history(history, patient()).await.unwrap_err(),
            account.subscribe(listen, patient()).await.unwrap_err(),
            account.acknowledge(forget, patient()).await.unwrap_err(),
            account.open(open, patient()).await.unwrap_err(),
            account.contacts(contacts, patient()).await.unwrap_err(),
        ];
        assert!(
            refused.iter().all(|it| it.reason == Reason::NoSuchSession),
            "{guess:x}: {refused:?}"
        );
    }
    // Nothing of it has taken the real session's place.
    assert_eq!(cluster.send(&a, &b, 1).await.position, 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_with_another_key_know_no_session_and_give_new_ones() {
    let mut cluster = Cluster::start(1, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1).await;
    cluster.crash(1, false);
    let key = "000102030405060708090a0b0c0d0e0f".to_owned();
    cluster.configs.get_mut(&1).unwrap().session_key = key;
    cluster.up(1);
    let leader = cluster.leader(0).await;
    let refused = cluster
        .handle(leader)
        .send(a.message(&b, 2), patient())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::NoSuchSession);
    let again = cluster.person("15550001").await;
    assert_eq!(again.user, a.user);
    assert_ne!(again.sessions, a.sessions);
    assert_eq!(cluster.send(&again, &b, 2).await.position, 2);
}
