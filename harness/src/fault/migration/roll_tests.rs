//! Roll-outs, on nodes that are names, with users whose luck depends on who runs what, in virtual time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::tests::{Names, Rig, name_spec, roster};
use crate::backend::{Backend, NodeSpec};
use crate::base::RunClock;
use crate::history::{Class, GroupStatus, MigrationEnd, NodeStatus, Outcome};
use crate::system::{Stage, System, SystemError};
use crate::target::Roster;
use crate::workload::{LoadSpec, Pulse, Workload};

/// Three nodes with one group each that they lead; what they run is what they were started as.
struct Fleet {
    roster: Roster,
    /// What each is to run from its next start on, and what it runs.
    releases: Mutex<BTreeMap<String, (String, String)>>,
    leaders: Mutex<BTreeMap<String, (String, u64)>>,
    backend: Mutex<Option<Arc<Names>>>,
    /// Who never comes to what the others have committed.
    lags: Option<&'static str>,
}

impl Fleet {
    fn runs(&self, node: &str) -> bool {
        self.backend
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|backend| backend.running().contains(node))
    }
}

#[async_trait]
impl System for Fleet {
    fn name(&self) -> &'static str {
        "main"
    }
    fn kind(&self) -> &'static str {
        "fleet"
    }
    fn roster(&self) -> &Roster {
        &self.roster
    }
    async fn layout(&mut self, _: &dyn Backend, _: &Path) -> Result<(), SystemError> {
        Ok(())
    }
    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        // A start makes it what it was to be.
        let mut releases = self.releases.lock().unwrap();
        if let Some((next, now)) = releases.get_mut(node) {
            now.clone_from(next);
        }
        Ok(name_spec(node))
    }
    fn set_release(&self, node: &str, release: &str) -> Result<(), SystemError> {
        let mut releases = self.releases.lock().unwrap();
        releases.get_mut(node).expect("a node of the fleet").0 = release.to_owned();
        Ok(())
    }
    async fn observe(&self, node: &str) -> Option<NodeStatus> {
        if !self.runs(node) {
            // What it led is led by the first that runs.
            let heir = ["n1", "n2", "n3"].into_iter().find(|heir| self.runs(heir))?;
            for (leader, term) in self.leaders.lock().unwrap().values_mut() {
                if leader == node {
                    (*leader, *term) = (heir.to_owned(), *term + 1);
                }
            }
            return None;
        }
        let leaders = self.leaders.lock().unwrap();
        let groups = leaders.iter().map(|(group, (leader, term))| GroupStatus {
            group: group.clone(),
            leader: leader == node,
            term: *term,
            commit: 100,
            applied: if self.lags == Some(node) { 99 } else { 100 },
            digest: 0,
        });
        Some(NodeStatus {
            groups: groups.collect(),
            release: self.releases.lock().unwrap()[node].1.clone(),
            ..NodeStatus::default()
        })
    }
    async fn transfer_leader(&self, group: &str, to: &str) -> Result<(), String> {
        let mut leaders = self.leaders.lock().unwrap();
        let (leader, term) = leaders.get_mut(group).ok_or("no such group")?;
        (*leader, *term) = (to.to_owned(), *term + 1);
        Ok(())
    }
    fn workload(&self, _: &[LoadSpec], _: Stage) -> Result<Box<dyn Workload>, SystemError> {
        Err(SystemError("it has no clients".to_owned()))
    }
}

/// Users send to whoever leads a group, in turn; who runs `2-bad` fails them.
async fn users(fleet: Arc<Fleet>, pulse: Pulse, clock: RunClock) {
    loop {
        let leaders: Vec<String> = fleet
            .leaders
            .lock()
            .unwrap()
            .values()
            .map(|(leader, _)| leader.clone())
            .collect();
        for leader in leaders {
            let bad = fleet.releases.lock().unwrap()[&leader].1 == "2-bad";
            pulse.beat(Class::Send, if bad { Outcome::Failed } else { Outcome::Ok });
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
}

fn fleet(lags: Option<&'static str>) -> (Arc<Fleet>, Rig) {
    let clock = RunClock::start_virtual();
    let mut roster = roster(&["shard:0", "shard:1", "shard:2"]);
    roster.nodes.truncate(3);
    let nodes = ["n1", "n2", "n3"];
    let fleet = Arc::new(Fleet {
        releases: Mutex::new(
            nodes
                .iter()
                .map(|node| ((*node).to_owned(), ("2".to_owned(), "2".to_owned())))
                .collect(),
        ),
        leaders: Mutex::new(
            (0..3)
                .map(|i| (format!("shard:{i}"), (nodes[i].to_owned(), 1)))
                .collect(),
        ),
        roster,
        backend: Mutex::default(),
        lags,
    });
    let mut rig = Rig::new(Arc::clone(&fleet) as _, clock);
    *fleet.backend.lock().unwrap() = Some(Arc::clone(&rig.backend));
    let pulse = Pulse::of_test(clock);
    rig.engine = rig.engine.clone().with_pulse(pulse.clone());
    tokio::spawn(users(Arc::clone(&fleet), pulse, clock));
    (fleet, rig)
}

const GATE: &str = "gate: { health: { require: [\"send.success >= 95%\"], for: 1s, within: 4s } }";

fn run(fleet: &Fleet) -> Vec<String> {
    fleet
        .releases
        .lock()
        .unwrap()
        .values()
        .map(|(_, now)| now.clone())
        .collect()
}

fn leaders(fleet: &Fleet) -> Vec<String> {
    fleet
        .leaders
        .lock()
        .unwrap()
        .values()
        .map(|(leader, _)| leader.clone())
        .collect()
}

fn end(rig: &Rig) -> (MigrationEnd, String) {
    let (how, _, reason) = rig.migration().ended.expect("it has ended");
    (how, reason)
}

#[tokio::test(start_paused = true)]
async fn every_node_has_its_turn_and_leads_again_what_it_led() {
    let (fleet, rig) = fleet(None);
    let done = rig.inject(&format!("roll: {{ by: 34%, {GATE} }}")).await;
    assert_eq!(done.outcome, "installed", "{done:?}");
    assert_eq!(end(&rig).0, MigrationEnd::Completed);
    assert_eq!(leaders(&fleet), ["n1", "n2", "n3"]);
    let names: Vec<String> = rig.migration().phases.iter().map(|phase| phase.name.clone()).collect();
    let of = |step: usize| {
        let node = ["stop", "start", "catch_up", "lead"].map(|phase| format!("{phase} n{step}"));
        node.into_iter().chain([format!("gate {step}")])
    };
    // 34 % of three are two, then one.
    let wanted: Vec<String> = (1..=3)
        .flat_map(of)
        .filter(|name| *name != "gate 1" && *name != "gate 3")
        .collect();
    let wanted: Vec<String> = wanted
        .into_iter()
        .map(|name| if name == "gate 2" { "gate 1".to_owned() } else { name })
        .chain(["gate 2".to_owned()])
        .collect();
    assert_eq!(names, wanted);
    assert_eq!(rig.backend.running().len(), 4);
    assert!(rig.is_clean() && rig.doubts().is_empty(), "{:?}", rig.doubts());
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_users_is_stopped_at_the_first_gate_and_taken_back() {
    let (fleet, rig) = fleet(None);
    rig.inject(&format!(
        "upgrade: {{ to: 2-bad, by: 33%, {GATE}, on_red: rollback, ends: aborted }}"
    ))
    .await;
    let (how, reason) = end(&rig);
    assert_eq!(how, MigrationEnd::Aborted);
    assert!(
        reason.contains("after step 1") && reason.contains("send") || reason.contains("success"),
        "{reason}"
    );
    assert_eq!(run(&fleet), ["2", "2", "2"]);
    assert_eq!(rig.doubts(), Vec::<String>::new());
    assert!(rig.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_red_gate_stops_where_it_is_unless_said_otherwise() {
    let (fleet, rig) = fleet(None);
    rig.inject(&format!("upgrade: {{ to: 2-bad, by: 33%, {GATE} }}")).await;
    assert_eq!(end(&rig).0, MigrationEnd::Stopped);
    assert_eq!(run(&fleet), ["2-bad", "2", "2"]);
    assert_eq!(rig.doubts().len(), 1, "it was to be completed: {:?}", rig.doubts());
}

#[tokio::test(start_paused = true)]
async fn without_a_gate_everybody_gets_the_bad_build() {
    let (fleet, rig) = fleet(None);
    rig.inject("upgrade: { to: 2-bad, by: 33%, gate: none }").await;
    assert_eq!(end(&rig).0, MigrationEnd::Completed);
    assert_eq!(run(&fleet), ["2-bad", "2-bad", "2-bad"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_catch_up_makes_it_red() {
    let (fleet, rig) = fleet(Some("n2"));
    rig.inject(&format!("upgrade: {{ to: \"1\", by: 33%, {GATE}, ends: stopped }}"))
        .await;
    let (how, reason) = end(&rig);
    assert_eq!(how, MigrationEnd::Stopped);
    assert!(
        reason.contains("n2 has not caught up") && reason.contains("behind in shard:0"),
        "{reason}"
    );
    assert_eq!(run(&fleet), ["1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn another_controller_goes_on_with_the_next_node() {
    for at in ["start", "lead", "gate", "50%"] {
        let (fleet, rig) = fleet(None);
        let yaml = format!(
            "upgrade: {{ to: \"1\", by: 33%, {GATE}, interrupt: {{ at: {at}, with: {{ kill: controller }} }} }}"
        );
        let done = rig.inject(&yaml).await;
        assert_eq!(done.outcome, "installed", "{at}: {done:?}");
        assert_eq!(run(&fleet), ["1", "1", "1"], "{at}");
        let it = rig.migration();
        assert_eq!(it.taken_over, 1, "{at}");
        assert_eq!(it.ended.as_ref().unwrap().0, MigrationEnd::Completed, "{at}");
        // Nobody's turn came twice: who had been stopped is not stopped again.
        let stops = it.phases.iter().filter(|phase| phase.name.starts_with("stop")).count();
        assert_eq!(stops, 3, "{at}: {:?}", it.phases);
        assert_eq!(leaders(&fleet), ["n1", "n2", "n3"], "{at}");
        assert!(rig.is_clean() && rig.doubts().is_empty(), "{at}: {:?}", rig.doubts());
    }
}
