//! The workspace's crates and what their manifests name, as `cargo metadata --no-deps` tells it.

use std::collections::BTreeSet;

use serde_json::Value;

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Packages named in its manifest, for building, running or testing.
    pub(super) dependencies: BTreeSet<String>,
}

/// Reads cargo's answer.
pub(super) fn parse(metadata: &str) -> Vec<Member> {
    let metadata: Value = serde_json::from_str(metadata).expect("cargo metadata prints JSON");
    list(&metadata, "packages").iter().map(member).collect()
}

fn member(package: &Value) -> Member {
    Member { name: name(package), dependencies: list(package, "dependencies").iter().map(name).collect() }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("cargo metadata has a list of {key}"))
}

fn name(value: &Value) -> String {
    value["name"].as_str().expect("packages and dependencies have names").to_owned()
}
