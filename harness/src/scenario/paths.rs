//! Paths to values of a scenario file: `load[0].rate`, `steps`.

use serde_json::Value;

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A key of a map.
    Key(String),
    /// An index of a list.
    Index(usize),
}

/// Takes a path apart; none when it is not one.
pub(super) fn segments(path: &str) -> Option<Vec<Segment>> {
    let mut found = Vec::new();
    for part in path.split('.') {
        let (key, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() {
            return None;
        }
        found.push(Segment::Key(key.to_owned()));
        while let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']')?;
            found.push(Segment::Index(index.parse().ok()?));
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(found)
}

/// The value at a path, if there is one.
pub(super) fn value_at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    segments(path)?.iter().try_fold(root, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(index) => value.get(index),
    })
}

/// The paths of all values that hold a number, as a number or inside a text that begins with one (`300/s`, `< 2s`
/// is not one). Names and sentences are not numbers.
pub fn numbers(root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(root, String::new(), &mut found);
    found
}

fn collect(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(value, below, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(value, format!("{path}[{index}]"), found);
            }
        }
        Value::Number(_) => found.push(path),
        Value::String(text) if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains("  ") => {
            found.push(path)
        }
        _ => {}
    }
}

/// Whether `path` is `of` or lies under it.
#[must_use]
pub fn covers(of: &str, path: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_point_at_values() {
        let root = serde_json::json!({ "load": [{ "rate": "300/s", "send": { "users": 5 } }], "name": "x" });
        assert_eq!(value_at(&root, "load[0].rate").unwrap(), "300/s");
        assert!(value_at(&root, "load[1].rate").is_none());
        for odd in ["", ".", "load[", "load[x]", "load[0]x", "[0]", "load[0]..rate"] {
            assert!(value_at(&root, odd).is_none(), "{odd}");
        }
        assert_eq!(numbers(&root), ["load[0].rate", "load[0].send.users"]);
        assert!(covers("load[0]", "load[0].rate") && covers("load", "load[0].rate") && covers("load", "load"));
        assert!(!covers("load[0].ra", "load[0].rate"));
    }
}
