//! Which crate may depend on which, and where heavy dependencies live.
//!
//! Arrows point down only, so that a crate can be read, built and tested without those above it, and every heavy
//! dependency has one home, so that the coordinator never carries a deep-learning framework. The tables are in
//! `architecture/tables.rs`; here they are held against what cargo says.

mod check;
mod members;
mod tables;
mod tree;

use crate::repository;
use members::Member;
use tables::{BANS, CRATES, HOMES};
use tree::chain_to;

fn workspace() -> Vec<Member> {
    let members = members::parse(&repository::cargo(&["metadata", "--format-version", "1", "--no-deps"]));
    assert!(members.iter().any(|member| member.name == env!("CARGO_PKG_NAME")), "this crate is not in {members:?}");
    members
}

#[test]
fn crates_depend_only_on_what_their_row_allows() {
    let violations = check::edges(&workspace(), CRATES);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn heavy_dependencies_stay_at_home() {
    let violations = check::homes(&workspace(), HOMES);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn nothing_drags_a_banned_dependency_in() {
    let members = workspace();
    for ban in BANS.iter().filter(|ban| members.iter().any(|member| member.name == ban.from)) {
        let tree = repository::cargo(&["tree", "--package", ban.from, "--edges", "normal,build", "--prefix", "depth"]);
        if let Some(chain) = chain_to(&tree, ban.family) {
            panic!("{} must not reach {}, since {}: {}", ban.from, ban.family, ban.why, chain.join(" -> "));
        }
    }
}

#[test]
fn the_tables_themselves_point_down() {
    let level = |name: &str| CRATES.iter().find(|row| row.name == name).map(|row| row.level);
    for row in CRATES {
        for lower in row.may_use {
            assert!(level(lower) < Some(row.level), "{} -> {lower}", row.name);
        }
    }
    for name in HOMES.iter().flat_map(|home| home.crates).chain(BANS.iter().map(|ban| &ban.from)) {
        assert!(level(name).is_some(), "{name} has no row");
    }
}
