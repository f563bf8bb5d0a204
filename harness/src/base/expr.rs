//! Conditions and budgets: `send.success >= 99.9%`, `deliver[zone:europe].drained < 5s`.
//!
//! ```text
//! expr   := class [ "[" key ":" value { "," key ":" value } "]" ] "." figure op number [ unit ]
//! op     := "<" | "<=" | ">" | ">="
//! ```
//! The selector narrows a figure: `zone:europe` or `cohort:latest` to a group of clients, `system:w` to one of several
//! systems, `fault:2-kill` to one fault, `fault:every` to the worst of all faults. Without it a figure is of all clients and of the run as a whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::duration::HumanDuration;
pub use super::figures::{CLASSES, EVERY_FAULT, FIGURES, Figure, SELECTORS, Scope, Unit, figure_named};
use super::suggest::did_you_mean;

/// The longest expression, in bytes: far beyond any sensible one.
const LENGTH_MAX: usize = 256;

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Op {
    /// Whether `actual op wanted`.
    #[must_use]
    pub fn holds(self, actual: f64, wanted: f64) -> bool {
        match self {
            Self::Less => actual < wanted,
            Self::LessOrEqual => actual <= wanted,
            Self::Greater => actual > wanted,
            Self::GreaterOrEqual => actual >= wanted,
        }
    }
}

/// A parsed condition or budget. It reads and writes as its text.
#[derive(Clone, Debug)]
pub struct Expr {
    /// As written.
    pub text: String,
    /// One of [`CLASSES`].
    pub class: String,
    /// Keys of [`SELECTORS`] and their values.
    pub select: BTreeMap<String, String>,
    /// The figure.
    pub figure: &'static Figure,
    /// How it is compared.
    pub op: Op,
    /// With what: a share from 0 to 1, milliseconds, or a count, as the figure's unit says.
    pub value: f64,
}

impl Expr {
    /// Whether the figure's actual value, in the figure's unit, satisfies it.
    #[must_use]
    pub fn holds(&self, actual: f64) -> bool {
        self.op.holds(actual, self.value)
    }

    /// The group selected, in the words of a recovery row: `all`, or such as `zone:europe`.
    #[must_use]
    pub fn group(&self) -> String {
        ["zone", "cohort"]
            .iter()
            .find_map(|key| self.select.get(*key).map(|value| format!("{key}:{value}")))
            .unwrap_or_else(|| "all".to_owned())
    }

    /// The system selected, if one is named.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.select.get("system").map(String::as_str)
    }

    /// The fault selected: an id such as `2-kill`, or `run`.
    #[must_use]
    pub fn fault(&self) -> &str {
        self.select.get("fault").map_or("run", String::as_str)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Why an expression could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// The expression.
    pub text: String,
    /// Where in it, in characters from 1.
    pub column: usize,
    /// What is wrong there, with the remedy.
    pub message: String,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, character {}: {}", self.text, self.column, self.message)
    }
}

impl std::error::Error for ExprError {}

/// A cursor over the text. `at` is a byte offset on a character's boundary.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes characters while `wanted` holds.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str, remedy: &str) -> Result<(), ExprError> {
        if self.eat(token) {
            return Ok(());
        }
        let found = self
            .rest()
            .chars()
            .next()
            .map_or("the end".to_owned(), |c| format!("`{c}`"));
        Err(self.error(self.at, format!("`{token}` expected, {found} found; {remedy}")))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ExprError {
        ExprError {
            text: self.text.to_owned(),
            column: self.text[..at].chars().count() + 1,
            message: message.into(),
        }
    }
}

const SHAPE: &str = "write it like `send.success >= 99.9%` or `send.steady < 2s`";

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Self, ExprError> {
        let mut cursor = Cursor { text, at: 0 };
        if text.len() > LENGTH_MAX {
            return Err(ExprError {
                text: text.chars().take(40).collect(),
                column: 1,
                message: format!("longer than {LENGTH_MAX} bytes; {SHAPE}"),
            });
        }
        cursor.skip_blanks();
        let class = class(&mut cursor)?;
        let select = selectors(&mut cursor)?;
        cursor.expect(".", SHAPE)?;
        let figure = named_figure(&mut cursor)?;
        cursor.skip_blanks();
        let op = operator(&mut cursor)?;
        cursor.skip_blanks();
        let value = value(&mut cursor, figure)?;
        Ok(Self {
            text: text.to_owned(),
            class,
            select,
            figure,
            op,
            value,
        })
    }
}

fn class(cursor: &mut Cursor<'_>) -> Result<String, ExprError> {
    let at = cursor.at;
    let class = cursor.take_while(is_word);
    if class.is_empty() {
        return Err(cursor.error(at, format!("a class of operations expected; {SHAPE}")));
    }
    if !CLASSES.contains(&class) {
        let hint = did_you_mean(class, CLASSES.iter().copied());
        return Err(cursor.error(at, format!("unknown class `{class}`; {hint}")));
    }
    Ok(class.to_owned())
}

fn selectors(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>, ExprError> {
    let mut select = BTreeMap::new();
    if !cursor.eat("[") {
        return Ok(select);
    }
    loop {
        cursor.skip_blanks();
        let at = cursor.at;
        let key = cursor.take_while(is_word);
        if !SELECTORS.contains(&key) {
            let hint = did_you_mean(key, SELECTORS.iter().copied());
            return Err(cursor.error(at, format!("unknown selector `{key}`; {hint}")));
        }
        cursor.expect(":", "a selector is `key:value`, such as `zone:europe`")?;
        let value_at = cursor.at;
        let value = cursor.take_while(|c| is_word(c) || matches!(c, '-' | '.'));
        if value.is_empty() {
            return Err(cursor.error(
                value_at,
                format!("a value for `{key}` expected, such as `{key}:europe`"),
            ));
        }
        if select.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(cursor.error(at, format!("`{key}` is given twice; keep one")));
        }
        cursor.skip_blanks();
        if !cursor.eat(",") {
            cursor.expect("]", "close the selector")?;
            return Ok(select);
        }
    }
}

fn named_figure(cursor: &mut Cursor<'_>) -> Result<&'static Figure, ExprError> {
    let at = cursor.at;
    let name = cursor.take_while(is_word);
    figure_named(name).ok_or_else(|| {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        cursor.error(at, format!("unknown figure `{name}`; {}", did_you_mean(name, names)))
    })
}

fn operator(cursor: &mut Cursor<'_>) -> Result<Op, ExprError> {
    let at = cursor.at;
    // The longer ones first.
    for (token, op) in [
        ("<=", Op::LessOrEqual),
        (">=", Op::GreaterOrEqual),
        ("<", Op::Less),
        (">", Op::Greater),
    ] {
        if cursor.eat(token) {
            return Ok(op);
        }
    }
    Err(cursor.error(at, format!("one of < <= > >= expected; {SHAPE}")))
}

fn value(cursor: &mut Cursor<'_>, figure: &Figure) -> Result<f64, ExprError> {
    let at = cursor.at;
    let written = cursor.rest().trim_end();
    if written.is_empty() {
        return Err(cursor.error(at, format!("a value expected; {SHAPE}")));
    }
    let wrong = |remedy: &str| cursor.error(at, format!("`{written}` does not fit `{}`: {remedy}", figure.name));
    let number = |text: &str| {
        // Only digits: `parse` alone would let `inf`, `nan` and exponents through.
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        plain.then(|| text.parse::<f64>().ok()).flatten()
    };
    match figure.unit {
        Unit::Ratio => {
            let remedy = "it is a share, such as 99.9% or 0.999";
            let share = match written.strip_suffix('%') {
                Some(percent) => number(percent.trim_end()).map(|percent| percent / 100.0),
                None => number(written),
            };
            share.filter(|share| *share <= 1.0).ok_or_else(|| wrong(remedy))
        }
        Unit::Millis => {
            let duration: HumanDuration = written.parse().map_err(|error: String| wrong(&error))?;
            Ok(crate::base::millis(duration.get()))
        }
        Unit::Count => number(written).ok_or_else(|| wrong("it is a number without a unit, such as 3")),
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Expr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression such as `send.success >= 99.9%`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expr, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Expr {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "class.figure OP value, such as `send.success >= 99.9%` or `send[zone:europe].steady < 2s`.",
            "pattern": r"^\s*[a-z_]+(\[[^\]]+\])?\.[a-z0-9_]+\s*(<|<=|>|>=)\s*[0-9].*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Expr {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn values_come_out_in_the_figures_unit() {
        let expr = parse("send.success >= 99.9%");
        assert!((expr.value - 0.999).abs() < 1e-9);
        assert!(expr.holds(0.9995) && !expr.holds(0.99));
        assert_eq!(expr.group(), "all");
        assert_eq!(expr.fault(), "run");
        let expr = parse("send.steady < 1m 2s");
        assert!((expr.value - 62_000.0).abs() < 1e-9);
        assert!(!expr.holds(62_000.0));
        assert!(parse("send.p99<=50ms").holds(50.0));
        assert!(parse("send.relapses <= 3").holds(3.0));
        assert!(parse(" send.success > 0.5 ").holds(0.6));
    }

    #[test]
    fn a_selector_narrows() {
        let expr = parse("deliver[zone:europe, system:w,fault:2-flap.3].drained < 5s");
        assert_eq!(expr.group(), "zone:europe");
        assert_eq!(expr.system(), Some("w"));
        assert_eq!(expr.fault(), "2-flap.3");
    }

    #[test]
    fn an_error_names_the_place_and_the_remedy() {
        for (text, column, says) in [
            ("", 1, "class of operations expected"),
            ("sent.success > 1%", 1, "did you mean `send`"),
            ("send success > 1%", 5, "`.` expected"),
            ("send.succes >= 99%", 6, "did you mean `success`"),
            ("send.success = 99%", 14, "< <= > >="),
            ("send.success >= 999%", 17, "a share"),
            ("send.success >= 1e-3", 17, "a share"),
            ("send.success >=", 16, "a value expected"),
            ("send.steady < 2", 15, "its unit"),
            ("send.relapses < 2s", 17, "without a unit"),
            ("send[zon:x].p99 < 2s", 6, "did you mean `zone`"),
            ("send[zone:].p99 < 2s", 11, "a value for `zone`"),
            ("send[zone:a,zone:b].p99 < 2s", 13, "given twice"),
            ("send[zone:a.p99 < 2s", 17, "close the selector"),
        ] {
            let error = text.parse::<Expr>().unwrap_err();
            assert_eq!(error.column, column, "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }

    #[test]
    fn figures_have_unique_names() {
        let names: std::collections::BTreeSet<_> = FIGURES.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), FIGURES.len());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_and_never_panics(text in ".{0,60}") {
            if let Ok(expr) = text.parse::<Expr>() {
                prop_assert!(expr.value.is_finite());
            }
        }

        #[test]
        fn near_misses_never_panic(text in "(send|deliver|x)(\\[(zone|fault):[a-z€.-]{0,3}\\]?)?\\.(p99|steady|success)[ ]?[<>=]{1,2} ?[0-9.€%ms]{0,6}") {
            let _ = text.parse::<Expr>();
        }
    }
}
