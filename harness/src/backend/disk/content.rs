//! A file's bytes: what is durable below, and on top of it what was written since.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _};

/// Appended bytes are put together into pieces of at most this size.
const PIECE_MAX: usize = 1 << 20;
/// Zeros are written this many at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The bytes of one file, as whoever reads it sees them.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The length now.
    len: u64,
    /// How many of the bytes below still show. What lies beyond is zeros unless it was written since.
    base: u64,
    /// The length below.
    durable: u64,
    /// What was written since, by where it begins. No two overlap, and none reaches beyond `len`.
    pieces: BTreeMap<u64, Piece>,
    /// The bytes that `pieces` hold.
    held: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// This many zeros over bytes below that would show otherwise.
    Zeros(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(count) => *count,
        }
    }

    fn held(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(_) => 0,
        }
    }

    /// Keeps the first `at` and returns the rest.
    fn split_off(&mut self, at: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.split_off(index(at))),
            Self::Zeros(count) => {
                let rest = *count - at;
                *count = at;
                Self::Zeros(rest)
            }
        }
    }
}

/// Lengths of pieces are lengths of vectors.
fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

impl Content {
    /// As it is below.
    pub(super) fn of_len(len: u64) -> Self {
        Self {
            len,
            base: len,
            durable: len,
            ..Self::default()
        }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The bytes that were written and are in memory alone.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// Whether a power loss would take anything from it.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.pieces.is_empty() || self.base != self.durable || self.len != self.durable
    }

    /// Up to `size` bytes from `at` on.
    pub(super) fn read(&self, at: u64, size: usize, below: Option<&File>) -> io::Result<Vec<u8>> {
        let end = self.len.min(at.saturating_add(size as u64));
        if at >= end {
            return Ok(Vec::new());
        }
        let mut out = vec![0; index(end - at)];
        let shown = self.base.min(end);
        if at < shown {
            let below = below.ok_or_else(|| io::Error::other("nothing is below"))?;
            below.read_exact_at(&mut out[..index(shown - at)], at)?;
        }
        let first = self.pieces.range(..=at).next_back().map_or(at, |(from, _)| *from);
        for (from, piece) in self.pieces.range(first..end) {
            let (begin, stop) = ((*from).max(at), (from + piece.len()).min(end));
            if begin >= stop {
                continue;
            }
            let into = &mut out[index(begin - at)..index(stop - at)];
            match piece {
                Piece::Bytes(bytes) => into.copy_from_slice(&bytes[index(begin - from)..index(stop - from)]),
                Piece::Zeros(_) => into.fill(0),
            }
        }
        Ok(out)
    }

    /// Writes `data` at `at`; the caller has seen to it that both together fit.
    pub(super) fn write(&mut self, at: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = at + data.len() as u64;
        if !self.write_into_one(at, data) {
            self.carve(at, end);
            self.put(at, Piece::Bytes(data.to_vec()));
        }
        self.len = self.len.max(end);
    }

    /// Into the piece that holds all of it, or behind the one that ends there; false when there is none.
    fn write_into_one(&mut self, at: u64, data: &[u8]) -> bool {
        let end = at + data.len() as u64;
        let free = self.pieces.range(at..end).next().is_none();
        let Some((from, Piece::Bytes(bytes))) = self.pieces.range_mut(..=at).next_back() else {
            return false;
        };
        let (offset, stop) = (index(at - from), from + bytes.len() as u64);
        if end <= stop {
            bytes[offset..offset + data.len()].copy_from_slice(data);
            return true;
        }
        if at == stop && free && bytes.len() + data.len() <= PIECE_MAX {
            bytes.extend_from_slice(data);
            self.held += data.len() as u64;
            return true;
        }
        false
    }

    /// Makes it `len` long.
    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.carve(len, self.len);
            self.base = self.base.min(len);
        }
        self.len = len;
    }

    /// Makes it at least `len` long.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Makes zeros of what lies in `from..to`, as far as it goes.
    pub(super) fn zero(&mut self, from: u64, to: u64) {
        let to = to.min(self.len);
        if from >= to {
            return;
        }
        self.carve(from, to);
        let shown = to.min(self.base);
        if from < shown {
            self.put(from, Piece::Zeros(shown - from));
        }
    }

    /// Brings everything down to `below`.
    pub(super) fn flush(&mut self, below: &File) -> io::Result<()> {
        self.durable = below.metadata()?.len();
        if self.base < self.durable {
            below.set_len(self.base)?;
            self.durable = self.base;
        }
        for (at, piece) in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => below.write_all_at(bytes, *at)?,
                Piece::Zeros(count) => {
                    for done in (0..*count).step_by(ZEROS.len()) {
                        let size = index((*count - done).min(ZEROS.len() as u64));
                        below.write_all_at(&ZEROS[..size], at + done)?;
                    }
                }
            }
        }
        below.set_len(self.len)?;
        *self = Self::of_len(self.len);
        Ok(())
    }

    fn put(&mut self, at: u64, piece: Piece) {
        self.held += piece.held();
        self.pieces.insert(at, piece);
    }

    /// Takes all pieces out of `from..to`.
    fn carve(&mut self, from: u64, to: u64) {
        if let Some((at, piece)) = self.pieces.range_mut(..from).next_back() {
            let end = at + piece.len();
            if end > from {
                let mut cut = piece.split_off(from - at);
                self.held -= cut.held();
                if end > to {
                    let rest = cut.split_off(to - from);
                    self.put(to, rest);
                }
            }
        }
        let within: Vec<u64> = self.pieces.range(from..to).map(|(at, _)| *at).collect();
        for at in within {
            let Some(mut piece) = self.pieces.remove(&at) else {
                continue;
            };
            self.held -= piece.held();
            if at + piece.len() > to {
                let rest = piece.split_off(to - at);
                self.put(to, rest);
            }
        }
    }
}
