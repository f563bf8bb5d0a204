//! Puts events on disk: JSON lines in one zstd frame, flushed at least once a second.
//!
//! Each flush ends a zstd block, so that a file cut anywhere can be read up to the last whole record before the cut.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use serde::Serialize;

use super::event::{Event, Header};

/// zstd's level: 1 is fast enough to stay out of the way of what is measured.
const LEVEL: i32 = 1;

/// An open history file.
pub(super) struct Writer {
    encoder: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    line: Vec<u8>,
    written: usize,
}

impl Writer {
    /// Makes the file; refuses to replace one.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let mut encoder = zstd::stream::write::Encoder::new(BufWriter::with_capacity(256 * 1024, file), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            encoder,
            line: Vec::with_capacity(1024),
            written: 0,
        })
    }

    /// Writes the first record.
    pub(super) fn header(&mut self, header: &Header) -> io::Result<()> {
        self.line(header)
    }

    /// Appends one event.
    pub(super) fn append(&mut self, event: &Event) -> io::Result<()> {
        self.line(event)?;
        self.written += 1;
        Ok(())
    }

    /// Events appended.
    pub(super) const fn written(&self) -> usize {
        self.written
    }

    fn line<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)?;
        self.line.push(b'\n');
        self.encoder.write_all(&self.line)
    }

    /// Makes everything appended so far readable by others.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }

    /// Ends the frame and makes the file durable.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut buffer = self.encoder.finish()?;
        buffer.flush()?;
        buffer.get_ref().sync_all()
    }
}
