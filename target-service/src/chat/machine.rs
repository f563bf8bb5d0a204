//! The machine: one shard's database, and the batches of log entries applied to it.

use redb::{Database, Durability, ReadableDatabase as _};
use serde::{Deserialize, Serialize};

use super::{
    apply::Applier,
    error::ChatError,
    ids::SHARDS_MAX,
    keys::Key,
    records::{FORMAT, Meta},
    reply::{Applied, Committed},
    store::{self, TABLE},
    validate::GROUP_MEMBERS_MAX,
};

/// What all replicas of a shard must agree on, besides the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a client id is remembered, in milliseconds of log time. After that, whether it was used is not known, and
    /// it is never taken again.
    pub dedup_ms: u64,
    /// Most unacknowledged items in the outbox to one shard; a send that finds it full is refused.
    pub outbox_max: u64,
    /// Most entries of a user's log that some device has not acknowledged; a full one stops the outboxes that feed it.
    pub stream_max: u64,
    /// Most entries kept for an account that has no device yet; a full one stops the outboxes that feed it.
    pub pending_max: u64,
    /// Most members of a group.
    pub group_max: u64,
    /// How long a code for a sign-up can be used, in milliseconds of log time.
    pub code_ms: u64,
    /// Most items for unknown accounts that are kept; the oldest go first. All are counted.
    pub dead_letters_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dedup_ms: 24 * 60 * 60 * 1000,
            outbox_max: 1_000_000,
            stream_max: 1_000_000,
            pending_max: 10_000,
            group_max: GROUP_MEMBERS_MAX,
            code_ms: 10 * 60 * 1000,
            dead_letters_max: 10_000,
        }
    }
}

/// The state of one shard on one node.
///
/// What is applied is kept in memory and in unsynced pages until [`Machine::checkpoint`]: after a crash the machine
/// opens at its last checkpoint, and the log above it is applied again. So the log may only be released below what
/// `checkpoint` returned.
#[derive(Debug)]
pub struct Machine {
    pub(super) db: Database,
    pub(super) meta: Meta,
    settings: Settings,
    #[cfg(any(test, feature = "plants"))]
    pub(super) plant: Option<super::Plant>,
}

impl Machine {
    /// Opens the state of `shard`, of `shards`, in `db`; an empty database becomes an empty shard.
    ///
    /// # Errors
    /// When the database fails, or holds another shard, another number of shards or another format.
    pub fn open(db: Database, shard: u32, shards: u32) -> Result<Self, ChatError> {
        Self::open_with(db, shard, shards, Settings::default())
    }

    /// [`Machine::open`] with other settings.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn open_with(db: Database, shard: u32, shards: u32, settings: Settings) -> Result<Self, ChatError> {
        if !(1..=SHARDS_MAX).contains(&shards) || shard >= shards {
            return Err(ChatError::Foreign {
                what: "the shard's number",
                found: u64::from(shard),
                wanted: u64::from(shards.min(SHARDS_MAX)).saturating_sub(1),
            });
        }
        let meta = match stored_meta(&db)? {
            Some(meta) => meta,
            None => create(&db, shard, shards)?,
        };
        check_home(&meta, shard, shards)?;
        Ok(Self {
            db,
            meta,
            settings,
            #[cfg(any(test, feature = "plants"))]
            plant: None,
        })
    }

    /// The last applied index and its term; (0, 0) when nothing was applied.
    #[must_use]
    pub const fn applied(&self) -> (u64, u64) {
        (self.meta.applied_index, self.meta.applied_term)
    }

    /// The version of the protocol that the log has turned to.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.meta.version.max(1)
    }

    /// The shard's number.
    #[must_use]
    pub const fn shard(&self) -> u32 {
        self.meta.shard
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u32 {
        self.meta.shards
    }

    /// Makes this machine misbehave, or behave again. All replicas of a shard must be given the same plant at the same
    /// index, or they differ.
    #[cfg(any(test, feature = "plants"))]
    pub const fn set_plant(&mut self, plant: Option<super::Plant>) {
        self.plant = plant;
    }

    /// Applies committed entries, which must follow the applied index without gaps, in one transaction that is not yet
    /// durable: all of them, or none.
    ///
    /// # Errors
    /// When the entries do not follow, or the database fails or is damaged. After a database failure the machine must
    /// not be used again.
    pub fn apply(&mut self, entries: &[Committed]) -> Result<Applied, ChatError> {
        if entries.is_empty() {
            return Ok(Applied::default());
        }
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::None)?;
        let (meta, applied) = {
            let mut applier = Applier {
                table: txn.open_table(TABLE)?,
                meta: self.meta,
                settings: self.settings,
                applied: Applied::default(),
                #[cfg(any(test, feature = "plants"))]
                plant: self.plant,
            };
            for entry in entries {
                applier.entry(entry)?;
            }
            store::put(&mut applier.table, &Key::meta(), &applier.meta)?;
            (applier.meta, applier.applied)
        };
        txn.commit()?;
        self.meta = meta;
        Ok(applied)
    }

    /// Makes everything applied durable; returns the applied index, below which the log is no longer needed for this.
    /// Call it regularly: pages freed since the last checkpoint are only then used again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn checkpoint(&mut self) -> Result<u64, ChatError> {
        durable(&self.db)?.commit()?;
        Ok(self.meta.applied_index)
    }
}

/// A transaction whose commit is durable, together with all before it, and from which reopening is quick.
pub(super) fn durable(db: &Database) -> Result<redb::WriteTransaction, ChatError> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Refuses a state that belongs elsewhere.
pub(super) fn check_home(meta: &Meta, shard: u32, shards: u32) -> Result<(), ChatError> {
    for (what, found, wanted) in [
        ("the format", meta.format, FORMAT),
        ("the shard's number", meta.shard, shard),
        ("the number of shards", meta.shards, shards),
    ] {
        if found != wanted {
            return Err(ChatError::Foreign {
                what,
                found: u64::from(found),
                wanted: u64::from(wanted),
            });
        }
    }
    Ok(())
}

fn stored_meta(db: &Database) -> Result<Option<Meta>, ChatError> {
    let txn = db.begin_read()?;
    match txn.open_table(TABLE) {
        Ok(table) => match store::get(&table, &Key::meta())? {
            Some(meta) => Ok(Some(meta)),
            None => Err(store::damaged(Key::meta().bytes(), "the shard's counters are missing")),
        },
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create(db: &Database, shard: u32, shards: u32) -> Result<Meta, ChatError> {
    let meta = Meta {
        format: FORMAT,
        shard,
        shards,
        ..Meta::default()
    };
    let txn = durable(db)?;
    store::put(&mut txn.open_table(TABLE)?, &Key::meta(), &meta)?;
    txn.commit()?;
    Ok(meta)
}
