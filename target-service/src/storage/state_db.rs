//! A shard's state database: redb over the disk seam.
//!
//! The state machine commits without durability as it applies, and makes a durable checkpoint now and then. After a
//! crash or a power loss the database is that of the last checkpoint; the log has everything since. Checkpoints save
//! the allocator's state (redb's quick-repair), so that opening after a crash doesn't walk the file.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redb::{Database, Durability, StorageBackend, WriteTransaction};

use super::StorageError;
use crate::env::{Disk, DiskError, DiskFile, parent};

/// Pages that redb keeps in memory for each shard, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// The database of one shard.
pub struct StateDb {
    db: Database,
    disk: Arc<dyn Disk>,
    name: String,
}

impl fmt::Debug for StateDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDb")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl StateDb {
    /// Opens the database in the file `name`, or starts an empty one.
    ///
    /// # Errors
    /// When the disk fails, or the file is no sound database.
    pub fn open(disk: Arc<dyn Disk>, name: &str) -> Result<Self, StorageError> {
        if !parent(name).is_empty() {
            disk.create_dir(parent(name))?;
        }
        if !disk.exists(name)? {
            // A half-made database would be refused as damaged ever after: make it whole, then give it its name.
            drop(open_file(&*disk, name, &unfinished(name), Start::Empty)?);
            publish(&*disk, name)?;
        }
        Ok(Self {
            db: guarded(name, || open_file(&*disk, name, name, Start::AsIs))?,
            disk,
            name: name.to_owned(),
        })
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The database alone, for an owner that commits and makes checkpoints itself.
    #[must_use]
    pub fn into_database(self) -> Database {
        self.db
    }

    /// Reads the whole database and compares the checksums of all its pages.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when one of them is wrong; [`StorageError::Database`] when the disk fails.
    pub fn verify(&mut self) -> Result<(), StorageError> {
        let (name, db) = (&self.name, &mut self.db);
        guarded(name, || match db.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => Err(StorageError::Damaged {
                file: name.clone(),
                what: "the checksums of its pages do not hold".to_owned(),
            }),
            Err(error) => Err(failed(name, &error.into())),
        })
    }

    /// The file, below the node's data folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a transaction whose commit is cheap and forgotten by a crash, unless a [`checkpoint`](Self::checkpoint)
    /// follows.
    ///
    /// # Errors
    /// When the database fails.
    pub fn begin(&self) -> Result<WriteTransaction, StorageError> {
        let failed = |e: redb::Error| failed(&self.name, &e);
        let mut transaction = self.db.begin_write().map_err(|e| failed(e.into()))?;
        transaction
            .set_durability(Durability::None)
            .map_err(|e| failed(e.into()))?;
        Ok(transaction)
    }

    /// Makes everything committed so far durable.
    ///
    /// # Errors
    /// When the database or its disk fails: what is durable is then unknown, and the node has to end.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        checkpoint(&self.db, &self.name)
    }

    /// Takes the place of this database: an empty one is filled by `fill`, made durable, and only then given the name.
    /// A crash in between leaves the old one. Whatever `fill` commits is durable when this returns.
    ///
    /// # Errors
    /// When `fill` or the disk fails. The old file is then still in place.
    pub fn replace_with<E: From<StorageError>>(self, fill: impl FnOnce(&Self) -> Result<(), E>) -> Result<Self, E> {
        let Self { db, disk, name } = self;
        let unfinished = unfinished(&name);
        let fresh = Self {
            db: open_file(&*disk, &name, &unfinished, Start::Empty)?,
            disk: Arc::clone(&disk),
            name: name.clone(),
        };
        fill(&fresh)?;
        fresh.checkpoint()?;
        drop(fresh);
        // Closed before its file loses the name, so that its last writes can't race with the new one's.
        drop(db);
        publish(&*disk, &name)?;
        Ok(Self::open(disk, &name)?)
    }
}

/// The database panics over some damage. Nothing that it was doing is used again then.
fn guarded<T>(name: &str, open: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(StorageError::Damaged {
            file: name.to_owned(),
            what: format!("the database can't read it: {}", words.unwrap_or_default()),
        })
    })
}

fn unfinished(name: &str) -> String {
    format!("{name}.new")
}

fn publish(disk: &dyn Disk, name: &str) -> Result<(), StorageError> {
    // Closing wrote to it once more.
    disk.open(&unfinished(name))?.sync()?;
    disk.rename(&unfinished(name), name)?;
    disk.sync_dir(parent(name))?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Empty,
    AsIs,
}

fn open_file(disk: &dyn Disk, name: &str, file: &str, start: Start) -> Result<Database, StorageError> {
    let file = match start {
        Start::Empty => disk.create(file)?,
        Start::AsIs => disk.open(file)?,
    };
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Backend { file })
        .map_err(|e| failed(name, &e.into()))?;
    if start == Start::Empty {
        checkpoint(&db, name)?;
    }
    Ok(db)
}

fn checkpoint(db: &Database, name: &str) -> Result<(), StorageError> {
    let failed = |e: redb::Error| failed(name, &e);
    let mut transaction = db.begin_write().map_err(|e| failed(e.into()))?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(|e| failed(e.into()))?;
    transaction.set_quick_repair(true);
    transaction.commit().map_err(|e| failed(e.into()))
}

fn failed(file: &str, error: &redb::Error) -> StorageError {
    let (file, cause) = (file.to_owned(), error.to_string());
    if is_damage(error) {
        StorageError::Damaged { file, what: cause }
    } else {
        StorageError::Database { file, cause }
    }
}

/// Whether the database found its file to be other than it wrote it, rather than the disk to fail.
pub(crate) fn is_damage(error: &redb::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::Corrupted(_) => true,
        redb::Error::Io(error) => matches!(error.kind(), InvalidData | UnexpectedEof),
        _ => false,
    }
}

#[derive(Debug)]
struct Backend {
    file: Box<dyn DiskFile>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len().map_err(DiskError::into_io)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out).map_err(DiskError::into_io)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len).map_err(DiskError::into_io)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync().map_err(DiskError::into_io)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data).map_err(DiskError::into_io)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

    use super::*;
    use crate::env::{RealDisk, SimDisk, Streams};

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("t");

    fn put(db: &StateDb, key: u64, value: &[u8]) {
        let transaction = db.begin().unwrap();
        transaction.open_table(TABLE).unwrap().insert(key, value).unwrap();
        transaction.commit().unwrap();
    }

    fn keys(db: &StateDb) -> Vec<u64> {
        let transaction = db.database().begin_read().unwrap();
        match transaction.open_table(TABLE) {
            Ok(table) => table.iter().unwrap().map(|row| row.unwrap().0.value()).collect(),
            Err(_) => Vec::new(),
        }
    }

    fn sim(disk: &SimDisk) -> Arc<dyn Disk> {
        Arc::new(disk.attach())
    }

    #[test]
    fn a_closed_database_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let disks: [Arc<dyn Disk>; 2] = [Arc::new(RealDisk::open(dir.path()).unwrap()), Arc::new(SimDisk::new())];
        for disk in disks {
            let db = StateDb::open(Arc::clone(&disk), "shards/0.redb").unwrap();
            put(&db, 1, b"one");
            drop(db);
            let db = StateDb::open(disk, "shards/0.redb").unwrap();
            assert_eq!(keys(&db), [1]);
        }
    }

    #[test]
    fn a_replacement_shows_whole_or_not_at_all() {
        let disk = SimDisk::new();
        let db = StateDb::open(sim(&disk), "s").unwrap();
        put(&db, 1, b"old");
        db.checkpoint().unwrap();
        let refused = db.replace_with(|fresh| {
            put(fresh, 2, b"new");
            Err(StorageError::Misuse {
                shard: 0,
                what: "half a snapshot".to_owned(),
            })
        });
        assert!(refused.is_err());
        let db = StateDb::open(sim(&disk), "s").unwrap();
        assert_eq!(keys(&db), [1]);
        let db = db
            .replace_with(|fresh| {
                put(fresh, 2, b"new");
                Ok::<_, StorageError>(())
            })
            .unwrap();
        assert_eq!(keys(&db), [2]);
        disk.power_loss(&mut Streams::new(5).stream("power"));
        drop(db);
        assert_eq!(keys(&StateDb::open(sim(&disk), "s").unwrap()), [2]);
    }

    #[test]
    fn a_failed_sync_is_an_error() {
        let disk = SimDisk::new();
        let db = StateDb::open(sim(&disk), "s").unwrap();
        put(&db, 1, b"one");
        disk.fail_next_sync("s");
        let error = db.checkpoint().unwrap_err();
        assert!(
            matches!(&error, StorageError::Database { file, .. } if file == "s"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// After a power loss at any point, the database is as of the last checkpoint, whatever was half written.
        #[test]
        fn power_loss_goes_back_to_the_checkpoint(
            steps in proptest::collection::vec((0u64..400, 0usize..3000, 0u8..8), 1..60),
            seed: u64,
        ) {
            let disk = SimDisk::new();
            let mut rng = Streams::new(seed).stream("power");
            let mut db = StateDb::open(sim(&disk), "s").unwrap();
            let (mut durable, mut live) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for (key, size, action) in steps {
                put(&db, key, &vec![7; size]);
                live.insert(key);
                match action {
                    0 | 1 => {
                        db.checkpoint().unwrap();
                        durable.clone_from(&live);
                    }
                    2 => {
                        disk.power_loss(&mut rng);
                        drop(db);
                        db = StateDb::open(sim(&disk), "s").unwrap();
                        prop_assert_eq!(keys(&db), durable.iter().copied().collect::<Vec<_>>());
                        live.clone_from(&durable);
                    }
                    _ => {}
                }
            }
        }
    }
}
