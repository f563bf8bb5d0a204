//! What the project is built of keeps to `deny.toml`: licences, sources, and no dependency on just any version.
//!
//! Works offline and needs no cargo-deny, which reads the same file and checks besides what needs a database of advisories.
//! Licences are those of the packages that this platform is built of; sources are those of the whole lock file.

use std::{path::Path, process::Command};

use serde_json::Value;

/// The one registry that packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn toml_of(file: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What is said under `table.key`, as texts.
fn texts(table: &toml::Table, path: [&str; 2]) -> Vec<String> {
    let list = table[path[0]][path[1]].as_array().expect("a list");
    list.iter()
        .map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// The packages that are built here, with all features.
fn packages() -> Vec<Value> {
    let about = cargo(&["-vV"]);
    let host = about
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host");
    let metadata = cargo(&[
        "metadata",
        "--offline",
        "--locked",
        "--format-version=1",
        "--all-features",
        "--filter-platform",
        host,
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// An SPDX expression: alternatives of terms that all hold, each a licence or an expression in parentheses. `/` is an old
/// way to write OR.
struct Expression<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
    allowed: &'a [String],
}

/// Whether the licences that `text` leaves a choice of can be had from `allowed`.
fn permits(text: &str, allowed: &[String]) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut expression = Expression {
        words: words.into_iter().peekable(),
        allowed,
    };
    let permitted = expression.any();
    permitted && expression.words.next().is_none()
}

impl Expression<'_> {
    fn any(&mut self) -> bool {
        let mut permitted = self.all();
        while self.words.next_if_eq(&"OR").is_some() {
            permitted |= self.all();
        }
        permitted
    }

    fn all(&mut self) -> bool {
        let mut permitted = self.one();
        while self.words.next_if_eq(&"AND").is_some() {
            permitted &= self.one();
        }
        permitted
    }

    fn one(&mut self) -> bool {
        match self.words.next() {
            Some("(") => {
                let permitted = self.any();
                permitted && self.words.next() == Some(")")
            }
            Some(licence) => {
                let exception = self.words.next_if_eq(&"WITH").and_then(|_| self.words.next());
                let whole = exception.map_or_else(|| licence.to_owned(), |with| format!("{licence} WITH {with}"));
                self.allowed.contains(&whole)
            }
            None => false,
        }
    }
}

#[test]
fn every_licence_is_one_that_is_allowed() {
    let allowed = texts(&toml_of("deny.toml"), ["licenses", "allow"]);
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|text| permits(text, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(
        refused.is_empty(),
        "not allowed by deny.toml: {refused:#?}; choose another package, or allow the licence there and say why"
    );
}

#[test]
fn every_package_comes_from_the_registry_or_from_here() {
    let deny = toml_of("deny.toml");
    for kind in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][kind].as_str(), Some("deny"), "{kind}");
    }
    let lock = toml_of("Cargo.lock");
    let packages = lock["package"].as_array().expect("a list");
    let strange: Vec<_> = packages
        .iter()
        .filter(|package| {
            package
                .get("source")
                .is_some_and(|source| source.as_str() != Some(REGISTRY))
        })
        .collect();
    assert!(strange.is_empty(), "from elsewhere: {strange:#?}");
    let unsigned = |package: &&toml::Value| package.get("source").is_some() && package.get("checksum").is_none();
    assert_eq!(packages.iter().filter(unsigned).count(), 0, "each has its checksum");
}

#[test]
fn no_dependency_of_ours_takes_just_any_version() {
    assert_eq!(toml_of("deny.toml")["bans"]["wildcards"].as_str(), Some("deny"));
    let packages = packages();
    let own = packages.iter().filter(|package| package["source"].is_null());
    for package in own {
        for dependency in package["dependencies"].as_array().expect("a list") {
            // One of ours, by its path, has none to take.
            let any = dependency["req"] == "*" && dependency["path"].is_null();
            assert!(!any, "{} takes any version of {}", package["name"], dependency["name"]);
        }
    }
}

#[test]
fn expressions_of_licences_are_read_as_they_are_meant() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (text, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT/GPL-3.0", true),
        ("(GPL-2.0 OR MIT) AND Apache-2.0", true),
        ("(GPL-2.0 AND MIT) OR LGPL-2.1", false),
        ("GPL-2.0 OR MIT AND Apache-2.0", true),
        ("MIT AND (Apache-2.0 WITH LLVM-exception)", true),
        ("Apache-2.0 WITH Other-exception", false),
        ("(MIT", false),
        ("MIT)", false),
        ("MIT Apache-2.0", false),
        ("", false),
    ] {
        assert_eq!(permits(text, &allowed), expected, "{text}");
    }
}
