//! After the load: what is owed arrives, sessions are ended, and everything is read back.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    Chat, Mode, contacts, opening,
    prepare::{SIGN_UPS_AT_ONCE, sign_one_up},
    world::World,
};
use crate::{
    base::Nanos,
    history::{Event, Membership, NodeStatus, Observed, ReadBack, SessionChange, SessionEvent},
    workload::{
        ReadBackSummary, RetrySpec, WorkloadError,
        client::{Answered, CallFailure},
        engine::{Policy, lock},
        retry::back_off,
    },
};

/// Sessions ended by one call.
const FENCE_BATCH: usize = 4096;
/// How long one part of the service may take to confirm the fence.
const FENCE_WITHIN: Duration = Duration::from_secs(15);
/// How long one conversation may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(15);
const CALL_WITHIN: Duration = Duration::from_secs(3);
/// Conversations read at one time.
const READS_AT_ONCE: usize = 8;
/// How long all accounts may take to answer for themselves.
const ACCOUNTS_WITHIN: Duration = Duration::from_secs(15);
/// Wait between two rounds of asking those that did not answer.
const ACCOUNTS_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How long replicas may take to reach one common index once nothing is sent.
const QUIET_WITHIN: Duration = Duration::from_secs(10);
const QUIET_POLL: Duration = Duration::from_millis(100);

const AGAIN: RetrySpec = RetrySpec {
    attempts: u32::MAX,
    base_ms: 20,
    cap_ms: 500,
    budget_percent: 0,
    budget_per_s: 0,
    back_off: true,
    budget: true,
};

/// Waits until nothing is owed and every device is connected, current, and has acknowledged what it showed. Then everybody
/// opens the app once more.
pub(super) async fn drain(chat: &Arc<Chat>, within: Duration) -> bool {
    chat.mode.send_replace(Mode::Settle);
    let clock = chat.plan.engine.clock;
    let deadline = clock.now().plus(within);
    let total = chat.world.slots.len() as u64;
    let told = expect_in_groups(chat, deadline).await;
    loop {
        let changed = chat.changed.notified();
        let owed = chat.plan_owed();
        if told && owed == 0 && chat.settled.load(Ordering::Relaxed) == total {
            opening::once_more(chat).await;
            return true;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = clock.sleep_until(deadline) => return false,
        }
    }
}

/// Reads every group, which tells to whom each message in it is owed. False when one could not be read to its end.
async fn expect_in_groups(chat: &Chat, deadline: Nanos) -> bool {
    let people: BTreeMap<u64, usize> = (0..).zip(&chat.world.people).map(|(at, it)| (it.user, at)).collect();
    let mut whole = true;
    for group in chat.groups.all() {
        let read = read_log(chat, group, deadline).await;
        whole &= read.complete;
        let members = Membership::of(&read.changes);
        for found in &read.items {
            let Some(item) = found.item else { continue };
            let owed = members.members_at(found.position).filter_map(|user| people.get(&user));
            let sessions = owed.flat_map(|person| chat.world.sessions_of(*person));
            lock(&chat.ledger).expect(item, sessions);
        }
    }
    whole
}

impl Chat {
    fn plan_owed(&self) -> u64 {
        lock(&self.ledger).owed()
    }

    /// Calls until it is answered or `deadline` has passed; the last failure then.
    pub(super) async fn insist<T, C, F>(&self, name: &str, deadline: Nanos, call: C) -> Result<T, CallFailure>
    where
        C: Fn() -> F,
        F: Future<Output = Answered<T>>,
    {
        let clock = self.plan.engine.clock;
        let mut rng = self.plan.engine.streams.stream(name);
        let mut attempt = 1;
        loop {
            let failure = match tokio::time::timeout(CALL_WITHIN, call()).await {
                Ok(answered) => match answered.result {
                    Ok(value) => return Ok(value),
                    Err(failure) => failure,
                },
                Err(_) => CallFailure::unknown("deadline"),
            };
            attempt += 1;
            let wait = back_off(&AGAIN, attempt, failure.retry_after, &mut rng);
            if clock.now().plus(wait) >= deadline {
                return Err(failure);
            }
            clock.sleep(wait).await;
        }
    }
}

/// Ends every session on every part.
pub(super) async fn fence(chat: Arc<Chat>) -> Result<(), WorkloadError> {
    contacts::look_at_the_end(&chat).await;
    chat.mode.send_replace(Mode::Fenced);
    let sessions: Arc<Vec<u64>> = Arc::new(chat.world.slots.iter().map(|slot| slot.session()).collect());
    let mut tasks = JoinSet::new();
    for part in chat.plan.groups[0].client.parts() {
        let (chat, sessions) = (Arc::clone(&chat), Arc::clone(&sessions));
        tasks.spawn(async move {
            let deadline = chat.plan.engine.clock.now().plus(FENCE_WITHIN);
            let client = &chat.plan.groups[0].client;
            for batch in sessions.chunks(FENCE_BATCH) {
                let call = || client.fence(&part, batch, CALL_WITHIN);
                let fenced = chat.insist(&format!("fence {part}"), deadline, call).await;
                fenced.map_err(|e| {
                    WorkloadError(format!(
                        "{part} did not confirm within {} s that sessions are ended: {}",
                        FENCE_WITHIN.as_secs(),
                        e.reason
                    ))
                })?;
            }
            Ok(())
        });
    }
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(WorkloadError(format!("a fence ended early: {e}"))));
        outcome = outcome.and(ended);
    }
    outcome?;
    let engine = &chat.plan.engine;
    for (slot, device) in chat.world.slots.iter().enumerate() {
        engine.recorder.record(Event::Session(SessionEvent {
            at: engine.clock.now(),
            system: engine.system.clone(),
            session: World::session_number(slot),
            user: chat.world.people[device.person].user,
            device: device.device,
            change: SessionChange::Fenced,
        }));
    }
    Ok(())
}

/// Reads every conversation to its end, signs everybody up again, then asks every replica for its digest.
pub(super) async fn read_back(chat: Arc<Chat>) -> ReadBackSummary {
    let mut summary = ReadBackSummary::default();
    let direct = chat.world.conversations.keys().copied();
    let mut waiting = direct.chain(chat.groups.all()).collect::<Vec<_>>().into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < READS_AT_ONCE
            && let Some(log) = waiting.next()
        {
            let chat = Arc::clone(&chat);
            tasks.spawn(async move {
                let deadline = chat.plan.engine.clock.now().plus(READ_WITHIN);
                read_log(&chat, log, deadline).await
            });
        }
        let Some(ended) = tasks.join_next().await else { break };
        let Ok(read) = ended else {
            // It panicked, which has been reported; its conversation counts as not read.
            summary.incomplete += 1;
            continue;
        };
        summary.items += read.items.len() as u64;
        if read.complete {
            summary.complete += 1;
        } else {
            summary.incomplete += 1;
        }
        chat.plan.engine.recorder.record(Event::Read(read));
    }
    ask_for_accounts(&chat).await;
    digests(&chat).await;
    summary
}

/// Signs every phone number up again: one that has an account keeps it. Rounds go on until all have answered or the time
/// is up; each attempt is recorded.
async fn ask_for_accounts(chat: &Arc<Chat>) {
    let clock = chat.plan.engine.clock;
    let deadline = clock.now().plus(ACCOUNTS_WITHIN);
    let once = Policy {
        retry: RetrySpec { attempts: 1, ..AGAIN },
        within: CALL_WITHIN,
        budget: None,
    };
    let people = chat.world.people.iter().map(|known| (known.group, known.phone.clone()));
    let mut waiting: Vec<(usize, String)> = people.chain(chat.newcomers.all()).collect();
    loop {
        let mut round = std::mem::take(&mut waiting).into_iter();
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < SIGN_UPS_AT_ONCE
                && clock.now() < deadline
                && let Some((group, phone)) = round.next()
            {
                let (chat, policy) = (Arc::clone(chat), once.clone());
                tasks.spawn(async move {
                    let answer = sign_one_up(&chat.plan, group, phone.clone(), &policy).await;
                    ((group, phone), answer)
                });
            }
            match tasks.join_next().await {
                Some(Ok((known, Err(failure)))) if failure.retryable => waiting.push(known),
                // An answer, a final refusal, or a panic, which has been reported.
                Some(_) => {}
                None => break,
            }
        }
        if waiting.is_empty() || clock.now().plus(ACCOUNTS_AGAIN_AFTER) >= deadline {
            return;
        }
        clock.sleep(ACCOUNTS_AGAIN_AFTER).await;
    }
}

/// Reads a conversation, whoever belongs to it: everybody's session has ended by then.
async fn read_log(chat: &Chat, id: u64, deadline: Nanos) -> ReadBack {
    let clock = chat.plan.engine.clock;
    let client = &chat.plan.groups[0].client;
    let began = clock.now();
    let (mut items, mut changes) = (Vec::new(), Vec::new());
    let mut after = 0;
    let complete = loop {
        let call = || client.audit(id, after, CALL_WITHIN);
        let Ok(page) = chat.insist(&format!("read {id}"), deadline, call).await else {
            break false;
        };
        let Some(last) = page.end() else {
            // The end; a service that claims more and gives nothing has not been read to its end.
            break after >= page.last_position;
        };
        if last <= after {
            break false;
        }
        after = last;
        items.extend(page.items);
        changes.extend(page.changes);
        if after >= page.last_position {
            break true;
        }
    };
    ReadBack {
        began,
        ended: clock.now(),
        system: chat.plan.engine.system.clone(),
        log: format!("c:{id}"),
        complete,
        after: None,
        items,
        changes,
    }
}

/// Records every replica's digest, once they are at the same index or the wait for that is over.
async fn digests(chat: &Chat) {
    let engine = &chat.plan.engine;
    let deadline = engine.clock.now().plus(QUIET_WITHIN);
    let client = &chat.plan.groups[0].client;
    let (asked, seen) = loop {
        let asked = engine.clock.now();
        let seen = client.digests().await;
        if agree_on_index(&seen) || engine.clock.now() >= deadline {
            break (asked, seen);
        }
        engine.clock.sleep(QUIET_POLL).await;
    };
    for (node, status) in seen {
        engine.recorder.record(Event::Observed(Observed {
            at: engine.clock.now(),
            asked: Some(asked),
            system: engine.system.clone(),
            node,
            status,
        }));
    }
}

/// True when every node answers and the replicas of each group have applied the same index.
fn agree_on_index(seen: &[(String, Option<NodeStatus>)]) -> bool {
    let mut applied = BTreeMap::new();
    seen.iter().all(|(_, status)| {
        status.as_ref().is_some_and(|status| {
            status.groups.iter().all(|group| {
                let first = *applied.entry(&group.group).or_insert(group.applied);
                first == group.applied
            })
        })
    })
}
