//! What is promised of contacts, on a town in which people have address books.

use super::town::{Town, header};
use super::*;
use crate::check::phantom_contact::PhantomContact;
use crate::history::{Answer, Class, Contact, Notice, Operation, Outcome, Subject, Told};

/// What a witness says, and the way of spoiling that makes it.
type Spoiling = (&'static str, fn(&mut Vec<Event>));

/// Promises that the stories here break.
pub(super) const COVERED: [&str; 1] = ["phantom-contact"];

fn phone(user: u64) -> String {
    format!("+99900{user}")
}

fn contact(user: u64, imported: bool, matched: bool) -> Contact {
    Contact {
        // As a service writes it.
        phone: format!("99900{user}"),
        user,
        imported,
        matched,
    }
}

fn import(town: &mut Town, user: u64, of: u64) -> Operation {
    let subject = Subject::Import {
        user,
        phones: vec![phone(of)],
        added: Some(1),
    };
    town.operation(Class::Contacts, user, subject)
}

fn look(town: &mut Town, user: u64, contacts: Vec<Contact>) {
    let began = town.tick();
    town.tell(user, began, Answer::Contacts { contacts });
}

/// 1 imports 2, and 3 whom nobody has; 2 is told that 1 has found it.
fn story() -> Vec<Event> {
    let mut town = Town::of(4);
    for user in [1, 2, 4] {
        let subject = Subject::Account {
            phone: phone(user),
            user: Some(user),
            created: Some(true),
        };
        let signed_up = town.operation(Class::SignUp, user, subject);
        town.events.push(Event::Op(signed_up));
    }
    for of in [2, 3] {
        let imported = import(&mut town, 1, of);
        town.events.push(Event::Op(imported));
    }
    let found = Notice::Contact {
        contact: contact(1, false, true),
    };
    town.notice(&BTreeSet::from([2]), &found);
    let nobody = Contact {
        user: 0,
        ..contact(3, true, false)
    };
    look(&mut town, 1, vec![contact(2, true, false), nobody]);
    look(&mut town, 2, vec![contact(1, false, true)]);
    town.end()
}

fn judged(events: Vec<Event>) -> Finding {
    let history = History::new(header(), events);
    judge(&history, &[&PhantomContact]).remove(0)
}

/// What becomes of the story when this is done to it.
fn spoilt(spoil: impl FnOnce(&mut Vec<Event>)) -> Finding {
    let mut events = story();
    spoil(&mut events);
    judged(events)
}

fn contacts_of(events: &mut [Event], user: u64) -> &mut Vec<Contact> {
    let told = events.iter_mut().find_map(|event| match event {
        Event::Told(Told {
            user: whose,
            answer: Answer::Contacts { contacts },
            ..
        }) if *whose == user => Some(contacts),
        _ => None,
    });
    told.expect("somebody was told")
}

fn imports(event: &mut Event) -> Option<&mut Operation> {
    match event {
        Event::Op(op) if matches!(op.subject, Subject::Import { .. }) => Some(op),
        _ => None,
    }
}

#[test]
fn contacts_that_come_from_imports_are_kept_promises() {
    let found = judged(story());
    assert_eq!((found.verdict, found.obligations), (Verdict::Pass, 5), "{found:?}");
}

#[test]
fn an_import_that_may_have_happened_is_trace_enough_and_one_that_failed_is_none() {
    let with = |outcome| {
        spoilt(|events| {
            for op in events.iter_mut().filter_map(imports) {
                op.outcome = outcome;
            }
        })
    };
    assert_eq!(with(Outcome::Unknown).verdict, Verdict::Pass);
    assert_eq!(with(Outcome::Failed).verdict, Verdict::Fail);
}

#[test]
fn each_way_of_coming_from_nowhere_is_found() {
    let cases: [Spoiling; 6] = [
        ("never imported", |events| {
            contacts_of(events, 2).push(contact(4, true, false));
        }),
        ("not where it comes from", |events| {
            contacts_of(events, 2).push(contact(4, false, false));
        }),
        ("somebody who has its number", |events| {
            contacts_of(events, 2).push(contact(4, false, true));
        }),
        ("belongs to another number", |events| {
            contacts_of(events, 1)[0].user = 4;
        }),
        ("nobody ever signed that number up", |events| {
            contacts_of(events, 1)[1].user = 9;
        }),
        ("never imported", |events| {
            // Told before it was imported.
            for event in events.iter_mut() {
                if let Event::Told(told) = event {
                    told.ended = Nanos::from_millis(160);
                }
            }
        }),
    ];
    for (says, spoil) in cases {
        let found = spoilt(spoil);
        assert_eq!(found.verdict, Verdict::Fail, "{says}: {found:?}");
        let witness = found.witness.unwrap_or_default();
        assert!(witness.contains(says), "{witness}");
    }
}

#[test]
fn without_the_number_of_who_was_told_nothing_is_claimed() {
    let found = spoilt(|events| {
        events.retain(
            |event| !matches!(event, Event::Op(op) if matches!(op.subject, Subject::Account { user: Some(2), .. })),
        );
        // That 2 signed up can't be told either.
        contacts_of(events, 1).remove(0);
    });
    assert_eq!(found.verdict, Verdict::Unknown, "{found:?}");
}
