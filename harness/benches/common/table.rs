//! Tables in Markdown, aligned for those who read them as they are.

use std::fmt;

/// A table under a title.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row: what it is about, then its cells.
    pub(crate) fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.into()).chain(cells).collect());
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.head.len());
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let rows = self.rows.iter().map(|row| cell(row, column).chars().count());
                rows.chain([cell(&self.head, column).chars().count(), 3])
                    .max()
                    .unwrap_or(3)
            })
            .collect();
        writeln!(f, "**{}**\n", self.title)?;
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for (column, width) in widths.iter().copied().enumerate() {
                let text = cell(row, column);
                match column {
                    0 => write!(f, "| {text:<width$} ")?,
                    _ => write!(f, "| {text:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        for (column, width) in widths.iter().copied().enumerate() {
            match column {
                0 => write!(f, "|{:-<1$}", "", width + 2)?,
                _ => write!(f, "|{:->1$}", ":", width + 2)?,
            }
        }
        writeln!(f, "|")?;
        for row in &self.rows {
            line(f, row)?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}
