//! Durations as people write them in a scenario: `500ms`, `2s`, `1m 30s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest duration that a scenario may state: a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A duration written with its unit, at most [`LONGEST`]. It reads and writes as text such as `1m 30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// This many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// This many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The duration itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// In whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl From<HumanDuration> for Duration {
    fn from(value: HumanDuration) -> Self {
        value.0
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text.trim())
            .map_err(|_| format!("`{text}` is not a duration: write a number and its unit, such as 500ms, 2s or 1m"))?;
        if duration > LONGEST {
            return Err(format!(
                "`{text}` is longer than a day: a scenario is compressed to minutes"
            ));
        }
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(format!(
                "`{text}` is finer than a millisecond: write whole milliseconds"
            ));
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Pads as asked, for tables.
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Through a visitor rather than a String, so that an error keeps the scalar's position.
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 500ms, 2s or 1m")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit, such as 500ms, 2s or 1m 30s; at most a day.",
            "pattern": r"^\s*([0-9]+\s*[a-zA-Z]+\s*)+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("2s", 2000),
            ("1m 30s", 90_000),
            (" 1h ", 3_600_000),
            ("0s", 0),
        ] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration.as_millis(), ms, "{text}");
            assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
    }

    #[test]
    fn what_it_refuses_it_names_with_a_remedy() {
        for (text, remedy) in [
            ("5", "its unit"),
            ("", "its unit"),
            ("fast", "its unit"),
            ("-1s", "its unit"),
            ("25h", "a day"),
            ("10us", "whole milliseconds"),
            ("99999999999999999999s", "its unit"),
        ] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert!(error.contains(remedy) && error.contains(text), "{error}");
        }
    }
}
