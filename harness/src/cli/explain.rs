//! `firedrill explain`: what a name means.

use std::fmt::Write as _;

use super::list::{self, What};
use super::output::{note, out};
use super::scenarios;
use crate::base::expr::{CLASSES, FIGURES, Scope, Unit};
use crate::base::{Exit, did_you_mean};
use crate::scenario::{self, Loaded, PLANTS};
use crate::{backend, check, fault, plan, target};

const EXAMPLES: &str = "\
Examples:
  firedrill explain partition            a fault: what it does, how it is written, what counts as evidence
  firedrill explain whatsapp-2014-vlan   a scenario: its story, what it claims, what comes later, its ratios
  firedrill explain steady               a figure of budgets
  firedrill explain exit-codes           all of them; `firedrill explain 5` for one";

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A scenario, fault, target, promise, figure, class, plant, system, backend or exit code
    name: String,
}

pub(super) fn main(args: &Args) -> Exit {
    if let Some(text) = explain(&args.name) {
        out(&text);
        return Exit::Pass;
    }
    // A scenario comes last, so that a file in the folder never hides a word of the language.
    if let Some(path) = scenarios::find(&args.name) {
        return match scenario::load(&path) {
            Ok(loaded) => {
                out(&scenario_text(&loaded));
                Exit::Pass
            }
            Err(error) => {
                note(&error.render(super::output::colour()));
                Exit::Invalid
            }
        };
    }
    let names = names();
    note(&format!(
        "nothing is called `{}`; {}",
        args.name,
        did_you_mean(&args.name, names.iter().map(String::as_str))
    ));
    Exit::Usage
}

/// Everything that can be explained, scenarios apart.
pub(super) fn names() -> Vec<String> {
    let lists = [
        What::Faults,
        What::Targets,
        What::Systems,
        What::Backends,
        What::Promises,
    ];
    let listed = lists.into_iter().flat_map(list::rows).map(|(name, ..)| name);
    let figures = FIGURES.iter().map(|figure| figure.name.to_owned());
    let classes = CLASSES.iter().map(|class| (*class).to_owned());
    let plants = PLANTS.iter().map(|(name, _)| (*name).to_owned());
    let codes = Exit::ALL.iter().map(|exit| exit.code().to_string());
    listed
        .chain(figures)
        .chain(classes)
        .chain(plants)
        .chain(codes)
        .chain(["exit-codes".to_owned()])
        .collect()
}

/// What `name` means, if it is a word of the language. A name with several meanings gets them all.
pub(super) fn explain(name: &str) -> Option<String> {
    let meanings: Vec<String> = [
        fault_text(name),
        target_text(name),
        system_text(name),
        backend_text(name),
        promise_text(name),
        figure_text(name),
        class_text(name),
        plant_text(name),
        exit_text(name),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!meanings.is_empty()).then(|| meanings.join("\n"))
}

fn fault_text(name: &str) -> Option<String> {
    let verb = fault::find(name)?;
    let needs: Vec<&str> = verb.needs.iter().map(|capability| capability.name()).collect();
    let needs = if needs.is_empty() {
        "nothing beside its target and plane".to_owned()
    } else {
        needs.join(", ")
    };
    let ends = if verb.heals {
        "lasts until it is healed: `heal_after`, or the end of the steps"
    } else {
        "ends by itself"
    };
    Some(format!(
        "{} is a fault ({})\n  {}\n  written   {}\n  evidence  {}\n  needs     {needs}\n  {ends}\n",
        verb.name,
        verb.group.name(),
        verb.summary,
        verb.example,
        verb.evidence,
    ))
}

fn target_text(name: &str) -> Option<String> {
    let target = target::ALL.iter().find(|target| target.name == name)?;
    let asked = if target.needs_observation {
        "\n  asked of the system at the instant"
    } else {
        ""
    };
    Some(format!(
        "{} is a target\n  {}\n  written   {}{asked}\n",
        target.name, target.summary, target.example
    ))
}

fn system_text(name: &str) -> Option<String> {
    let (kind, _, about) = scenario::SystemKind::ALL.iter().find(|(_, known, _)| *known == name)?;
    let fields: Vec<String> = scenario::FIELDS
        .iter()
        .filter(|field| field.kind == *kind)
        .map(|field| {
            if field.needed {
                format!("{} (needed)", field.name)
            } else {
                field.name.to_owned()
            }
        })
        .collect();
    Some(format!(
        "{name} is a kind of system\n  {about}\n  its own fields  {}\n",
        fields.join(", ")
    ))
}

fn backend_text(name: &str) -> Option<String> {
    let backend = backend::find(name)?;
    let can: Vec<&str> = backend
        .capabilities
        .iter()
        .map(|capability| capability.name())
        .collect();
    Some(format!(
        "{} is a backend\n  {}\n  can  {}\n",
        backend.name,
        backend.about,
        can.join(", ")
    ))
}

fn promise_text(name: &str) -> Option<String> {
    let promise = check::promise_named(name)?;
    Some(format!(
        "{name} is a promise\n  {}\n  written   expect: {{ promises: [{name}] }}, or `all`\n",
        promise.about()
    ))
}

fn figure_text(name: &str) -> Option<String> {
    let figure = FIGURES.iter().find(|figure| figure.name == name)?;
    let example = match figure.unit {
        Unit::Ratio => format!("send.{name} >= 99.9%"),
        Unit::Millis => format!("send.{name} < 2s"),
        Unit::Count => format!("send.{name} <= 3"),
    };
    let place = match figure.scope {
        Scope::Service => "steady_state.require (success, p50, p99) and expect.slo",
        Scope::Recovery => "expect.recovery",
    };
    Some(format!(
        "{name} is a figure\n  {}\n  written   \"{example}\"\n  goes in   {place}\n",
        figure.about
    ))
}

fn class_text(name: &str) -> Option<String> {
    let about = match *CLASSES.iter().find(|class| **class == name)? {
        "sign_up" => "creating an account",
        "log_in" => "opening a session for a device",
        "send" => "a message from the intent to send it to its acknowledgement",
        "deliver" => "a message from the intent to send it to its showing on one device of the recipient",
        "sync" => "resuming a device's stream until it is current",
        "read" => "reading a conversation",
        "group" => "changing who belongs to a group, or looking at one",
        "contacts" => "adding to an address book, or looking at one's contacts",
        "open" => "opening the app: one's own conversations, whether they are current or not",
        "receipt" => "saying how far one was given and has read a conversation",
        "presence" => "asking who is online",
        "put" => "writing a key to a key-value store",
        _ => "a request to a system of which nothing is known but that it answers",
    };
    Some(format!("{name} is a class of operations\n  {about}\n"))
}

fn plant_text(name: &str) -> Option<String> {
    let (name, about) = PLANTS.iter().find(|(known, _)| *known == name)?;
    Some(format!(
        "{name} is a plant: a deliberately wrong service, to show that its wrong is caught\n  {about}\n  written   system: {{ kind: messaging, plant: {name}, ... }}\n  needs     a build with `--features plants`\n"
    ))
}

fn exit_text(name: &str) -> Option<String> {
    if name == "exit-codes" {
        let lines = Exit::ALL
            .iter()
            .map(|exit| format!("{:>4}  {}\n", exit.code(), exit.about()));
        return Some(
            lines.collect::<String>() + "When several apply, the first of 130, 8, 1, 7, 6, 5, 0 is returned.\n",
        );
    }
    let exit = Exit::from_code(name.parse().ok()?)?;
    Some(format!("{} is an exit code\n  {}\n", exit.code(), exit.about()))
}

/// A scenario: its story, what it claims and leaves out, and the plan of it.
pub(super) fn scenario_text(loaded: &Loaded) -> String {
    let scenario = &loaded.scenario;
    let mut text = format!(
        "{} is a scenario ({})\n{}\n",
        scenario.name,
        loaded.path,
        scenario.about.trim()
    );
    // Writing to a String never fails.
    if let Some(story) = &scenario.story {
        let _ = write!(text, "\n{}\n", story.trim());
    }
    if let Some(claims) = &scenario.claims {
        let _ = write!(text, "\nThis version rehearses\n{}", bullets(&claims.now));
        if !claims.later.is_empty() {
            let _ = write!(text, "What comes later\n{}", bullets(&claims.later));
        }
    }
    match plan::plan(loaded, None, backend::ALL[0].name) {
        Ok(plan) => {
            let _ = write!(text, "\n{}", plan::table(&plan));
        }
        Err(error) => {
            let _ = write!(text, "\nIt can't be run here: {error}\n");
        }
    }
    text
}

fn bullets(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  - {line}\n")).collect()
}
