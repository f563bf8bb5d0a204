//! Early receipt: somebody is said to have been given or to have read what was not there yet, or to have read what it never
//! said it had. (Delivery and read receipts: RFC 8098 says of them that they attest what has happened.)

use std::collections::BTreeMap;

use super::{
    Promise, Tally,
    marks::{Furthest, Held, acquittals},
    words,
};
use crate::{
    base::Nanos,
    history::{History, Notice, SystemView},
};

pub(super) struct EarlyReceipt;

/// A word on how far somebody is.
struct Word<'a> {
    at: Nanos,
    log: &'a str,
    user: u64,
    delivered: u64,
    read: u64,
    /// Whom it was said to, as far as it was not the user itself, on asking.
    heard_by: Option<(u64, u32)>,
}

impl Promise for EarlyReceipt {
    fn name(&self) -> &'static str {
        "early-receipt"
    }

    fn about(&self) -> &'static str {
        "a receipt speaks of what was there to be delivered, and of what its user said was read"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was told how far somebody is");
        let held = Held::of(system);
        let mut asked: BTreeMap<(&str, u64), Vec<(Nanos, u64)>> = BTreeMap::new();
        for it in acquittals(system) {
            asked
                .entry((it.log, it.user))
                .or_default()
                .push((it.attempt.sent, it.read));
        }
        let asked: BTreeMap<(&str, u64), Furthest> = asked
            .into_iter()
            .map(|(key, values)| (key, Furthest::of(values)))
            .collect();
        let answers = acquittals(system).filter_map(|it| {
            let marks = it.marks?;
            Some(Word {
                at: it.attempt.done,
                log: it.log,
                user: it.user,
                delivered: marks.delivered,
                read: marks.read,
                heard_by: None,
            })
        });
        let notices = system.noticed.iter().filter_map(|noticed| match &noticed.notice {
            Notice::Receipt {
                log,
                user,
                delivered,
                read,
                ..
            } => Some(Word {
                at: noticed.at,
                log,
                user: *user,
                delivered: *delivered,
                read: *read,
                heard_by: Some((noticed.user, noticed.device)),
            }),
            _ => None,
        });
        for word in answers.chain(notices) {
            tally.oblige(1);
            let said = asked.get(&(word.log, word.user)).and_then(|asked| asked.by(word.at));
            if word.read > said.unwrap_or(0) {
                tally.broken(word.at, || {
                    format!(
                        "{}, and it had said so of no more than {}",
                        word.text("read", word.read),
                        said.unwrap_or(0)
                    )
                });
            } else if word.read > word.delivered {
                tally.broken(word.at, || {
                    format!(
                        "{}, and that only {} was delivered",
                        word.text("read", word.read),
                        word.delivered
                    )
                });
            }
            let Some(log) = held.get(word.log) else { continue };
            if word.delivered > log.last {
                tally.broken(word.at, || {
                    format!(
                        "{}, and nothing ever stood there: it ends at {}",
                        word.text("was given", word.delivered),
                        log.last
                    )
                });
            }
            let item = log.message_at(word.delivered).and_then(|item| system.items.get(&item));
            if let Some(item) = item.filter(|item| item.sent > word.at) {
                tally.broken(word.at, || {
                    format!(
                        "{}, and {} which came to stand there was not sent yet",
                        word.text("was given", word.delivered),
                        words::message(item)
                    )
                });
            }
        }
    }
}

impl Word<'_> {
    fn text(&self, how: &str, position: u64) -> String {
        let (user, log, at) = (self.user, self.log, words::at(self.at));
        match self.heard_by {
            Some((other, device)) => format!(
                "{} was told at {at} that user {user} {how} {log} up to {position}",
                words::device(other, device)
            ),
            None => format!("user {user} was told at {at} that it {how} {log} up to {position}"),
        }
    }
}
