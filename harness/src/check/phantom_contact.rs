//! Phantom contact: a contact that does not trace to that user's own import, or to an import of the one who was found.
//! (Provenance of derived data: Buneman, Khanna, Tan, "Why and where: a characterization of data provenance".) An import
//! that may have happened is trace enough; one that surely failed is none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Answer, Class, Contact, History, Notice, Outcome, Subject, SystemView},
};

pub(super) struct PhantomContact;

impl Promise for PhantomContact {
    fn name(&self) -> &'static str {
        "phantom-contact"
    }

    fn about(&self) -> &'static str {
        "each contact traces to that user's own import, or to one by the account that it names"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was told of a contact");
        let known = Known::of(system);
        let listed = system.told.iter().filter_map(|told| match &told.answer {
            Answer::Contacts { contacts } => Some((told, contacts)),
            _ => None,
        });
        let listed = listed.flat_map(|(told, contacts)| contacts.iter().map(move |it| (told.user, told.ended, it)));
        let noticed = system.noticed.iter().filter_map(|noticed| match &noticed.notice {
            Notice::Contact { contact } => Some((noticed.user, noticed.at, contact)),
            _ => None,
        });
        for (user, at, contact) in listed.chain(noticed) {
            tally.oblige(1);
            match known.wrong(user, at, contact) {
                Trace::Found => {}
                Trace::Untold(why) => tally.unsure(|| why),
                Trace::Missing(why) => tally.broken(at, || {
                    format!(
                        "user {user} was told at {} of the contact {}, {why}",
                        words::at(at),
                        contact.phone
                    )
                }),
            }
        }
    }
}

/// Where a contact comes from.
enum Trace {
    Found,
    Missing(String),
    Untold(String),
}

/// The digits of a number: services write the same number in several ways.
fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

/// What the run knows of numbers and address books.
#[derive(Default)]
struct Known {
    /// When each number was first sent for each address book, of imports that may have happened.
    imports: BTreeMap<(u64, String), Nanos>,
    /// The accounts that sign-ups were given for a number.
    accounts: BTreeMap<String, BTreeSet<u64>>,
    /// The number of each account.
    phones: BTreeMap<u64, String>,
    /// Numbers that somebody tried to sign up.
    tried: BTreeSet<String>,
}

impl Known {
    fn of(system: &SystemView) -> Self {
        let mut known = Self::default();
        for attempt in &system.attempts {
            match &attempt.subject {
                Subject::Import { user, phones, .. } if matches!(attempt.outcome, Outcome::Ok | Outcome::Unknown) => {
                    for phone in phones {
                        let first = known.imports.entry((*user, digits(phone))).or_insert(attempt.sent);
                        *first = attempt.sent.min(*first);
                    }
                }
                Subject::Account { phone, user, .. } if attempt.class == Class::SignUp => {
                    let phone = digits(phone);
                    if attempt.outcome != Outcome::Shed {
                        known.tried.insert(phone.clone());
                    }
                    if let Some(user) = user {
                        known.phones.insert(*user, phone.clone());
                        known.accounts.entry(phone).or_default().insert(*user);
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn imported(&self, user: u64, phone: &str, by: Nanos) -> bool {
        let sent = self.imports.get(&(user, phone.to_owned()));
        sent.is_some_and(|sent| *sent <= by)
    }

    fn wrong(&self, user: u64, at: Nanos, contact: &Contact) -> Trace {
        let phone = digits(&contact.phone);
        if !contact.imported && !contact.matched {
            return Trace::Missing("and not where it comes from".to_owned());
        }
        if contact.imported && !self.imported(user, &phone, at) {
            return Trace::Missing("which it had never imported".to_owned());
        }
        if contact.user != 0 {
            let accounts = self.accounts.get(&phone);
            if accounts.is_some_and(|accounts| !accounts.contains(&contact.user)) {
                return Trace::Missing(format!("as account {}, which belongs to another number", contact.user));
            }
            if !self.tried.contains(&phone) {
                return Trace::Missing(format!(
                    "as account {}, and nobody ever signed that number up",
                    contact.user
                ));
            }
        }
        if contact.matched {
            let Some(own) = self.phones.get(&user) else {
                return Trace::Untold(format!(
                    "the number of user {user} isn't known, nor then who may have imported it"
                ));
            };
            if !self.imported(contact.user, own, at) {
                return Trace::Missing(format!(
                    "as somebody who has its number: account {} had never imported {own}",
                    contact.user
                ));
            }
        }
        Trace::Found
    }
}
