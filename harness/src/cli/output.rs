//! Writing to the terminal or a pipe.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a person
    #[default]
    Human,
    /// One JSON value, for programs
    Json,
    /// Workflow commands that GitHub shows at the lines they are about
    Github,
}

/// Writes to standard output. A reader that has gone away ends the output, not the program.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a line to standard error.
pub(super) fn note(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// Writes a value as indented JSON to standard output.
pub(super) fn out_json(value: &impl serde::Serialize) {
    // Our own values always write.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    out(&(text + "\n"));
}

/// Whether standard error is a terminal that wants colour.
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// One line of a workflow command: `level` is error, warning or notice.
pub(super) fn github(level: &str, path: &str, line: u64, column: u64, text: &str) -> String {
    // The escapes that the runner undoes.
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let place = if line > 0 {
        format!(",line={line},col={column}")
    } else {
        String::new()
    };
    format!("::{level} file={}{place}::{}\n", property(path), escape(text))
}
