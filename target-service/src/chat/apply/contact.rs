//! Contacts. An imported number is looked up at the shard that signs it up; what is found there goes back to whoever
//! imported it, and the one who was found is told who did. A number that nobody has yet is remembered there, so that its
//! later account finds those who wait for it.
//!
//! A contact appears for the one who imported it, or for the one who was found by an import, and its record says which:
//! a match for a number that its owner never imported changes nothing.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{
    Contact, ContactMatch, ContactMatches, ContactProbe, ImportContactsCommand, OutboxItem, notice::What,
};

use super::{Applier, Step, delivery::Taken, granted, thread::notice};
use crate::chat::{
    error::ChatError,
    ids,
    keys::{Key, u64_at},
    records::{Account, ContactRecord, Interest, Mark},
    refused::Refused,
    reply::Reply,
    store,
    validate::{self, CONTACTS_MAX, INTERESTED_MAX},
};

impl Applier<'_> {
    /// Adds numbers to a user's address book. Those that are in it already change nothing.
    pub(super) fn import_contacts(&mut self, command: &ImportContactsCommand) -> Step<Reply> {
        let user = command.user;
        granted!(validate::own_device(
            user,
            command.device,
            self.meta.shard,
            self.meta.shards
        ));
        let phones = granted!(validate::import(&command.phones));
        granted!(self.acts(user, command.device, command.session)?);
        let account_key = Key::account(user);
        let Some(mut account) = store::get::<Account>(&self.table, &account_key)? else {
            return Ok(Err(Refused::NoSuchUser { user }));
        };
        let mut probes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        let mut fresh = Vec::new();
        for phone in phones {
            let known: Option<ContactRecord> = store::get(&self.table, &Key::contact(user, &phone))?;
            if phone == account.phone || known.as_ref().is_some_and(|known| known.imported) {
                continue;
            }
            let shard = ids::shard_of(ids::phone_bucket(&phone), self.meta.shards);
            probes.entry(shard).or_default().push(phone.clone());
            fresh.push((phone, known.unwrap_or_default()));
        }
        account.contacts += fresh.len() as u64;
        if account.contacts > CONTACTS_MAX {
            return Ok(Err(Refused::Full {
                what: "the address book",
                max: CONTACTS_MAX,
            }));
        }
        granted!(self.room_in_outboxes(probes.keys().copied(), self.settings.outbox_max)?);
        let added = fresh.len() as u64;
        for (phone, mut record) in fresh {
            record.imported = true;
            store::put(&mut self.table, &Key::contact(user, &phone), &record)?;
        }
        for (shard, phones) in probes {
            let item = OutboxItem {
                sender: user,
                probe: Some(ContactProbe {
                    importer: user,
                    importer_phone: account.phone.clone(),
                    phones,
                }),
                ..OutboxItem::default()
            };
            self.post_one(shard, item)?;
        }
        store::put(&mut self.table, &account_key, &account)?;
        Ok(Ok(Reply::Imported {
            added,
            total: account.contacts,
        }))
    }

    /// At the shard that signs these numbers up: whoever has one is found.
    pub(super) fn take_probe(&mut self, probe: &ContactProbe) -> Result<Taken, ChatError> {
        let mut found = Vec::new();
        for phone in &probe.phones {
            let user: Option<Mark> = store::get(&self.table, &Key::account_by_phone(phone))?;
            if let Some(Mark { through: user }) = user {
                let account: Account = store::get(&self.table, &Key::account(user))?.unwrap_or_default();
                if !self.has_room(&account) {
                    return Ok(Taken::NoRoom);
                }
                found.push((phone.clone(), user));
            }
        }
        let back = ids::owner(probe.importer, self.meta.shards);
        if !found.is_empty() && self.room_in_outboxes([back], 2 * self.settings.outbox_max)?.is_err() {
            return Ok(Taken::NoRoom);
        }
        for phone in &probe.phones {
            self.remember_interest(phone, probe)?;
        }
        let matches = found.into_iter().map(|(phone, user)| {
            self.found_by(user, probe.importer, &probe.importer_phone)?;
            Ok(ContactMatch {
                owner: probe.importer,
                phone,
                user,
            })
        });
        let matches = matches.collect::<Result<Vec<_>, ChatError>>()?;
        self.post_matches(back, matches)?;
        Ok(Taken::Yes)
    }

    fn remember_interest(&mut self, phone: &str, probe: &ContactProbe) -> Result<(), ChatError> {
        let key = Key::interest(phone, probe.importer);
        if store::has(&self.table, &key)? {
            return Ok(());
        }
        let count_key = Key::interested(phone);
        let Mark { through: count } = store::get(&self.table, &count_key)?.unwrap_or_default();
        // Whoever comes later finds the account by importing again once it is there.
        if count < INTERESTED_MAX {
            let interest = Interest {
                phone: probe.importer_phone.clone(),
            };
            store::put(&mut self.table, &key, &interest)?;
            store::put(&mut self.table, &count_key, &Mark { through: count + 1 })?;
        }
        Ok(())
    }

    /// `user` is in the address book of `importer`: it gets to know that account too.
    fn found_by(&mut self, user: u64, importer: u64, importer_phone: &str) -> Result<(), ChatError> {
        let key = Key::contact(user, importer_phone);
        let mut record: ContactRecord = store::get(&self.table, &key)?.unwrap_or_default();
        if record.matched {
            return Ok(());
        }
        record.matched = true;
        record.user = importer;
        store::put(&mut self.table, &key, &record)?;
        self.tell_contact(user, importer_phone, &record)
    }

    fn tell_contact(&mut self, user: u64, phone: &str, record: &ContactRecord) -> Result<(), ChatError> {
        let account_key = Key::account(user);
        if let Some(mut account) = store::get::<Account>(&self.table, &account_key)? {
            let contact = Contact {
                phone: phone.to_owned(),
                user: record.user,
                imported: record.imported,
                matched: record.matched,
            };
            self.append(user, &mut account, notice(What::Contact(contact)))?;
            store::put(&mut self.table, &account_key, &account)?;
        }
        Ok(())
    }

    fn post_matches(&mut self, to_shard: u32, matches: Vec<ContactMatch>) -> Result<(), ChatError> {
        if matches.is_empty() {
            return Ok(());
        }
        let item = OutboxItem {
            matches: Some(ContactMatches { matches }),
            ..OutboxItem::default()
        };
        self.post_one(to_shard, item)
    }

    /// A new account meets those who have imported its number before.
    pub(super) fn meet_interested(&mut self, user: u64, phone: &str) -> Result<(), ChatError> {
        let bound = usize::try_from(INTERESTED_MAX).unwrap_or(usize::MAX);
        let mut found: BTreeMap<u32, Vec<ContactMatch>> = BTreeMap::new();
        for (key, interest) in store::scan::<Interest>(&self.table, &Key::all_interest(phone), bound, usize::MAX)? {
            let at = key.len() - size_of::<u64>();
            let Some(importer) = u64_at(&key, at) else {
                return Err(store::damaged(&key, "too short"));
            };
            let mut record: ContactRecord =
                store::get(&self.table, &Key::contact(user, &interest.phone))?.unwrap_or_default();
            (record.matched, record.user) = (true, importer);
            store::put(&mut self.table, &Key::contact(user, &interest.phone), &record)?;
            found
                .entry(ids::owner(importer, self.meta.shards))
                .or_default()
                .push(ContactMatch {
                    owner: importer,
                    phone: phone.to_owned(),
                    user,
                });
        }
        found
            .into_iter()
            .try_for_each(|(shard, matches)| self.post_matches(shard, matches))
    }

    /// Back at the importers' shard: the numbers that they imported have accounts.
    pub(super) fn take_matches(&mut self, matches: &[ContactMatch]) -> Result<Taken, ChatError> {
        for it in matches {
            let account: Option<Account> = store::get(&self.table, &Key::account(it.owner))?;
            if account.is_some_and(|account| !self.has_room(&account)) {
                return Ok(Taken::NoRoom);
            }
        }
        for it in matches {
            let key = Key::contact(it.owner, &it.phone);
            let Some(mut record) = store::get::<ContactRecord>(&self.table, &key)? else {
                continue;
            };
            if record.imported && record.user != it.user {
                record.user = it.user;
                store::put(&mut self.table, &key, &record)?;
                self.tell_contact(it.owner, &it.phone, &record)?;
            }
            #[cfg(any(test, feature = "plants"))]
            self.plant_phantom(it, &record)?;
        }
        Ok(Taken::Yes)
    }
}
