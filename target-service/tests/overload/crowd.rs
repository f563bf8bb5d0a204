//! People who send and log in, in an open loop, and what became of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::{OpenSessionRequest, SendRequest, SignUpRequest};
use target_service::{
    client::{CallError, RetryBudget, RetryPolicy, UnknownCause},
    env::{Clock, Streams},
    node::{Call, ClientApi as _, NodeHandle, Reason},
};

use crate::service::{Service, patient};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
const PEOPLE: usize = 8;
const ATTEMPTS: u32 = 5;

/// How clients try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As the client library has it: full jitter, behind what the service asked for, within the budget.
    Polite,
    /// At once, as often as they may.
    Storm,
}

/// An operation: what its user saw of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Operation {
    intended: Duration,
    attempts: u32,
    /// When it succeeded; none if it never did.
    good: Option<Duration>,
    /// How long each refusal took.
    refusals: Vec<Duration>,
}

/// What became of the operations of a stretch of time.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    began: Duration,
    lasted: Duration,
    operations: Vec<Operation>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attempts: u32 = self.operations.iter().map(|it| it.attempts).sum();
        write!(
            f,
            "{} operations in {:?}: {} attempts, {} refusals, {:.1} % good, {:.1} good a second",
            self.operations.len(),
            self.lasted,
            attempts,
            self.refusals(),
            self.success() * 100.0,
            self.goodput()
        )
    }
}

impl Tally {
    fn good(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|it| it.good.is_some())
    }

    /// Share of the operations that succeeded, sooner or later.
    pub(crate) fn success(&self) -> f64 {
        self.good().count() as f64 / self.operations.len() as f64
    }

    /// Successes a second, in this time.
    pub(crate) fn goodput(&self) -> f64 {
        self.good_within(self.lasted) as f64 / self.lasted.as_secs_f64()
    }

    /// Operations that had succeeded by so long after the beginning.
    pub(crate) fn good_within(&self, within: Duration) -> usize {
        let until = self.began + within;
        self.good().filter(|it| it.good.is_some_and(|at| at <= until)).count()
    }

    pub(crate) fn refusals(&self) -> usize {
        self.operations.iter().map(|it| it.refusals.len()).sum()
    }

    pub(crate) fn slowest_refusal(&self) -> Duration {
        let refusals = self.operations.iter().flat_map(|it| it.refusals.iter().copied());
        refusals.max().unwrap_or_default()
    }

    /// The longest that anybody waited who succeeded with the first attempt.
    pub(crate) fn slowest_success_at_first(&self) -> Duration {
        let at_first = self.good().filter(|it| it.attempts == 1);
        at_first
            .filter_map(|it| Some(it.good? - it.intended))
            .max()
            .unwrap_or_default()
    }

    /// Of these, those that were begun within `within`.
    pub(crate) fn sent_within(&self, within: Duration) -> Self {
        self.part(self.began, within)
    }

    /// Of these, those that were begun after `later`.
    pub(crate) fn sent_after(&self, later: Duration) -> Self {
        self.part(self.began + later, self.lasted - later)
    }

    fn part(&self, began: Duration, lasted: Duration) -> Self {
        let inside = |it: &&Operation| it.intended >= began && it.intended < began + lasted;
        Self {
            began,
            lasted,
            operations: self.operations.iter().filter(inside).cloned().collect(),
        }
    }
}

#[derive(Clone, Copy)]
struct Person {
    user: u64,
    session: u64,
}

struct World {
    clock: Clock,
    leader: NodeHandle,
    people: Vec<Person>,
    streams: Streams,
    manners: Manners,
    tries_again: AtomicBool,
    budget: Mutex<RetryBudget>,
    numbers: Mutex<u64>,
}

/// A crowd.
pub(crate) struct Crowd(Arc<World>);

impl Crowd {
    /// People who have signed up and logged in.
    pub(crate) async fn of(service: &Service, seed: u64, manners: Manners) -> Self {
        let leader = service.leader();
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            let request = SignUpRequest {
                phone: format!("1555{number:04}"),
                epoch: 1,
                code: String::new(),
            };
            let user = leader.sign_up(request, patient()).await.expect("an account").user;
            let request = OpenSessionRequest {
                user,
                device: 1,
                epoch: 1,
                client_nonce: 1,
            };
            let session = leader
                .open_session(request, patient())
                .await
                .expect("a session")
                .session;
            people.push(Person { user, session });
        }
        Self(Arc::new(World {
            clock: service.clock.clone(),
            leader,
            people,
            streams: Streams::new(seed),
            manners,
            tries_again: AtomicBool::new(true),
            budget: Mutex::default(),
            numbers: Mutex::new(0),
        }))
    }

    /// From here on each operation has one attempt.
    pub(crate) fn stops_trying_again(&self) {
        self.0.tries_again.store(false, Ordering::Relaxed);
    }

    /// Sends at one rate after another without a pause, each for a while. What became of each stretch's messages.
    pub(crate) async fn sends<const N: usize>(&self, stretches: [(u64, Duration); N]) -> [Tally; N] {
        self.open_loop(stretches, |world, number| async move { world.sends(number).await })
            .await
    }

    /// Has `count` devices log in at once, and tries again for as long as it takes them.
    pub(crate) async fn logs_in(&self, count: u64, lasts: Duration) -> Tally {
        let at_once = [(count * 10, Duration::from_millis(100))];
        let crowd = self.open_loop(at_once, move |world, number| async move {
            let person = world.person(number);
            let request = OpenSessionRequest {
                user: person.user,
                device: 2 + u32::try_from(number % 8).unwrap(),
                epoch: 1,
                client_nonce: number,
            };
            let (intended, mut rng) = (world.clock.now(), world.streams.stream(&format!("log-in {number}")));
            let mut operation = Operation {
                intended,
                attempts: 0,
                good: None,
                refusals: Vec::new(),
            };
            while world.clock.now() < intended + lasts {
                operation.attempts += 1;
                match world.leader.open_session(request, patient()).await {
                    Ok(_) => {
                        operation.good = Some(world.clock.now());
                        break;
                    }
                    Err(refusal) => {
                        assert_eq!(refusal.reason, Reason::Overloaded, "{refusal}");
                        let mut policy = RetryPolicy::new(u32::MAX, rng.clone());
                        let wait = policy.wait(1, &CallError::Refused(refusal)).expect("it may come back");
                        rand::Rng::next_u64(&mut rng);
                        world.clock.sleep(wait).await;
                    }
                }
            }
            operation
        });
        let [mut tally] = crowd.await;
        tally.lasted = lasts;
        tally
    }

    async fn open_loop<F, const N: usize>(
        &self,
        stretches: [(u64, Duration); N],
        begin: impl Fn(Arc<World>, u64) -> F,
    ) -> [Tally; N]
    where
        F: Future<Output = Operation> + Send + 'static,
    {
        let world = &self.0;
        let mut tasks = tokio::task::JoinSet::new();
        let mut at = world.clock.now();
        let spans = stretches.map(|(_, lasts)| {
            let began = at;
            at += lasts;
            (began, lasts)
        });
        for ((began, lasts), (rate, _)) in spans.into_iter().zip(stretches) {
            let gap = Duration::from_secs(1) / u32::try_from(rate).unwrap();
            let mut at = began;
            while at < began + lasts {
                world.clock.sleep_until(at).await;
                let number = {
                    let mut numbers = world.numbers.lock().unwrap();
                    *numbers += 1;
                    *numbers
                };
                tasks.spawn(begin(world.clone(), number));
                at += gap;
            }
        }
        let mut operations = tasks.join_all().await;
        operations.sort();
        let whole = Tally {
            began: Duration::ZERO,
            lasted: Duration::ZERO,
            operations,
        };
        spans.map(|(began, lasts)| whole.part(began, lasts))
    }
}

impl World {
    fn person(&self, number: u64) -> Person {
        self.people[usize::try_from(number).unwrap() % self.people.len()]
    }

    /// A message, attempted as the manners have it.
    async fn sends(&self, number: u64) -> Operation {
        let (from, to) = (self.person(number), self.person(number + 1));
        let request = SendRequest {
            sender: from.user,
            device: 1,
            session: from.session,
            recipient: to.user,
            client_id: number,
            body: b"hello".as_slice().into(),
            epoch: 1,
            timeout_ms: 0,
            group: 0,
        };
        let mut policy = RetryPolicy::new(ATTEMPTS, self.streams.stream(&format!("operation {number}")));
        let mut operation = Operation {
            intended: self.clock.now(),
            attempts: 0,
            good: None,
            refusals: Vec::new(),
        };
        self.budget.lock().unwrap().attempted();
        loop {
            let began = self.clock.now();
            operation.attempts += 1;
            let refusal = match self.leader.send(request.clone(), Call::within(PATIENCE)).await {
                Ok(_) => {
                    operation.good = Some(self.clock.now());
                    return operation;
                }
                Err(refusal) => refusal,
            };
            let error = if refusal.reason.surely_not_done() {
                operation.refusals.push(self.clock.now() - began);
                CallError::Refused(refusal)
            } else {
                CallError::Unknown {
                    cause: UnknownCause::Maybe,
                    message: refusal.message,
                }
            };
            let Some(wait) = policy.wait(operation.attempts, &error) else {
                return operation;
            };
            if !self.tries_again.load(Ordering::Relaxed) {
                return operation;
            }
            match self.manners {
                Manners::Polite if !self.budget.lock().unwrap().take(self.clock.now()) => return operation,
                Manners::Polite => self.clock.sleep(wait).await,
                Manners::Storm => {}
            }
        }
    }
}
