//! Lost after the acknowledgement: sent, acknowledged, drained, and then not in the log, or never shown to a device that
//! is owed it. (Jepsen's "lost write"; Kleppmann, Designing Data-Intensive Applications, chapter 5 and 9.) What nobody
//! acknowledged and somebody saw, in a read or on a device, has happened and is owed like what was acknowledged.
//!
//! A device that simply has not shown a message when the run ends has not lost it: that is `unseen`. It is lost when
//! the device was shown what comes after it in the same log, or when every node says that it owes nothing any more.
//! When neither can be said, whether it is lost is not known.
//!
//! What is lost from its log is told apart: from the middle, the beginning or the end, and on all replicas alike or on one
//! only.
//! Under a key (`k:`) a later write may replace an earlier one: there an acknowledged value is lost only when what is
//! read was over before it began.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Promise, Tally,
    owing::{Owed, Owing},
    replicas::Replicas,
    words,
};
use crate::history::{ChangeKind, Fate, History, Item, Outcome, ReadBack, Subject, SystemView};

pub(super) struct LostAcked;

impl Promise for LostAcked {
    fn name(&self) -> &'static str {
        "lost-acked"
    }

    fn about(&self) -> &'static str {
        "what was acknowledged is in the final read, and is shown to every device that is owed it"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was acknowledged");
        in_the_log(history, system, tally);
        changes_in_the_log(system, tally);
        on_the_devices(history, system, tally);
    }
}

fn in_the_log(history: &History, system: &SystemView, tally: &mut Tally) {
    let parts: BTreeMap<u64, &str> = system.operations.iter().map(|o| (o.id, o.needs.as_str())).collect();
    let reads = system.final_reads();
    let held: BTreeMap<&str, BTreeSet<u64>> = reads
        .iter()
        .map(|(log, read)| (*log, read.items.iter().filter_map(|i| i.item).collect()))
        .collect();
    let mut replicas: BTreeMap<&str, String> = BTreeMap::new();
    let mut unread = BTreeSet::new();
    for item in system.items.values().filter(|i| i.fate == Fate::Must) {
        let (Some(read), Some(held)) = (reads.get(item.log.as_str()), held.get(item.log.as_str())) else {
            unread.insert(item.log.as_str());
            continue;
        };
        tally.oblige(1);
        if !held.contains(&item.item) && !replaced(system, item, read) {
            tally.broken(item.certain(), || {
                let place = place(item, read);
                let part = parts.get(&item.operation).copied().unwrap_or_default();
                let told = || Replicas::of(history, system, part).words();
                let replicas = replicas.entry(part).or_insert_with(told);
                let read_at = words::at(read.began);
                format!(
                    "{} is not in the complete read of {} at {read_at}: lost {place}{replicas}",
                    words::message(item),
                    item.log
                )
            });
        }
    }
    if !unread.is_empty() {
        tally.unsure(|| {
            let first = unread.first().copied().unwrap_or_default();
            format!(
                "{} logs with acknowledged items have no complete final read, such as {first}",
                unread.len()
            )
        });
    }
}

/// An acknowledged change of a group stands where it was said to. One that left nothing to change names the last position
/// of all, which is somebody else's: behind that, who belongs to the group is what was asked for.
fn changes_in_the_log(system: &SystemView, tally: &mut Tally) {
    let reads = system.final_reads();
    let mut held: BTreeSet<(&str, u64, u64, u64)> = BTreeSet::new();
    for (log, read) in &reads {
        held.extend(
            read.changes
                .iter()
                .map(|it| (*log, it.position, it.actor, it.client_id)),
        );
    }
    for attempt in system.attempts.iter().filter(|it| it.outcome == Outcome::Ok) {
        let Subject::Change {
            log,
            change,
            actor,
            users,
            client_id,
            position: Some(position),
            ..
        } = &attempt.subject
        else {
            continue;
        };
        let Some(group) = system.groups.get(log).filter(|_| reads.contains_key(log.as_str())) else {
            tally.unsure(|| format!("{log}, which changed, has no complete final read"));
            continue;
        };
        tally.oblige(1);
        let stands = held.contains(&(log.as_str(), *position, *actor, *client_id));
        let itself = (!matches!(change, ChangeKind::Add | ChangeKind::Remove)).then_some(actor);
        let mut concerned = users.iter().chain(itself);
        let so = |user: &u64| group.reading(*user, *position).is_some() == change.lets_in();
        if !stands && !concerned.all(so) {
            tally.broken(attempt.done, || {
                format!(
                    "that user {actor} {} ({log}) was acknowledged {} at position {position}, and the complete read knows nothing of it: lost",
                    change.words(),
                    words::at(attempt.done)
                )
            });
        }
    }
}

/// Under a key, whether something read may have been written after `item`.
fn replaced(system: &SystemView, item: &Item, read: &ReadBack) -> bool {
    item.log.starts_with("k:")
        && read
            .items
            .iter()
            .filter_map(|found| system.items.get(&found.item?))
            // What was acknowledged before this one was sent came before it; anything else may have come after.
            .any(|other| other.acked.is_none_or(|acked| acked >= item.sent))
}

/// Where in the log it is missing.
fn place(item: &Item, read: &ReadBack) -> &'static str {
    let Some(position) = item.position else {
        return "at an unknown position";
    };
    let before = read.items.iter().any(|i| i.position < position);
    let after = read.items.iter().any(|i| i.position >= position);
    match (before, after) {
        (true, true) => "from the middle",
        (false, true) => "from the beginning",
        (true, false) => "from the end",
        (false, false) => "with its whole log",
    }
}

fn on_the_devices(history: &History, system: &SystemView, tally: &mut Tally) {
    let owed = Owed::of(history, system);
    let mut untold = 0;
    let mut example = None;
    for delivery in system.deliveries.iter().filter(|d| d.fate == Fate::Must) {
        tally.oblige(1);
        let Some(item) = system.items.get(&delivery.item) else {
            continue;
        };
        let owing = owed.of_delivery(delivery, item);
        let device = || words::device(delivery.user, delivery.device);
        if owing.is_missing() {
            tally.broken(item.certain(), || {
                let message = words::message(item);
                format!("{message} was never shown on {}: {}", device(), owing.words())
            });
        } else if owing == Owing::Untold {
            untold += 1;
            example = example.or_else(|| Some((item, device())));
        }
    }
    if let Some((item, device)) = example {
        tally.unsure(|| {
            let message = words::message(item);
            format!("{untold} deliveries were never shown, such as {message} to {device}, and not every node says that it owes nothing")
        });
    }
}
