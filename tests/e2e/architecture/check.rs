//! Compares crates with the tables; each violation is one sentence that names both ends.

use super::{
    members::Member,
    tables::{Home, Row, belongs},
};

/// Dependencies among the workspace's crates that no row allows, and crates without a row.
pub(super) fn edges(members: &[Member], rows: &[Row]) -> Vec<String> {
    members.iter().flat_map(|member| edges_of(member, rows)).collect()
}

fn edges_of(member: &Member, rows: &[Row]) -> Vec<String> {
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    let Some(row) = find(&member.name) else {
        return vec![format!("{} has no row in the table of crates", member.name)];
    };
    let inside = member.dependencies.iter().filter_map(|name| find(name));
    let refused = inside.filter(|used| !row.may_use.contains(&used.name));
    let say = |used: &Row| {
        format!("{} (level {}) must not depend on {} (level {})", row.name, row.level, used.name, used.level)
    };
    refused.map(say).collect()
}

/// Heavy dependencies that a crate names without being their home.
pub(super) fn homes(members: &[Member], homes: &[Home]) -> Vec<String> {
    let mut violations = Vec::new();
    for home in homes {
        for member in members.iter().filter(|member| !home.crates.contains(&member.name.as_str())) {
            let found = member.dependencies.iter().filter(|package| belongs(package, home.family));
            let say = |package| {
                format!("{} must not depend on {package}, whose home is {}", member.name, home.crates.join(", "))
            };
            violations.extend(found.map(say));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::{
        members,
        tables::{CRATES, HOMES},
    };
    use super::*;

    /// A workspace of one crate, as cargo would describe it.
    fn workspace(name: &str, dependencies: &[&str]) -> Vec<Member> {
        let dependencies: Vec<_> =
            dependencies.iter().map(|name| serde_json::json!({ "name": name, "kind": "dev" })).collect();
        let package = serde_json::json!({ "name": name, "dependencies": dependencies });
        members::parse(&serde_json::json!({ "packages": [package] }).to_string())
    }

    #[test]
    fn an_arrow_that_points_up_is_named() {
        let found = edges(&workspace("fedlora-adapter", &["serde", "fedlora-learner"]), CRATES);
        assert_eq!(found, ["fedlora-adapter (level 0) must not depend on fedlora-learner (level 1)"]);
    }

    #[test]
    fn an_arrow_that_points_sideways_is_named() {
        let found = edges(&workspace("fedlora-coordinator", &["fedlora-client", "fedlora-adapter"]), CRATES);
        assert_eq!(found, ["fedlora-coordinator (level 2) must not depend on fedlora-client (level 2)"]);
    }

    #[test]
    fn a_crate_without_a_row_is_named() {
        assert_eq!(
            edges(&workspace("fedlora-extra", &[]), CRATES),
            ["fedlora-extra has no row in the table of crates"]
        );
    }

    #[test]
    fn a_heavy_dependency_away_from_home_is_named() {
        let found = homes(&workspace("fedlora-client", &["burn-flex", "burnish", "tonic"]), HOMES);
        assert_eq!(found, ["fedlora-client must not depend on burn-flex, whose home is fedlora-learner"]);
    }

    #[test]
    fn a_heavy_dependency_at_home_is_fine() {
        assert!(homes(&workspace("fedlora-learner", &["burn", "burn-flex", "tokenizers"]), HOMES).is_empty());
    }
}
