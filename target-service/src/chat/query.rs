//! What can be asked of the state. Whether the answer is linearizable is the caller's business (ReadIndex); here it is
//! simply what has been applied.

use firedrill_proto::chat::v1::{Delivery, HistoryResponse, OutboxItem, StoredMessage};
use redb::{ReadOnlyTable, ReadableDatabase as _};

use super::{
    Machine,
    error::ChatError,
    keys::{Key, u32_at, u64_at},
    records::{Conversation, Device, Mark, OutboxHead, StoredBody},
    refused::Refused,
    store::{self, TABLE},
    validate::QUERY_ITEMS_MAX,
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
    /// Items kept for accounts that have no device yet.
    pub pending: u64,
    /// Items for accounts that do not exist, ever.
    pub dead_letters: u64,
    /// Deliveries appended to devices' streams, ever.
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
            })
            .collect();
        Ok(HistoryResponse {
            messages,
            last_position: record.last_position,
        })
    }

    /// What a device is owed behind sequence `after`, at most `limit` and a megabyte. What it acknowledged is gone: the
    /// answer then starts behind that.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn deliveries(&self, user: u64, device: u32, after: u64, limit: usize) -> Result<Vec<Delivery>, ChatError> {
        let range = Key::stream(user, device, after.saturating_add(1))..=Key::stream(user, device, u64::MAX);
        self.values(&range, limit)
    }

    /// Where a device stands; `None` when it was never registered.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn device_state(&self, user: u64, device: u32) -> Result<Option<DeviceState>, ChatError> {
        let record: Option<Device> = store::get(&self.read()?, &Key::device(user, device))?;
        Ok(record.map(|record| state(&record)))
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
        Ok(Ok(state(&record)))
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

const fn state(record: &Device) -> DeviceState {
    DeviceState {
        session: record.session,
        acknowledged: record.acknowledged,
        last_sequence: record.last_sequence,
        incarnation: record.incarnation,
    }
}
