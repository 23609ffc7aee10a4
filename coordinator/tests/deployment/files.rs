//! The files, and what can be found in them.

use std::{collections::BTreeSet, fs, path::Path};

use fedlora_coordinator::cli::Cli;
use saphyr::{LoadableYamlNode, Yaml};

/// A file of `deploy/`.
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file without its comments.
pub(crate) fn without_comments(name: &str) -> String {
    let kept = |line: &&str| !line.trim_start().starts_with('#');
    read(name).lines().filter(kept).collect::<Vec<_>>().join("\n")
}

/// A YAML value as places and what is there: `("services.coordinator.ports.0", "8443:8443")`.
pub(crate) type Flat = Vec<(String, String)>;

/// Each document of a YAML file.
pub(crate) fn documents(name: &str) -> Vec<Flat> {
    let text = read(name);
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let flatten = |document: &Yaml<'_>| {
        let mut flat = Flat::new();
        collect("", document, &mut flat);
        flat
    };
    documents.iter().map(flatten).collect()
}

fn collect(place: &str, node: &Yaml<'_>, flat: &mut Flat) {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    if let Some(mapping) = node.as_mapping() {
        for (key, value) in mapping {
            collect(&below(key.as_str().expect("keys are text")), value, flat);
        }
    } else if let Some(sequence) = node.as_sequence() {
        for (index, value) in sequence.iter().enumerate() {
            collect(&below(&index.to_string()), value, flat);
        }
    } else {
        let text = node.as_str().map(str::to_owned).or(node.as_integer().map(|number| number.to_string()));
        flat.push((place.to_owned(), text.or(node.as_bool().map(|truth| truth.to_string())).unwrap_or_default()));
    }
}

/// What is at a place.
#[track_caller]
pub(crate) fn at<'a>(flat: &'a Flat, place: &str) -> &'a str {
    let found = flat.iter().find(|(there, _)| there == place);
    found.map_or_else(|| panic!("nothing at {place} in {flat:#?}"), |(_, value)| value.as_str())
}

/// All values of a list, or of whatever begins with that place.
pub(crate) fn below<'a>(flat: &'a Flat, place: &str) -> Vec<&'a str> {
    let place = format!("{place}.");
    flat.iter().filter(|(there, _)| there.starts_with(&place)).map(|(_, value)| value.as_str()).collect()
}

/// Everything of digits that follows one of these words.
pub(crate) fn ports_after(text: &str, word: &str) -> BTreeSet<String> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    let port = |rest: &str| {
        let address = rest.split(|c: char| c.is_whitespace() || "\"',/".contains(c)).next().unwrap_or_default();
        address.rsplit_once(':').map(|(_, port)| digits(port)).filter(|port| !port.is_empty())
    };
    text.split(word).skip(1).filter_map(port).collect()
}

/// The command lines of a program inside a text that a shell reads.
pub(crate) fn commands(text: &str, program: &str) -> Vec<String> {
    let ends = ["\n", ";", "&&", "||", "|", "'", "\""];
    let command = |rest: &str| {
        let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        format!("{program} {}", rest[..end].trim())
    };
    text.replace("\"$", "$").replace("}\"", "}").split(&format!("{program} ")).skip(1).map(command).collect()
}

/// The program understands the command line.
#[track_caller]
pub(crate) fn check(command: &str) {
    let parsed = Cli::definition().try_get_matches_from(command.split_whitespace());
    assert!(parsed.is_ok(), "{command}: {}", parsed.expect_err("not ok"));
}
