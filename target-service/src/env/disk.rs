//! The disk seam: files below one root, written and synced explicitly.
//!
//! Nothing is durable until it is synced: a file's bytes by [`DiskFile::sync`], its name by [`Disk::sync_dir`] on the
//! directory that holds it. The simulated disk ([`super::SimDisk`]) takes both by their word.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("{op} {file}: {source}")]
pub struct DiskError {
    /// The operation, as a verb.
    pub op: &'static str,
    /// The file or directory, below the disk's root.
    pub file: String,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(op: &'static str, file: &str, source: io::Error) -> Self {
        Self {
            op,
            file: file.to_owned(),
            source,
        }
    }

    /// The same failure as an [`io::Error`] that still names the file.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::new(self.source.kind(), self.to_string())
    }
}

/// A result of the disk.
pub type DiskResult<T> = Result<T, DiskError>;

/// A directory tree. Names are relative to its root, with `/` between their parts; the root itself is `""`.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Creates an empty file, or empties the one of that name.
    fn create(&self, name: &str) -> DiskResult<Box<dyn DiskFile>>;
    /// Opens a file that exists, to read and write.
    fn open(&self, name: &str) -> DiskResult<Box<dyn DiskFile>>;
    /// Whether a file of that name exists.
    fn exists(&self, name: &str) -> DiskResult<bool>;
    /// Gives a file another name, replacing a file that had it. Durable after a sync of the directories of both.
    fn rename(&self, from: &str, to: &str) -> DiskResult<()>;
    /// Removes a file. Durable after a sync of its directory.
    fn remove(&self, name: &str) -> DiskResult<()>;
    /// The names of the files directly in `dir`, without the path, sorted.
    fn list(&self, dir: &str) -> DiskResult<Vec<String>>;
    /// Makes a directory and those above it. Does nothing if it exists.
    fn create_dir(&self, dir: &str) -> DiskResult<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &str) -> DiskResult<()>;
}

/// An open file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Writes `bytes` at the end.
    fn append(&self, bytes: &[u8]) -> DiskResult<()>;
    /// Writes `bytes` at `offset`; a gap behind the end reads as zeros.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()>;
    /// Fills `buf` from `offset`, or fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<()>;
    /// The length.
    fn len(&self) -> DiskResult<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> DiskResult<bool> {
        Ok(self.len()? == 0)
    }
    /// Sets the length, cutting off or filling with zeros.
    fn truncate(&self, len: u64) -> DiskResult<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self) -> DiskResult<()>;
}

/// Reads a whole file.
pub(crate) fn read_all(file: &dyn DiskFile) -> DiskResult<Vec<u8>> {
    let len = file.len()?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Replaces a whole file, durably: after a crash there is the old one or the new one.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> DiskResult<()> {
    let unfinished = format!("{name}.new");
    let file = disk.create(&unfinished)?;
    file.append(bytes)?;
    file.sync()?;
    disk.rename(&unfinished, name)?;
    disk.sync_dir(parent(name))
}

/// The directory part of a name; `""` is the root.
pub(crate) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The host's file system below one folder, which one process at a time may hold.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    _lock: File,
}

impl RealDisk {
    /// Takes the folder `root`, creating it if need be.
    ///
    /// # Errors
    /// When the folder can not be made, or another process holds it.
    pub fn open(root: impl AsRef<Path>) -> DiskResult<Self> {
        let root = root.as_ref().to_owned();
        let shown = root.display().to_string();
        fs::create_dir_all(&root).map_err(|e| DiskError::new("create directory", &shown, e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("LOCK"))
            .map_err(|e| DiskError::new("open lock of", &shown, e))?;
        lock.try_lock().map_err(|e| {
            let source = io::Error::other(format!(
                "{e}; another process uses this data folder: stop it, or give this node a folder of its own"
            ));
            DiskError::new("lock", &shown, source)
        })?;
        Ok(Self { root, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn file(&self, op: &'static str, name: &str, options: &OpenOptions) -> DiskResult<Box<dyn DiskFile>> {
        let file = options
            .open(self.root.join(name))
            .map_err(|e| DiskError::new(op, name, e))?;
        Ok(Box::new(RealFile {
            name: name.to_owned(),
            file,
        }))
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        self.file("create", name, &options)
    }

    fn open(&self, name: &str) -> DiskResult<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        self.file("open", name, &options)
    }

    fn exists(&self, name: &str) -> DiskResult<bool> {
        self.root
            .join(name)
            .try_exists()
            .map_err(|e| DiskError::new("look for", name, e))
    }

    fn rename(&self, from: &str, to: &str) -> DiskResult<()> {
        fs::rename(self.root.join(from), self.root.join(to)).map_err(|e| DiskError::new("rename", from, e))
    }

    fn remove(&self, name: &str) -> DiskResult<()> {
        fs::remove_file(self.root.join(name)).map_err(|e| DiskError::new("remove", name, e))
    }

    fn list(&self, dir: &str) -> DiskResult<Vec<String>> {
        let wrap = |e| DiskError::new("list", dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir)).map_err(wrap)? {
            let entry = entry.map_err(wrap)?;
            if entry.file_type().map_err(wrap)?.is_file() {
                let name = entry.file_name().into_string().map_err(|name| {
                    let source = io::Error::new(io::ErrorKind::InvalidData, format!("{name:?} is not UTF-8"));
                    DiskError::new("list", dir, source)
                })?;
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> DiskResult<()> {
        fs::create_dir_all(self.root.join(dir)).map_err(|e| DiskError::new("create directory", dir, e))
    }

    fn sync_dir(&self, dir: &str) -> DiskResult<()> {
        File::open(self.root.join(dir))
            .and_then(|d| d.sync_all())
            .map_err(|e| DiskError::new("sync directory", dir, e))
    }
}

#[derive(Debug)]
struct RealFile {
    name: String,
    file: File,
}

impl DiskFile for RealFile {
    fn append(&self, bytes: &[u8]) -> DiskResult<()> {
        let end = self.len()?;
        self.file
            .write_all_at(bytes, end)
            .map_err(|e| DiskError::new("append to", &self.name, e))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> DiskResult<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| DiskError::new("write", &self.name, e))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> DiskResult<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| DiskError::new("read", &self.name, e))
    }

    fn len(&self) -> DiskResult<u64> {
        let meta = self
            .file
            .metadata()
            .map_err(|e| DiskError::new("stat", &self.name, e))?;
        Ok(meta.len())
    }

    fn truncate(&self, len: u64) -> DiskResult<()> {
        self.file
            .set_len(len)
            .map_err(|e| DiskError::new("truncate", &self.name, e))
    }

    fn sync(&self) -> DiskResult<()> {
        self.file.sync_data().map_err(|e| DiskError::new("sync", &self.name, e))
    }
}
