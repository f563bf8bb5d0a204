//! Account: an accepted sign-up is durable, and a phone number has one account. (Uniqueness constraints: Kleppmann,
//! Designing Data-Intensive Applications, chapter 9.) Whether it was durable is asked after the load, by signing every
//! number up again: the answer is the same account, which was there already.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Class, History, Outcome, Phase, Subject, SystemView},
};

pub(super) struct Account;

impl Promise for Account {
    fn name(&self) -> &'static str {
        "account"
    }

    fn about(&self) -> &'static str {
        "an accepted sign-up stays, and one phone number has one account"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody signed up");
        // Without a load that came to its end there was no time to ask again.
        let asked_again = history.phases.start(Phase::ReadBack);
        let mut unconfirmed: BTreeSet<&str> = BTreeSet::new();
        let mut by_phone: BTreeMap<&str, (u64, Nanos)> = BTreeMap::new();
        let mut by_user: BTreeMap<u64, (&str, Nanos)> = BTreeMap::new();
        for attempt in system
            .attempts
            .iter()
            .filter(|a| a.class == Class::SignUp && a.outcome == Outcome::Ok)
        {
            let Subject::Account {
                phone,
                user: Some(user),
                created,
            } = &attempt.subject
            else {
                continue;
            };
            tally.oblige(1);
            let at = attempt.done;
            if asked_again.is_some_and(|from| attempt.sent >= from) {
                unconfirmed.remove(phone.as_str());
            } else {
                unconfirmed.insert(phone);
            }
            let (first, since) = *by_phone.entry(phone).or_insert((*user, at));
            if *created == Some(true) && since < attempt.sent && first == *user {
                tally.broken(at, || {
                    format!(
                        "phone {phone} has account {first} since {}, and it was made anew at {}: the first was forgotten",
                        words::at(since),
                        words::at(at)
                    )
                });
            }
            if first != *user {
                tally.broken(at, || {
                    format!(
                        "phone {phone} has account {first} (signed up {}) and account {user} (signed up {})",
                        words::at(since),
                        words::at(at)
                    )
                });
            }
            let (other, since) = *by_user.entry(*user).or_insert((phone, at));
            if other != phone {
                tally.broken(at, || {
                    format!(
                        "account {user} was given to phone {other} at {} and to phone {phone} at {}",
                        words::at(since),
                        words::at(at)
                    )
                });
            }
        }
        if let (Some(first), Some(_)) = (unconfirmed.first(), asked_again) {
            tally.unsure(|| {
                format!(
                    "{} accounts did not answer for themselves after the load, such as that of phone {first}",
                    unconfirmed.len()
                )
            });
        }
        for attempt in system.attempts.iter().filter(|a| a.class == Class::LogIn) {
            let (Subject::Device { user, .. }, Some(error)) = (&attempt.subject, &attempt.error) else {
                continue;
            };
            let Some((phone, since)) = by_user.get(user).filter(|(_, since)| *since < attempt.sent) else {
                continue;
            };
            // The service's word for an account that it does not know.
            if matches!(error.as_str(), "NO_SUCH_USER" | "NOT_FOUND") {
                tally.broken(attempt.done, || {
                    format!(
                        "account {user} (phone {phone}, signed up {}) was unknown to the log-in at {}",
                        words::at(*since),
                        words::at(attempt.done)
                    )
                });
            }
        }
    }
}
