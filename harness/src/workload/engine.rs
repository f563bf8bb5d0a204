//! Makes attempts and records them. There is no other way from a workload to a system, so nothing goes unrecorded.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    client::{Account, Answered, CallFailure, Opened, Page, Placed},
    contacts::Imported,
    home::Home,
    lever::Lever,
    meter::Meter,
    people::Regrouped,
    retry::{Budget, back_off},
    spec::RetrySpec,
};
use crate::{
    base::{Nanos, RunClock, Streams},
    history::{Class, Contact, Event, Marks, Online, Operation, Outcome, Recorder, Subject, is_decision},
};

/// The longest that a system's wish to wait is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What is meant to be done.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) id: u64,
    pub(crate) session: u64,
    pub(crate) class: Class,
    pub(crate) needs: String,
    pub(crate) groups: BTreeMap<String, String>,
    pub(crate) probe: bool,
    pub(crate) intended: Nanos,
    pub(crate) subject: Subject,
}

/// How it is tried.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) retry: RetrySpec,
    /// For one attempt; then its outcome is unknown.
    pub(crate) within: Duration,
    /// None where retries are bounded by their number alone.
    pub(crate) budget: Option<Arc<Mutex<Budget>>>,
}

/// What an answer adds to what is known of the subject.
pub(crate) trait Answer {
    fn note(&self, subject: &mut Subject);
}

impl Answer for () {
    fn note(&self, _subject: &mut Subject) {}
}

impl Answer for Account {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Account { user, created, .. } = subject {
            (*user, *created) = (Some(self.user), Some(self.created));
        }
    }
}

impl Answer for Opened {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Device { session, .. } = subject {
            *session = Some(self.session);
        }
    }
}

impl Answer for Placed {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Item { position, repeated, .. } = subject {
            (*position, *repeated) = (Some(self.position), Some(self.repeated));
        }
    }
}

impl Answer for Regrouped {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Change { position, members, .. } = subject {
            (*position, *members) = (Some(self.position), Some(self.members));
        }
    }
}

impl Answer for Imported {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Import { added, .. } = subject {
            *added = Some(self.added);
        }
    }
}

/// What was told is recorded by itself.
impl Answer for Vec<Contact> {
    fn note(&self, _subject: &mut Subject) {}
}

/// What was read is recorded by itself.
impl Answer for Page {
    fn note(&self, _subject: &mut Subject) {}
}

/// What was seen is recorded by itself.
impl Answer for Home {
    fn note(&self, _subject: &mut Subject) {}
}

/// Who is online is recorded by itself.
impl Answer for Vec<Online> {
    fn note(&self, _subject: &mut Subject) {}
}

impl Answer for Marks {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Receipt { marks, .. } = subject {
            *marks = Some(*self);
        }
    }
}

impl Answer for Option<u64> {
    fn note(&self, subject: &mut Subject) {
        if let Subject::Item { position, .. } = subject {
            *position = *self;
        }
    }
}

/// Everything that the attempts of one workload share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) system: String,
    pub(crate) recorder: Recorder,
    pub(crate) clock: RunClock,
    pub(crate) streams: Streams,
    pub(crate) meter: Mutex<Meter>,
    pub(crate) lever: Arc<Lever>,
    next_id: AtomicU64,
    /// Attempts that have no outcome yet: if they never get one, it is unknown.
    open: Mutex<BTreeMap<(u64, u32), Operation>>,
    under_way: watch::Sender<u64>,
    stopping: AtomicBool,
}

/// Counts one operation as under way until it is dropped.
pub(crate) struct UnderWay(Arc<Engine>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

impl Engine {
    /// `number` tells the systems of a run apart: identities never meet.
    pub(crate) fn new(system: &str, number: u16, recorder: Recorder, clock: RunClock, streams: Streams) -> Arc<Self> {
        Arc::new(Self {
            system: system.to_owned(),
            recorder,
            clock,
            streams,
            meter: Mutex::default(),
            lever: Arc::default(),
            next_id: AtomicU64::new((u64::from(number) << 48) + 1),
            open: Mutex::default(),
            under_way: watch::Sender::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    /// Counts an operation in; none when there are `max` already.
    pub(crate) fn enter(self: &Arc<Self>, max: u64) -> Option<UnderWay> {
        let entered = self.under_way.send_if_modified(|count| {
            let room = *count < max;
            *count += u64::from(room);
            room
        });
        entered.then(|| UnderWay(Arc::clone(self)))
    }

    /// From here on nothing is tried again: the attempt under way is an operation's last.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns when nothing is under way.
    pub(crate) async fn idle(&self) {
        let mut under_way = self.under_way.subscribe();
        // An error means that the sender is gone, which `self` holds.
        let _idle = under_way.wait_for(|count| *count == 0).await;
    }

    /// There was no room for it.
    pub(crate) fn shed(&self, intent: &Intent) {
        let now = self.clock.now();
        let mut operation = self.operation(intent, 1, now);
        operation.outcome = Outcome::Shed;
        operation.error = Some("no room".to_owned());
        operation.last = true;
        self.meter().ended(intent.class, Outcome::Shed, intent.intended, now);
        self.recorder.record(Event::Op(operation));
    }

    /// Does it, trying again as the policy says. Each attempt is recorded when it ends.
    pub(crate) async fn perform<A, C, F>(&self, intent: &Intent, policy: &Policy, call: C) -> Result<A, CallFailure>
    where
        A: Answer,
        C: Fn() -> F,
        F: Future<Output = Answered<A>>,
    {
        if let Some(budget) = &policy.budget {
            lock(budget).earn();
        }
        let mut attempt = 1;
        loop {
            let (answered, operation) = self.attempt(intent, attempt, policy.within, &call).await;
            let wait = match &answered.result {
                Ok(_) => None,
                Err(failure) => self.wait_before(intent, policy, attempt + 1, failure),
            };
            self.ended(operation, &answered, wait.is_none());
            match (answered.result, wait) {
                (Err(_), Some(wait)) => self.clock.sleep(wait).await,
                (result, _) => return result,
            }
            attempt += 1;
        }
    }

    async fn attempt<A, C, F>(
        &self,
        intent: &Intent,
        attempt: u32,
        within: Duration,
        call: &C,
    ) -> (Answered<A>, Operation)
    where
        C: Fn() -> F,
        F: Future<Output = Answered<A>>,
    {
        let sent = self.clock.now();
        let operation = self.operation(intent, attempt, sent);
        if attempt == 1 && !Self::prepares(intent) {
            self.meter().lagged(sent.since(intent.intended));
        }
        lock(&self.open).insert((intent.id, attempt), operation.clone());
        let answered = match tokio::time::timeout(within, call()).await {
            Ok(answered) => answered,
            Err(_) => Answered::failed(CallFailure::unknown("deadline")),
        };
        (answered, operation)
    }

    /// What no schedule of a load meant: log-ins, and sign-ups of the load's own people.
    fn prepares(intent: &Intent) -> bool {
        intent.class == Class::LogIn || (intent.class == Class::SignUp && intent.session == 0)
    }

    /// How long to wait before `attempt`; none when there shall be none.
    fn wait_before(&self, intent: &Intent, policy: &Policy, attempt: u32, failure: &CallFailure) -> Option<Duration> {
        if intent.probe
            || !failure.retryable
            || attempt > policy.retry.attempts
            || self.stopping.load(Ordering::Relaxed)
        {
            return None;
        }
        if let Some(budget) = &policy.budget
            && !lock(budget).spend(self.clock.now())
        {
            return None;
        }
        let asked_for = failure.retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
        let mut rng = self.streams.stream(&format!("retry {} {attempt}", intent.id));
        Some(back_off(&policy.retry, attempt, asked_for, &mut rng))
    }

    fn ended<A: Answer>(&self, mut operation: Operation, answered: &Answered<A>, last: bool) {
        if lock(&self.open).remove(&(operation.id, operation.attempt)).is_none() {
            // It was given up, and is recorded as unknown.
            return;
        }
        operation.done = self.clock.now();
        operation.last = last;
        operation.answered_by.clone_from(&answered.by);
        match &answered.result {
            Ok(answer) => {
                operation.outcome = Outcome::Ok;
                answer.note(&mut operation.subject);
            }
            Err(failure) => {
                operation.outcome = failure.outcome();
                operation.error = Some(failure.reason.clone());
            }
        }
        if last {
            let mut meter = self.meter();
            // Whoever is told that it may not has been served.
            let outcome = match operation.outcome {
                Outcome::Failed if is_decision(operation.error.as_deref()) => Outcome::Ok,
                outcome => outcome,
            };
            meter.ended(operation.class, outcome, operation.intended, operation.done);
        }
        self.recorder.record(Event::Op(operation));
    }

    /// Records what has no outcome by now as unknown. What ends later is not recorded twice.
    pub(crate) fn give_up(&self) {
        let open = std::mem::take(&mut *lock(&self.open));
        for mut operation in open.into_values() {
            operation.done = self.clock.now();
            operation.last = true;
            operation.outcome = Outcome::Unknown;
            operation.error = Some("given up".to_owned());
            self.recorder.record(Event::Op(operation));
        }
    }

    /// An attempt that has just begun.
    fn operation(&self, intent: &Intent, attempt: u32, now: Nanos) -> Operation {
        Operation {
            id: intent.id,
            attempt,
            last: false,
            system: self.system.clone(),
            session: intent.session,
            class: intent.class,
            needs: intent.needs.clone(),
            groups: intent.groups.clone(),
            probe: intent.probe,
            intended: intent.intended,
            sent: now,
            done: now,
            outcome: Outcome::Unknown,
            answered_by: None,
            error: None,
            subject: intent.subject.clone(),
        }
    }

    /// Records an attempt that was made elsewhere, such as a device's resuming of its stream.
    pub(crate) fn made(&self, intent: &Intent, attempt: u32, sent: Nanos, ended: Result<(), &CallFailure>, last: bool) {
        let operation = self.operation(intent, attempt, sent);
        lock(&self.open).insert((intent.id, attempt), operation.clone());
        let answered = Answered {
            result: ended.map_err(Clone::clone),
            by: None,
        };
        self.ended(operation, &answered, last);
    }
}

/// A panic elsewhere leaves numbers that are still right.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
