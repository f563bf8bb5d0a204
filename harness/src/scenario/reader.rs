//! From the bytes of a file to a scenario that may be planned.
//!
//! Strict: unknown and doubled keys, YAML beyond one document, and anything past a bound are refused, each with its
//! place. Nothing is read twice and nothing is guessed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_saphyr::Options;

use super::error::ScenarioError;
use super::model::Scenario;
use super::rules::Context;

/// The largest scenario file, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// A scenario and the file that it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The scenario.
    pub scenario: Scenario,
    /// The file's name, as it was given.
    pub path: String,
    /// The file's text.
    pub text: String,
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_events: 100_000,
            max_nodes: 50_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            max_total_scalar_bytes: BYTES_MAX,
            max_merge_keys: 0,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        // Errors carry their own excerpt.
        with_snippet: false,
    }
}

/// Reads the scenario in `text`. `path` is what the file is called in messages.
///
/// # Errors
/// All that is wrong with it, with line and column.
pub fn read(path: &str, text: &str) -> Result<Loaded, ScenarioError> {
    if text.len() > BYTES_MAX {
        return Err(ScenarioError::of_file(
            path,
            format!("{} bytes are more than a scenario may have ({BYTES_MAX})", text.len()),
            "split it in several files",
        ));
    }
    let wrong = |error: serde_saphyr::Error| ScenarioError::of_yaml(path, text, &error);
    // Once without types: provenance points at values by their paths, and those are checked against what is there.
    let value = serde_saphyr::from_str_with_options(text, options()).map_err(wrong)?;
    let context = Context { value };
    let scenario = serde_saphyr::from_str_with_options_context_valid(text, options(), &context).map_err(wrong)?;
    Ok(Loaded {
        scenario,
        path: path.to_owned(),
        text: text.to_owned(),
    })
}

/// Reads the scenario in a file.
///
/// # Errors
/// When the file can't be read, and all that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, ScenarioError> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| {
        ScenarioError::of_file(
            &name,
            format!("failed to read the file: {error}"),
            "see `firedrill list scenarios`",
        )
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that is too large is told from one that just fits.
    file.take(BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    read_bytes(&name, bytes)
}

fn read_bytes(name: &str, bytes: Vec<u8>) -> Result<Loaded, ScenarioError> {
    match String::from_utf8(bytes) {
        Ok(text) => read(name, &text),
        Err(error) => Err(ScenarioError::of_file(
            name,
            format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1),
            "a scenario is a text file in UTF-8",
        )),
    }
}

/// Takes any bytes for a scenario file; for fuzzing. Panics only when the reader does.
#[doc(hidden)]
pub fn fuzz_load(bytes: &[u8]) {
    if let Err(error) = read_bytes("fuzz.yaml", bytes.to_vec()) {
        assert!(!error.problems.is_empty(), "an error says what is wrong");
        let _ = (error.to_string(), error.render(false));
    }
}
