//! Codes that prove that a phone number is at hand, on the shard that signs it up.

use firedrill_proto::chat::v1::IssueCodeCommand;

use super::{Applier, Step, granted};
use crate::chat::{
    error::ChatError,
    keys::{Key, u64_at},
    records::{Code, Present},
    refused::Refused,
    reply::Reply,
    store, validate,
};

/// Wrong codes that one may show before a new one is needed.
const TRIES_MAX: u32 = 5;

/// Codes forgotten with each one issued: more than the one it adds, so that the table shrinks whenever it can.
const FORGOTTEN_PER_CODE: usize = 4;

/// Where the phone number starts in the key of a code by time.
const PHONE_AT: usize = 9;

impl Applier<'_> {
    /// Remembers a code that was carried to a phone. It replaces the one before.
    pub(super) fn issue_code(&mut self, command: &IssueCodeCommand) -> Step<Reply> {
        let phone = granted!(validate::sign_up(&command.phone, self.meta.shard, self.meta.shards));
        granted!(validate::code(&command.code));
        self.forget_old_codes()?;
        self.forget_code(&phone)?;
        let now = self.meta.time_ms;
        let record = Code {
            code: command.code.clone(),
            issued_ms: now,
            tries: 0,
        };
        store::put(&mut self.table, &Key::code(&phone), &record)?;
        store::put(&mut self.table, &Key::code_by_time(now, &phone), &Present {})?;
        Ok(Ok(Reply::CodeIssued {
            code: record.code,
            valid_ms: self.settings.code_ms,
        }))
    }

    /// Whether `code` is the one that was carried to `phone`. It can be shown again until it is too old, so that a
    /// repeated sign-up is answered like the first. A wrong one is counted: the only refusal that changes anything.
    pub(super) fn check_code(&mut self, phone: &str, code: &str) -> Step<()> {
        let key = Key::code(phone);
        let Some(mut record) = store::get::<Code>(&self.table, &key)? else {
            return Ok(Err(Refused::WrongCode));
        };
        let old = record.issued_ms.saturating_add(self.settings.code_ms) < self.meta.time_ms;
        if old || record.tries >= TRIES_MAX {
            return Ok(Err(Refused::WrongCode));
        }
        if record.code == code {
            return Ok(Ok(()));
        }
        record.tries += 1;
        store::put(&mut self.table, &key, &record)?;
        Ok(Err(Refused::WrongCode))
    }

    fn forget_code(&mut self, phone: &str) -> Result<(), ChatError> {
        let key = Key::code(phone);
        if let Some(before) = store::get::<Code>(&self.table, &key)? {
            store::remove(&mut self.table, &key)?;
            store::remove(&mut self.table, &Key::code_by_time(before.issued_ms, phone))?;
        }
        Ok(())
    }

    fn forget_old_codes(&mut self) -> Result<(), ChatError> {
        let Some(until) = self.meta.time_ms.checked_sub(self.settings.code_ms + 1) else {
            return Ok(());
        };
        let old = store::scan::<Present>(&self.table, &Key::codes_until(until), FORGOTTEN_PER_CODE, usize::MAX)?;
        for (by_time, _) in old {
            let phone = by_time
                .get(PHONE_AT..)
                .and_then(|phone| std::str::from_utf8(phone).ok());
            let (Some(phone), Some(_)) = (phone, u64_at(&by_time, 1)) else {
                return Err(store::damaged(&by_time, "not a phone number"));
            };
            self.forget_code(phone)?;
        }
        Ok(())
    }
}
