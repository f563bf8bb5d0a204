//! Priorities: a queue for each class, served by weight, shed from below.
//!
//! Served by weight means that each class has a virtual time, which moves on by what was done for it over its weight, and
//! the class that is furthest behind is next. So a flood in one class costs the others no more than their share, and a low
//! class is slow under a flood but is never starved, as it would be by strict order: who can't log in can't send either.

use std::{collections::VecDeque, time::Duration};

use super::class::Class;

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) class: Class,
    /// How long it takes to do.
    pub(crate) time: Duration,
    /// When its caller gives up.
    pub(crate) deadline: Option<Duration>,
    pub(crate) work: T,
}

/// Those who wait.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// By class; all in the first one where there are no priorities.
    waiting: [VecDeque<Entry<T>>; Class::COUNT],
    /// How long each takes to do.
    work: [Duration; Class::COUNT],
    /// Virtual times, in nanoseconds of work for a weight of one.
    turns: [u128; Class::COUNT],
    /// That of who was served last: a class that comes anew begins here, so that rest is not saved up.
    turn: u128,
    by_class: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(by_class: bool) -> Self {
        Self {
            waiting: Default::default(),
            work: Default::default(),
            turns: Default::default(),
            turn: 0,
            by_class,
        }
    }

    /// Calls that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Calls of a class that wait.
    pub(crate) fn len_of(&self, class: Class) -> usize {
        if self.by_class {
            self.waiting[class.index()].len()
        } else {
            self.waiting[0].iter().filter(|entry| entry.class == class).count()
        }
    }

    /// How long all of it takes to do.
    pub(crate) fn work(&self) -> Duration {
        self.work.iter().sum()
    }

    /// How long a newcomer that takes `time` would wait until it is done.
    pub(crate) fn wait(&self, class: Class, time: Duration) -> Duration {
        let all = self.work() + time;
        if !self.by_class {
            return all;
        }
        let own = self.work[class.index()] + time;
        let rivals = Class::ALL
            .into_iter()
            .filter(|other| *other == class || !self.waiting[other.index()].is_empty());
        let weights: u32 = rivals.map(Class::weight).sum();
        all.min(own * weights / class.weight())
    }

    pub(crate) fn push(&mut self, entry: Entry<T>) {
        let lane = self.lane(entry.class);
        if self.waiting[lane].is_empty() {
            self.turns[lane] = self.turns[lane].max(self.turn);
        }
        self.work[lane] += entry.time;
        self.waiting[lane].push_back(entry);
    }

    /// Takes whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Entry<T>> {
        let lanes = (0..Class::COUNT).filter(|lane| !self.waiting[*lane].is_empty());
        let lane = lanes.min_by_key(|lane| self.turns[*lane])?;
        let entry = self.waiting[lane].pop_front()?;
        self.turn = self.turns[lane];
        self.turns[lane] += entry.time.as_nanos() / u128::from(Class::ALL[lane].weight());
        self.work[lane] = self.work[lane].saturating_sub(entry.time);
        Some(entry)
    }

    /// Takes out who has to go when there are too many: the newest of the lowest class that takes up more than its share.
    /// The only one of its class stays, if others can go: a class whose share is less than a single call is slow, not dead.
    pub(crate) fn shed(&mut self) -> Option<Entry<T>> {
        let all = self.work();
        let weights: u32 = Class::ALL.into_iter().map(Class::weight).sum();
        let above = |lane: &usize| {
            let weight = Class::ALL[*lane].weight();
            self.waiting[*lane].len() > 1 && self.work[*lane] * weights >= all * weight
        };
        let lowest = || (0..Class::COUNT).rev().find(|lane| !self.waiting[*lane].is_empty());
        let lane = (0..Class::COUNT).rev().find(above).or_else(lowest)?;
        let entry = self.waiting[lane].pop_back()?;
        self.work[lane] = self.work[lane].saturating_sub(entry.time);
        Some(entry)
    }

    const fn lane(&self, class: Class) -> usize {
        if self.by_class { class.index() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn entry(class: Class, work: u64) -> Entry<u64> {
        Entry {
            class,
            time: MS,
            deadline: None,
            work,
        }
    }

    fn served(queue: &mut Queue<u64>, many: usize) -> [usize; Class::COUNT] {
        let mut counts = [0; Class::COUNT];
        for entry in std::iter::from_fn(|| queue.pop()).take(many) {
            counts[entry.class.index()] += 1;
        }
        counts
    }

    #[test]
    fn classes_that_want_more_than_their_share_get_it_by_weight() {
        let mut queue = Queue::new(true);
        for n in 0..400 {
            Class::ALL.into_iter().for_each(|class| queue.push(entry(class, n)));
        }
        let counts = served(&mut queue, 380);
        for class in Class::ALL {
            let share = 20 * class.weight() as usize;
            assert!(counts[class.index()].abs_diff(share) <= 1, "{class:?}: {counts:?}");
        }
    }

    #[test]
    fn without_priorities_it_is_first_come_first_served() {
        let mut queue = Queue::new(false);
        for n in 0..100 {
            queue.push(entry(Class::ALL[n % Class::COUNT], n as u64));
        }
        assert_eq!(queue.len_of(Class::Sync), 20);
        assert_eq!(queue.shed().map(|entry| entry.work), Some(99));
        assert_eq!(queue.wait(Class::Send, MS), 100 * MS);
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.work).collect();
        assert_eq!(order, (0..99).collect::<Vec<_>>());
    }

    #[test]
    fn rest_is_not_saved_up() {
        let mut queue = Queue::new(true);
        for n in 0..1000 {
            queue.push(entry(Class::Send, n));
        }
        served(&mut queue, 800);
        for n in 0..100 {
            queue.push(entry(Class::SignUp, n));
        }
        let counts = served(&mut queue, 90);
        assert_eq!(
            counts[Class::SignUp.index()],
            10,
            "one of nine, as if it had been there all along"
        );
    }

    #[test]
    fn a_flood_is_shed_from_itself_and_the_lowest_class_first() {
        let mut queue = Queue::new(true);
        (0..90).for_each(|n| queue.push(entry(Class::Send, n)));
        queue.push(entry(Class::SignUp, 100));
        assert_eq!(
            queue.shed().map(|entry| entry.class),
            Some(Class::Send),
            "one sign-up is within its share"
        );
        (0..60).for_each(|n| queue.push(entry(Class::SignUp, 101 + n)));
        let shed = queue.shed().map(|entry| (entry.class, entry.work));
        assert_eq!(shed, Some((Class::SignUp, 160)), "the newest of the lowest");
    }

    #[test]
    fn a_class_whose_share_is_less_than_one_call_still_gets_one_in() {
        let mut queue = Queue::new(true);
        (0..4).for_each(|n| queue.push(entry(Class::Send, n)));
        queue.push(entry(Class::SignUp, 100));
        assert_eq!(queue.shed().map(|entry| entry.class), Some(Class::Send));
        queue.push(entry(Class::SignUp, 101));
        assert_eq!(queue.shed().map(|entry| entry.work), Some(101));
    }

    fn any_class() -> impl Strategy<Value = Class> {
        (0..Class::COUNT).prop_map(|place| Class::ALL[place])
    }

    proptest! {
        /// Nothing is lost or made up, each class keeps its order, and there is always somebody to shed.
        #[test]
        fn everything_comes_out_once_and_in_the_order_of_its_class(
            steps in proptest::collection::vec((0..4u8, any_class()), 1..300), by_class: bool,
        ) {
            let mut queue = Queue::new(by_class);
            let (mut next, mut out, mut shed) = (0, Vec::new(), 0);
            for (step, class) in steps {
                match step {
                    0 | 1 => { queue.push(entry(class, next)); next += 1; }
                    2 => out.extend(queue.pop().map(|entry| (entry.class, entry.work))),
                    _ => {
                        let before = queue.len();
                        let went = queue.shed().is_some();
                        prop_assert_eq!(went, before > 0);
                        shed += u64::from(went);
                    }
                }
            }
            out.extend(std::iter::from_fn(|| queue.pop()).map(|entry| (entry.class, entry.work)));
            prop_assert_eq!(out.len() as u64 + shed, next);
            prop_assert_eq!(queue.work(), Duration::ZERO);
            for class in Class::ALL {
                let of: Vec<u64> = out.iter().filter(|it| it.0 == class).map(|it| it.1).collect();
                prop_assert!(of.is_sorted());
            }
        }

        /// However the others flood, what waits within the bound is done within the bound times the others' weight over
        /// its own.
        #[test]
        fn a_class_waits_no_longer_than_its_share_allows(flood in 1..400u64, mine in 1..20u64, class in any_class()) {
            let mut queue = Queue::new(true);
            for other in Class::ALL.into_iter().filter(|other| *other != class) {
                (0..flood).for_each(|n| queue.push(entry(other, n)));
            }
            for n in 0..mine {
                let wait = queue.wait(class, MS);
                queue.push(entry(class, n));
                prop_assert!(wait <= queue.work());
            }
            let said = queue.wait(class, Duration::ZERO);
            let order: Vec<Class> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.class).collect();
            let last = order.iter().rposition(|it| *it == class).unwrap();
            let took = MS * u32::try_from(last + 1).unwrap();
            prop_assert!(took <= said + 20 * MS, "{took:?}, and {said:?} was said");
        }
    }
}
