//! The JSON schema of scenario files, generated from the model. Editors complete and check with it.

use serde_json::Value;

use super::model::Scenario;

/// How a scenario file names its schema, relative to the scenarios' folder.
pub const SCHEMA_ID: &str = "scenario.schema.json";

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Scenario);
    schema.insert("title".to_owned(), "firedrill scenario".into());
    schema.into()
}

/// The schema as it is committed: indented, with a line's end.
#[must_use]
pub fn schema_text() -> String {
    // A JSON value always writes.
    let text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text + "\n"
}
