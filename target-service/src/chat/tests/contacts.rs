//! Contacts: who appears in whose list, and where it says that it comes from.

use firedrill_proto::chat::v1::{ImportContactsCommand, command::Command as Kind};

use super::support::{Shard, sign_up};
use crate::chat::{Plant, Refused, Reply, validate::IMPORT_MAX};

const ANN: &str = "4930111";
const BOB: &str = "4930222";
const CARL: &str = "4930333";
const LATE: &str = "4930444";

fn import(of: (u64, u64), phones: &[&str]) -> Kind {
    Kind::ImportContacts(ImportContactsCommand {
        user: of.0,
        device: 1,
        session: of.1,
        phones: phones.iter().map(|&phone| phone.to_owned()).collect(),
    })
}

/// A list as (number, account, imported, matched).
fn list(shard: &Shard, of: (u64, u64)) -> Vec<(String, u64, bool, bool)> {
    let found = shard.machine.contacts(of.0, 1, of.1, "").unwrap().unwrap();
    found
        .into_iter()
        .map(|it| (it.phone, it.user, it.imported, it.matched))
        .collect()
}

fn person(shard: &mut Shard, phone: &str) -> (u64, u64) {
    let user = shard.user(phone);
    (user, shard.session(user, 1, 1))
}

#[test]
fn a_contact_appears_for_who_imported_it_and_for_who_was_found() {
    let mut shard = Shard::alone();
    let (ann, bob, carl) = (
        person(&mut shard, ANN),
        person(&mut shard, BOB),
        person(&mut shard, CARL),
    );
    let imported = shard.run(import(ann, &["+49 30 222", LATE, ANN]));
    assert_eq!(
        imported,
        Reply::Imported { added: 2, total: 2 },
        "nobody is a contact of its own"
    );
    assert_eq!(shard.run(import(ann, &[BOB])), Reply::Imported { added: 0, total: 2 });
    assert_eq!(list(&shard, ann)[0], (BOB.into(), 0, true, false), "not looked up yet");
    shard.pump();
    shard.pump();
    let all = [(BOB.into(), bob.0, true, false), (LATE.into(), 0, true, false)];
    assert_eq!(list(&shard, ann), all);
    assert_eq!(list(&shard, bob), [(ANN.into(), ann.0, false, true)]);
    assert_eq!(list(&shard, carl), []);

    let late = person(&mut shard, LATE);
    assert_eq!(list(&shard, late), [(ANN.into(), ann.0, false, true)]);
    shard.pump();
    assert_eq!(list(&shard, ann)[1], (LATE.into(), late.0, true, false));
    shard.run(import(bob, &[ANN]));
    shard.pump();
    shard.pump();
    assert_eq!(
        list(&shard, bob),
        [(ANN.into(), ann.0, true, true)],
        "both ways, and it says so"
    );
    let told = shard.machine.entries(ann.0, 1, 0, 100).unwrap().len();
    assert_eq!(told, 3, "two found and one that found her");
}

#[test]
fn imports_are_bounded_and_need_a_session() {
    let mut shard = Shard::alone();
    let ann = person(&mut shard, ANN);
    let many: Vec<String> = (0..=IMPORT_MAX).map(|n| format!("88{n:05}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(
        shard.run(import(ann, &many)),
        Reply::Refused(Refused::TooMany { .. })
    ));
    for part in 0..10 {
        let phones: Vec<String> = (0..IMPORT_MAX).map(|n| format!("9{part}{n:05}")).collect();
        let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
        assert!(matches!(
            shard.run(import(ann, &phones)),
            Reply::Imported { added: 500, .. }
        ));
    }
    let full = shard.run(import(ann, &[BOB]));
    assert!(
        matches!(full, Reply::Refused(Refused::Full { max: 5000, .. })),
        "{full:?}"
    );
    assert_eq!(
        shard.run(import(ann, &["nonsense"])),
        Reply::Refused(Refused::PhoneInvalid)
    );
    let ended = shard.run(import((ann.0, ann.1 + 1), &[BOB]));
    assert_eq!(ended, Reply::Refused(Refused::SessionEnded { session: ann.1 + 1 }));
}

#[test]
fn the_plants_of_accounts_and_contacts_do_what_they_say() {
    let mut shard = Shard::alone();
    shard.machine.set_plant(Some(Plant::PhantomContact));
    let carl = person(&mut shard, CARL);
    let ann = person(&mut shard, ANN);
    person(&mut shard, BOB);
    shard.run(import(ann, &[BOB]));
    shard.pump();
    shard.pump();
    assert_eq!(list(&shard, carl).len(), 1, "the phantom");
    shard.machine.set_plant(Some(Plant::DoubleAccount));
    let again = shard.run(sign_up(ANN));
    assert!(matches!(again, Reply::SignedUp { created: true, .. }));
}
