//! Text with `{placeholders}`: `{name}`, or `{port:client}` with something to choose by. `{{` and `}}` are braces.

use std::fmt::Write as _;

/// A text whose placeholders are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// One placeholder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// What is filled in.
    pub name: String,
    /// What it is chosen by, behind the colon; empty when there is no colon.
    pub of: String,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.of.is_empty() {
            write!(f, "{{{}}}", self.name)
        } else {
            write!(f, "{{{}:{}}}", self.name, self.of)
        }
    }
}

/// A text that is not a template, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl Template {
    /// Takes a text apart.
    ///
    /// # Errors
    /// A brace without its counterpart.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let alone = |brace: char| {
            TemplateError(format!(
                "`{brace}` stands alone in `{text}`; close the placeholder, or write `{brace}{brace}` for the brace itself"
            ))
        };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if let Some(behind) = behind.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(alone('}'));
            }
            let (inside, behind) = behind.split_once('}').ok_or_else(|| alone('{'))?;
            if inside.contains('{') {
                return Err(alone('{'));
            }
            let (name, of) = inside.split_once(':').unwrap_or((inside, ""));
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Field(Field {
                name: name.trim().to_owned(),
                of: of.trim().to_owned(),
            }));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The placeholders, in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(field),
            Piece::Text(_) => None,
        })
    }

    /// Fills the placeholders in; the first that `fill` knows nothing for comes back instead.
    ///
    /// # Errors
    /// That placeholder.
    pub fn fill(&self, fill: impl Fn(&Field) -> Option<String>) -> Result<String, Field> {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Field(field) => {
                    let value = fill(field).ok_or_else(|| field.clone())?;
                    // Writing to a string does not fail.
                    let _ = filled.write_str(&value);
                }
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str) -> Result<String, Field> {
        let template = Template::parse(text).expect("a template");
        template.fill(|field| match field.name.as_str() {
            "name" => Some("n1".to_owned()),
            "port" => Some(format!("<{}>", field.of)),
            _ => None,
        })
    }

    #[test]
    fn placeholders_are_filled_and_braces_kept() {
        assert_eq!(
            fill("--id={name}:{port:peer} {{x}}").as_deref(),
            Ok("--id=n1:<peer> {x}")
        );
        assert_eq!(fill("").as_deref(), Ok(""));
        let unknown = fill("a {nam} b").unwrap_err();
        assert_eq!(unknown.to_string(), "{nam}");
        let template = Template::parse("{a:b}{c}").expect("a template");
        let fields: Vec<String> = template.fields().map(ToString::to_string).collect();
        assert_eq!(fields, ["{a:b}", "{c}"]);
    }

    #[test]
    fn a_brace_that_stands_alone_is_named() {
        for text in ["{name", "name}", "{a{b}}", "{"] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains("stands alone") && error.contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_or_refused(text in "[{}:a-c]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                let again = template.fill(|field| Some(field.to_string())).expect("all filled");
                prop_assert!(again.len() <= text.len());
            }
        }

        #[test]
        fn escaped_text_comes_back(text in ".{0,40}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            let template = Template::parse(&escaped).expect("escaped");
            prop_assert_eq!(template.fill(|_| None).expect("no placeholders"), text);
        }
    }
}
