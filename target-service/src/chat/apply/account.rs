//! Accounts, devices and sessions, on the shard that owns the account.

use firedrill_proto::chat::v1::{AcknowledgeCommand, OpenSessionCommand, SignUpCommand};

use super::{Applier, Step, granted};
use crate::chat::{
    error::ChatError,
    ids,
    keys::Key,
    records::{Account, Device, Mark},
    refused::Refused,
    reply::Reply,
    store, validate,
};

/// How many replaced sessions' nonces a device remembers.
const OLD_NONCES_MAX: usize = 4;

/// The incarnation of a device's sequences until a restore sets another.
const FIRST_INCARNATION: u64 = 1;

impl Applier<'_> {
    /// One account for each phone number, whatever is repeated.
    pub(super) fn sign_up(&mut self, command: &SignUpCommand) -> Step<Reply> {
        let phone = granted!(validate::sign_up(&command.phone, self.meta.shard, self.meta.shards));
        let by_phone = Key::account_by_phone(&phone);
        if let Some(Mark { through: user }) = store::get(&self.table, &by_phone)? {
            return Ok(Ok(Reply::SignedUp { user, created: false }));
        }
        self.meta.accounts += 1;
        let user = ids::user_id(ids::phone_bucket(&phone), self.meta.accounts);
        let account = Account {
            phone,
            created_ms: self.meta.time_ms,
            pending: 0,
        };
        store::put(&mut self.table, &by_phone, &Mark { through: user })?;
        store::put(&mut self.table, &Key::account(user), &account)?;
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
        let Some(account) = store::get::<Account>(&self.table, &Key::account(user))? else {
            return Ok(Err(Refused::NoSuchUser { user }));
        };
        let key = Key::device(user, device);
        let mut record = match store::get::<Device>(&self.table, &key)? {
            None => {
                let mut fresh = Device {
                    incarnation: FIRST_INCARNATION,
                    ..Device::default()
                };
                self.hand_over_pending(user, device, account, &mut fresh)?;
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
            last_sequence: record.last_sequence,
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

    /// Moves a device's cursor forward, never beyond what it was assigned, and forgets what it has shown.
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
        let target = sequence.min(record.last_sequence);
        if target > record.acknowledged {
            for shown in record.acknowledged + 1..=target {
                self.trim(&Key::stream(user, device, shown))?;
                self.meta.delivery_backlog -= 1;
            }
            record.acknowledged = target;
            store::put(&mut self.table, &key, &record)?;
        }
        Ok(Ok(Reply::Acknowledged {
            acknowledged: record.acknowledged,
        }))
    }

    /// Removes what must be there.
    pub(super) fn trim(&mut self, key: &Key) -> Result<(), ChatError> {
        if store::remove(&mut self.table, key)? {
            return Ok(());
        }
        Err(store::damaged(key.bytes(), "missing in a sequence without gaps"))
    }
}
