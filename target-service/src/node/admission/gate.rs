//! The gate that calls of clients go through: capacity, queues, their bound and deadlines together.

use std::time::Duration;

use super::{
    bound::Bound,
    class::Class,
    counters::Counters,
    deadline::Deadlines,
    queue::{Entry, Queue},
    server::Server,
    settings::{Capacity, Protections},
};

/// Why a call was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Too much waits already: for so long.
    Full(Duration),
    /// It would not be done before its caller gives up: so long does it take.
    TooLate(Duration),
}

/// A call that was turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shed<T> {
    pub(crate) work: T,
    pub(crate) class: Class,
    pub(crate) why: Why,
    /// When to come back.
    pub(crate) retry_after: Duration,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// Do it now.
    Serve(T),
    /// Its caller has given up: it is not to be done.
    Expired(T),
}

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    server: Server,
    queue: Queue<T>,
    bound: Bound,
    deadlines: Deadlines,
    times: [Duration; Class::COUNT],
    counters: Counters,
}

impl<T> Gate<T> {
    /// A gate of a node that does what `capacity` says.
    pub(crate) fn new(capacity: &Capacity, protections: &Protections) -> Self {
        let server = Server::new(capacity.per_second);
        let wait_max = Duration::from_millis(capacity.queue_ms);
        Self {
            server,
            queue: Queue::new(protections.priorities),
            bound: Bound::new(protections.admission.then_some(wait_max), capacity.queue_calls),
            deadlines: Deadlines::new(protections.deadlines),
            times: Class::ALL.map(|class| server.time_for(class.cost_percent(&capacity.costs))),
            counters: Counters::default(),
        }
    }

    /// Takes a call in. Gives back who has to go for it: often itself.
    pub(crate) fn offer(&mut self, class: Class, deadline: Option<Duration>, work: T, now: Duration) -> Vec<Shed<T>> {
        let time = self.times[class.index()];
        let wait = self.server.busy(now) + self.queue.wait(class, time);
        if self.bound.is_in_time() && self.deadlines.will_pass(deadline, now, wait) {
            self.counters.of(class).shed += 1;
            let retry_after = self.bound.retry_after(self.queue.work());
            let why = Why::TooLate(wait);
            return vec![Shed {
                work,
                class,
                why,
                retry_after,
            }];
        }
        self.queue.push(Entry {
            class,
            time,
            deadline,
            work,
        });
        let mut shed = Vec::new();
        while self
            .bound
            .exceeded(self.queue.len(), self.server.busy(now) + self.queue.work())
        {
            let waits = self.queue.work();
            let Some(entry) = self.queue.shed() else { break };
            self.counters.of(entry.class).shed += 1;
            shed.push(Shed {
                work: entry.work,
                class: entry.class,
                why: Why::Full(waits),
                retry_after: self.bound.retry_after(waits),
            });
        }
        shed
    }

    /// What is to be done now, if anything is.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Next<T>> {
        if !self.server.busy(now).is_zero() {
            return None;
        }
        let entry = self.queue.pop()?;
        if self.deadlines.passed(entry.deadline, now) {
            self.counters.of(entry.class).expired += 1;
            return Some(Next::Expired(entry.work));
        }
        self.server.give(entry.time, now);
        self.counters.of(entry.class).served += 1;
        Some(Next::Serve(entry.work))
    }

    /// When there will be something to do.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        (self.queue.len() > 0).then(|| self.server.free_at())
    }

    /// Everybody who waits.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.queue.pop())
            .map(|entry| entry.work)
            .collect()
    }

    /// How long it takes to do all that waits.
    pub(crate) fn work(&self) -> Duration {
        self.queue.work()
    }

    /// What it did, by class, and how many wait.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Class, super::counters::Count, usize)> {
        let counts = Class::ALL.into_iter().map(|class| (class, self.counters.get(class)));
        counts.map(|(class, count)| (class, count, self.queue.len_of(class)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn capacity(per_second: u32) -> Capacity {
        Capacity {
            per_second,
            queue_calls: 4096,
            ..Capacity::default()
        }
    }

    /// Offers `rate` sends a second for a while, each of which is waited for `patience`, and tells how many were done in
    /// time, how many were done too late, and the longest that anybody waited for a refusal.
    fn flood(gate: &mut Gate<Duration>, rate: u64, patience: Duration, lasts: Duration) -> (u64, u64, Duration) {
        let (mut now, mut good, mut late, mut slowest) = (Duration::ZERO, 0, 0, Duration::ZERO);
        let gap = Duration::from_secs(1) / u32::try_from(rate).unwrap();
        let mut next_offer = Duration::ZERO;
        while now < lasts {
            now = gate
                .due_at()
                .map_or(next_offer, |due| due.clamp(now, next_offer.max(now)));
            if next_offer <= now {
                let shed = gate.offer(Class::Send, Some(next_offer + patience), next_offer, now);
                slowest = shed
                    .iter()
                    .map(|it| now - it.work)
                    .max()
                    .unwrap_or_default()
                    .max(slowest);
                next_offer += gap;
            }
            while let Some(next) = gate.next(now) {
                match next {
                    Next::Serve(came) if now <= came + patience => good += 1,
                    Next::Serve(_) => late += 1,
                    Next::Expired(came) => slowest = slowest.max(now - came),
                }
            }
        }
        (good, late, slowest)
    }

    #[test]
    fn three_times_what_it_can_do_costs_it_nothing() {
        let mut gate = Gate::new(&capacity(1000), &Protections::default());
        let (good, late, slowest) = flood(&mut gate, 3000, 300 * MS, Duration::from_secs(10));
        assert!(good >= 9900 && late == 0, "{good} in time, {late} late");
        assert!(slowest <= MS, "a refusal took {slowest:?}");
    }

    #[test]
    fn without_protections_almost_everything_is_done_too_late() {
        let off = Protections {
            deadlines: false,
            priorities: false,
            admission: false,
            ..Protections::default()
        };
        let mut gate = Gate::new(&capacity(1000), &off);
        let (good, late, _) = flood(&mut gate, 3000, 300 * MS, Duration::from_secs(10));
        assert!(good < 1000 && late > 8000, "{good} in time, {late} late");
    }

    #[test]
    fn deadlines_alone_keep_it_from_working_for_nobody() {
        let only = Protections {
            priorities: false,
            admission: false,
            ..Protections::default()
        };
        let mut gate = Gate::new(&capacity(1000), &only);
        let (good, late, slowest) = flood(&mut gate, 3000, 300 * MS, Duration::from_secs(10));
        assert!(good >= 9900 && late == 0, "{good} in time, {late} late");
        assert!(
            slowest >= 300 * MS,
            "but who is not served learns it when it is too late"
        );
    }

    #[test]
    fn no_capacity_is_no_queue() {
        let mut gate = Gate::new(&capacity(0), &Protections::default());
        for n in 0..1000 {
            assert!(gate.offer(Class::SignUp, None, n, MS).is_empty());
            assert_eq!(gate.next(MS), Some(Next::Serve(n)));
        }
        assert_eq!((gate.due_at(), gate.work()), (None, Duration::ZERO));
    }

    #[test]
    fn what_would_be_too_late_is_refused_when_it_comes() {
        let mut gate = Gate::new(&capacity(100), &Protections::default());
        assert!(gate.offer(Class::Send, None, 1, MS).is_empty());
        assert!(gate.offer(Class::Send, None, 2, MS).is_empty());
        let shed = gate.offer(Class::Send, Some(MS * 25), 3, MS);
        assert_eq!(shed[0].why, Why::TooLate(MS * 30));
        assert!(gate.offer(Class::Send, Some(MS * 32), 4, MS).is_empty());
    }

    proptest! {
        /// Whatever comes, the queue stays within its bounds, nobody is forgotten, and who is refused is told to come back.
        #[test]
        fn bounds_hold_and_everybody_hears_something(
            calls in proptest::collection::vec((0..Class::COUNT, 0..40u64, proptest::option::of(1..500u64)), 1..400),
        ) {
            let few = Capacity { queue_calls: 8, ..capacity(100) };
            let mut gate = Gate::new(&few, &Protections::default());
            let (mut now, mut heard) = (MS, 0);
            let offered = calls.len();
            for (place, later, patience) in calls {
                now += MS * u32::try_from(later).unwrap();
                let shed = gate.offer(Class::ALL[place], patience.map(|ms| now + Duration::from_millis(ms)), place, now);
                prop_assert!(shed.iter().all(|it| it.retry_after >= 100 * MS));
                heard += shed.len();
                while gate.next(now).is_some() {
                    heard += 1;
                }
                let waiting: usize = gate.counts().map(|(_, _, waiting)| waiting).sum();
                prop_assert!(waiting <= 8 && (waiting <= 1 || gate.work() <= 100 * MS));
            }
            prop_assert_eq!(heard + gate.drain().len(), offered);
        }
    }
}
