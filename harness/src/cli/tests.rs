//! The command line as a whole.

use clap::Parser as _;

use super::*;

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn every_subcommand_teaches() {
    for subcommand in command()
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        let name = subcommand.get_name();
        assert!(subcommand.get_about().is_some(), "{name} says what it does");
        assert!(
            subcommand.get_after_help().is_some() || name == "help",
            "{name} has an example"
        );
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_usage() {
    for words in [
        vec!["firedrill"],
        vec!["firedrill", "lst"],
        vec!["firedrill", "list", "nothing"],
        vec!["firedrill", "plan"],
    ] {
        assert!(Cli::try_parse_from(&words).is_err(), "{words:?}");
    }
    assert!(Cli::try_parse_from(["firedrill", "list", "faults", "--format", "json"]).is_ok());
}

#[test]
fn everything_that_is_listed_is_explained() {
    for name in explain::names() {
        let text = explain::explain(&name).unwrap_or_else(|| panic!("`{name}` is not explained"));
        assert!(text.contains(&name) || name == "exit-codes", "{text}");
    }
    assert!(explain::explain("nonsense").is_none());
}

#[test]
fn a_scenario_says_what_it_rehearses_and_what_comes_later() {
    let text = new::template(new::Kind::Messaging, "my-drill");
    let claims = "claims: { now: [the cut], later: [the membership storm, the cold start] }\n";
    let loaded = crate::scenario::read("my-drill.yaml", &format!("{text}{claims}"))
        .unwrap_or_else(|error| panic!("{}", error.render(false)));
    let said = explain::scenario_text(&loaded);
    for part in [
        "This version rehearses\n  - the cut\n",
        "What comes later\n  - the membership storm\n  - the cold start\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_new_scenario_reads_and_plans() {
    for kind in [new::Kind::Messaging, new::Kind::Command] {
        let text = new::template(kind, "my-drill");
        let loaded =
            crate::scenario::read("my-drill.yaml", &text).unwrap_or_else(|error| panic!("{}", error.render(false)));
        assert_eq!(loaded.scenario.name.as_str(), "my-drill");
        crate::plan::plan(&loaded, None, "process").unwrap();
        assert!(explain::scenario_text(&loaded).contains("timeline"));
    }
}

#[test]
fn a_workflow_command_is_escaped() {
    let line = output::github("error", "a,b:c.yaml", 3, 7, "100 %\nof it");
    assert_eq!(line, "::error file=a%2Cb%3Ac.yaml,line=3,col=7::100 %25%0Aof it\n");
}
