//! What can be asked of the state. Whether the answer is linearizable is the caller's business (ReadIndex); here it is
//! simply what has been applied.

use firedrill_proto::chat::v1::{
    Delivery, HistoryResponse, OutboxItem, StoredMessage, SubscribeEvent, subscribe_event::Event,
};
use redb::{ReadOnlyTable, ReadableDatabase as _};

use super::{
    Machine,
    error::ChatError,
    keys::{Key, u32_at, u64_at},
    records::{Account, Conversation, Device, Mark, OutboxHead, StoredBody},
    refused::Refused,
    store::{self, TABLE},
    validate::{DEVICES_MAX, QUERY_ITEMS_MAX},
};

/// Most bytes of records that one query returns; at least one record comes whatever its size.
const QUERY_BYTES_MAX: usize = 1 << 20;

/// Where a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// Its current session; it may have been fenced, see [`Machine::check_session`].
    pub session: u64,
    /// The last sequence that the device acknowledged; what is below is gone.
    pub acknowledged: u64,
    /// The last sequence assigned.
    pub last_sequence: u64,
    /// The incarnation of these sequences.
    pub incarnation: u64,
}

/// Where the outbox to one shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxState {
    /// The shard it goes to.
    pub to_shard: u32,
    /// The last sequence assigned.
    pub last_sequence: u64,
    /// Everything up to here was accepted and is gone.
    pub trimmed_through: u64,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub accounts: u64,
    /// Messages in the conversations at home here.
    pub messages: u64,
    /// Outbox items that their shard has not accepted.
    pub outbox_backlog: u64,
    /// Deliveries that devices have not acknowledged.
    pub delivery_backlog: u64,
    /// Entries kept for accounts that have no device yet.
    pub pending: u64,
    /// Items for accounts that do not exist, ever.
    pub dead_letters: u64,
    /// Entries given to devices, ever.
    pub delivered: u64,
    /// Log time, milliseconds.
    pub time_ms: u64,
}

impl Machine {
    /// How much there is of everything; costs nothing.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        Counts {
            accounts: self.meta.accounts,
            messages: self.meta.messages,
            outbox_backlog: self.meta.outbox_backlog,
            delivery_backlog: self.meta.delivery_backlog,
            pending: self.meta.pending,
            dead_letters: self.meta.dead_letters,
            delivered: self.meta.delivered,
            time_ms: self.meta.time_ms,
        }
    }

    /// Messages of `conversation` behind position `after`, at most `limit` and a megabyte; a conversation without
    /// messages is empty.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn history(&self, conversation: u64, after: u64, limit: usize) -> Result<HistoryResponse, ChatError> {
        let table = self.read()?;
        let record: Conversation = store::get(&table, &Key::conversation(conversation))?.unwrap_or_default();
        let range =
            Key::message(conversation, after.saturating_add(1))..=Key::message(conversation, record.last_position);
        let found = store::scan::<StoredBody>(&table, &range, limit.min(QUERY_ITEMS_MAX), QUERY_BYTES_MAX)?;
        let messages = found
            .into_iter()
            .map(|(key, it)| StoredMessage {
                position: u64_at(&key, 9).unwrap_or_default(),
                sender: it.sender,
                sender_device: it.device,
                client_id: it.client_id,
                recipient: it.recipient,
                body: it.body,
                change: it.change,
            })
            .collect();
        Ok(HistoryResponse {
            messages,
            last_position: record.last_position,
        })
    }

    /// What a device is owed behind its sequence `after`, at most `limit` and a megabyte, each with its sequence. What it
    /// acknowledged is not given again: the answer then starts behind that.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn entries(&self, user: u64, device: u32, after: u64, limit: usize) -> Result<Vec<(u64, Event)>, ChatError> {
        let table = self.read()?;
        let Some(record) = store::get::<Device>(&table, &Key::device(user, device))? else {
            return Ok(Vec::new());
        };
        let after = after.max(record.acknowledged);
        let first = record.base.saturating_add(after).saturating_add(1);
        let range = Key::entry(user, first)..=Key::entry(user, u64::MAX);
        let found = store::scan::<SubscribeEvent>(&table, &range, limit.min(QUERY_ITEMS_MAX), QUERY_BYTES_MAX)?;
        found
            .into_iter()
            .map(|(key, entry)| match (u64_at(&key, 9), entry.event) {
                (Some(number), Some(event)) => Ok((number - record.base, numbered(event, number - record.base))),
                _ => Err(store::damaged(
                    &key,
                    "an entry of a kind that this version doesn't know",
                )),
            })
            .collect()
    }

    /// The messages among [`Machine::entries`].
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn deliveries(&self, user: u64, device: u32, after: u64, limit: usize) -> Result<Vec<Delivery>, ChatError> {
        let entries = self.entries(user, device, after, limit)?.into_iter();
        Ok(entries
            .filter_map(|(_, event)| match event {
                Event::Delivery(delivery) => Some(delivery),
                Event::Position(_) | Event::Notice(_) => None,
            })
            .collect())
    }

    /// All devices of an account, by number; `None` when there is no such account.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn devices(&self, user: u64) -> Result<Option<Vec<(u32, DeviceState)>>, ChatError> {
        let table = self.read()?;
        let Some(account) = store::get::<Account>(&table, &Key::account(user))? else {
            return Ok(None);
        };
        let found = store::scan::<Device>(&table, &Key::devices(user), DEVICES_MAX as usize, usize::MAX)?;
        let devices = found.into_iter().filter_map(|(key, record)| {
            let number = u32_at(&key, 9)?;
            Some((number, state(&record, &account)))
        });
        Ok(Some(devices.collect()))
    }

    /// Where a device stands; `None` when it was never registered.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn device_state(&self, user: u64, device: u32) -> Result<Option<DeviceState>, ChatError> {
        let table = self.read()?;
        let record: Option<Device> = store::get(&table, &Key::device(user, device))?;
        let account: Account = store::get(&table, &Key::account(user))?.unwrap_or_default();
        Ok(record.map(|record| state(&record, &account)))
    }

    /// Where a device stands, if `session` is its session today.
    ///
    /// # Errors
    /// When the database fails or is damaged; inside, when the device is unknown or the session has ended.
    pub fn check_session(
        &self,
        user: u64,
        device: u32,
        session: u64,
    ) -> Result<Result<DeviceState, Refused>, ChatError> {
        let table = self.read()?;
        let Some(record) = store::get::<Device>(&table, &Key::device(user, device))? else {
            return Ok(Err(Refused::NoSuchDevice { user, device }));
        };
        if record.session != session || store::has(&table, &Key::fenced(session))? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        let account: Account = store::get(&table, &Key::account(user))?.unwrap_or_default();
        Ok(Ok(state(&record, &account)))
    }

    /// Whether `session` was fenced on this shard.
    ///
    /// # Errors
    /// When the database fails.
    pub fn is_fenced(&self, session: u64) -> Result<bool, ChatError> {
        store::has(&self.read()?, &Key::fenced(session))
    }

    /// The account of a normalised phone number that this shard owns.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn account_of(&self, phone: &str) -> Result<Option<u64>, ChatError> {
        let found: Option<Mark> = store::get(&self.read()?, &Key::account_by_phone(phone))?;
        Ok(found.map(|mark| mark.through))
    }

    /// Items for `to_shard` behind sequence `after`, at most `limit` and a megabyte.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn outbox_pending(&self, to_shard: u32, after: u64, limit: usize) -> Result<Vec<OutboxItem>, ChatError> {
        let range = Key::outbox(to_shard, after.saturating_add(1))..=Key::outbox(to_shard, u64::MAX);
        self.values(&range, limit)
    }

    /// Every outbox that was ever used, in the order of shards.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn outbox_shards(&self) -> Result<Vec<OutboxState>, ChatError> {
        let shards = self.meta.shards as usize;
        let found = store::scan::<OutboxHead>(&self.read()?, &Key::outbox_heads(), shards, usize::MAX)?;
        Ok(found
            .into_iter()
            .map(|(key, head)| OutboxState {
                to_shard: u32_at(&key, 1).unwrap_or_default(),
                last_sequence: head.last_sequence,
                trimmed_through: head.trimmed_through,
            })
            .collect())
    }

    /// The sequence of the last item that was ever put into the outbox to `to_shard`; 0 when there was none.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn outbox_last(&self, to_shard: u32) -> Result<u64, ChatError> {
        let head: Option<OutboxHead> = store::get(&self.read()?, &Key::outbox_head(to_shard))?;
        Ok(head.unwrap_or_default().last_sequence)
    }

    /// How much of the outbox of `from_shard` has been accepted here.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn accepted_through(&self, from_shard: u32) -> Result<u64, ChatError> {
        let mark: Option<Mark> = store::get(&self.read()?, &Key::inbox(from_shard))?;
        Ok(mark.unwrap_or_default().through)
    }

    fn values<M: prost::Message + Default>(
        &self,
        range: &std::ops::RangeInclusive<Key>,
        limit: usize,
    ) -> Result<Vec<M>, ChatError> {
        let found = store::scan(&self.read()?, range, limit.min(QUERY_ITEMS_MAX), QUERY_BYTES_MAX)?;
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    pub(super) fn read(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, ChatError> {
        Ok(self.db.begin_read()?.open_table(TABLE)?)
    }
}

pub(super) const fn state(record: &Device, account: &Account) -> DeviceState {
    DeviceState {
        session: record.session,
        acknowledged: record.acknowledged,
        last_sequence: account.last_entry.saturating_sub(record.base),
        incarnation: record.incarnation,
    }
}

/// An entry under a device's own sequence.
fn numbered(mut event: Event, sequence: u64) -> Event {
    match &mut event {
        Event::Delivery(delivery) => delivery.sequence = sequence,
        Event::Notice(notice) => notice.sequence = sequence,
        Event::Position(_) => {}
    }
    event
}
