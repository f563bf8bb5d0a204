//! Accounts, devices and sessions, on the shard that owns the account.

use firedrill_proto::chat::v1::{AcknowledgeCommand, OpenSessionCommand, SignUpCommand};

use super::{Applier, Step, granted};
use crate::chat::{
    ids,
    keys::Key,
    records::{Account, Device, Mark},
    refused::Refused,
    reply::Reply,
    store, validate,
};

/// How many replaced sessions' nonces a device remembers.
const OLD_NONCES_MAX: usize = 4;

impl Applier<'_> {
    /// One account for each phone number, whatever is repeated. Where numbers are verified, the code comes first: who
    /// can't show it doesn't learn of the account either.
    pub(super) fn sign_up(&mut self, command: &SignUpCommand) -> Step<Reply> {
        let phone = granted!(validate::sign_up(&command.phone, self.meta.shard, self.meta.shards));
        if command.verified {
            granted!(self.check_code(&phone, &command.code)?);
        }
        let by_phone = Key::account_by_phone(&phone);
        let known: Option<Mark> = store::get(&self.table, &by_phone)?;
        #[cfg(any(test, feature = "plants"))]
        let known = known.filter(|_| self.plant != Some(crate::chat::Plant::DoubleAccount));
        if let Some(Mark { through: user }) = known {
            return Ok(Ok(Reply::SignedUp { user, created: false }));
        }
        self.meta.accounts += 1;
        let user = ids::user_id(ids::phone_bucket(&phone), self.meta.accounts);
        let account = Account {
            phone,
            created_ms: self.meta.time_ms,
            ..Account::default()
        };
        store::put(&mut self.table, &by_phone, &Mark { through: user })?;
        store::put(&mut self.table, &Key::account(user), &account)?;
        self.meet_interested(user, &account.phone)?;
        Ok(Ok(Reply::SignedUp { user, created: true }))
    }

    /// Registers the device if it is new, and gives it a session. The same nonce gets the same session again; a new
    /// one replaces the session before.
    pub(super) fn open_session(&mut self, command: &OpenSessionCommand) -> Step<Reply> {
        let &OpenSessionCommand {
            user,
            device,
            client_nonce,
        } = command;
        granted!(validate::open_session(user, device, self.meta.shard, self.meta.shards));
        let account_key = Key::account(user);
        let Some(mut account) = store::get::<Account>(&self.table, &account_key)? else {
            return Ok(Err(Refused::NoSuchUser { user }));
        };
        let key = Key::device(user, device);
        let mut record = match store::get::<Device>(&self.table, &key)? {
            None => {
                self.applied.made_room = true;
                let fresh = self.register(user, device, &mut account);
                store::put(&mut self.table, &account_key, &account)?;
                fresh
            }
            Some(record) => record,
        };
        let ended = record.session != 0 && self.is_fenced(record.session)?;
        if record.session == 0 || record.nonce != client_nonce || ended {
            if record.old_nonces.contains(&client_nonce) {
                // A repeat that was overtaken. Granting it would end the session that replaced it.
                return Ok(Err(Refused::SessionEnded {
                    session: record.session,
                }));
            }
            self.replace_session(&mut record, client_nonce, ended);
        }
        store::put(&mut self.table, &key, &record)?;
        Ok(Ok(Reply::Opened {
            session: record.session,
            acknowledged: record.acknowledged,
            last_sequence: account.last_entry - record.base,
            incarnation: record.incarnation,
        }))
    }

    fn replace_session(&mut self, record: &mut Device, client_nonce: u64, fenced: bool) {
        if record.session != 0 {
            if !fenced {
                self.applied.ended_sessions.insert(record.session);
            }
            if record.nonce != client_nonce {
                record.old_nonces.push(record.nonce);
            }
            if record.old_nonces.len() > OLD_NONCES_MAX {
                record.old_nonces.remove(0);
            }
        }
        self.meta.sessions += 1;
        record.session = ids::session_id(self.meta.shard, self.meta.sessions);
        record.nonce = client_nonce;
    }

    /// Moves a device's cursor forward, never beyond what it was assigned, and forgets what it has shown: so much of it as
    /// one command may.
    pub(super) fn acknowledge(&mut self, command: &AcknowledgeCommand) -> Step<Reply> {
        let &AcknowledgeCommand {
            user,
            device,
            session,
            sequence,
        } = command;
        granted!(validate::own_device(user, device, self.meta.shard, self.meta.shards));
        let key = Key::device(user, device);
        let Some(mut record) = store::get::<Device>(&self.table, &key)? else {
            return Ok(Err(Refused::NoSuchDevice { user, device }));
        };
        if session != record.session || self.is_fenced(session)? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        let most = record.acknowledged.saturating_add(validate::ACKNOWLEDGED_MAX);
        let account_key = Key::account(user);
        let Some(mut account) = store::get::<Account>(&self.table, &account_key)? else {
            return Err(store::damaged(account_key.bytes(), "missing, and has a device"));
        };
        let target = sequence.min(account.last_entry - record.base).min(most);
        if target > record.acknowledged {
            self.meta.delivery_backlog -= target - record.acknowledged;
            record.acknowledged = target;
            self.applied.made_room = true;
            store::put(&mut self.table, &key, &record)?;
            self.trim_log(user, &mut account)?;
            store::put(&mut self.table, &account_key, &account)?;
        }
        Ok(Ok(Reply::Acknowledged {
            acknowledged: record.acknowledged,
        }))
    }
}
