//! Pages link only to files that exist.

use std::{fs, path::Path};

use crate::repository;

#[test]
fn links_lead_to_files() {
    let pages = repository::files("md");
    assert!(!pages.is_empty(), "no pages found");
    let dead: Vec<String> = pages
        .iter()
        .flat_map(|page| {
            let text = fs::read_to_string(page).expect("pages can be read");
            dead_links(page, &text)
        })
        .collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Relative links of a page that lead nowhere.
fn dead_links(page: &Path, text: &str) -> Vec<String> {
    let exists = |target: &str| page.parent().is_some_and(|folder| folder.join(target).exists());
    let dead = local_targets(text).into_iter().filter(|target| !exists(target));
    dead.map(|target| format!("{} links to {target}, which does not exist", page.display())).collect()
}

/// Where the links and images of a page lead, without those to other sites and to headings of the page itself.
fn local_targets(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains(':')).collect()
}

#[test]
fn a_dead_link_is_named() {
    let page = repository::root().join("page.md");
    let text = "[here](Cargo.toml#members) [web](https://example.org/x) [heading](#top) ![gone](no/such.svg \"title\")";
    let expected = format!("{} links to no/such.svg, which does not exist", page.display());
    assert_eq!(dead_links(&page, text), [expected]);
}
