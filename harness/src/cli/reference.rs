//! The reference of the scenario format, generated from the definitions: `docs/scenarios.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::list::{self, What};
use crate::base::Exit;
use crate::base::expr::{FIGURES, Scope, Unit};
use crate::scenario::{PLANTS, schema};

const HEAD: &str = "\
# Scenario files

Generated from the definitions by `firedrill schema --markdown`; a test compares.

A scenario is one strict YAML document: unknown and doubled keys are refused, with line, column and the remedy.
`firedrill new NAME` writes a commented one to start from, `firedrill validate` checks, `firedrill plan` shows what
would happen when. Durations are written `500ms`, `2s`, `1m 30s`; rates `300/s`; sizes `256B`, `4KiB`. Times of steps
count from the moment the steady state is reached. A step has exactly one verb.
";

/// The whole reference, as Markdown.
pub(super) fn markdown() -> String {
    let mut out = HEAD.to_owned();
    let schema = schema();
    object(&mut out, "The file", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        if definition["properties"].is_object() {
            object(&mut out, name, definition);
        }
    }
    for (title, what) in [
        ("Faults", What::Faults),
        ("Targets", What::Targets),
        ("Kinds of systems", What::Systems),
        ("Backends", What::Backends),
        ("Promises", What::Promises),
    ] {
        let rows: Vec<[String; 3]> = list::rows(what)
            .into_iter()
            .map(|(name, kind, about)| [code(&name), kind, about])
            .collect();
        table(&mut out, title, ["name", "", "what it is"], &rows);
    }
    let figures: Vec<[String; 3]> = FIGURES
        .iter()
        .map(|figure| {
            let unit = match figure.unit {
                Unit::Ratio => "share",
                Unit::Millis => "time",
                Unit::Count => "number",
            };
            let place = match figure.scope {
                Scope::Service => "steady_state, slo",
                Scope::Recovery => "recovery",
            };
            [code(figure.name), format!("{unit}; {place}"), figure.about.to_owned()]
        })
        .collect();
    out += "\nConditions and budgets are `class.figure OP value`, narrowed by a selector: `deliver[zone:europe].drained < 5s`.\n";
    table(&mut out, "Figures", ["name", "unit; where", "what it is"], &figures);
    let plants: Vec<[String; 3]> = PLANTS
        .iter()
        .map(|(name, about)| [code(name), String::new(), (*about).to_owned()])
        .collect();
    table(&mut out, "Plants", ["name", "", "what is wrong with it"], &plants);
    let exits: Vec<[String; 3]> = Exit::ALL
        .iter()
        .map(|exit| [exit.code().to_string(), String::new(), exit.about().to_owned()])
        .collect();
    table(&mut out, "Exit codes", ["code", "", "meaning"], &exits);
    out
}

/// A table of an object's keys.
fn object(out: &mut String, title: &str, definition: &Value) {
    let required: Vec<&str> = definition["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let rows: Vec<[String; 3]> = definition["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let needed = if required.contains(&key.as_str()) {
                "needed; "
            } else {
                ""
            };
            let about = value["description"].as_str().unwrap_or_default().replace('\n', " ");
            [code(key), format!("{needed}{}", shape(value)), about]
        })
        .collect();
    table(out, title, ["key", "", "what it is"], &rows);
}

/// The shape of a value in a few words.
fn shape(value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or(name).to_owned();
    }
    if let Some(list) = value["anyOf"].as_array() {
        let shapes: Vec<String> = list.iter().filter(|value| value["type"] != "null").map(shape).collect();
        return shapes.join(" or ");
    }
    match &value["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", shape(&value["items"])),
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let kinds: Vec<&str> = kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null")
                .collect();
            if kinds == ["array"] {
                format!("list of {}", shape(&value["items"]))
            } else {
                kinds.join(" or ")
            }
        }
        _ => String::new(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table(out: &mut String, title: &str, head: [&str; 3], rows: &[[String; 3]]) {
    // Writing to a String never fails.
    let _ = write!(out, "\n## {title}\n\n| {} |\n|---|---|---|\n", head.join(" | "));
    for row in rows {
        let _ = writeln!(
            out,
            "| {} |",
            row.each_ref().map(|cell| cell.replace('|', "\\|")).join(" | ")
        );
    }
}
