//! Reads a history back, bounded, and says so when its tail is torn.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use super::event::{Event, FORMAT, Header};

/// What a reader accepts, so that no file exhausts memory.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Longest record, in bytes.
    pub record_bytes: u64,
    /// Most bytes of the whole history, uncompressed.
    pub total_bytes: u64,
    /// Most events.
    pub events: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            record_bytes: 64 << 20,
            total_bytes: 8 << 30,
            events: 20_000_000,
        }
    }
}

/// A whole history in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What was planned.
    pub header: Header,
    /// What happened, in the order in which it was written.
    pub events: Vec<Event>,
    /// In words, where the file was cut off; none when it ended as written.
    pub torn: Option<String>,
}

/// Why a history could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be opened, written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not a history of a version that this build reads.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        problem: String,
    },
}

/// Reads the history at `path`.
///
/// # Errors
/// When the file can't be read, isn't a history, is of a later version, is corrupt before its tail, or is beyond
/// the default [`ReadLimits`].
pub fn read(path: &Path) -> Result<Recorded, HistoryError> {
    let io = |source| HistoryError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    read_from(file, ReadLimits::default()).map_err(|problem| HistoryError::Malformed {
        path: path.to_owned(),
        problem,
    })
}

/// Reads the header of the history at `path`, and nothing behind it.
///
/// # Errors
/// As [`read`], for the header.
pub fn read_header(path: &Path) -> Result<Header, HistoryError> {
    let io = |source| HistoryError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let header = Lines::over(file, ReadLimits::default()).and_then(|mut lines| lines.header());
    header.map_err(|problem| HistoryError::Malformed {
        path: path.to_owned(),
        problem,
    })
}

/// Reads a history from compressed bytes. What is wrong comes back in words.
///
/// # Errors
/// As [`read`].
pub fn read_from(compressed: impl Read, limits: ReadLimits) -> Result<Recorded, String> {
    let mut lines = Lines::over(compressed, limits)?;
    let header = lines.header()?;
    let mut events = Vec::new();
    let torn = loop {
        match lines.next()? {
            Line::Whole if events.len() >= limits.events => {
                return Err(format!("more than {} events", limits.events));
            }
            Line::Whole => events.push(
                serde_json::from_slice(&lines.line)
                    .map_err(|e| format!("record {}: not an event: {e}", lines.number))?,
            ),
            Line::End => break None,
            Line::Torn(why) => {
                break Some(format!(
                    "cut off after record {} ({why}); the {} events before are whole",
                    lines.number,
                    events.len()
                ));
            }
        }
    };
    Ok(Recorded { header, events, torn })
}

fn parse_header(line: &[u8]) -> Result<Header, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: String,
    }
    let version: Version =
        serde_json::from_slice(line).map_err(|e| format!("record 1: not a history's header: {e}"))?;
    if version.format != FORMAT {
        return Err(format!(
            "its format is `{}`, this build reads `{FORMAT}`: use the version of firedrill that wrote it",
            version.format
        ));
    }
    serde_json::from_slice(line).map_err(|e| format!("record 1: not a history's header: {e}"))
}

enum Line {
    Whole,
    End,
    Torn(String),
}

struct Lines<R: io::Read> {
    input: BufReader<R>,
    limits: ReadLimits,
    taken: u64,
    /// Records read whole.
    number: u64,
    line: Vec<u8>,
}

type Decoded<R> = zstd::stream::read::Decoder<'static, BufReader<R>>;

impl<R: io::Read> Lines<Decoded<R>> {
    fn over(compressed: R, limits: ReadLimits) -> Result<Self, String> {
        let decoder = zstd::stream::read::Decoder::new(compressed).map_err(|e| format!("not a zstd stream: {e}"))?;
        Ok(Self {
            input: BufReader::with_capacity(256 * 1024, decoder),
            limits,
            taken: 0,
            number: 0,
            line: Vec::new(),
        })
    }
}

impl<R: io::Read> Lines<R> {
    fn header(&mut self) -> Result<Header, String> {
        match self.next()? {
            Line::Whole => parse_header(&self.line),
            Line::End => Err("empty: a history starts with its header".to_owned()),
            Line::Torn(why) => Err(format!("cut off inside its header ({why}): nothing can be judged")),
        }
    }

    /// The next line into `self.line`.
    fn next(&mut self) -> Result<Line, String> {
        self.line.clear();
        let bound = self.limits.record_bytes.min(self.limits.total_bytes - self.taken);
        let outcome = (&mut self.input)
            .take(bound.saturating_add(1))
            .read_until(b'\n', &mut self.line);
        let length = u64::try_from(self.line.len()).unwrap_or(u64::MAX);
        match outcome {
            Ok(_) if length > bound => Err(format!(
                "record {}: beyond the bound of {} bytes a record and {} bytes in all",
                self.number + 1,
                self.limits.record_bytes,
                self.limits.total_bytes
            )),
            Ok(0) => Ok(Line::End),
            Ok(_) if self.line.last() == Some(&b'\n') => {
                self.taken += length;
                self.number += 1;
                Ok(Line::Whole)
            }
            Ok(_) => Ok(Line::Torn("the last record has no end".to_owned())),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Line::Torn("the stream stops early".to_owned())),
            Err(e) => Err(format!("after record {}: corrupt: {e}", self.number)),
        }
    }
}

/// Takes any bytes for a history, compressed or, when they don't begin as a zstd frame does, as the lines inside one. For
/// fuzzing: it must not panic nor take more than its bounds, and what was read must be read again from what is written.
#[doc(hidden)]
pub fn fuzz_read(bytes: &[u8]) {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let limits = ReadLimits {
        record_bytes: 1 << 16,
        total_bytes: 1 << 20,
        events: 1000,
    };
    let pack = |lines: &[u8]| zstd::stream::encode_all(lines, 1).expect("memory takes any bytes");
    let read = if bytes.starts_with(&MAGIC) {
        read_from(bytes, limits)
    } else {
        read_from(pack(bytes).as_slice(), limits)
    };
    let recorded = match read {
        Ok(recorded) => recorded,
        Err(problem) => {
            assert!(!problem.is_empty(), "an error says what is wrong");
            return;
        }
    };
    assert!(recorded.events.len() <= limits.events, "a bound is a bound");
    let mut lines = serde_json::to_vec(&recorded.header).expect("what was read can be written");
    for event in &recorded.events {
        lines.push(b'\n');
        serde_json::to_writer(&mut lines, event).expect("what was read can be written");
    }
    lines.push(b'\n');
    // What is written is not always as short as what was read.
    let again = read_from(pack(&lines).as_slice(), ReadLimits::default()).expect("what was written can be read");
    assert_eq!((again.events.len(), again.torn), (recorded.events.len(), None));
}
