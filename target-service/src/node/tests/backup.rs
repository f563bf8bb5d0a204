//! Backups taken of a cluster that serves, and clusters that begin from them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use firedrill_proto::chat::v1::{
    BackupAction, BackupPhase, BackupRequest, BackupStatus, StatusRequest, SubscribeRequest,
};

use super::{
    super::{Answer, ClientApi as _, NodeConfig, Reason, RestoreError, Restored, restore},
    cluster::{Cluster, Person, in_order, patient},
};
use crate::{
    chat::ids,
    env::{Disk as _, SimDisk, Streams, read_all},
};

const SHARDS: u32 = 2;

async fn ask(cluster: &Cluster, node: u64, action: BackupAction, id: &str, hold: bool) -> Answer<BackupStatus> {
    let request = BackupRequest {
        action: action.into(),
        id: id.to_owned(),
        hold,
        at_least: Vec::new(),
    };
    let answer = cluster.handle(node).backup(request, patient()).await?;
    Ok(answer.status.unwrap_or_default())
}

async fn status(cluster: &Cluster, node: u64) -> Option<BackupStatus> {
    let status = cluster.handle(node).status(StatusRequest {}, patient()).await;
    status.ok()?.backup
}

async fn in_phase(cluster: &Cluster, node: u64, phase: BackupPhase) -> BackupStatus {
    cluster
        .until("that phase of the backup", async || {
            let status = status(cluster, node).await?;
            assert!(
                phase == BackupPhase::Failed || status.phase() != BackupPhase::Failed,
                "{status:?}"
            );
            (status.phase() == phase).then_some(status)
        })
        .await
}

/// A node's share of a backup, as it would be carried elsewhere.
fn share(cluster: &Cluster, node: u64, id: &str) -> SimDisk {
    let (from, to) = (&cluster.backups[&node], SimDisk::new());
    for name in from.list(id).unwrap() {
        let bytes = read_all(&*from.open(&format!("{id}/{name}")).unwrap()).unwrap();
        to.create(&name).unwrap().append(&bytes).unwrap();
    }
    to
}

async fn restored(config: &NodeConfig, shares: &[&SimDisk], disk: &SimDisk) -> Result<Restored, RestoreError> {
    let from: Vec<Arc<dyn crate::env::Disk>> = shares
        .iter()
        .map(|disk| Arc::new(disk.attach()) as Arc<dyn crate::env::Disk>)
        .collect();
    let clock = crate::env::Clock::system();
    restore(&from, config, Arc::new(disk.attach()), &clock, 0, &mut |_| {}).await
}

/// A cluster that begins anew with what the shares hold, on empty disks.
async fn begun_from(old: &Cluster, shares: &[&SimDisk]) -> Cluster {
    let mut configs = old.configs.clone();
    configs.values_mut().for_each(|config| config.bootstrap = false);
    let mut disks = BTreeMap::new();
    let mut first: Option<Restored> = None;
    for (node, config) in &configs {
        let disk = SimDisk::new();
        let it = restored(config, shares, &disk).await.unwrap();
        let ends = first.get_or_insert_with(|| it.clone()).ends.clone();
        assert_eq!(it.ends, ends, "every node comes to the same");
        disks.insert(*node, disk);
    }
    let mut cluster = Cluster::of(configs, disks);
    cluster.epoch = 2;
    for node in cluster.configs.keys().copied().collect::<Vec<_>>() {
        cluster.up(node);
    }
    cluster
}

async fn positions(cluster: &Cluster, a: &Person, b: &Person) -> Vec<u64> {
    let history = cluster.history(ids::conversation_id(a.user, b.user)).await;
    history.messages.iter().map(|it| it.position).collect()
}

/// Logs a device in again, whatever it had before.
async fn again(cluster: &Cluster, phone: &str) -> Person {
    cluster.person(phone).await
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_before_a_backup_is_there_after_the_disks_are_gone() {
    // So slow that much happens while states are copied.
    let cluster = Cluster::start(3, SHARDS, |config| config.backup_bytes_per_second = 20_000);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=30 {
        cluster.send(&a, &b, id).await;
        cluster.send(&b, &a, id).await;
    }
    let told = cluster.shown(&b, 1, 0).await.1;
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    let mut more = 60;
    while status(&cluster, 1)
        .await
        .is_some_and(|it| it.phase() != BackupPhase::Finished)
    {
        assert!(more < 5000, "it goes on for ever");
        more += 1;
        cluster.send(&a, &b, more).await;
        cluster.clock.sleep(Duration::from_millis(50)).await;
    }
    assert!(more > 70, "only {more} were sent meanwhile");
    let finished = in_phase(&cluster, 1, BackupPhase::Finished).await;
    assert_eq!((finished.shards_done, finished.shards), (SHARDS, SHARDS));
    let behind = cluster.send(&a, &b, 9000).await.position;

    let share = share(&cluster, 1, "one");
    let new = begun_from(&cluster, &[&share]).await;
    let there = positions(&new, &a, &b).await;
    let last = there.len() as u64;
    in_order(1..=last, there);
    assert!((60..behind).contains(&last), "{last} of {behind}");
    // Nothing is on its way any more that was delivered, and what was not comes: to the last one.
    let (a2, b2) = (again(&new, "15550001").await, again(&new, "15550002").await);
    assert_eq!((a2.user, b2.user), (a.user, b.user));
    let all = new.until("all that is owed", async || {
        let (shown, _) = new.shown(&b2, 1, 0).await;
        (shown.len() as u64 == last).then_some(shown)
    });
    in_order(1..=last, all.await.iter().map(|it| it.position));
    // It goes on, under numbers that were given before and lost.
    let next = new.send(&a2, &b2, 10_000).await;
    assert_eq!(next.position, last + 1);
    let shown = new.until("what is new", async || {
        let (shown, position) = new.shown(&b2, 1, last).await;
        (!shown.is_empty()).then_some((shown, position))
    });
    let (shown, position) = shown.await;
    assert_eq!(shown[0].position, last + 1);
    // A cursor from before is told apart.
    assert_ne!(position.incarnation, told.incarnation);
    let resume = SubscribeRequest {
        incarnation: told.incarnation,
        ..b2.subscribe(1, 30)
    };
    let refused = new.until("a refusal", async || {
        for node in new.nodes() {
            match new.handle(node).subscribe(resume, patient()).await {
                Err(refusal) if refusal.reason != Reason::NotLeader => return Some(refusal),
                _ => {}
            }
        }
        None
    });
    assert_eq!(refused.await.reason, Reason::Resync);
    for shard in 0..SHARDS {
        new.converge(shard).await;
    }
    // Sessions that were opened before it act no more where another took their place.
    let account = new.leader(ids::owner(a.user, SHARDS)).await;
    assert!(
        a2.sessions == a.sessions
            || new
                .handle(account)
                .subscribe(a.subscribe(1, 0), patient())
                .await
                .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_life_of_one_backup_is_another_generation() {
    let cluster = Cluster::start(3, 1, |_| {});
    let a = cluster.person("15550001").await;
    ask(&cluster, 2, BackupAction::BackupStart, "one", false).await.unwrap();
    in_phase(&cluster, 2, BackupPhase::Finished).await;
    let share = share(&cluster, 2, "one");
    let mut seen = vec![cluster.shown(&a, 1, 0).await.1.incarnation];
    for life in 0..2 {
        let mut new = begun_from(&cluster, &[&share]).await;
        if life == 1 {
            // Another hour would do as well; here the seed is what differs.
            for node in 1..=3 {
                new.crash(node, true);
                new.disks.insert(node, SimDisk::new());
            }
            let mut configs = new.configs.clone();
            configs.values_mut().for_each(|config| config.seed = 99);
            for (node, config) in &configs {
                restored(config, &[&share], &new.disks[node]).await.unwrap();
            }
            new.configs = configs;
            (1..=3).for_each(|node| new.up(node));
        }
        let a = again(&new, "15550001").await;
        seen.push(new.shown(&a, 1, 0).await.1.incarnation);
        // Sessions go on behind all that could have been given away.
        assert_eq!(
            new.handle(new.leader(0).await)
                .routes(Default::default(), patient())
                .await
                .unwrap()
                .epoch,
            2
        );
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn shares_of_nodes_that_hold_different_shards_make_one_backup() {
    let spread = |config: &mut NodeConfig| {
        config.replication_factor = 3;
        config.everywhere_up_to = 0;
    };
    let cluster = Cluster::start(4, 4, spread);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    for node in [1, 2] {
        ask(&cluster, node, BackupAction::BackupStart, "both", true)
            .await
            .unwrap();
        cluster.send(&b, &a, node).await;
    }
    for node in [1, 2] {
        in_phase(&cluster, node, BackupPhase::Following).await;
    }
    cluster.send(&b, &a, 3).await;
    for node in [1, 2] {
        ask(&cluster, node, BackupAction::BackupFinish, "both", true)
            .await
            .unwrap();
        in_phase(&cluster, node, BackupPhase::Finished).await;
    }
    let shares = [share(&cluster, 1, "both"), share(&cluster, 2, "both")];
    let alone = restored(&cluster.configs[&1], &[&shares[0]], &SimDisk::new())
        .await
        .unwrap_err();
    assert!(alone.to_string().contains("no share has shards"), "{alone}");
    let new = begun_from(&cluster, &[&shares[0], &shares[1]]).await;
    let there = positions(&new, &a, &b).await;
    in_order(1..=there.len() as u64, there.clone());
    assert!(there.len() >= 20, "{there:?}");
    let (a, b) = (again(&new, "15550001").await, again(&new, "15550002").await);
    let next = new.send(&a, &b, 1000).await.position;
    let shown = new.until("everything", async || {
        let (shown, _) = new.shown(&b, 1, 0).await;
        (shown.last()?.position == next).then_some(shown)
    });
    in_order(1..=next, shown.await.iter().map(|it| it.position));
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_restored_is_refused_by_name_and_leaves_no_node() {
    let cluster = Cluster::start(1, SHARDS, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.send(&a, &b, 1).await;
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    in_phase(&cluster, 1, BackupPhase::Finished).await;
    let config = cluster.configs[&1].clone();
    let whole = || share(&cluster, 1, "one");
    let refused = async |config: &NodeConfig, from: &SimDisk| {
        let disk = SimDisk::new();
        let refused = restored(config, &[from], &disk).await.unwrap_err().to_string();
        assert!(!disk.exists("identity").unwrap(), "{refused}");
        // Mended, the same folder can be restored.
        restored(&cluster.configs[&1], &[&whole()], &disk).await.unwrap();
        refused
    };
    let damaged = async |file: &str| {
        let from = whole();
        let open = from.open(file).unwrap();
        let mut byte = [0];
        open.read_at(open.len().unwrap() / 2, &mut byte).unwrap();
        open.write_at(open.len().unwrap() / 2, &[byte[0] ^ 4]).unwrap();
        refused(&config, &from).await
    };
    assert!(damaged("manifest.json").await.contains("the checksum does not match"));
    for file in ["shard-0000.snapshot", "shard-0001.tail"] {
        let refused = damaged(file).await;
        assert!(refused.contains(file) && refused.contains("of node 1"), "{refused}");
    }
    let torn = whole();
    let file = torn.open("shard-0001.snapshot").unwrap();
    file.truncate(file.len().unwrap() - 1).unwrap();
    assert!(refused(&config, &torn).await.contains("bytes, "));
    let unfinished = whole();
    unfinished.remove("manifest.json").unwrap();
    assert!(refused(&config, &unfinished).await.contains("not finished"));
    let mut other = config.clone();
    other.shards = 3;
    assert!(
        refused(&other, &whole())
            .await
            .contains("has 2 shards, the configuration 3")
    );
    let mut other = config.clone();
    other.state.stream_max = 7;
    assert!(refused(&other, &whole()).await.contains("state.stream_max"));
    let used = restored(&config, &[&whole()], &cluster.disks[&1]).await.unwrap_err();
    assert!(matches!(used, RestoreError::NotEmpty(_)), "{used}");
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_loses_its_power_is_whole_or_begins_anew() {
    let cluster = Cluster::start(1, SHARDS, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=5 {
        cluster.send(&a, &b, id).await;
    }
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    in_phase(&cluster, 1, BackupPhase::Finished).await;
    let (config, from) = (cluster.configs[&1].clone(), share(&cluster, 1, "one"));
    let (mut cut, mut whole) = (0, 0);
    for calls in (1..400).step_by(7) {
        let disk = SimDisk::new();
        disk.cut_power_after(calls, Streams::new(calls).stream("cut"));
        let first = restored(&config, &[&from], &disk).await;
        disk.disarm();
        disk.power_loss(&mut Streams::new(calls).stream("power"));
        match first {
            Ok(_) => whole += 1,
            Err(_) => {
                cut += 1;
                match restored(&config, &[&from], &disk).await {
                    Ok(_) | Err(RestoreError::NotEmpty(_)) => {}
                    Err(other) => panic!("cut after {calls} calls: {other}"),
                }
            }
        }
        assert!(disk.exists("identity").unwrap(), "cut after {calls} calls");
        if calls % 5 == 1 {
            let mut new = Cluster::of(cluster.configs.clone(), BTreeMap::from([(1, disk)]));
            new.configs.get_mut(&1).unwrap().bootstrap = false;
            new.epoch = 2;
            new.up(1);
            in_order(1..=5, positions(&new, &a, &b).await);
            new.crash(1, false);
        }
    }
    assert!(cut > 5 && whole > 5, "{cut} were cut, {whole} were not");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_dies_leaves_none_and_is_taken_again_under_its_name() {
    let mut cluster = Cluster::start(3, SHARDS, |config| config.backup_bytes_per_second = 2000);
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    for id in 1..=20 {
        cluster.send(&a, &b, id).await;
    }
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    cluster.clock.sleep(Duration::from_millis(500)).await;
    assert_eq!(status(&cluster, 1).await.unwrap().phase(), BackupPhase::Copying);
    cluster.crash(1, true);
    cluster.backups[&1].crash();
    assert!(!cluster.backups[&1].exists("one/manifest.json").unwrap());
    cluster.up(1);
    cluster.converge(0).await;
    assert_eq!(status(&cluster, 1).await, None);
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    let busy = ask(&cluster, 1, BackupAction::BackupStart, "two", false)
        .await
        .unwrap_err();
    assert_eq!(busy.reason, Reason::Overloaded);
    let aborted = ask(&cluster, 1, BackupAction::BackupAbort, "one", false).await.unwrap();
    assert_eq!(aborted.phase(), BackupPhase::Failed);
    ask(&cluster, 1, BackupAction::BackupStart, "one", false).await.unwrap();
    in_phase(&cluster, 1, BackupPhase::Finished).await;
    // A finished one is never written over, by another life of the node least of all.
    cluster.crash(1, true);
    cluster.up(1);
    cluster.converge(1).await;
    let exists = ask(&cluster, 1, BackupAction::BackupStart, "one", false)
        .await
        .unwrap_err();
    assert!(
        exists.reason == Reason::Invalid && exists.message.contains("already"),
        "{exists}"
    );
    let new = begun_from(&cluster, &[&share(&cluster, 1, "one")]).await;
    in_order(1..=20, positions(&new, &a, &b).await);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_backups_ends_the_backup_and_not_the_node() {
    let cluster = Cluster::start(3, 1, |_| {});
    let (a, b) = (cluster.person("15550001").await, cluster.person("15550002").await);
    cluster.backups[&2].fail_next_sync("one/shard-0000.snapshot");
    ask(&cluster, 2, BackupAction::BackupStart, "one", false).await.unwrap();
    let failed = in_phase(&cluster, 2, BackupPhase::Failed).await;
    assert!(failed.error.contains("shard-0000.snapshot"), "{failed:?}");
    assert_eq!(cluster.send(&a, &b, 1).await.position, 1);
    cluster.converge(0).await;
    let bad = ask(&cluster, 2, BackupAction::BackupStart, "../one", false)
        .await
        .unwrap_err();
    assert_eq!(bad.reason, Reason::Invalid);
}
