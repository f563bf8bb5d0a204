//! A figure with its error bound.

use serde::{Serialize, Serializer};

use crate::base::Nanos;

/// No figure claims to be finer than this, in ms: taking a time and writing it down costs about as much.
const BOUND_MS_MIN: f64 = 0.1;

/// A measured figure, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// It does not apply.
    None,
    /// A value and its error bound, in the same unit, both as they may be printed.
    Value {
        /// The value, rounded to its bound.
        value: f64,
        /// The true value is within this of `value`.
        bound: f64,
    },
    /// It did not happen within the run.
    Never,
    /// Too few operations to tell.
    Unresolved,
}

impl Figure {
    /// Milliseconds from `from` to `to`, with a bound in nanoseconds.
    #[must_use]
    pub fn between(from: Nanos, to: Nanos, bound: u64) -> Self {
        Self::millis(crate::base::millis(to.since(from)), Nanos(bound).as_millis_f64())
    }

    /// A value in milliseconds, rounded to its bound; the rounding is part of the bound.
    #[must_use]
    pub fn millis(value: f64, bound: f64) -> Self {
        Self::measured(value, bound, BOUND_MS_MIN)
    }

    /// A value in any unit, rounded to its bound, which is at least `least`; the rounding is part of the bound.
    #[must_use]
    pub(super) fn measured(value: f64, bound: f64, least: f64) -> Self {
        let bound = bound.max(least);
        let step = step_within(bound);
        Self::Value {
            value: tidy((value / step).round() * step),
            bound: tidy(((bound + step / 2.0) * 1000.0).ceil() / 1000.0),
        }
    }

    /// A count, which is exact.
    #[must_use]
    pub const fn count(value: f64) -> Self {
        Self::Value { value, bound: 0.0 }
    }

    /// The value, if there is one.
    #[must_use]
    pub const fn value(&self) -> Option<f64> {
        match self {
            Self::Value { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// The bound, if there is a value.
    #[must_use]
    pub const fn bound(&self) -> Option<f64> {
        match self {
            Self::Value { bound, .. } => Some(*bound),
            _ => None,
        }
    }

    /// As a person reads it: `812 ms`, `3.04 s`, `never`, `–`.
    #[must_use]
    pub fn human(&self) -> String {
        match self {
            Self::None => "–".to_owned(),
            Self::Never => "never".to_owned(),
            Self::Unresolved => "unresolved".to_owned(),
            Self::Value { value, .. } if *value >= 10_000.0 => format!("{:.1} s", value / 1e3),
            Self::Value { value, .. } if *value >= 1000.0 => format!("{:.2} s", value / 1e3),
            Self::Value { value, .. } => format!("{value} ms"),
        }
    }
}

/// The largest of 1, 2, 5 times a power of ten that is not above `bound`.
fn step_within(bound: f64) -> f64 {
    let power = 10f64.powf(bound.log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step <= bound * (1.0 + 1e-9))
        .unwrap_or(power)
}

/// Drops what binary fractions leave behind the decimals that are meant.
fn tidy(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Value { value, .. } => serializer.serialize_f64(*value),
            Self::Never => serializer.serialize_str("never"),
            Self::Unresolved => serializer.serialize_str("unresolved"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_printed_finer_than_its_bound() {
        assert_eq!(Figure::millis(812.345, 3.3).value(), Some(812.0));
        assert_eq!(Figure::millis(812.345, 30.0).value(), Some(820.0));
        assert_eq!(Figure::millis(812.345, 700.0).value(), Some(1000.0));
        assert_eq!(Figure::millis(812.345, 0.0).value(), Some(812.3));
    }

    #[test]
    fn the_words_of_the_contract() {
        let words = serde_json::to_value([
            Figure::None,
            Figure::Never,
            Figure::Unresolved,
            Figure::millis(5.0, 1.0),
        ]);
        assert_eq!(words.unwrap(), serde_json::json!([null, "never", "unresolved", 5.0]));
    }

    proptest! {
        #[test]
        fn rounding_stays_within_the_stated_bound(value in 0.0..1e7f64, bound in 0.0..1e5f64) {
            let Figure::Value { value: printed, bound: stated } = Figure::millis(value, bound) else {
                panic!("a value stays a value")
            };
            prop_assert!(stated >= bound);
            // What was within `bound` of the truth is within `stated` of it after rounding.
            prop_assert!((printed - value).abs() <= stated - bound + 1e-6);
        }
    }
}
