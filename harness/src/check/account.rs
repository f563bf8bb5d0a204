//! Account: an accepted sign-up is durable, and a phone number has one account. (Uniqueness constraints: Kleppmann,
//! Designing Data-Intensive Applications, chapter 9.)

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Class, History, Outcome, Subject, SystemView},
};

pub(super) struct Account;

impl Promise for Account {
    fn name(&self) -> &'static str {
        "account"
    }

    fn about(&self) -> &'static str {
        "an accepted sign-up stays, and one phone number has one account"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody signed up");
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
                ..
            } = &attempt.subject
            else {
                continue;
            };
            tally.oblige(1);
            let at = attempt.done;
            let (first, since) = *by_phone.entry(phone).or_insert((*user, at));
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
