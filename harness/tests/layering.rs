//! Who may use whom. ARCHITECTURE.md states the layers; this test reads the `use` edges and holds the code to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module of the harness and the modules it may use. Data flows one way: nothing may use what stands right of it
/// in `base <- history <- {check, recovery} <- report` and
/// `base <- backend <- {system, target, fault, workload} <- scenario <- plan <- controller <- {grpc, cli}`.
const HARNESS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("history", &["base"]),
    ("check", &["base", "history"]),
    ("recovery", &["base", "history"]),
    ("report", &["base", "history", "check", "recovery"]),
    ("backend", &["base", "history"]),
    ("target", &["base", "history"]),
    ("workload", &["base", "history"]),
    ("system", &["base", "history", "backend", "target", "workload"]),
    ("fault", &["base", "history", "backend", "target", "workload", "system"]),
    // Of the checkers a scenario knows the promises' names.
    ("scenario", &["base", "check", "fault", "target"]),
    // The plan is made of the specs that backends, systems and workloads publish.
    (
        "plan",
        &[
            "base", "history", "scenario", "fault", "target", "backend", "system", "workload",
        ],
    ),
    (
        "controller",
        &[
            "base",
            "history",
            "check",
            "recovery",
            "report",
            "backend",
            "target",
            "workload",
            "system",
            "fault",
            "scenario",
            "plan",
            "telemetry",
        ],
    ),
    ("telemetry", &["base", "history"]),
    (
        "grpc",
        &["base", "history", "backend", "fault", "plan", "scenario", "controller"],
    ),
    (
        "cli",
        &[
            "base",
            "history",
            "check",
            "report",
            "backend",
            "target",
            "system",
            "fault",
            "scenario",
            "plan",
            "controller",
            "grpc",
        ],
    ),
];

/// The same for the service. Its core stands on `env` and knows neither gRPC nor a runtime.
const SERVICE: &[(&str, &[&str])] = &[
    ("env", &[]),
    ("storage", &["env"]),
    // The names of the deliberately wrong behaviours, shared by those who have some.
    ("plant", &[]),
    ("chat", &["storage", "plant"]),
    ("consensus", &["env", "storage", "chat"]),
    // The map of shards is data of the placement group.
    ("placement", &["consensus"]),
    ("node", &["env", "storage", "chat", "consensus", "placement", "plant"]),
    ("sim", &["env", "storage", "chat", "consensus", "placement", "node"]),
    ("grpc", &["env", "node"]),
    ("client", &["env", "chat", "node", "grpc", "discovery"]),
    ("discovery", &[]),
    ("registry", &["env"]),
    ("statuspage", &[]),
    (
        "edge",
        &[
            "env",
            "chat",
            "node",
            "grpc",
            "client",
            "discovery",
            "registry",
            "statuspage",
        ],
    ),
    ("process", &["env", "node", "grpc", "client", "edge"]),
];

/// What a module of the service must not name at all.
const SERVICE_FORBIDDEN: &[(&str, &[&str])] = &[
    ("storage", &["tokio", "tonic"]),
    ("chat", &["tokio", "tonic", "rand_chacha"]),
    ("consensus", &["tokio", "tonic"]),
    ("node", &["tonic"]),
    ("sim", &["tonic"]),
    ("discovery", &["tokio", "tonic"]),
    ("registry", &["tokio", "tonic"]),
    ("statuspage", &["tokio", "tonic"]),
];

/// What a module of the harness must not name at all, wherever it comes from.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("check", &["tokio", "tonic", "RunClock", "target_service"]),
    ("recovery", &["tokio", "tonic", "RunClock", "target_service"]),
    ("history", &["tonic", "target_service"]),
    ("backend", &["tonic", "target_service"]),
    ("fault", &["tonic", "target_service"]),
    ("scenario", &["tokio", "tonic", "target_service"]),
    ("plan", &["tokio", "tonic", "target_service"]),
];

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for (package, module, allowed) in both(HARNESS, SERVICE) {
        for (file, text) in sources(package, module) {
            let edges = crate_edges(product(&text)).into_iter();
            for used in edges.chain(super_edges(product(&text), depth(&file))) {
                if used != module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!(
                        "{}: `{module}` uses `{used}`, allowed: {allowed:?}",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_stay_pure() {
    let mut wrong = Vec::new();
    for (package, module, forbidden) in both(FORBIDDEN, SERVICE_FORBIDDEN) {
        for (file, text) in sources(package, module) {
            let body = product(&text);
            for word in forbidden {
                for (number, line) in body.lines().enumerate() {
                    if code(line)
                        .split(|c: char| !c.is_alphanumeric() && c != '_')
                        .any(|part| part == *word)
                    {
                        wrong.push(format!("{}:{}: `{module}` names `{word}`", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_grpc_front_serves() {
    for (file, text) in all_sources() {
        let front = file.components().any(|c| c.as_os_str() == "grpc");
        let serves = names_server(&text);
        assert!(
            front || !serves,
            "{} imports tonic's server; only grpc/ may",
            file.display()
        );
    }
}

/// Folders beside the backends that any of them may use, and that use none of them.
const PRIMITIVES: &[&str] = &["disk"];

#[test]
fn backends_do_not_know_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend");
    let backends: BTreeSet<String> = fs::read_dir(&root)
        .expect("src/backend is there")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            path.is_dir()
                .then(|| path.file_name().map(|n| n.to_string_lossy().into_owned()))?
        })
        .collect();
    for backend in &backends {
        for (file, text) in walk(&root.join(backend)) {
            let others = backends.iter().filter(|other| *other != backend);
            for other in others.filter(|other| !PRIMITIVES.contains(&other.as_str())) {
                assert!(
                    !text.contains(&format!("backend::{other}")),
                    "{} uses the backend `{other}`",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_reader_of_edges_sees_what_it_should() {
    let text = "use crate::plan::Plan;\nuse crate::{base::Nanos, history::{Event, self}};\nlet x = crate::fault::ALL;\n// use crate::cli::x\n";
    let edges: Vec<String> = crate_edges(text).into_iter().collect();
    assert_eq!(edges, ["base", "fault", "history", "plan"]);
}

#[test]
fn the_reader_of_servers_sees_grouped_imports() {
    for serves in [
        "use tonic::transport::Server;",
        "use tonic::transport::{Channel, Server};",
        "use tonic::{\n    Status,\n    transport::{\n        Server,\n    },\n};",
        "use tonic::transport;\nlet s = transport::Server::builder();",
    ] {
        assert!(names_server(serves), "{serves}");
    }
    for other in [
        "use tonic::transport::{Channel, Endpoint};",
        "// tonic::transport::Server",
        "use tonic::{transport::Channel, Status};",
    ] {
        assert!(!names_server(other), "{other}");
    }
}

#[test]
fn the_reader_of_edges_climbs_to_the_root() {
    let text = "use super::super::plan::Plan;\nuse super::near::Thing;\nuse super::super::{base::Nanos, fault};\n";
    let edges: Vec<String> = super_edges(text, 2).into_iter().collect();
    assert_eq!(edges, ["base", "fault", "plan"]);
    assert_eq!(depth(Path::new("x/src/grpc/front.rs")), 2);
    assert_eq!(depth(Path::new("x/src/grpc/mod.rs")), 1);
    assert_eq!(depth(Path::new("x/src/grpc.rs")), 1);
}

/// Whether a text names tonic's server, alone or in a group, wherever the lines break.
fn names_server(text: &str) -> bool {
    let dense: String = text.lines().map(code).flat_map(str::split_whitespace).collect();
    dense.match_indices("transport::").any(|(at, found)| {
        let rest = &dense[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => group
                .split('}')
                .next()
                .unwrap_or("")
                .split(',')
                .any(|item| item.split("::").next() == Some("Server")),
            None => rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .is_some_and(|name| name == "Server"),
        }
    })
}

/// How many modules stand between a file's module and the crate's root.
fn depth(file: &Path) -> usize {
    let parts: Vec<_> = file.components().collect();
    let src = parts.iter().rposition(|c| c.as_os_str() == "src").unwrap_or(0);
    parts.len() - src - 1 - usize::from(file.file_stem().is_some_and(|stem| stem == "mod"))
}

/// The modules that paths of as many `super::` as the file is deep reach from the root.
fn super_edges(text: &str, depth: usize) -> BTreeSet<String> {
    let code: String = text.lines().map(code).collect::<Vec<_>>().join("\n");
    crate_edges(
        &code
            .replace("crate::", "_::")
            .replace(&"super::".repeat(depth), "crate::"),
    )
}

/// What stands before a file's own tests: those may use what they need.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("")
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The first path segments after `crate::`, in plain paths and in brace groups; tests inside a file count too.
fn crate_edges(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut edges = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let boundary = code[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        if !boundary {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => edges.extend(top_level_names(group)),
            None => edges.extend(leading_name(rest)),
        }
    }
    edges
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty() && name.starts_with(|c: char| c.is_lowercase())).then_some(name)
}

fn top_level_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_u32;
    let mut item = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(leading_name(std::mem::take(&mut item).trim())),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.extend(leading_name(item.trim()));
    names
}

type Rules = &'static [(&'static str, &'static [&'static str])];

/// The rules of both packages, each with its package's folder.
fn both(harness: Rules, service: Rules) -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static str])> {
    let tag = |package: &'static str, rules: Rules| rules.iter().map(move |(module, words)| (package, *module, *words));
    tag("harness", harness).chain(tag("target-service", service))
}

fn sources(package: &str, module: &str) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(package)
        .join("src");
    let file = root.join(format!("{module}.rs"));
    let mut found = walk(&root.join(module));
    if let Ok(text) = fs::read_to_string(&file) {
        found.insert(file, text);
    }
    found
}

fn all_sources() -> BTreeMap<PathBuf, String> {
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// Whether a file or folder is a module of tests, or the fake that they talk to.
fn is_test(path: &Path) -> bool {
    path.file_stem()
        .is_some_and(|stem| stem == "tests" || stem == "fake" || stem.to_string_lossy().ends_with("_tests"))
}

fn walk(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if is_test(&path) {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.insert(path, text);
        }
    }
    found
}
