//! Every crate takes its version, its lints and its dependencies' versions from the workspace.

use std::fs;

use crate::repository;

/// Keys of `[package]` that are said once, for all crates.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

#[test]
fn every_crate_inherits_from_the_workspace() {
    let mut manifests: Vec<_> =
        repository::files("toml").into_iter().filter(|file| file.ends_with("Cargo.toml")).collect();
    manifests.retain(|file| file.parent() != Some(&repository::root()));
    assert!(!manifests.is_empty(), "no manifests found");
    let violations: Vec<String> = manifests
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("manifests can be read");
            own_settings(&text).into_iter().map(move |what| format!("{}: {what}", file.display()))
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// What a manifest says itself instead of inheriting it.
fn own_settings(manifest: &str) -> Vec<String> {
    let package = section(manifest, "package");
    let inherits = |key: &&&str| package.iter().any(|line| *line == format!("{key}.workspace = true"));
    let mut found: Vec<String> =
        INHERITED.iter().filter(|key| !inherits(key)).map(|key| format!("{key} is not the workspace's")).collect();
    if section(manifest, "lints") != ["workspace = true"] {
        found.push("lints are not the workspace's".to_owned());
    }
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let own = section(manifest, table).into_iter().filter(|line| !line.contains("workspace = true"));
        found.extend(own.map(|line| format!("{table} has its own {line}")));
    }
    found
}

/// The lines of a table, without empty ones and comments.
fn section<'a>(manifest: &'a str, table: &str) -> Vec<&'a str> {
    let header = format!("[{table}]");
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn what_a_manifest_does_not_inherit_is_named() {
    let manifest = "\
[package]
name = \"fedlora-odd\"
version = \"0.2.0\"
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[lints.clippy]
pedantic = \"allow\"

[dependencies]
# A comment.
serde.workspace = true
rand = { workspace = true, features = [\"std\"] }
tokio = \"1\"
";
    let expected =
        ["version is not the workspace's", "lints are not the workspace's", "dependencies has its own tokio = \"1\""];
    assert_eq!(own_settings(manifest), expected);
}
