//! The small values of a scenario file that carry a unit or a shape of their own.
//!
//! Each reads itself through a visitor, so that an error stands at the value's own line and column.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Writes the serde and schema side of a value that is written as text.
macro_rules! text_value {
    ($type:ident, $expecting:literal, $schema:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": concat!("Write ", $expecting, "."), "pattern": $pattern })
            }
        }
    };
}

/// A name: lower-case letters, digits and dashes, starting with a letter, at most 64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(64).collect();
        Err(format!(
            "`{shown}` is not a name: use lower-case letters, digits and dashes, a letter first, at most 64"
        ))
    }
}

text_value!(Name, "a name such as leader-kill", "Name", "^[a-z][a-z0-9-]{0,63}$");

/// Events per second, written as `300/s`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

/// The highest rate that a scenario may ask for, per second: beyond what one generator sends on time.
pub const RATE_MAX: f64 = 100_000.0;

impl Rate {
    /// Per second.
    #[must_use]
    pub const fn per_s(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", self.0))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{text}` is not a rate: write a number a second, such as 300/s");
        let number = text.trim().strip_suffix("/s").ok_or_else(shape)?.trim_end();
        // Only digits: `parse` alone would let `inf`, `nan` and exponents through.
        if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(shape());
        }
        let rate: f64 = number.parse().map_err(|_| shape())?;
        if rate < 0.001 {
            return Err(format!(
                "`{text}` is too slow to measure anything: write at least 0.001/s"
            ));
        }
        if rate > RATE_MAX {
            return Err(format!(
                "`{text}` is more than one generator sends on time: write at most {RATE_MAX}/s"
            ));
        }
        Ok(Self(rate))
    }
}

text_value!(Rate, "a rate such as 300/s", "Rate", r"^\s*[0-9]+(\.[0-9]+)?\s*/s\s*$");

/// A number of bytes, written as `256B`, `4KiB` or `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// This many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZES
            .iter()
            .rev()
            .filter(|(_, factor)| *factor > 1 && self.0 > 0 && self.0.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor)
            .unwrap_or(&("B", 1));
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{text}` is not a size: write whole bytes with their unit, such as 256B, 4KiB or 1MiB");
        let (number, factor) = SIZES
            .iter()
            .find_map(|(unit, factor)| Some((text.trim().strip_suffix(unit)?.trim_end(), factor)))
            .ok_or_else(shape)?;
        let number: u64 = number.parse().map_err(|_| shape())?;
        number.checked_mul(*factor).map(Self).ok_or_else(shape)
    }
}

text_value!(
    Size,
    "a size such as 256B, 4KiB or 1MiB",
    "Size",
    r"^\s*[0-9]+\s*(B|KiB|MiB|GiB)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_and_write() {
        assert!(("300/s".parse::<Rate>().unwrap().per_s() - 300.0).abs() < 1e-9);
        assert_eq!("0.5 /s".parse::<Rate>().unwrap().to_string(), "0.5/s");
        for (text, bytes, shown) in [
            ("256B", 256, "256B"),
            ("4 KiB", 4096, "4KiB"),
            ("2048B", 2048, "2KiB"),
            ("0B", 0, "0B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
        }
        assert_eq!("a-1".parse::<Name>().unwrap().as_str(), "a-1");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_remedy() {
        for text in ["300", "/s", "-1/s", "inf/s", "1e9/s", "0/s", "999999999/s"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("write"), "{text}");
        }
        for text in ["256", "B", "1.5KiB", "-1B", "99999999999999999999GiB"] {
            assert!(text.parse::<Size>().unwrap_err().contains("write"), "{text}");
        }
        for text in ["", "A", "1a", "a b", "ä", &"a".repeat(65)] {
            assert!(text.parse::<Name>().unwrap_err().contains("use lower-case"), "{text}");
        }
    }
}
