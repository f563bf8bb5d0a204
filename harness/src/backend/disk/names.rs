//! Changes of names that are not durable yet, and which of them an fsync takes along.

use std::{collections::BTreeSet, ffi::OsString};

/// The number of a file or folder.
pub(super) type Ino = u64;
/// The folder that everything is in.
pub(super) const ROOT: Ino = 1;

/// A name in a folder.
pub(super) type Place = (Ino, OsString);

/// One change of names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A file was made.
    File { at: Place, ino: Ino, mode: u32 },
    /// A folder was made.
    Folder { at: Place, ino: Ino, mode: u32 },
    /// A symbolic link was made.
    Symlink { at: Place, ino: Ino, target: OsString },
    /// A file got another name.
    Link { at: Place, ino: Ino },
    /// A file's name was removed.
    Unlink { at: Place, ino: Ino },
    /// An empty folder was removed.
    Rmdir { at: Place, ino: Ino },
    /// A name became another, in place of whatever had that one.
    Rename {
        from: Place,
        to: Place,
        ino: Ino,
        over: Option<Ino>,
    },
}

impl Change {
    /// The files and folders that it concerns.
    fn touches(&self) -> Vec<Ino> {
        match self {
            Self::File { at, ino, .. }
            | Self::Folder { at, ino, .. }
            | Self::Symlink { at, ino, .. }
            | Self::Link { at, ino }
            | Self::Unlink { at, ino }
            | Self::Rmdir { at, ino } => vec![at.0, *ino],
            Self::Rename { from, to, ino, over } => [from.0, to.0, *ino].into_iter().chain(*over).collect(),
        }
    }
}

/// Which of `pending` become durable with `ino`: those that concern it, and whatever an earlier change has in common with
/// one of them, so that no change is durable without what it stands on. Changes that have nothing to do with it may wait.
pub(super) fn with(ino: Ino, pending: &[Change]) -> Vec<bool> {
    let mut touched = BTreeSet::from([ino]);
    let mut taken = vec![false; pending.len()];
    for (change, taken) in pending.iter().zip(&mut taken).rev() {
        let touches = change.touches();
        if touches.iter().any(|ino| touched.contains(ino)) {
            *taken = true;
            touched.extend(touches);
        }
    }
    taken
}

/// Everything that a pending change concerns.
pub(super) fn concerned(pending: &[Change]) -> BTreeSet<Ino> {
    pending.iter().flat_map(Change::touches).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: Ino, ino: Ino) -> Change {
        Change::File {
            at: (folder, format!("f{ino}").into()),
            ino,
            mode: 0o644,
        }
    }

    #[test]
    fn an_fsync_takes_along_what_it_stands_on_and_nothing_else() {
        let folder = |at: Ino, ino: Ino| Change::Folder {
            at: (at, format!("d{ino}").into()),
            ino,
            mode: 0o755,
        };
        // d2 with f3 in it; d4, in d2 as well, with f5 in it; then f6 beside f3.
        let pending = [folder(ROOT, 2), file(2, 3), folder(2, 4), file(4, 5), file(2, 6)];
        assert_eq!(with(3, &pending), [true, true, false, false, false]);
        assert_eq!(with(5, &pending), [true, true, true, true, false]);
        assert_eq!(with(ROOT, &pending), [true, false, false, false, false]);
        assert_eq!(with(2, &pending), [true, true, true, false, true]);
        assert_eq!(with(99, &pending), [false; 5]);
    }

    #[test]
    fn a_rename_over_ties_both_together() {
        let rename = Change::Rename {
            from: (2, "new".into()),
            to: (3, "old".into()),
            ino: 5,
            over: Some(4),
        };
        let pending = [file(3, 4), file(2, 5), rename, file(7, 8)];
        for ino in [2, 3, 4, 5] {
            assert!(with(ino, &pending)[2], "{ino}");
        }
        assert_eq!(with(3, &pending), [true, true, true, false]);
    }
}
