//! A flap: the same rules again and again, each burst told of as a fault of its own.

use std::time::Duration;

use tokio::sync::watch;

use super::Shared;
use super::lasting::Lasting;
use crate::base::Nanos;
use crate::fault::scene::Rules;
use crate::history::FaultChange;

/// How long after its planned end a burst lifts itself.
const BURST_MARGIN: Duration = Duration::from_secs(5);
/// A flap under way.
pub(super) struct Flapping<'a> {
    pub(super) rules: &'a Rules,
    pub(super) on: Duration,
    pub(super) off: Duration,
    pub(super) times: u32,
}

/// What came of a flap's bursts.
#[derive(Default)]
pub(super) struct Bursts {
    pub(super) effective: Option<Nanos>,
    pub(super) text: String,
    pub(super) unproven: bool,
    pub(super) failed: bool,
}

impl Shared {
    /// Plays the bursts at instants that are fixed when the first begins. A cancelled flap lifts its burst and ends.
    pub(super) async fn flap(&self, fault: &Lasting, flap: Flapping<'_>) -> Bursts {
        let mut cancel = fault.cancel.subscribe();
        let began = self.clock.now();
        let mut bursts = Bursts::default();
        let mut played = 0;
        for burst in 0..flap.times {
            let from = began.plus((flap.on + flap.off) * burst);
            if self.cancelled(&mut cancel, from).await {
                break;
            }
            played += 1;
            let id = format!("{}.{played}", fault.id);
            self.tell_of(fault, &id, FaultChange::Requested);
            let until = from.plus(flap.on);
            // Should this very task be gone by then, the links lift the burst themselves.
            match self.impose(&fault.id, flap.rules, until.plus(BURST_MARGIN)).await {
                Ok(seen) => {
                    bursts.effective = bursts.effective.or(Some(seen.at));
                    self.tell_installed(fault, &id, &seen);
                }
                Err(reason) => {
                    bursts.unproven = true;
                    self.tell_of(fault, &id, FaultChange::Indeterminate { reason });
                }
            }
            let cancelled = self.cancelled(&mut cancel, until).await;
            self.tell_of(fault, &id, FaultChange::HealRequested);
            match self.network.lift(&fault.id, flap.rules).await {
                Ok(seen) => self.tell_healed(fault, &id, seen),
                Err(reason) => {
                    bursts.failed = true;
                    self.tell_of(fault, &id, FaultChange::HealFailed { reason });
                }
            }
            if cancelled {
                break;
            }
        }
        bursts.text = format!(
            "{played} of {} bursts on {} halves of links",
            flap.times,
            flap.rules.len()
        );
        bursts
    }

    /// Waits until `at`; true when the flap is cancelled first.
    async fn cancelled(&self, cancel: &mut watch::Receiver<bool>, at: Nanos) -> bool {
        tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => true,
            () = self.clock.sleep_until(at) => false,
        }
    }
}
