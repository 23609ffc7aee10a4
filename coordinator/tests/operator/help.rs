//! Help, completions and manual pages come from one definition and leave nobody without an example.

use clap::Command;
use fedlora_coordinator::cli::Cli;

use crate::program::{Outcome, Place, program};
use crate::samples::busy;

/// Every command with its words, groups included.
fn commands() -> Vec<(String, Command)> {
    fn collect(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            collect(&path, sub, found);
            found.push((path, sub.clone()));
        }
    }
    let mut found = Vec::new();
    collect("fedlora-coordinator", &Cli::definition(), &mut found);
    found
}

#[test]
fn the_definition_holds_together() {
    Cli::definition().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example_of_itself() {
    let commands = commands();
    assert!(commands.len() > 25, "{}", commands.len());
    for (path, command) in commands {
        assert!(command.get_about().is_some(), "{path} says nothing about itself");
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:\n") && help.contains(&path), "{path} has no example: {help}");
    }
}

#[test]
fn every_example_is_a_valid_command_line() {
    for (path, command) in commands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("fedlora-coordinator")) {
            let line = line.split([">", "|"].map(|c| c.chars().next().unwrap_or_default())).next().unwrap_or_default();
            let parsed = Cli::definition().try_get_matches_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{path}: {line}: {}", parsed.expect_err("not ok"));
        }
    }
}

#[test]
fn every_option_is_explained() {
    for (path, command) in commands() {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} does not explain {}", argument.get_id());
        }
    }
}

#[test]
fn long_help_lists_the_exit_codes() {
    let said = Outcome::of(&program("--help").output().expect("the program can be started")).says();
    for code in ["0 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "130"] {
        assert!(said.lines().any(|line| line.trim().starts_with(code)), "{code} is not in {said}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let said = Outcome::of(&program(&format!("completions {shell}")).output().expect("it can be started")).says();
        for word in ["serve", "rounds", "watch", "checkpoint", "--format"] {
            assert!(said.contains(word.trim_start_matches('-')), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new(busy());
    place.run("man --out pages").says();
    for (path, _) in commands() {
        let page = place.path("pages").join(format!("{}.1", path.replace(' ', "-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains("Examples:"), "{}", page.display());
    }
}
