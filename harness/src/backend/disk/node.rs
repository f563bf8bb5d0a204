//! One file, folder or symbolic link, as whoever looks at it sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    content::Content,
    names::{Ino, Place},
};

/// What it is.
#[derive(Debug)]
pub(super) enum Kind {
    Folder {
        entries: BTreeMap<OsString, Ino>,
        parent: Ino,
    },
    File(Content),
    Symlink(OsString),
}

/// Attributes that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attr {
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: SystemTime,
    pub(super) mtime: SystemTime,
    pub(super) ctime: SystemTime,
}

impl Attr {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            atime: since_epoch(meta.atime(), meta.atime_nsec()),
            mtime: since_epoch(meta.mtime(), meta.mtime_nsec()),
            ctime: since_epoch(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Seconds and nanoseconds since 1970; earlier ones are 1970.
pub(super) fn since_epoch(s: i64, ns: i64) -> SystemTime {
    let (s, ns) = (u64::try_from(s).unwrap_or(0), u32::try_from(ns).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::new(s, ns)
}

/// A file, folder or symbolic link.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) attr: Attr,
    /// Whether the attributes are others than below.
    pub(super) attr_changed: bool,
    /// Its names now; of a folder, itself and its folders.
    pub(super) links: u32,
    /// How often the kernel was told of it and has not forgotten.
    pub(super) known: u64,
    /// How often it is open.
    pub(super) open: u64,
    /// Its names below.
    pub(super) places: BTreeSet<Place>,
    /// The file below, while it is open or has no name there.
    pub(super) below: Option<Arc<File>>,
}

impl Node {
    pub(super) const fn new(kind: Kind, attr: Attr) -> Self {
        Self {
            links: if matches!(kind, Kind::Folder { .. }) { 2 } else { 1 },
            kind,
            attr,
            attr_changed: false,
            known: 0,
            open: 0,
            places: BTreeSet::new(),
            below: None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.kind {
            Kind::Folder { .. } => 0,
            Kind::File(content) => content.len(),
            Kind::Symlink(target) => target.len() as u64,
        }
    }

    /// Nothing leads to it any more.
    pub(super) const fn is_dead(&self) -> bool {
        self.links == 0 && self.known == 0 && self.open == 0
    }
}
