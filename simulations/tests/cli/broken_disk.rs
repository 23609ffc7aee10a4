//! Disks that are full and places that cannot be written: code 5, the path, and whole files or none.
//!
//! A full disk needs no file system of its own: writes to Linux's `/dev/full` fail as on a full disk, and every file is
//! written under a name that ends in `.partial` before it gets its own, so a link there redirects that one write.

#[cfg(target_os = "linux")]
use std::{fs, os::unix::fs::symlink, process::Stdio};

#[cfg(target_os = "linux")]
use crate::support::Outcome;
use crate::support::Place;

#[test]
fn a_run_below_a_regular_file_is_refused_with_its_path() {
    let place = Place::with_sentences();
    for out in ["job.toml/run", "job.toml", "job.toml/run --resume", "job.toml --resume"] {
        let path = out.split(' ').next().expect("a path");
        place.sim(&format!("run job.toml --out {out}")).fails(5, &["cannot write", path]);
    }
}

/// A job whose disk is full when this file of its run is written.
#[cfg(target_os = "linux")]
fn with_full_disk_at(file: &str) -> Place {
    let place = Place::with_sentences();
    place.write(file, "");
    fs::remove_file(place.path(file)).expect("removable");
    symlink("/dev/full", place.path(format!("{file}.partial"))).expect("links can be made");
    place
}

/// The run fails at the file, leaves nothing half-written, and once there is space goes on to the end.
#[cfg(target_os = "linux")]
fn fails_and_can_go_on(file: &str) {
    let place = with_full_disk_at(file);
    place.sim("run job.toml --out run").fails(5, &[file, "No space left on device"]);
    assert!(!place.exists("run/metrics_summary.json"), "{file}: an unfinished run has a summary");
    let files = place.tree("run");
    assert!(!files.keys().any(|name| name.to_string_lossy().ends_with(".partial")), "{file}: {:?}", files.keys());
    place.sim("run job.toml --out run --resume").succeeds();
    place.sim("run job.toml --out undisturbed").succeeds();
    assert_eq!(place.read("run/metrics_summary.json"), place.read("undisturbed/metrics_summary.json"), "{file}");
    assert!(place.tree("run/adapters") == place.tree("undisturbed/adapters"), "{file}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_at_the_start_stops_the_run() {
    fails_and_can_go_on("run/config.toml");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_at_a_checkpoint_stops_the_run() {
    fails_and_can_go_on("run/checkpoints/round-0001/adapter_model.safetensors");
    fails_and_can_go_on("run/checkpoints/latest");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_at_the_end_leaves_no_summary() {
    fails_and_can_go_on("run/adapters/global/adapter_model.safetensors");
    fails_and_can_go_on("run/metrics_summary.json");
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    for format in ["text", "json"] {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let mut command = place.command(&format!("methods --format {format}"));
        let output = command.stdout(Stdio::from(full)).output().expect("the program can be started");
        assert_eq!(Outcome::of(&output).code, Some(5), "{format}");
    }
}
