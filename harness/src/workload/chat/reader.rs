//! Reads conversations while the load runs: what was acknowledged before a read began has to be in it.
//!
//! One conversation of each part is watched, at a constant rate whatever became of the reads before, and each read asks for
//! what is new since the last one that was answered. The reader has connections and an idea of who leads for itself: it
//! stays with a node for as long as that node answers, as somebody who never writes would.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Chat, sender::Probe, world::World};
use crate::{
    base::Nanos,
    history::{Class, Event, ReadBack, Subject},
    workload::{
        LoadSpec, RetrySpec,
        engine::{Intent, Policy},
        people::Caller,
    },
};

/// Reads of a watched conversation per second...
const PER_S: f64 = 2.0;
/// ... and of all together.
const PER_S_MAX: f64 = 20.0;

/// A conversation that is read again and again.
#[derive(Debug)]
pub(super) struct Watch {
    conversation: u64,
    /// Whose device asks: one of the two.
    reader: usize,
    pub(super) part: String,
    session: u64,
    within: Duration,
    /// The furthest position that a read has found.
    after: AtomicU64,
}

/// For each part the conversation that is written to most steadily: its probe's, else the first that it holds.
pub(super) fn watches(chat: &Chat) -> Vec<Arc<Watch>> {
    let client = &chat.plan.groups[0].client;
    let mut by_part: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for Probe { pair: (a, b), part, .. } in &chat.probes {
        let (conversation, _) = client.conversation(chat.world.people[*a].user, chat.world.people[*b].user);
        by_part.insert(part, (conversation, *a));
    }
    for (conversation, held) in &chat.world.conversations {
        by_part.entry(&held.part).or_insert((*conversation, held.reader));
    }
    let first = World::session_number(chat.world.slots.len());
    let within = |load: &LoadSpec| Duration::from_millis(load.op_timeout_ms);
    let within = chat.plan.loads.iter().map(within).max().unwrap_or_default();
    (first..)
        .zip(by_part)
        .map(|(session, (part, (conversation, reader)))| {
            Arc::new(Watch {
                conversation,
                reader,
                part: part.to_owned(),
                session,
                within,
                after: AtomicU64::new(0),
            })
        })
        .collect()
}

/// Reads of each watched conversation per second, where there are `watched`.
pub(super) fn per_s(watched: usize) -> f64 {
    let watched = u32::try_from(watched).unwrap_or(u32::MAX).max(1);
    PER_S.min(PER_S_MAX / f64::from(watched))
}

/// One read: one attempt.
pub(super) async fn read(chat: &Chat, watch: &Watch, intended: Nanos) {
    let engine = &chat.plan.engine;
    let intent = Intent {
        id: engine.next_id(),
        session: watch.session,
        class: Class::Read,
        needs: watch.part.clone(),
        groups: chat.plan.groups[0].labels.clone(),
        probe: true,
        intended,
        subject: Subject::Nothing,
    };
    let policy = Policy {
        retry: RetrySpec {
            attempts: 1,
            ..RetrySpec::default()
        },
        within: watch.within,
        budget: None,
    };
    let after = watch.after.load(Ordering::Relaxed);
    let began = engine.clock.now();
    let person = &chat.world.people[watch.reader];
    let call = || {
        let slot = &chat.world.slots[person.first_slot];
        let caller = Caller {
            user: person.user,
            device: slot.device,
            session: slot.session(),
        };
        chat.plan
            .reader
            .history(caller, watch.conversation, after, watch.within)
    };
    // What became of it has been recorded.
    let Ok(page) = engine.perform(&intent, &policy, call).await else {
        return;
    };
    let last = page.items.last().map_or(after, |item| item.position);
    watch.after.fetch_max(last, Ordering::Relaxed);
    engine.recorder.record(Event::Read(ReadBack {
        began,
        ended: engine.clock.now(),
        system: engine.system.clone(),
        log: format!("c:{}", watch.conversation),
        // Of what is more than a page the next read has the rest.
        complete: last >= page.last_position,
        after: Some(after),
        items: page.items,
        changes: page.changes,
    }));
}
