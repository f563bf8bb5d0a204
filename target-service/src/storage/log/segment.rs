//! A segment's name, header and reading.

use super::frame::{self, Frame};
use crate::storage::StorageError;

/// Bytes of a segment before its prelude.
pub(super) const HEADER: usize = 32;

const MAGIC: [u8; 8] = *b"chat-wal";
const VERSION: u32 = 1;
const SUFFIX: &str = ".wal";

/// The suffix of a segment in the making.
pub(super) const UNFINISHED: &str = ".tmp";

/// The name of segment `sequence` below `dir`.
pub(super) fn path(dir: &str, sequence: u64) -> String {
    format!("{dir}/{sequence:012}{SUFFIX}")
}

/// The sequence number that a file's name says, if it is a segment's.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// What a segment says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// The final length of the segment before this one; 0 for the first.
    pub(super) previous_len: u32,
    /// Bytes of frames that were durable before the segment got its name.
    pub(super) prelude_len: u32,
}

impl Header {
    pub(super) fn to_bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        out[20..24].copy_from_slice(&self.previous_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.prelude_len.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or("the header is cut off")?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..8] != MAGIC {
            return Err("this is no log segment".to_owned());
        }
        if crc32c::crc32c(&header[..28]) != word(28) {
            return Err("the header's checksum is wrong".to_owned());
        }
        if word(8) != VERSION {
            return Err(format!(
                "format version {}, but this program reads version {VERSION}",
                word(8)
            ));
        }
        Ok(Self {
            sequence: u64::from(word(12)) | u64::from(word(16)) << 32,
            previous_len: word(20),
            prelude_len: word(24),
        })
    }
}

/// Where a segment ends that may have a torn tail.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) header: Header,
    /// Bytes that are whole; less than the file's length where the tail is torn.
    pub(super) whole_len: usize,
}

/// Reads a segment and hands its frames, with their offsets, to `each`.
///
/// A torn tail is tolerated if this is the `last` segment. Any other damage is an error that names file and offset.
pub(super) fn scan(
    file: &str,
    bytes: &[u8],
    last: bool,
    mut each: impl FnMut(&Frame<'_>) -> Result<(), String>,
) -> Result<Scanned, StorageError> {
    let corrupt = |offset: usize, what: String| StorageError::Corrupt {
        file: file.to_owned(),
        offset: offset as u64,
        what,
    };
    let header = Header::from_bytes(bytes).map_err(|what| corrupt(0, what))?;
    let prelude_end = HEADER + header.prelude_len as usize;
    let mut at = HEADER;
    while at < bytes.len() {
        match frame::read(&bytes[at..]) {
            Ok(frame) => {
                each(&frame).map_err(|what| corrupt(at, what))?;
                at += frame.len;
            }
            Err(what) if !last || at < prelude_end => return Err(corrupt(at, what.to_owned())),
            Err(what) => match witness(bytes, at) {
                Some(witness) => {
                    let what = format!("{what}, and the frame at byte {witness} says that it was durable");
                    return Err(corrupt(at, what));
                }
                None => break,
            },
        }
    }
    if at < prelude_end {
        return Err(corrupt(
            at,
            format!("the segment ends within its prelude of {prelude_end} bytes"),
        ));
    }
    Ok(Scanned { header, whole_len: at })
}

/// The offset of a valid frame behind `damage` that was written when the damaged bytes were durable.
fn witness(bytes: &[u8], damage: usize) -> Option<usize> {
    (damage + 1..bytes.len().saturating_sub(frame::HEADER - 1)).find(|at| {
        // The cheap tests come first: most offsets fail on them, without a checksum.
        let durable = u32::from_le_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]) as usize;
        durable > damage && durable <= *at && frame::read(&bytes[*at..]).is_ok()
    })
}
