//! Whoever carries codes to phones: a service outside of this one, stood in for here, which can be slow or fail.
//!
//! Sign-ups that wait for it are bounded in number and in time, and wait nowhere else: a dependency that is down costs
//! sign-ups, and nothing but sign-ups.

use std::{collections::BTreeMap, time::Duration};

use firedrill_proto::chat::v1::RequestCodeResponse;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{
    api::{Reason, Refusal},
    config::Verification,
    inbox::Reply as To,
};
use crate::chat::validate::CODE_DIGITS;

/// When to come back to a dependency that is down.
const RETRY_DOWN: Duration = Duration::from_secs(1);

/// A code on its way.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) phone: String,
    pub(super) epoch: u64,
    /// When whoever asked gives up.
    pub(super) deadline: Option<Duration>,
    pub(super) to: To<RequestCodeResponse>,
}

/// The dependency, as one node sees it.
#[derive(Debug)]
pub(super) struct Courier {
    delay: Duration,
    failing: bool,
    patience: Duration,
    waiting_max: usize,
    rng: ChaCha8Rng,
    next: u64,
    /// By the time at which each arrives, or is given up.
    on_the_way: BTreeMap<(Duration, u64), (Carried, bool)>,
}

impl Courier {
    pub(super) fn new(config: &Verification, rng: ChaCha8Rng) -> Self {
        Self {
            delay: Duration::from_millis(config.delay_ms),
            failing: config.failing,
            patience: Duration::from_millis(config.patience_ms),
            waiting_max: config.waiting_max,
            rng,
            next: 0,
            on_the_way: BTreeMap::new(),
        }
    }

    /// Changes how it behaves from the next code on; gives what was in force.
    pub(super) const fn set(&mut self, delay: Duration, failing: bool) -> (Duration, bool) {
        let before = (self.delay, self.failing);
        (self.delay, self.failing) = (delay, failing);
        before
    }

    /// Sends a code on its way.
    pub(super) fn carry(&mut self, carried: Carried, now: Duration) {
        if self.on_the_way.len() >= self.waiting_max {
            let message = format!("{} codes are on their way already", self.on_the_way.len());
            let refusal = Refusal::new(Reason::Overloaded, message).after(RETRY_DOWN);
            return drop(carried.to.send(Err(refusal)));
        }
        self.next += 1;
        let arrives = !self.failing && self.delay <= self.patience;
        let at = now + self.delay.min(self.patience);
        self.on_the_way.insert((at, self.next), (carried, arrives));
    }

    /// When the next one arrives.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// One that has arrived by now, with its code. Those that never will are refused.
    pub(super) fn arrived(&mut self, now: Duration) -> Option<(Carried, String)> {
        while let Some(first) = self.on_the_way.first_entry()
            && first.key().0 <= now
        {
            let (carried, arrives) = first.remove();
            if carried.to.is_closed() {
                continue;
            }
            if arrives {
                let code = (0..CODE_DIGITS).map(|_| char::from(b'0' + self.rng.random_range(0..10u8)));
                return Some((carried, code.collect()));
            }
            let message = format!("no code was carried within {:?}", self.patience.min(self.delay));
            drop(
                carried
                    .to
                    .send(Err(Refusal::new(Reason::VerificationDown, message).after(RETRY_DOWN))),
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{env::Streams, node::api::Answer};

    fn courier(config: &Verification) -> Courier {
        Courier::new(config, Streams::new(1).stream("codes"))
    }

    fn carry(courier: &mut Courier, at: u64) -> oneshot::Receiver<Answer<RequestCodeResponse>> {
        let (to, answer) = oneshot::channel();
        let carried = Carried {
            phone: "12345".to_owned(),
            epoch: 1,
            deadline: None,
            to,
        };
        courier.carry(carried, Duration::from_millis(at));
        answer
    }

    #[test]
    fn a_slow_one_takes_its_time_and_a_failing_one_says_so() {
        let ms = Duration::from_millis;
        let mut courier = courier(&Verification {
            delay_ms: 100,
            ..Verification::default()
        });
        let _kept = carry(&mut courier, 0);
        assert!(courier.arrived(ms(99)).is_none());
        let (_, code) = courier.arrived(ms(100)).unwrap();
        assert!(code.len() == CODE_DIGITS && code.bytes().all(|digit| digit.is_ascii_digit()));
        assert_eq!(courier.set(ms(50), true), (ms(100), false));
        let mut refused = carry(&mut courier, 200);
        assert_eq!(courier.due_at(), Some(ms(250)));
        assert!(courier.arrived(ms(250)).is_none());
        assert_eq!(
            refused.try_recv().unwrap().unwrap_err().reason,
            Reason::VerificationDown
        );
    }

    #[test]
    fn patience_and_room_are_bounded() {
        let ms = Duration::from_millis;
        let mut courier = courier(&Verification {
            delay_ms: 60_000,
            patience_ms: 1000,
            waiting_max: 1,
            ..Verification::default()
        });
        let mut late = carry(&mut courier, 0);
        let mut crowded = carry(&mut courier, 0);
        assert_eq!(crowded.try_recv().unwrap().unwrap_err().reason, Reason::Overloaded);
        assert!(courier.arrived(ms(1000)).is_none());
        assert_eq!(late.try_recv().unwrap().unwrap_err().reason, Reason::VerificationDown);
        drop(carry(&mut courier, 2000));
        assert!(courier.arrived(ms(9000)).is_none(), "whoever left is forgotten");
    }
}
