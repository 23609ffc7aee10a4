//! What a crate reaches, as `cargo tree --prefix depth` tells it.

use super::tables::belongs;

/// The first chain from the tree's root to a package of a family, by names.
pub(super) fn chain_to<'a>(tree: &'a str, family: &str) -> Option<Vec<&'a str>> {
    let mut chain = Vec::new();
    for (depth, name) in tree.lines().filter_map(line) {
        chain.truncate(depth);
        chain.push(name);
        if belongs(name, family) {
            return Some(chain);
        }
    }
    None
}

/// Depth and name of a line such as `2burn-tensor v0.22.1 (*)`.
fn line(line: &str) -> Option<(usize, &str)> {
    let name = line.trim_start_matches(|character: char| character.is_ascii_digit());
    let depth = line.strip_suffix(name)?.parse().ok()?;
    Some((depth, name.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0fedlora-coordinator v0.1.0 (/somewhere/coordinator)
1fedlora-adapter v0.1.0 (/somewhere/adapter)
2serde v1.0.0
1fedlora-client v0.1.0 (/somewhere/client)
2serde v1.0.0 (*)
2fedlora-learner v0.1.0 (/somewhere/learner)
3burn-flex v0.22.1
";

    #[test]
    fn the_chain_to_a_banned_package_is_named() {
        let chain = chain_to(TREE, "burn").unwrap();
        assert_eq!(chain, ["fedlora-coordinator", "fedlora-client", "fedlora-learner", "burn-flex"]);
    }

    #[test]
    fn a_tree_without_the_package_has_no_chain() {
        assert_eq!(chain_to(TREE, "tokio"), None);
    }
}
