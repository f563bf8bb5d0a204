//! Systems.

use std::collections::BTreeSet;

use super::findings::Findings;
use crate::base::{Template, did_you_mean};
use crate::scenario::model::Scenario;
use crate::scenario::system::{EffectEntry, FIELDS, Nodes, PLANTS, Ready, SystemEntry, SystemKind};
use crate::scenario::{Name, SHARDS};
use crate::target::{Roster, RosterNode, gateway_names, group_of};

/// What can be filled into a command and its environment.
const COMMAND_FIELDS: &[&str] = &["name", "index", "zone", "dir", "disk", "port", "address", "peers"];
/// What can be filled into each entry of `{peers}`, from the node that it stands for.
const PEERS_FIELDS: &[&str] = &["name", "index", "zone", "address"];
/// Most nodes of a system.
pub(in crate::scenario) const NODES_MAX: usize = 15;
/// Gateways of each zone.
const GATEWAYS_MAX: u32 = 8;
/// The plant that is the status page's.
const PLANT_OF_THE_PAGE: &str = "false-all-clear";
/// Most nodes that a shard lives on.
const REPLICAS_MAX: u32 = 7;
/// The longest way from zone to zone.
const LATENCY_MS_MAX: u64 = 2000;
/// Most shards of a system.
const SHARDS_MAX: u32 = 64;
/// Most systems of a scenario.
const SYSTEMS_MAX: usize = 4;

impl SystemEntry {
    /// Who there is: nodes, their zones, and the shards that each may hold. What is beyond a bound is refused by the rules,
    /// and left out here: steps are checked against the roster of a file that may be refused in the same breath.
    #[must_use]
    pub fn roster(&self) -> Roster {
        let zones = self.zones.as_deref().unwrap_or_default();
        let names = self.nodes.names();
        let groups = match self.kind {
            SystemKind::Messaging => (0..self.shards.unwrap_or(SHARDS).min(SHARDS_MAX))
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

pub(super) fn systems(scenario: &Scenario, found: &mut Findings<'_>) {
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
            found.check(name.parse::<Name>().is_ok(), &format!("systems.{name}"), || {
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

/// Reports a system that is not there, or not named where there are several.
pub(super) fn named_system<'a>(
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
