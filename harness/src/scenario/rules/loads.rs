//! Loads.

use std::collections::BTreeSet;

use super::findings::Findings;
use super::systems::named_system;
use crate::scenario::load::{BOOK_MAX, GroupEntry, LoadEntry, MEMBERS_MAX, Schedule};
use crate::scenario::model::Scenario;
use crate::scenario::system::{ClientKind, SystemEntry, SystemKind};

/// Most loads of a scenario.
const LOADS_MAX: usize = 8;
/// Most accounts of a load.
const USERS_MAX: u32 = 100_000;
/// Most groups of a load, from the start.
const GROUPS_MAX: u32 = 1000;
/// Most devices of an account.
const DEVICES_MAX: u32 = 10;
/// Smallest body, in bytes: its identity and hash take this much.
const SIZE_MIN: u64 = 64;
/// Largest body, in bytes.
const SIZE_MAX: u64 = 64 << 10;

pub(super) fn loads(scenario: &Scenario, found: &mut Findings<'_>) {
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
        somebody_is_there(scenario, load, &path, found);
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

/// The operations that are done by the people of other loads.
const BORROWING: &[&str] = &["open", "receipt", "presence"];

/// A load that brings nobody needs one on the same system that does.
fn somebody_is_there(scenario: &Scenario, load: &LoadEntry, path: &str, found: &mut Findings<'_>) {
    let operations = operations(load);
    let Some(operation) = operations.iter().find(|operation| BORROWING.contains(operation)) else {
        return;
    };
    let brings = |other: &LoadEntry| other.system == load.system && (other.send.is_some() || other.group.is_some());
    found.check(scenario.load.iter().any(brings), &format!("{path}.{operation}"), || {
        format!("`{operation}` brings nobody of its own, and nobody else is there; add a load of `send` or `group`")
    });
    found.check(load.probe.is_none(), &format!("{path}.probe"), || {
        format!("a probe sends, and `{operation}` does not; write it beside a load of `send`")
    });
}

/// The operation keys that a load has.
fn operations(load: &LoadEntry) -> Vec<&'static str> {
    [
        ("send", load.send.is_some()),
        ("group", load.group.is_some()),
        ("sign_up", load.sign_up.is_some()),
        ("contacts", load.contacts.is_some()),
        ("open", load.open.is_some()),
        ("receipt", load.receipt.is_some()),
        ("presence", load.presence.is_some()),
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
        (SystemKind::Messaging, _) => &["send", "group", "sign_up", "contacts", "open", "receipt", "presence"],
        (SystemKind::Scripted, _) => &["send", "put", "request"],
        (SystemKind::Command, Some(ClientKind::Etcd)) => &["put"],
        (SystemKind::Command, _) => &["request"],
    }
}

fn one_load(load: &LoadEntry, system: Option<&SystemEntry>, path: &str, found: &mut Findings<'_>) {
    match operations(load).as_slice() {
        [] => found.add(
            path,
            "a load needs one operation; add one of send, group, sign_up, contacts, open, receipt, presence, put, request",
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

/// The classes of operations that a scenario's loads bring about.
pub(super) fn classes(scenario: &Scenario) -> BTreeSet<&'static str> {
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
