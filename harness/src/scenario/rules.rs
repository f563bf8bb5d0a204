//! What holds between the values of a scenario, beyond the shape of each.
//!
//! Every finding carries the path of the value that it is about, which the reader turns into line and column.

use std::collections::BTreeSet;

use garde::{Path, Report, Validate};
use serde_json::Value;

use super::load::{BOOK_MAX, GroupEntry, LoadEntry, MEMBERS_MAX, Schedule};
use super::model::{Promises, Scenario, VERSION};
use super::paths::{Segment, segments, value_at};
use super::step::Step;
use super::system::{ClientKind, EffectEntry, FIELDS, Nodes, PLANTS, Ready, SystemEntry, SystemKind};
use crate::base::expr::{EVERY_FAULT, SELECTORS, Scope};
use crate::base::{Exit, Expr, Template, did_you_mean};
use crate::check;
use crate::fault::FaultSpec;
use crate::target::{Roster, RosterNode, gateway_names, group_of};

/// What can be filled into a command and its environment.
pub(super) const COMMAND_FIELDS: &[&str] = &["name", "index", "zone", "dir", "disk", "port", "address", "peers"];
/// What can be filled into each entry of `{peers}`, from the node that it stands for.
pub(super) const PEERS_FIELDS: &[&str] = &["name", "index", "zone", "address"];
/// Most nodes of a system.
pub(super) const NODES_MAX: usize = 15;
/// Gateways of each zone.
const GATEWAYS_MAX: u32 = 8;
/// The plant that is the status page's.
const PLANT_OF_THE_PAGE: &str = "false-all-clear";
/// Most nodes that a shard lives on.
const REPLICAS_MAX: u32 = 7;
/// The longest way from zone to zone.
const LATENCY_MS_MAX: u64 = 2000;
/// Most shards of a system.
pub(super) const SHARDS_MAX: u32 = 64;
/// Most systems of a scenario.
pub(super) const SYSTEMS_MAX: usize = 4;
/// Most loads of a scenario.
pub(super) const LOADS_MAX: usize = 8;
/// Most accounts of a load.
pub(super) const USERS_MAX: u32 = 100_000;
/// Most groups of a load, from the start.
pub(super) const GROUPS_MAX: u32 = 1000;
/// Most devices of an account.
pub(super) const DEVICES_MAX: u32 = 10;
/// Smallest body, in bytes: its identity and hash take this much.
pub(super) const SIZE_MIN: u64 = 64;
/// Largest body, in bytes.
pub(super) const SIZE_MAX: u64 = 64 << 10;
/// Most steps of a scenario.
pub(super) const STEPS_MAX: usize = 100;
/// Most runs of one scenario.
pub(super) const REPEAT_MAX: u32 = 1000;

/// What the rules need beside the scenario itself.
#[derive(Debug, Default)]
pub struct Context {
    /// The file, without types.
    pub value: Value,
}

/// Collects findings.
struct Findings<'a> {
    report: &'a mut Report,
}

impl Findings<'_> {
    /// `message` ends with `; remedy`.
    fn add(&mut self, path: &str, message: impl Into<String>) {
        let path = segments(path)
            .unwrap_or_default()
            .iter()
            .fold(Path::empty(), |path, segment| match segment {
                Segment::Key(key) => path.join(key.as_str()),
                Segment::Index(index) => path.join(*index),
            });
        self.report.append(path, garde::Error::new(message.into()));
    }

    fn check(&mut self, holds: bool, path: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.add(path, message());
        }
    }
}

impl Validate for Scenario {
    type Context = Context;

    fn validate_into(&self, context: &Context, _: &mut dyn FnMut() -> Path, report: &mut Report) {
        let mut found = Findings { report };
        found.check(self.version == VERSION, "version", || {
            format!(
                "version {} of the format is not known here; this build reads version {VERSION}",
                self.version
            )
        });
        found.check(!self.about.trim().is_empty(), "about", || {
            "`about` is empty; say in a sentence what the scenario shows".to_owned()
        });
        found.check((1..=REPEAT_MAX).contains(&self.repeat), "repeat", || {
            format!("`repeat: {}` does not fit; write 1 to {REPEAT_MAX}", self.repeat)
        });
        systems(self, &mut found);
        loads(self, &mut found);
        steady(self, &mut found);
        steps(self, &mut found);
        expectations(self, &mut found);
        let shed = self.limits.shed_percent;
        found.check((0.0..=100.0).contains(&shed), "limits.shed_percent", || {
            format!("`{shed}` is not a percentage; write 0 to 100")
        });
        for (i, entry) in self.provenance.iter().enumerate() {
            for (j, of) in entry.of.iter().enumerate() {
                found.check(
                    value_at(&context.value, of).is_some(),
                    &format!("provenance[{i}].of[{j}]"),
                    || format!("`{of}` points at nothing in this file; write a path such as load[0].rate"),
                );
            }
        }
    }
}

impl Scenario {
    /// The systems by name; a single one is called `main`.
    #[must_use]
    pub fn systems(&self) -> Vec<(&str, &SystemEntry)> {
        let single = self.system.iter().map(|system| ("main", system));
        let several = self
            .systems
            .iter()
            .flatten()
            .map(|(name, system)| (name.as_str(), system));
        single.chain(several).collect()
    }

    /// The system called `name`, or the only one when no name is given.
    #[must_use]
    pub fn system_named(&self, name: Option<&str>) -> Option<(&str, &SystemEntry)> {
        let systems = self.systems();
        match name {
            Some(name) => systems.into_iter().find(|(known, _)| *known == name),
            None if systems.len() == 1 => systems.first().copied(),
            None => None,
        }
    }
}

impl SystemEntry {
    /// Who there is: nodes, their zones, and the shards that each may hold. What is beyond a bound is refused by the rules,
    /// and left out here: steps are checked against the roster of a file that may be refused in the same breath.
    #[must_use]
    pub fn roster(&self) -> Roster {
        let zones = self.zones.as_deref().unwrap_or_default();
        let names = self.nodes.names();
        let groups = match self.kind {
            SystemKind::Messaging => (0..self.shards.unwrap_or(super::SHARDS).min(SHARDS_MAX))
                .map(|shard| (group_of(shard), names.iter().cloned().collect()))
                .collect(),
            SystemKind::Command | SystemKind::Scripted => std::collections::BTreeMap::new(),
        };
        let nodes = names
            .into_iter()
            .zip((0..zones.len().max(1)).cycle())
            .map(|(name, zone)| RosterNode {
                name,
                zone: zones.get(zone).map(ToString::to_string).unwrap_or_default(),
            })
            .collect();
        let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
        let gateways = gateway_names(&zones, self.gateways.unwrap_or(0).min(GATEWAYS_MAX)).into_iter();
        Roster {
            nodes,
            groups,
            gateways: gateways.map(|(name, zone)| RosterNode { name, zone }).collect(),
        }
    }
}

fn systems(scenario: &Scenario, found: &mut Findings<'_>) {
    let several = scenario.systems.as_ref();
    match (&scenario.system, several) {
        (Some(_), Some(_)) => found.add("systems", "`system` and `systems` are both given; keep one"),
        (None, None) => found.add("", "no system is given; add `system: { kind: messaging, nodes: 3 }`"),
        _ => {}
    }
    if let Some(several) = several {
        found.check((1..=SYSTEMS_MAX).contains(&several.len()), "systems", || {
            format!("{} systems do not fit; write 1 to {SYSTEMS_MAX}", several.len())
        });
        for name in several.keys() {
            found.check(name.parse::<super::Name>().is_ok(), &format!("systems.{name}"), || {
                format!("`{name}` is not a name; use lower-case letters, digits and dashes, a letter first")
            });
        }
    }
    for (name, system) in scenario.systems() {
        let path = if several.is_some() {
            format!("systems.{name}")
        } else {
            "system".to_owned()
        };
        one_system(system, &path, found);
    }
}

fn one_system(system: &SystemEntry, path: &str, found: &mut Findings<'_>) {
    let kind = system.kind.name();
    for field in FIELDS {
        let given = (field.given)(system);
        if given && field.kind != system.kind {
            let name = field.name;
            let theirs = field.kind.name();
            found.add(
                &format!("{path}.{name}"),
                format!("`{name}` is for kind {theirs}, and this is {kind}; leave it out"),
            );
        }
        if field.needed && field.kind == system.kind && !given {
            found.add(
                path,
                format!("a system of kind {kind} needs `{0}`; add `{0}: ...`", field.name),
            );
        }
    }
    let nodes = system.nodes.count();
    found.check((1..=NODES_MAX).contains(&nodes), &format!("{path}.nodes"), || {
        format!("{nodes} nodes do not fit; write 1 to {NODES_MAX}")
    });
    if let Nodes::Named(names) = &system.nodes {
        found.check(
            names.iter().collect::<BTreeSet<_>>().len() == names.len(),
            &format!("{path}.nodes"),
            || "a node's name is given twice; each node needs its own".to_owned(),
        );
        found.check(system.kind == SystemKind::Command, &format!("{path}.nodes"), || {
            format!("nodes of kind {kind} are named n1, n2, ...; write how many")
        });
    }
    if let Some(zones) = &system.zones {
        let distinct = zones.iter().collect::<BTreeSet<_>>().len();
        found.check(distinct == zones.len(), &format!("{path}.zones"), || {
            "a zone is given twice; keep one".to_owned()
        });
        found.check(zones.len() <= nodes, &format!("{path}.zones"), || {
            format!("{} zones for {nodes} nodes; a zone needs a node at least", zones.len())
        });
    }
    if let Some(replicas) = system.replicas {
        let most = u32::try_from(system.nodes.count())
            .unwrap_or(u32::MAX)
            .min(REPLICAS_MAX);
        found.check((1..=most).contains(&replicas), &format!("{path}.replicas"), || {
            format!("`replicas: {replicas}` does not fit; write 1 to {most}")
        });
    }
    if let Some(shards) = system.shards {
        found.check((1..=SHARDS_MAX).contains(&shards), &format!("{path}.shards"), || {
            format!("`shards: {shards}` does not fit; write 1 to {SHARDS_MAX}")
        });
    }
    if let Some(plant) = &system.plant {
        let known = PLANTS.iter().map(|(name, _)| *name);
        found.check(
            known.clone().any(|name| name == plant.as_str()),
            &format!("{path}.plant"),
            || format!("there is no plant `{plant}`; {}", did_you_mean(plant.as_str(), known)),
        );
    }
    gateways(system, path, found);
    latencies(system, path, found);
    let of_the_page = system
        .plant
        .as_ref()
        .is_some_and(|plant| plant.as_str() == PLANT_OF_THE_PAGE);
    found.check(
        !of_the_page || system.status_page.is_some(),
        &format!("{path}.plant"),
        || format!("`{PLANT_OF_THE_PAGE}` is a plant of the status page, and there is none; add `status_page: {{}}`"),
    );
    if let Some(timeout) = system.election_timeout {
        found.check(
            (50..=60_000).contains(&timeout.as_millis()),
            &format!("{path}.election_timeout"),
            || format!("`{timeout}` does not fit; write 50ms to 60s"),
        );
    }
    overload(system, path, found);
    command(system, path, found);
    for (i, outage) in system.outages.iter().flatten().enumerate() {
        let path = format!("{path}.outages[{i}].effect");
        match &outage.effect {
            EffectEntry::Errors(share) => found.check((0.0..=1.0).contains(share), &path, || {
                format!("`{share}` is not a share; write 0 to 1")
            }),
            EffectEntry::Slow(factor) => found.check((1.0..=1e6).contains(factor), &path, || {
                format!("`{factor}` is not a factor; write 1 or more")
            }),
            EffectEntry::Flapping { on, off } => {
                found.check(!on.get().is_zero() && !off.get().is_zero(), &path, || {
                    "`on` and `off` must both be longer than 0s; use `dead` for an outage that stays".to_owned()
                })
            }
            EffectEntry::Dead | EffectEntry::Silent => {}
        }
    }
}

/// Distances between zones: of zones that there are, each pair once.
fn latencies(system: &SystemEntry, path: &str, found: &mut Findings<'_>) {
    let zones: Vec<String> = system.zones.iter().flatten().map(ToString::to_string).collect();
    let known = |zone: &String| zones.contains(zone);
    let mut pairs = BTreeSet::new();
    for (from, to) in system.latency_between_zones.iter().flatten() {
        for (other, latency) in to {
            let path = format!("{path}.latency_between_zones.{from}.{other}");
            found.check(known(from) && known(other) && from != other, &path, || {
                format!(
                    "`{from}` and `{other}` are not two of the zones; there are {}",
                    zones.join(", ")
                )
            });
            found.check(pairs.insert((from.min(other), from.max(other))), &path, || {
                format!("`{from}` and `{other}` are said twice; the latency is the same either way")
            });
            found.check(latency.as_millis() <= LATENCY_MS_MAX, &path, || {
                format!("`{latency}` does not fit; write at most {LATENCY_MS_MAX}ms")
            });
        }
    }
}

fn gateways(system: &SystemEntry, path: &str, found: &mut Findings<'_>) {
    if let Some(gateways) = system.gateways {
        found.check(
            (1..=GATEWAYS_MAX).contains(&gateways),
            &format!("{path}.gateways"),
            || format!("`gateways: {gateways}` does not fit; write 1 to {GATEWAYS_MAX} for each zone"),
        );
        return;
    }
    for (name, given) in [
        ("discovery", system.discovery.is_some()),
        ("registry", system.registry.is_some()),
        ("status_page", system.status_page.is_some()),
    ] {
        found.check(!given, &format!("{path}.{name}"), || {
            format!("`{name}` is about gateways, and there are none; add `gateways: 1`")
        });
    }
}

fn command(system: &SystemEntry, path: &str, found: &mut Findings<'_>) {
    if let Some(command) = &system.command {
        found.check(!command.is_empty(), &format!("{path}.command"), || {
            "the command is empty; write the program and its arguments".to_owned()
        });
    }
    if system.kind != SystemKind::Command {
        return;
    }
    let ports = system.port_names();
    found.check(
        ports.iter().any(|port| port == "client"),
        &format!("{path}.ports"),
        || "no port is called `client`, which takes the load; add it".to_owned(),
    );
    let words = system.command.iter().flatten().enumerate();
    for (i, word) in words {
        template(word, COMMAND_FIELDS, &ports, &format!("{path}.command[{i}]"), found);
    }
    for (name, value) in system.env.iter().flatten() {
        template(value, COMMAND_FIELDS, &ports, &format!("{path}.env.{name}"), found);
    }
    let on_disk =
        |text: &String| Template::parse(text).is_ok_and(|text| text.fields().any(|field| field.name == "disk"));
    let mut texts = system
        .command
        .iter()
        .flatten()
        .chain(system.env.iter().flat_map(|env| env.values()));
    let used = texts.any(on_disk);
    found.check(used || system.disk.is_none(), &format!("{path}.disk"), || {
        "nothing is put on this disk; write `{disk}` where the command says where its data are".to_owned()
    });
    found.check(!used || system.disk.is_some(), &format!("{path}.command"), || {
        "`{disk}` is written, and the nodes have no disks of their own; add `disk: volatile`".to_owned()
    });
    if let Some(peers) = &system.peers {
        template(peers, PEERS_FIELDS, &ports, &format!("{path}.peers"), found);
    }
    if let Some(Ready::Tcp(port)) = &system.ready {
        found.check(
            ports.iter().any(|known| known == port.as_str()),
            &format!("{path}.ready.tcp"),
            || {
                format!(
                    "no port is called `{port}`; {}",
                    did_you_mean(port.as_str(), ports.iter().map(String::as_str))
                )
            },
        );
    }
}

/// Reports a brace that stands alone, and placeholders and ports that there are not.
fn template(text: &str, fields: &[&str], ports: &[String], path: &str, found: &mut Findings<'_>) {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => return found.add(path, error.to_string()),
    };
    for field in template.fields() {
        let known = fields.iter().any(|known| *known == field.name);
        let chooses_port = matches!(field.name.as_str(), "port" | "address");
        if field.name == "port" && !known {
            found.add(
                path,
                format!(
                    "`{field}` would lead past the links that faults cut; write `{{address:{}}}`",
                    field.of
                ),
            );
        } else if !known {
            let hint = did_you_mean(&field.name, fields.iter().copied());
            found.add(path, format!("nothing is known for `{field}`; {hint}"));
        } else if chooses_port && !ports.contains(&field.of) {
            let hint = did_you_mean(&field.of, ports.iter().map(String::as_str));
            found.add(path, format!("`{field}`: no port is called `{}`; {hint}", field.of));
        } else if !chooses_port && !field.of.is_empty() {
            found.add(
                path,
                format!("`{field}` has nothing to choose; write `{{{}}}`", field.name),
            );
        }
    }
}

impl SystemEntry {
    /// The ports that each node listens on, by name: at least `client`.
    #[must_use]
    pub fn port_names(&self) -> Vec<String> {
        let given: Vec<String> = self.ports.iter().flatten().map(ToString::to_string).collect();
        if given.is_empty() {
            vec!["client".to_owned()]
        } else {
            given
        }
    }
}

/// Reports a system that is not there, or not named where there are several.
fn named_system<'a>(
    scenario: &'a Scenario,
    name: Option<&str>,
    path: &str,
    found: &mut Findings<'_>,
) -> Option<&'a SystemEntry> {
    let system = scenario.system_named(name);
    if system.is_none() && !scenario.systems().is_empty() {
        let names: Vec<&str> = scenario.systems().into_iter().map(|(name, _)| name).collect();
        match name {
            Some(name) => found.add(
                path,
                format!("there is no system `{name}`; {}", did_you_mean(name, names)),
            ),
            None => found.add(
                path,
                format!("there are several systems; name one: {}", names.join(", ")),
            ),
        }
    }
    system.map(|(_, system)| system)
}

/// What a service can do at once, and what protects it.
fn overload(system: &SystemEntry, path: &str, found: &mut Findings<'_>) {
    if let Some(capacity) = system.capacity {
        let whole = capacity.per_s() >= 1.0 && capacity.per_s().fract() == 0.0;
        found.check(whole, &format!("{path}.capacity"), || {
            format!("`{capacity}` does not fit; write a whole number of sends a second, at least 1/s")
        });
    }
    if let Some(ramp) = &system.login_ramp {
        let path = format!("{path}.login_ramp");
        let limit = system.login_limit.map(|limit| limit.per_s());
        found.check(limit.is_some(), &path, || {
            "a ramp leads to a limit; add `login_limit: ...`".to_owned()
        });
        found.check(
            limit.is_none_or(|limit| ramp.from.per_s() <= limit),
            &format!("{path}.from"),
            || format!("`from: {}` is above `login_limit`; write at most that", ramp.from),
        );
        found.check(!ramp.over.get().is_zero(), &format!("{path}.over"), || {
            "`over: 0s` is no ramp; leave it out".to_owned()
        });
    }
}

fn loads(scenario: &Scenario, found: &mut Findings<'_>) {
    let count = scenario.load.len();
    found.check((1..=LOADS_MAX).contains(&count), "load", || {
        format!(
            "{count} loads do not fit; write 1 to {LOADS_MAX}, such as `- send: {{ users: 100 }}` with `rate: 50/s`"
        )
    });
    for (i, load) in scenario.load.iter().enumerate() {
        let path = format!("load[{i}]");
        let system = named_system(scenario, load.system.as_deref(), &format!("{path}.system"), found);
        one_load(load, system, &path, found);
    }
}

/// Loads of sign-ups and of address books.
fn accounts_load(load: &LoadEntry, path: &str, found: &mut Findings<'_>) {
    let mut check = |fits: bool, field: &str, value: u32, range: &str| {
        let name = field.rsplit('.').next().unwrap_or(field);
        found.check(fits, &format!("{path}.{field}"), || {
            format!("`{name}: {value}` does not fit; write {range}")
        });
    };
    if let Some(it) = &load.sign_up {
        for (field, percent) in [
            ("sign_up.again_percent", it.again_percent),
            ("sign_up.at_once_percent", it.at_once_percent),
        ] {
            check(percent <= 100, field, percent, "0 to 100");
        }
    }
    if let Some(it) = &load.contacts {
        let (users, devices) = (format!("3 to {USERS_MAX}"), format!("1 to {DEVICES_MAX}"));
        check((3..=USERS_MAX).contains(&it.users), "contacts.users", it.users, &users);
        let fits = (1..=DEVICES_MAX).contains(&it.devices);
        check(fits, "contacts.devices", it.devices, &devices);
        let book = format!("1 to {BOOK_MAX}");
        check((1..=BOOK_MAX).contains(&it.book), "contacts.book", it.book, &book);
        let percent = it.import_percent;
        check(percent <= 100, "contacts.import_percent", percent, "0 to 100");
    }
    let silent = load.sign_up.is_some() || load.contacts.is_some();
    found.check(!silent || load.probe.is_none(), &format!("{path}.probe"), || {
        "a probe sends messages; give it to a load of `send`".to_owned()
    });
}

/// The operation keys that a load has.
fn operations(load: &LoadEntry) -> Vec<&'static str> {
    [
        ("send", load.send.is_some()),
        ("group", load.group.is_some()),
        ("sign_up", load.sign_up.is_some()),
        ("contacts", load.contacts.is_some()),
        ("put", load.put.is_some()),
        ("request", load.request.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect()
}

/// The operations that a system takes.
fn takes(system: &SystemEntry) -> &'static [&'static str] {
    match (system.kind, system.client) {
        (SystemKind::Messaging, _) => &["send", "group", "sign_up", "contacts"],
        (SystemKind::Scripted, _) => &["send", "put", "request"],
        (SystemKind::Command, Some(ClientKind::Etcd)) => &["put"],
        (SystemKind::Command, _) => &["request"],
    }
}

fn one_load(load: &LoadEntry, system: Option<&SystemEntry>, path: &str, found: &mut Findings<'_>) {
    match operations(load).as_slice() {
        [] => found.add(
            path,
            "a load needs one operation; add one of send, group, sign_up, contacts, put, request",
        ),
        [operation] => {
            if let Some(system) = system.filter(|system| !takes(system).contains(operation)) {
                found.add(
                    &format!("{path}.{operation}"),
                    format!(
                        "this system of kind {} does not take `{operation}`; it takes {}",
                        system.kind.name(),
                        takes(system).join(", ")
                    ),
                );
            }
        }
        [_, second, ..] => found.add(
            &format!("{path}.{second}"),
            "a load has exactly one operation; make it two loads",
        ),
    }
    if let Some(send) = &load.send {
        found.check(
            (2..=USERS_MAX).contains(&send.users),
            &format!("{path}.send.users"),
            || format!("`users: {}` does not fit; write 2 to {USERS_MAX}", send.users),
        );
        found.check(
            (1..=DEVICES_MAX).contains(&send.devices),
            &format!("{path}.send.devices"),
            || format!("`devices: {}` does not fit; write 1 to {DEVICES_MAX}", send.devices),
        );
    }
    if let Some(group) = &load.group {
        group_load(group, path, found);
    }
    accounts_load(load, path, found);
    if let Some(put) = &load.put {
        found.check((1..=USERS_MAX).contains(&put.keys), &format!("{path}.put.keys"), || {
            format!("`keys: {}` does not fit; write 1 to {USERS_MAX}", put.keys)
        });
    }
    for (operation, size) in [
        ("send", load.send.as_ref().map(|o| o.size)),
        ("group", load.group.as_ref().map(|o| o.size)),
        ("put", load.put.as_ref().map(|o| o.size)),
    ] {
        if let Some(size) = size {
            found.check(
                (SIZE_MIN..=SIZE_MAX).contains(&size.bytes()),
                &format!("{path}.{operation}.size"),
                || {
                    format!(
                        "`{size}` does not fit; write {SIZE_MIN}B to {}KiB, since identity and hash travel inside",
                        SIZE_MAX >> 10
                    )
                },
            );
        }
    }
    if let (Some(request), Some(client)) = (&load.request, system.and_then(|system| system.client)) {
        for (field, given, of) in [
            (
                "path",
                request.path.is_some(),
                [ClientKind::Http, ClientKind::GrpcHealth].as_slice(),
            ),
            ("send", request.send.is_some(), &[ClientKind::Tcp]),
            ("expect", request.expect.is_some(), &[ClientKind::Tcp]),
        ] {
            found.check(
                !given || of.contains(&client),
                &format!("{path}.request.{field}"),
                || format!("this system's client has no use for `{field}`; leave it out"),
            );
        }
    }
    if let Some(retry) = &load.retry {
        found.check(
            (1..=20).contains(&retry.attempts),
            &format!("{path}.retry.attempts"),
            || {
                format!(
                    "`attempts: {}` does not fit; write 1 to 20, the first included",
                    retry.attempts
                )
            },
        );
        found.check(
            !retry.base.get().is_zero() && retry.base <= retry.cap,
            &format!("{path}.retry.base"),
            || {
                format!(
                    "`base: {}` does not fit; write more than 0s and at most `cap`, which is {}",
                    retry.base, retry.cap
                )
            },
        );
    }
    if let Some(timeout) = load.timeout {
        found.check(
            (10..=600_000).contains(&timeout.as_millis()),
            &format!("{path}.timeout"),
            || format!("`{timeout}` does not fit; write 10ms to 10m"),
        );
    }
    if let Some(count) = load.in_flight_max {
        found.check(
            (1..=1_000_000).contains(&count),
            &format!("{path}.in_flight_max"),
            || format!("`{count}` does not fit; write 1 to 1000000"),
        );
    }
    if let Schedule::Steps(steps) = &load.rate {
        found.check((1..=100).contains(&steps.len()), &format!("{path}.rate.steps"), || {
            format!("{} steps do not fit; write 1 to 100", steps.len())
        });
    }
}

fn group_load(group: &GroupEntry, path: &str, found: &mut Findings<'_>) {
    let members_max = MEMBERS_MAX.min(group.users);
    for (field, value, least, most) in [
        ("users", group.users, 2, USERS_MAX),
        ("devices", group.devices, 1, DEVICES_MAX),
        ("groups", group.groups, 1, GROUPS_MAX),
        ("members", group.members(), 1, members_max),
        ("changes_percent", group.changes_percent, 0, 100),
    ] {
        found.check(
            (least..=most).contains(&value),
            &format!("{path}.group.{field}"),
            || format!("`{field}: {value}` does not fit; write {least} to {most}"),
        );
    }
}

fn steady(scenario: &Scenario, found: &mut Findings<'_>) {
    let steady = &scenario.steady_state;
    found.check(
        !steady.lasts.get().is_zero() && steady.lasts <= steady.within,
        "steady_state.for",
        || {
            format!(
                "`for: {}` does not fit; write more than 0s and at most `within`, which is {}",
                steady.lasts, steady.within
            )
        },
    );
    for (i, expr) in steady.require.iter().enumerate() {
        let path = format!("steady_state.require[{i}]");
        expression(scenario, expr, Scope::Service, &path, found);
        // What a workload can say while it runs: these, of all clients of a system together.
        if !matches!(expr.figure.name, "success" | "p50" | "p99") {
            found.add(
                &path,
                format!(
                    "`{}` is only known after the run; use success, p50 or p99 here",
                    expr.figure.name
                ),
            );
        }
        if let Some(key) = expr.select.keys().find(|key| *key != "system") {
            found.add(
                &path,
                format!("`{key}` can't be selected while the run goes on; leave it out here"),
            );
        }
    }
    let settle = &scenario.settle;
    found.check(
        !settle.hold.get().is_zero() && settle.hold <= settle.within,
        "settle.hold",
        || {
            format!(
                "`hold: {}` does not fit; write more than 0s and at most `within`, which is {}",
                settle.hold, settle.within
            )
        },
    );
}

fn steps(scenario: &Scenario, found: &mut Findings<'_>) {
    found.check(scenario.steps.len() <= STEPS_MAX, "steps", || {
        format!("{} steps do not fit; write at most {STEPS_MAX}", scenario.steps.len())
    });
    let mut before = None;
    for (i, step) in scenario.steps.iter().enumerate() {
        let path = format!("steps[{i}]");
        one_step(scenario, step, &path, found);
        if let (Some(at), Some(before)) = (step.at, before) {
            found.check(at >= before, &format!("{path}.at"), || {
                format!("`at: {at}` is before the step above at {before}; put the steps in order of time")
            });
        }
        before = step.at.or(before);
    }
}

fn one_step(scenario: &Scenario, step: &Step, path: &str, found: &mut Findings<'_>) {
    match (&step.at, &step.when) {
        (Some(_), None) | (None, Some(_)) => {}
        (None, None) => found.add(
            path,
            "a step needs a time; add `at: 5s`, or `when: { event: ..., within: ... }`",
        ),
        (Some(_), Some(_)) => found.add(&format!("{path}.when"), "`at` and `when` are both given; keep one"),
    }
    let info = step.fault.info();
    if let Some(heal_after) = step.heal_after {
        let path = format!("{path}.heal_after");
        // A flap lasts as long as its bursts, which say so themselves.
        let by_itself = !info.heals || matches!(step.fault, FaultSpec::Flap(_));
        found.check(!by_itself, &path, || {
            format!("`{}` ends by itself; leave `heal_after` out", info.name)
        });
        found.check(!heal_after.get().is_zero(), &path, || {
            "`heal_after: 0s` leaves the fault no time; write how long it lasts".to_owned()
        });
    }
    let system = named_system(scenario, step.system.as_deref(), &format!("{path}.system"), found);
    if let Some(system) = system
        && let Err(error) = step.fault.check(&system.roster())
    {
        found.add(&format!("{path}.{}", info.name), error.to_string());
    }
}

fn expectations(scenario: &Scenario, found: &mut Findings<'_>) {
    for (i, expr) in scenario.expect.recovery.iter().enumerate() {
        expression(scenario, expr, Scope::Recovery, &format!("expect.recovery[{i}]"), found);
    }
    for (i, expr) in scenario.expect.slo.iter().enumerate() {
        expression(scenario, expr, Scope::Service, &format!("expect.slo[{i}]"), found);
    }
    if let Promises::These(names) = &scenario.expect.promises {
        found.check(!names.is_empty(), "expect.promises", || {
            "no promise is listed; write `all`, or the promises to judge".to_owned()
        });
    }
    let listed = match &scenario.expect.promises {
        Promises::All => &[][..],
        Promises::These(names) => names,
    };
    for (key, names) in [("promises", listed), ("breaks", &scenario.expect.breaks)] {
        for (i, name) in names
            .iter()
            .enumerate()
            .filter(|(_, name)| check::promise_named(name).is_none())
        {
            let known = check::ALL.iter().map(|promise| promise.name());
            found.add(
                &format!("expect.{key}[{i}]"),
                format!("there is no promise `{name}`; {}", did_you_mean(name, known)),
            );
        }
    }
    if let Some(code) = scenario.expect.exit {
        found.check(Exit::from_code(code).is_some(), "expect.exit", || {
            format!("`{code}` is not an exit code; see `firedrill explain exit-codes`")
        });
    }
}

/// The classes of operations that a scenario's loads bring about.
fn classes(scenario: &Scenario) -> BTreeSet<&'static str> {
    let mut classes = BTreeSet::new();
    for load in &scenario.load {
        for operation in operations(load) {
            classes.insert(operation);
            match operation {
                "send" | "group" => classes.extend(["send", "sign_up", "log_in", "deliver", "sync", "read"]),
                "contacts" => classes.extend(["sign_up", "log_in", "sync"]),
                _ => {}
            }
        }
    }
    classes
}

fn expression(scenario: &Scenario, expr: &Expr, scope: Scope, path: &str, found: &mut Findings<'_>) {
    if expr.figure.scope != scope {
        let place = match expr.figure.scope {
            Scope::Recovery => "expect.recovery",
            Scope::Service => "steady_state.require or expect.slo",
        };
        found.add(
            path,
            format!("`{}` does not belong here; put it under {place}", expr.figure.name),
        );
    }
    let classes = classes(scenario);
    if !classes.is_empty() && !classes.contains(expr.class.as_str()) {
        let known: Vec<&str> = classes.into_iter().collect();
        found.add(
            path,
            format!("no load brings about `{}`; there are {}", expr.class, known.join(", ")),
        );
    }
    found.check(expr.figure.name != "drained" || expr.class == "deliver", path, || {
        format!(
            "`{}.drained` is never measured; only deliveries drain: write `deliver.drained`",
            expr.class
        )
    });
    let systems = scenario.systems();
    told_by_systems(&systems, expr, path, found);
    for key in SELECTORS {
        let Some(value) = expr.select.get(*key) else { continue };
        let known: Vec<String> = match *key {
            "system" => systems.iter().map(|(name, _)| (*name).to_owned()).collect(),
            "zone" => systems
                .iter()
                .flat_map(|(_, system)| system.zones.iter().flatten().map(ToString::to_string))
                .collect(),
            "fault" => ["run", EVERY_FAULT]
                .map(str::to_owned)
                .into_iter()
                .chain(scenario.fault_ids())
                .collect(),
            _ => continue,
        };
        // A burst of a flap is written with its number behind the flap's id.
        let known_or_burst = known.iter().any(|name| {
            name == value
                || (*key == "fault"
                    && value
                        .rsplit_once('.')
                        .is_some_and(|(flap, burst)| flap == name && burst.parse::<u32>().is_ok()))
        });
        if !known_or_burst {
            found.add(
                path,
                format!(
                    "there is no {key} `{value}`; {}",
                    did_you_mean(value, known.iter().map(String::as_str))
                ),
            );
        }
    }
}

/// Figures that rest on what a system says of itself need one that says it.
fn told_by_systems(systems: &[(&str, &SystemEntry)], expr: &Expr, path: &str, found: &mut Findings<'_>) {
    let says = |entry: &SystemEntry| match expr.figure.name {
        "detect" | "failover" | "redundant" => {
            entry.kind != SystemKind::Command || entry.client == Some(ClientKind::Etcd)
        }
        "sessions_back" => entry.kind != SystemKind::Command,
        _ => true,
    };
    let mut asked = systems
        .iter()
        .filter(|(name, _)| expr.system().is_none_or(|wanted| wanted == *name))
        .peekable();
    found.check(asked.peek().is_none() || asked.any(|(_, entry)| says(entry)), path, || {
        format!(
            "`{}` is never measured here: the system says nothing of it; write `first_ok`, `steady` or `worst_gap`, \
             which its clients see",
            expr.figure.name
        )
    });
}

impl Scenario {
    /// The faults' ids, in the order of the steps: the step's number from 1 and its verb, such as `2-kill`.
    #[must_use]
    pub fn fault_ids(&self) -> Vec<String> {
        self.steps
            .iter()
            .enumerate()
            .map(|(i, step)| format!("{}-{}", i + 1, step.fault.kind()))
            .collect()
    }
}
