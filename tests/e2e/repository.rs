//! Where the workspace is, and what cargo says about it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the workspace").to_owned()
}

/// What a cargo command prints; it never changes the lock file.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).arg("--locked").current_dir(root());
    let output = command.output().expect("the cargo that built this test can be started");
    assert!(output.status.success(), "cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// All files with an extension, in path order, leaving out what git ignores or hides.
pub(crate) fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder's entries can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && !GENERATED.contains(&name.as_str()) {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
}

/// Folders that builds, runs and Python leave behind.
const GENERATED: &[&str] = &["target", "runs", "venv", "node_modules"];
