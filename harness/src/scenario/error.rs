//! What is wrong with a scenario file: line, column, the value and the remedy.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_saphyr::{Error as YamlError, Location};

use super::paths::Segment;
use crate::base::did_you_mean;

/// A scenario file that can't be used.
#[derive(Debug)]
pub struct ScenarioError {
    /// The file's name, as it was given.
    pub path: String,
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: u64,
    /// Column in characters, from 1; 0 when it is about the file as a whole.
    pub column: u64,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where in the text, in bytes.
    span: Option<(usize, usize)>,
    source: Arc<NamedSource<String>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.map(|_| &*self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (offset, length) = self.span?;
        Some(Box::new(std::iter::once(LabeledSpan::new(
            Some("here".to_owned()),
            offset,
            length,
        ))))
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.path)?;
            if problem.line > 0 {
                write!(f, ":{}:{}", problem.line, problem.column)?;
            }
            write!(f, ": {}", problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

impl ScenarioError {
    /// Something about the file as a whole.
    pub(super) fn of_file(path: &str, message: impl Into<String>, help: &str) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            message: message.into(),
            help: Some(help.to_owned()),
            span: None,
            source: Arc::new(NamedSource::new(path, String::new())),
        };
        Self {
            path: path.to_owned(),
            problems: vec![problem],
        }
    }

    /// From what the YAML reader found.
    pub(super) fn of_yaml(path: &str, text: &str, error: &YamlError) -> Self {
        let source = Arc::new(NamedSource::new(path, text.to_owned()));
        let mut problems = Vec::new();
        collect(error, None, &mut |location, message, help| {
            let span = location.and_then(|location| span(text, location));
            problems.push(Problem {
                line: location.map_or(0, |location| location.line()),
                column: location.map_or(0, |location| location.column()),
                message,
                help,
                span,
                source: Arc::clone(&source),
            });
        });
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self {
            path: path.to_owned(),
            problems,
        }
    }

    /// For a person: each problem with the lines around it.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
        let mut out = String::new();
        for problem in &self.problems {
            // A report that can't be drawn is still said in one line.
            if problem.span.is_none() || handler.render_report(&mut out, problem).is_err() {
                out.push_str(
                    &Self {
                        path: self.path.clone(),
                        problems: vec![problem.clone()],
                    }
                    .to_string(),
                );
                out.push('\n');
            }
        }
        out
    }
}

/// Reports each thing that an error of the YAML reader says, with where it stands.
fn collect(error: &YamlError, outer: Option<Location>, add: &mut dyn FnMut(Option<Location>, String, Option<String>)) {
    let error = error.without_snippet();
    let here = error
        .location()
        .filter(|location| *location != Location::UNKNOWN)
        .or(outer);
    match error {
        YamlError::ValidationError { issues, locations, .. } => {
            for issue in issues {
                let segments: Vec<Segment> = issue
                    .path
                    .segments()
                    .map(|(kind, name)| match kind {
                        serde_saphyr::path_map::PathKind::Index => Segment::Index(name.parse().unwrap_or(0)),
                        serde_saphyr::path_map::PathKind::Key => Segment::Key(name.to_owned()),
                    })
                    .collect();
                // A value that is not there is shown at the closest thing around it that is.
                let location = (0..=segments.len()).rev().find_map(|length| {
                    let path =
                        segments[..length]
                            .iter()
                            .fold(serde_saphyr::path_map::PathKey::new(), |path, segment| match segment {
                                Segment::Key(key) => path.join_key(key),
                                Segment::Index(index) => path.join_index(*index),
                            });
                    locations.locations_for(&path).map(|found| found.reference_location)
                });
                let text = issue.message.clone().unwrap_or_else(|| issue.code.clone());
                let (message, help) = split(&text);
                add(location.or(here), message, help);
            }
        }
        YamlError::ValidationErrors { errors, .. } => {
            for error in errors {
                collect(error, here, add);
            }
        }
        YamlError::AliasError { error, .. } => collect(error, here, add),
        YamlError::SerdeUnknownField { field, expected, .. } => add(
            here,
            format!("unknown key `{field}`"),
            Some(did_you_mean(field, expected.iter().copied())),
        ),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => add(
            here,
            format!("unknown value `{variant}`"),
            Some(did_you_mean(variant, expected.iter().copied())),
        ),
        YamlError::SerdeMissingField { field, .. } => {
            add(
                here,
                format!("`{field}` is missing"),
                Some(format!("add `{field}: ...`")),
            );
        }
        YamlError::DuplicateMappingKey { key, .. } => add(
            here,
            key.as_ref().map_or_else(
                || "a key is given twice".to_owned(),
                |key| format!("`{key}` is given twice"),
            ),
            Some("keep one of them".to_owned()),
        ),
        YamlError::SerdeInvalidType {
            unexpected, expected, ..
        } => {
            add(here, format!("{unexpected} where {expected} is expected"), None);
        }
        YamlError::SerdeInvalidValue {
            unexpected, expected, ..
        } => {
            add(
                here,
                format!("{unexpected} does not fit"),
                Some(format!("write {expected}")),
            );
        }
        YamlError::Message { msg, .. } | YamlError::SerdeVariantId { msg, .. } => {
            let (message, help) = split(msg);
            add(here, message, help);
        }
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => add(
            here,
            format!(
                "larger, deeper or with more aliases than a scenario may be ({})",
                plain(error)
            ),
            Some("write it out plainly, without aliases, or split it in several files".to_owned()),
        ),
        other => add(here, plain(other), None),
    }
}

/// A message of the form `what is wrong; what to do` or `what is wrong: what to do`, taken apart.
fn split(text: &str) -> (String, Option<String>) {
    match text.rsplit_once("; ") {
        Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// The reader's own words, without the position that is said elsewhere, on one line and of bounded length.
fn plain(error: &YamlError) -> String {
    let text = error.to_string();
    let line: String = text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    match line.rfind(" at line ") {
        Some(end) => line[..end].to_owned(),
        None => line,
    }
}

/// The longest line that is shown around a problem, in bytes.
const EXCERPT_MAX: usize = 400;

/// The bytes that a location covers: at least one, and always inside the text.
fn span(text: &str, location: Location) -> Option<(usize, usize)> {
    let line_start = text
        .split_inclusive('\n')
        .take(usize::try_from(location.line()).ok()?.checked_sub(1)?)
        .map(str::len)
        .sum::<usize>();
    let line = text.get(line_start..)?.lines().next().unwrap_or_default();
    if line.len() > EXCERPT_MAX {
        return None;
    }
    let column = usize::try_from(location.column()).ok()?.saturating_sub(1);
    let within = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    // To the end of the word; a list or map would otherwise be underlined whole.
    let rest = &line[within..];
    let length = rest
        .find([':', ',', ' ', '}', ']'])
        .filter(|length| *length > 0)
        .unwrap_or(rest.len());
    Some((
        line_start + within,
        length.max(1).min(text.len().saturating_sub(line_start + within)),
    ))
}
