//! What can be done to a workload's clients from outside while they go on: how fast they ask, and who starts anew.
//!
//! The schedules stay what they were before the run. A pace only changes how fast the time runs in which they are written,
//! from one instant on: so each operation still has the instant at which it is meant, whatever becomes of those before it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{Doze, engine::lock};
use crate::base::{Nanos, RunClock};

/// How long whoever releases may take to notice.
const NOTICE_WITHIN: Duration = Duration::from_secs(2);
/// How long the operations that prove it may take to come.
const PROOF_WITHIN: Duration = Duration::from_secs(5);
/// Operations that prove a pace.
const PROOF_OPERATIONS: u64 = 10;
/// How long devices may take to drop what they have.
const RELAUNCH_WITHIN: Duration = Duration::from_secs(1);

/// Seen of the clients: since when, and in words.
type Seen = (Nanos, String);

/// A relaunch: which one it is, and the share of the devices that it hits, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relaunch {
    pub(crate) number: u64,
    share: u64,
}

impl Relaunch {
    /// Whether it hits a device, given a number drawn for that device and this relaunch.
    pub(crate) const fn hits(self, drawn: u64) -> bool {
        drawn % 1_000_000 < self.share
    }
}

/// The lever of one workload.
#[derive(Debug)]
pub struct Lever {
    /// The factors in force, by who asked for them.
    factors: Mutex<BTreeMap<String, f64>>,
    /// Their product.
    asked: watch::Sender<f64>,
    /// The pace that is kept, and since when; none while nothing is released.
    kept: watch::Sender<Option<(f64, Nanos)>>,
    /// Operations released that follow the pace.
    released: watch::Sender<u64>,
    relaunch: watch::Sender<Relaunch>,
    /// Devices there are, those that have heard of the last relaunch, and those that it hit.
    devices: AtomicU64,
    heard: watch::Sender<u64>,
    dropped: AtomicU64,
    doze: Doze,
}

impl Default for Lever {
    fn default() -> Self {
        Self {
            factors: Mutex::default(),
            asked: watch::Sender::new(1.0),
            kept: watch::Sender::default(),
            released: watch::Sender::new(0),
            relaunch: watch::Sender::default(),
            devices: AtomicU64::new(0),
            heard: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
            doze: Doze::default(),
        }
    }
}

impl Lever {
    /// Has the schedules run `factor` times as fast for as long as `id` holds; several multiply. Returns once that is kept
    /// and operations have been released at the new pace.
    ///
    /// # Errors
    /// In words, when nothing is being released.
    pub async fn hold(&self, id: &str, factor: f64, clock: RunClock) -> Result<Seen, String> {
        lock(&self.factors).insert(id.to_owned(), factor);
        self.shift(clock).await
    }

    /// Ends what [`Lever::hold`] began.
    ///
    /// # Errors
    /// In words, when nothing is being released.
    pub async fn release(&self, id: &str, clock: RunClock) -> Result<Seen, String> {
        lock(&self.factors).remove(id);
        self.shift(clock).await
    }

    async fn shift(&self, clock: RunClock) -> Result<Seen, String> {
        let factor: f64 = lock(&self.factors).values().product();
        self.asked.send_replace(factor);
        let mut kept = self.kept.subscribe();
        let noticed = kept.wait_for(|kept| kept.is_some_and(|(pace, _)| same(pace, factor)));
        let since = tokio::select! {
            biased;
            kept = noticed => kept.ok().and_then(|kept| kept.map(|(_, since)| since)),
            () = clock.sleep(NOTICE_WITHIN) => None,
        };
        let since =
            since.ok_or_else(|| format!("the load did not go over to {factor} times its rate: it doesn't run"))?;
        let mut released = self.released.subscribe();
        let enough = *released.borrow() + PROOF_OPERATIONS;
        tokio::select! {
            biased;
            _ = released.wait_for(|count| *count >= enough) => {}
            () = clock.sleep(PROOF_WITHIN) => {
                return Err(format!("no {PROOF_OPERATIONS} operations were released within {PROOF_WITHIN:?}"));
            }
        }
        let took = clock.now().since(since);
        Ok((
            since,
            format!(
                "the load runs at {factor} times its rate: {PROOF_OPERATIONS} operations were released within {took:?}"
            ),
        ))
    }

    /// Has a share of the devices, drawn anew, drop their streams and sessions and log in again, as when an app is started.
    /// Returns once they have dropped them.
    ///
    /// # Errors
    /// In words, when no device did.
    pub async fn relaunch(&self, share: f64, clock: RunClock) -> Result<Seen, String> {
        let at = clock.now();
        self.dropped.store(0, Ordering::Relaxed);
        self.heard.send_replace(0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 1000000"
        )]
        let share = (share.clamp(0.0, 1.0) * 1e6) as u64;
        self.relaunch.send_modify(|relaunch| {
            relaunch.number += 1;
            relaunch.share = share;
        });
        let all = self.devices.load(Ordering::Relaxed);
        let mut heard = self.heard.subscribe();
        // Whoever is between two connections hears of it before the next one; that is no reason to wait for longer.
        tokio::select! {
            biased;
            _ = heard.wait_for(|heard| *heard >= all) => {}
            () = clock.sleep(RELAUNCH_WITHIN) => {}
        }
        match self.dropped.load(Ordering::Relaxed) {
            0 => Err("no device dropped its session".to_owned()),
            dropped => Ok((
                at,
                format!("{dropped} of {all} devices dropped their sessions and log in again"),
            )),
        }
    }

    /// What has devices fall silent.
    pub const fn doze(&self) -> &Doze {
        &self.doze
    }

    /// The pace that is asked for.
    pub(crate) fn asked(&self) -> watch::Receiver<f64> {
        self.asked.subscribe()
    }

    /// Whoever releases keeps this pace now; none when it has ended.
    pub(crate) fn keeps(&self, pace: Option<(f64, Nanos)>) {
        self.kept.send_replace(pace);
    }

    /// An operation was released that follows the pace.
    pub(crate) fn released(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// A device that can be relaunched.
    pub(crate) fn enlist(&self) -> watch::Receiver<Relaunch> {
        self.devices.fetch_add(1, Ordering::Relaxed);
        self.relaunch.subscribe()
    }

    /// A device has heard of a relaunch, and was hit by it or not.
    pub(crate) fn heard(&self, hit: bool) {
        self.dropped.fetch_add(u64::from(hit), Ordering::Relaxed);
        self.heard.send_modify(|heard| *heard += 1);
    }
}

fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        base::Streams,
        workload::{
            Schedule, ScheduleSpec,
            release::{Executor, Release},
            schedule::Agenda,
        },
    };

    fn at(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_holds_from_one_instant_to_another_and_leaves_probes_alone() {
        let clock = RunClock::start_virtual();
        let executor = Executor::new(&clock).expect("the runtime");
        let lever = Arc::new(Lever::default());
        let mut agenda = Agenda::default();
        let of =
            |per_s| Schedule::new(&ScheduleSpec::Constant { per_s }, Nanos(0), &Streams::new(1), "x").expect("valid");
        let (load, probe) = (agenda.add_paced(of(100.0)), agenda.add(of(50.0)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let submit = move |at, number| lock(&sink).push((at, number));
        let mut release = Release::start(&executor, clock, agenda, Arc::clone(&lever), submit).expect("started");
        clock.sleep(Duration::from_millis(1005)).await;
        let (since, evidence) = lever.hold("a", 3.0, clock).await.expect("it is kept");
        assert!(since >= at(1005) && since <= at(1006), "{since:?}");
        assert!(evidence.contains("3 times"), "{evidence}");
        clock.sleep_until(at(2005)).await;
        let (until, _) = lever.release("a", clock).await.expect("it is kept");
        clock.sleep_until(at(3005)).await;
        release.stop();
        let seen = lock(&seen);
        let count = |number: usize, from: Nanos, to: Nanos| {
            seen.iter()
                .filter(|it| it.1 == number && it.0 >= from && it.0 < to)
                .count()
        };
        assert_eq!(count(load, Nanos(0), at(1005)), 101);
        assert!(
            count(load, since, until).abs_diff(300) <= 1,
            "{}",
            count(load, since, until)
        );
        assert!(count(load, until, at(3005)).abs_diff(100) <= 1);
        assert!(count(probe, at(1000), at(3000)).abs_diff(100) <= 1);
        assert!(seen.is_sorted_by_key(|it| it.0));
    }

    #[tokio::test(start_paused = true)]
    async fn paces_multiply_and_nothing_is_proven_of_a_load_that_does_not_run() {
        let clock = RunClock::start_virtual();
        let lever = Lever::default();
        let mut asked = lever.asked();
        for (id, factor, product) in [("a", 3.0, 3.0), ("b", 0.5, 1.5)] {
            assert!(lever.hold(id, factor, clock).await.is_err());
            assert!(same(*asked.borrow_and_update(), product));
        }
        assert!(lever.release("a", clock).await.is_err());
        assert!(same(*asked.borrow(), 0.5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relaunch_hits_its_share_and_is_proven_by_those_that_it_hit() {
        let clock = RunClock::start_virtual();
        let lever = Arc::new(Lever::default());
        assert!(lever.relaunch(1.0, clock).await.is_err(), "nobody is there");
        for device in 0..1000_u64 {
            let (lever, mut hears) = (Arc::clone(&lever), lever.enlist());
            tokio::spawn(async move {
                while hears.changed().await.is_ok() {
                    let hit = hears.borrow_and_update().hits(device * 1000);
                    lever.heard(hit);
                }
            });
        }
        let (_, evidence) = lever.relaunch(0.25, clock).await.expect("some were hit");
        assert!(evidence.starts_with("250 of 1000 devices"), "{evidence}");
    }
}
