//! What every command says, to people and to machines.
//!
//! `answers.txt` is a transcript: lines that begin with `$` are commands, those below are what the program writes.

use std::fmt::Write;

use crate::{
    fake::Known,
    program::Place,
    samples::{busy, model_json},
};

const RUN: &str = "num-rounds = 3\nlearning-rate = 0.1\nlora.r = 2\nmethod.name = 'fedavg'\n";

/// The commands of a transcript, each followed by what it says now.
fn play(transcript: &str, place: &Place) -> String {
    let mut played = String::new();
    for command in transcript.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let said = place.run(command).says();
        writeln!(played, "$ {command}\n{}\n", normal(said.trim_end())).expect("strings can be written");
    }
    played
}

/// Without the version, and without the one number that depends on the machine.
fn normal(said: &str) -> String {
    let said = &said.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let text = said.split_once(" UTC, ").filter(|_| said.contains(" free\n"));
    let text = text.and_then(|(before, after)| Some(format!("{before} UTC, FREE{}", after.split_once(" free")?.1)));
    let json = said.split_once("\"disk_free_bytes\":");
    let json = json
        .and_then(|(before, after)| Some(format!("{before}\"disk_free_bytes\":FREE{}", &after[after.find(',')?..])));
    json.or(text).unwrap_or_else(|| said.to_owned())
}

#[test]
fn every_command_answers_as_in_the_transcript() {
    let transcript = include_str!("answers.txt");
    let place = Place::new(busy());
    place.write("run.toml", RUN);
    place.write("model.json", &model_json());
    let played = play(transcript, &place);
    assert!(played.trim() == transcript.trim(), "the program now says:\n{played}");
}

#[test]
fn a_coordinator_that_has_done_nothing_says_what_to_do() {
    let transcript = include_str!("answers_empty.txt");
    let played = play(transcript, &Place::new(Known::default()));
    assert!(played.trim() == transcript.trim(), "the program now says:\n{played}");
}

#[test]
fn a_shown_configuration_is_valid_and_shows_as_itself() {
    let place = Place::new(busy());
    place.write("run.toml", RUN);
    let shown = place.run("config show run.toml --set seed=7").says();
    place.write("shown.toml", &shown);
    assert_eq!(place.run("config check shown.toml").says(), "shown.toml is valid\n");
    assert_eq!(place.run("config show shown.toml").says(), shown);
}
