//! A node's output: copied to its log, and watched for the line that says that it is ready.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;

use tokio::sync::oneshot;

/// The longest line looked at; a longer one is copied in pieces.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How much of a log's end an error shows.
const TAIL_BYTES: u64 = 4096;

/// One node's log file, of all its starts.
#[derive(Clone, Debug)]
pub(super) struct NodeLog {
    path: PathBuf,
}

impl NodeLog {
    pub(super) fn new(folder: &Path, node: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            path: folder.join(format!("{node}.log")),
        })
    }

    /// Opens it at its end.
    pub(super) fn append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.path)
    }

    /// How long it is.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// Its end, not before `from`.
    pub(super) fn tail(&self, from: u64) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) if bytes.is_empty() => "(it wrote nothing)".to_owned(),
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("({} can not be read: {error})", self.path.display()),
        }
    }

    /// Copies standard output to the log until it ends; `ready` gets the first line that begins with `prefix`.
    pub(super) fn copy(
        &self,
        output: ChildStdout,
        prefix: Option<String>,
        ready: oneshot::Sender<String>,
    ) -> io::Result<()> {
        let mut log = self.append()?;
        let mut watch = prefix.map(|prefix| (prefix, ready));
        std::thread::Builder::new()
            .name("node-output".to_owned())
            .spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                loop {
                    line.clear();
                    match output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                    // A full disk must not stop the node: its output is still drained.
                    let _ = log.write_all(&line);
                    let text = String::from_utf8_lossy(&line);
                    if let Some((_, ready)) = watch.take_if(|(prefix, _)| text.starts_with(prefix.as_str())) {
                        let _ = ready.send(text.trim_end().to_owned());
                    }
                }
            })?;
        Ok(())
    }
}
