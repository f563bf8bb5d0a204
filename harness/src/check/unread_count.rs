//! Unread counts: what a user's list says is unread are the messages of others behind what the user has read, as far as the
//! list goes. When everything is quiet the list goes as far as the conversation does. (What a count has to agree with is the
//! conversation itself, as its final read has it: Kleppmann, Designing Data-Intensive Applications, chapter 11, on derived
//! state.)

use std::collections::BTreeMap;

use super::{Promise, Tally, marks::Held, words};
use crate::{
    base::Nanos,
    history::{Answer, Fate, HarnessKind, History, SystemView, Thread, UNREAD_MAX},
};

pub(super) struct UnreadCount;

impl Promise for UnreadCount {
    fn name(&self) -> &'static str {
        "unread-count"
    }

    fn about(&self) -> &'static str {
        "what is counted as unread is what others said and was not read"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was told how much is unread in a conversation that was read to its end");
        let held = Held::of(system);
        let quiet = (!history.noticed(HarnessKind::NotDrained)).then(|| {
            let shown = system.shown.last().map(|it| it.at);
            shown.unwrap_or_default().max(history.load_end())
        });
        let owed = quiet.map(|_| last_owed(system)).unwrap_or_default();
        for told in &system.told {
            let Answer::Threads { current, more, threads } = &told.answer else {
                continue;
            };
            for thread in threads {
                let Some(log) = held.get(thread.log.as_str()) else {
                    tally.unsure(|| {
                        format!(
                            "{} was not read to its end, so what is unread in it isn't known",
                            thread.log
                        )
                    });
                    continue;
                };
                tally.oblige(1);
                let others = log.of_others(told.user, thread.unread_after(), thread.last_position);
                let expected = others.min(UNREAD_MAX);
                if thread.marks.unread != expected {
                    tally.broken(told.ended, || {
                        format!(
                            "user {} was told at {} that {} messages of {} are unread, where it has read up to {} and others \
                             wrote {expected} from there to {}",
                            told.user,
                            words::at(told.ended),
                            thread.marks.unread,
                            thread.log,
                            thread.unread_after(),
                            thread.last_position
                        )
                    });
                }
            }
            if *current && !more && quiet.is_some_and(|from| told.began >= from) {
                reaches(told.user, told.ended, threads, &owed, tally);
            }
        }
    }
}

/// The last position of each log that each user is owed: certain messages only.
fn last_owed(system: &SystemView) -> BTreeMap<u64, BTreeMap<&str, u64>> {
    let mut last: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
    for item in system.items.values().filter(|item| item.fate == Fate::Must) {
        let Some(position) = item.position else { continue };
        for user in &item.owed {
            let known = last.entry(*user).or_default().entry(&item.log).or_default();
            *known = (*known).max(position);
        }
    }
    last
}

/// When all is quiet a list holds every conversation up to what the user is owed.
fn reaches(user: u64, at: Nanos, threads: &[Thread], owed: &BTreeMap<u64, BTreeMap<&str, u64>>, tally: &mut Tally) {
    let listed: BTreeMap<&str, u64> = threads.iter().map(|it| (it.log.as_str(), it.last_position)).collect();
    for (log, position) in owed.get(&user).into_iter().flatten() {
        tally.oblige(1);
        let reached = listed.get(log).copied().unwrap_or(0);
        if reached < *position {
            tally.broken(at, || {
                format!(
                    "user {user} was told at {}, when all was quiet, that {log} goes to position {reached}, and is owed what \
                     stands at {position}",
                    words::at(at)
                )
            });
        }
    }
}
