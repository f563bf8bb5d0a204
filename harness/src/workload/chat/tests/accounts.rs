//! Sign-ups and address books of the service in memory, and the loads on them.

use std::collections::BTreeSet;

use super::*;
use crate::{
    check,
    history::{Answer, Contact, History, Told},
    workload::{
        ContactsSpec, LifeSpec, SignUpSpec,
        contacts::{ContactsClient, Imported},
        people::Caller,
    },
};

#[async_trait]
impl ContactsClient for Client {
    async fn import_contacts(&self, caller: Caller, phones: &[String], _within: Duration) -> Answered<Imported> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        let mut state = lock(&self.0.state);
        let book = state.books.entry(caller.user).or_default();
        let added = phones.iter().filter(|phone| book.insert((*phone).clone())).count() as u64;
        Answered::ok(Imported { added }, None)
    }

    async fn contacts(&self, caller: Caller, _within: Duration) -> Answered<Vec<Contact>> {
        if let Some(failure) = self.0.refused() {
            return Answered::failed(failure);
        }
        let state = lock(&self.0.state);
        let number_of = |user: u64| {
            state
                .users
                .iter()
                .find(|(_, known)| **known == user)
                .map(|(phone, _)| phone)
        };
        let own = number_of(caller.user);
        let knows = |user: u64, phone: &String| state.books.get(&user).is_some_and(|book| book.contains(phone));
        let imported = state.books.get(&caller.user).into_iter().flatten().cloned();
        let matched = state
            .books
            .keys()
            .filter(|other| own.is_some_and(|own| knows(**other, own)));
        let matched = matched.filter_map(|other| number_of(*other).cloned());
        let mut phones: BTreeSet<String> = imported.chain(matched).collect();
        if self.0.behaviour.phantom_contacts {
            phones.extend(state.users.keys().take(1).cloned());
        }
        let contacts = phones.into_iter().map(|phone| {
            let user = state.users.get(&phone).copied().unwrap_or(0);
            Contact {
                user,
                imported: self.0.behaviour.phantom_contacts || knows(caller.user, &phone),
                matched: own.is_some_and(|own| knows(user, own)),
                phone,
            }
        });
        Answered::ok(contacts.collect(), None)
    }
}

fn signing_up() -> LoadSpec {
    LoadSpec {
        class: Class::SignUp,
        users: 0,
        devices: 1,
        probe: None,
        life: Some(LifeSpec::SignUp(SignUpSpec {
            again_percent: 30,
            at_once_percent: 30,
        })),
        ..load()
    }
}

fn keeping_books() -> LoadSpec {
    LoadSpec {
        class: Class::Contacts,
        probe: None,
        life: Some(LifeSpec::Contacts(ContactsSpec {
            book: 8,
            import_percent: 40,
        })),
        ..load()
    }
}

/// What promise `name` came to, on what was recorded.
fn judged(recorder: &Recorder, name: &str) -> check::Finding {
    let history = History::new(recorder.header().clone(), recorder.recorded().events);
    let promise = check::promise_named(name).expect("it is known");
    check::judge(&history, &[promise]).remove(0)
}

#[tokio::test(start_paused = true)]
async fn numbers_are_signed_up_anew_again_and_twice_at_a_time_and_all_are_asked_for_afterwards() {
    let (mut workload, recorder, service) = stage(Behaviour::default(), signing_up());
    assert!(run(&mut workload, &service).await, "it drains");
    let mut tries: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for operation in ops(&recorder, Class::SignUp) {
        if let Subject::Account { phone, .. } = &operation.subject {
            tries.entry(phone.clone()).or_default().push(operation);
        }
    }
    assert!(tries.len() > 50, "{} numbers", tries.len());
    let loaded = |op: &&Operation| op.session != 0;
    assert!(
        tries.values().any(|ops| ops.iter().filter(loaded).count() > 2),
        "none was signed up again"
    );
    let at_once = tries.values().filter(|ops| {
        let mut meant: Vec<Nanos> = ops.iter().filter(loaded).map(|op| op.intended).collect();
        meant.sort_unstable();
        meant.windows(2).any(|two| two[0] == two[1])
    });
    assert!(at_once.count() > 5, "none was signed up twice at a time");
    for (phone, ops) in &tries {
        assert!(
            ops.iter().any(|op| op.session == 0),
            "{phone} was not asked for after the load"
        );
    }
    let found = judged(&recorder, "account");
    assert_eq!(found.verdict, check::Verdict::Pass, "{found:?}");
    assert!(found.obligations > 100);
}

#[tokio::test(start_paused = true)]
async fn address_books_are_kept_and_every_contact_traces_to_an_import() {
    let (mut workload, recorder, service) = stage(Behaviour::default(), keeping_books());
    assert!(run(&mut workload, &service).await, "it drains");
    let imports = ops(&recorder, Class::Contacts).into_iter().filter(
        |op| matches!(&op.subject, Subject::Import { added: Some(added), phones, .. } if *added > 0 && phones.len() > 1),
    );
    assert!(imports.count() > 20);
    let told = recorder.recorded().events.into_iter().filter_map(|event| match event {
        Event::Told(Told {
            began,
            answer: Answer::Contacts { contacts },
            user,
            ..
        }) => Some((began, user, contacts)),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    assert!(
        told.iter()
            .any(|(_, _, contacts)| contacts.iter().any(|it| it.matched && !it.imported))
    );
    assert!(
        told.iter()
            .any(|(_, _, contacts)| contacts.iter().any(|it| it.imported && it.user == 0))
    );
    let last = told.iter().map(|(began, ..)| *began).max().expect("somebody looked");
    let at_the_end: BTreeSet<u64> = told
        .iter()
        .filter(|(began, ..)| last.since(*began) < Duration::from_secs(2))
        .map(|(_, user, _)| *user)
        .collect();
    assert_eq!(at_the_end.len(), 20, "everybody looks once more");
    let found = judged(&recorder, "phantom-contact");
    assert_eq!(found.verdict, check::Verdict::Pass, "{found:?}");
    assert!(found.obligations > 100);
}

#[tokio::test(start_paused = true)]
async fn a_contact_from_nowhere_is_found() {
    let behaviour = Behaviour {
        phantom_contacts: true,
        ..Behaviour::default()
    };
    let (mut workload, recorder, service) = stage(behaviour, keeping_books());
    run(&mut workload, &service).await;
    let found = judged(&recorder, "phantom-contact");
    assert_eq!(found.verdict, check::Verdict::Fail, "{found:?}");
    assert!(found.witness.is_some_and(|witness| witness.contains("never imported")));
}
