//! The whole load on a system that answers everything at once, on a virtual clock.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::*;
use crate::{
    history::{FORMAT, Header, Operation, ReadItem},
    workload::{
        ProbeSpec, RetrySpec, ScheduleSpec,
        client::{Answered, Put},
    },
};

/// Two parts, no memory.
struct Willing;

#[async_trait]
impl OpClient for Willing {
    fn parts(&self) -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }
    fn needs(&self, log: &str) -> String {
        if log.len().is_multiple_of(2) { "a" } else { "b" }.to_owned()
    }
    async fn put(&self, _put: &Put, _within: Duration) -> Answered<Option<u64>> {
        Answered::ok(None, None)
    }
    async fn request(&self, _within: Duration) -> Answered<()> {
        Answered::ok((), None)
    }
    async fn fence(&self, _within: Duration) -> Answered<()> {
        Answered::ok((), None)
    }
    async fn read(&self, _log: &str, _within: Duration) -> Answered<Vec<ReadItem>> {
        Answered::ok(Vec::new(), None)
    }
}

fn load(class: Class, users: u32, probe: bool) -> LoadSpec {
    LoadSpec {
        system: "main".to_owned(),
        class,
        users,
        devices: 1,
        size_bytes: 64,
        schedule: ScheduleSpec::Constant { per_s: 100.0 },
        retry: RetrySpec::default(),
        op_timeout_ms: 500,
        in_flight_max: 100,
        probe: probe.then_some(ProbeSpec { per_s: 10.0 }),
        request: None,
        group: None,
        life: None,
    }
}

/// A second of these loads, as recorded.
async fn second_of(loads: Vec<LoadSpec>) -> Vec<Operation> {
    let clock = RunClock::start_virtual();
    let recorder = Recorder::in_memory(Header {
        format: FORMAT.to_owned(),
        plan: serde_json::Value::Null,
        started: String::new(),
        versions: BTreeMap::new(),
    });
    let mut workload = ItemWorkload::new(ItemSetting {
        system: "main".to_owned(),
        number: 0,
        loads,
        client: Arc::new(Willing),
        labels: BTreeMap::new(),
        recorder: recorder.clone(),
        clock,
        streams: Streams::new(7),
    })
    .expect("valid loads");
    workload.start().await.expect("started");
    clock.sleep(Duration::from_secs(1)).await;
    workload.stop_sending().await;
    workload.shut_down().await;
    let events = recorder.recorded().events.into_iter();
    let ops = events.filter_map(|event| match event {
        Event::Op(op) => Some(op),
        _ => None,
    });
    ops.collect()
}

fn sessions(ops: &[Operation], wanted: impl Fn(&Operation) -> bool) -> BTreeSet<u64> {
    ops.iter().filter(|op| wanted(op)).map(|op| op.session).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_their_sessions_and_probes_have_their_own() {
    let loads = vec![load(Class::Request, 4, true), load(Class::Request, 3, false)];
    let ops = second_of(loads).await;
    assert_eq!(sessions(&ops, |op| !op.probe), (1..=7).collect());
    assert_eq!(
        sessions(&ops, |op| op.probe),
        BTreeSet::from([8, 9]),
        "one for each part"
    );
    for (session, least) in [(1, 20), (4, 20), (5, 30), (7, 30)] {
        let count = ops.iter().filter(|op| op.session == session).count();
        assert!(count >= least, "session {session} sent {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_no_sessions() {
    let ops = second_of(vec![load(Class::Put, 4, true), load(Class::Request, 2, false)]).await;
    assert_eq!(
        sessions(&ops, |op| op.class == Class::Put && !op.probe),
        BTreeSet::from([0])
    );
    assert_eq!(sessions(&ops, |op| op.class == Class::Request), BTreeSet::from([1, 2]));
    assert_eq!(sessions(&ops, |op| op.probe), BTreeSet::from([3, 4]));
}
