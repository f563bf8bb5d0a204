//! Devices that fall silent: they take nothing from their streams, acknowledge nothing and open no others, while their
//! connections stand. A phone that is frozen, or out of reach, looks like that to a service.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;

use crate::base::{Nanos, RunClock};

/// How long devices may take to fall silent, or to come back.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// The shares of the devices that are meant to be silent, in millionths, by who asked for it.
pub(crate) type Shares = BTreeMap<String, u64>;

/// Whether a device is among `share` millionths, given a number drawn for it.
pub(crate) const fn hits(share: u64, drawn: u64) -> bool {
    drawn % 1_000_000 < share
}

/// What holds devices silent.
#[derive(Debug, Default)]
pub struct Doze {
    shares: watch::Sender<Shares>,
    /// Devices there are, those that have heard of the last change, and those that are silent.
    counts: watch::Sender<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    devices: u64,
    heard: u64,
    silent: u64,
}

impl Doze {
    /// Has a share of the devices, drawn for `id`, fall silent. Returns once they have.
    ///
    /// # Errors
    /// In words, when none did.
    pub async fn hold(&self, id: &str, share: f64, clock: RunClock) -> Result<(Nanos, String), String> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 1000000"
        )]
        let share = (share.clamp(0.0, 1.0) * 1e6) as u64;
        let at = clock.now();
        let counts = self
            .shift(clock, |shares| {
                shares.insert(id.to_owned(), share);
            })
            .await;
        let Counts { devices, silent, .. } = counts;
        if silent == 0 {
            return Err(format!("none of {devices} devices fell silent"));
        }
        Ok((
            at,
            format!("{silent} of {devices} devices say nothing and take nothing"),
        ))
    }

    /// Ends what [`Doze::hold`] began. Returns once whom nobody else holds is back.
    pub async fn release(&self, id: &str, clock: RunClock) -> (Nanos, String) {
        let Counts { devices, silent, .. } = self
            .shift(clock, |shares| {
                shares.remove(id);
            })
            .await;
        (clock.now(), format!("{silent} of {devices} devices are silent"))
    }

    async fn shift(&self, clock: RunClock, change: impl FnOnce(&mut Shares)) -> Counts {
        self.counts.send_modify(|counts| counts.heard = 0);
        self.shares.send_modify(change);
        let mut counts = self.counts.subscribe();
        // Whoever is between two connections hears of it before the next one; that is no reason to wait for longer.
        tokio::select! {
            biased;
            _ = counts.wait_for(|counts| counts.heard >= counts.devices) => {}
            () = clock.sleep(HEARD_WITHIN) => {}
        }
        *self.counts.borrow()
    }

    /// A device that can fall silent.
    pub(crate) fn enlist(&self) -> watch::Receiver<Shares> {
        self.counts.send_modify(|counts| counts.devices += 1);
        self.shares.subscribe()
    }

    /// A device has heard of a change: it was silent or not, and is now.
    pub(crate) fn heard(&self, was: bool, is: bool) {
        self.counts.send_modify(|counts| {
            counts.heard += 1;
            counts.silent = counts.silent + u64::from(is) - u64::from(was);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_share_falls_silent_and_comes_back_unless_somebody_else_holds_it() {
        let clock = RunClock::start_virtual();
        let doze = Arc::new(Doze::default());
        assert!(doze.hold("a", 1.0, clock).await.is_err(), "nobody is there");
        doze.release("a", clock).await;
        for device in 0..1000_u64 {
            let (doze, mut shares) = (Arc::clone(&doze), doze.enlist());
            tokio::spawn(async move {
                let mut was = false;
                while shares.changed().await.is_ok() {
                    let is = shares
                        .borrow_and_update()
                        .values()
                        .any(|share| hits(*share, device * 1000));
                    doze.heard(std::mem::replace(&mut was, is), is);
                }
            });
        }
        let (_, evidence) = doze.hold("a", 0.25, clock).await.expect("some fell silent");
        assert!(evidence.starts_with("250 of 1000 devices"), "{evidence}");
        let (_, evidence) = doze.hold("b", 0.1, clock).await.expect("some fell silent");
        assert!(evidence.starts_with("250 of"), "{evidence}");
        assert!(doze.release("a", clock).await.1.starts_with("100 of"));
        assert!(doze.release("b", clock).await.1.starts_with("0 of"));
    }
}
