//! Runs that were killed, interrupted or damaged: they go on to the same bytes, or say what is damaged.

use std::{fs, path::Path, process::Child, thread};

use serde_json::Value;

use crate::support::Place;

/// Rounds of a run that must not end before it is killed; it is killed soon after its second.
const ROUNDS: u64 = 16;

/// [`ROUNDS`] short rounds of FedSA-LoRA, whose clients keep tensors.
fn long_run(out: &str, settings: &str) -> String {
    format!(
        "run job.toml --set num-rounds={ROUNDS} --set local-steps=2 --set method.name=fedsa-lora {settings} --out {out}"
    )
}

/// Watches a running process until something holds; the end of the process ends the wait.
fn wait_until(child: &mut Child, holds: impl Fn() -> bool) {
    while !holds() {
        let ended = child.try_wait().expect("the process is ours");
        assert!(ended.is_none(), "the process has ended too early: {ended:?}");
        thread::yield_now();
    }
}

/// The round of the newest checkpoint, 0 for none.
fn checkpointed(place: &Place, out: &str) -> u64 {
    let name = fs::read_to_string(place.path(out).join("checkpoints/latest")).unwrap_or_default();
    name.strip_prefix("round-").map_or(0, |number| number.parse().expect("a number"))
}

fn recorded(place: &Place, out: &str) -> usize {
    fs::read_to_string(place.path(out).join("round_metrics.jsonl")).unwrap_or_default().lines().count()
}

/// The records of a run without the readings of the clock.
fn rounds(place: &Place, out: &str) -> Vec<Value> {
    let record = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("JSON");
        let fields = record.as_object_mut().expect("an object");
        assert!(fields.remove("duration_s").is_some() && fields.remove("seconds").is_some(), "{line}");
        record
    };
    place.read(&format!("{out}/round_metrics.jsonl")).lines().map(record).collect()
}

#[track_caller]
fn assert_same_run(place: &Place, a: &str, b: &str) {
    assert_eq!(rounds(place, a), rounds(place, b));
    let summary = |out: &str| place.read(&format!("{out}/metrics_summary.json"));
    assert_eq!(summary(a), summary(b));
    assert!(place.tree(&format!("{a}/adapters")) == place.tree(&format!("{b}/adapters")), "the adapters differ");
}

/// Kills a run, goes on with it in `killed`, and compares with `whole`, which nobody has disturbed.
pub(crate) fn goes_on_after_a_kill(settings: &str) -> Place {
    let place = Place::with_digits();
    let mut child = place.start(&long_run("killed", settings));
    wait_until(&mut child, || checkpointed(&place, "killed") >= 2);
    child.kill().expect("the process is ours");
    child.wait().expect("the process is ours");
    assert!((2..ROUNDS).contains(&checkpointed(&place, "killed")), "{}", checkpointed(&place, "killed"));
    assert!(!place.exists("killed/metrics_summary.json"), "the run was complete before it was killed");
    place.sim(&format!("{} --resume", long_run("killed", settings))).succeeds();
    place.sim(&long_run("whole", settings)).succeeds();
    assert_same_run(&place, "killed", "whole");
    place
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    goes_on_after_a_kill("--set spill=false");
}

#[test]
fn a_killed_run_with_spilled_states_goes_on_to_the_same_bytes() {
    goes_on_after_a_kill("--set spill=true");
}

#[test]
fn a_killed_run_with_faults_goes_on_to_the_same_bytes() {
    // Two steps of 100 ms; a straggler takes ten times as long and misses the deadline.
    goes_on_after_a_kill(
        "--set faults.dropout-rate=0.2 --set faults.straggler-rate=0.3 --set round-deadline-ms=1000 \
         --set faults.duplicate-rate=0.3 --set faults.corrupt-rate=0.2",
    );
}

/// Sends the signal of Ctrl-C while a run is under way, and goes on with the run in `stopped`, as `whole` did in one go.
#[cfg(unix)]
pub(crate) fn goes_on_after_an_interrupt(settings: &str) -> Place {
    let place = Place::with_digits();
    let mut child = place.start(&long_run("stopped", settings));
    wait_until(&mut child, || recorded(&place, "stopped") >= 3);
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill can be started");
    assert!(sent.success());
    assert_eq!(child.wait().expect("the process is ours").code(), Some(130));
    let last = rounds(&place, "stopped").last().expect("rounds were done")["round"].as_u64().expect("a number");
    assert!((2..ROUNDS).contains(&last), "stopped after round {last}");
    assert_eq!(checkpointed(&place, "stopped"), last, "the last round is not checkpointed");
    assert!(place.read("stopped/metrics_summary.json").contains("finished:stopped"));
    place.sim(&format!("{} --resume", long_run("stopped", settings))).succeeds();
    place.sim(&long_run("whole", settings)).succeeds();
    assert_same_run(&place, "stopped", "whole");
    place
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_ends_with_130_and_a_checkpoint_and_goes_on_to_the_same_bytes() {
    goes_on_after_an_interrupt("");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_checkpoints_its_last_round_even_if_none_was_due() {
    goes_on_after_an_interrupt("--set checkpoint-every=100");
}

/// A finished run whose clients keep tensors.
fn kept_run() -> Place {
    let place = Place::with_sentences();
    place.sim("run job.toml --out run --set method.name=fedsa-lora").succeeds();
    place
}

const RESUME: &str = "run job.toml --out run --set method.name=fedsa-lora --resume";

#[test]
fn going_on_with_a_finished_run_changes_nothing() {
    let place = kept_run();
    let before = place.tree("run");
    place.sim(RESUME).succeeds();
    assert!(place.tree("run") == before);
}

#[test]
fn going_on_in_an_empty_or_new_directory_starts_a_run() {
    let place = kept_run();
    fs::create_dir(place.path("empty")).expect("directories can be made");
    for out in ["empty", "new"] {
        place.sim(&format!("{RESUME} --out {out}").replace("--out run ", "")).succeeds();
        assert_same_run(&place, out, "run");
    }
}

#[test]
fn a_last_record_that_was_cut_off_is_made_again() {
    let place = kept_run();
    let whole = place.read("run/round_metrics.jsonl");
    place.write("run/round_metrics.jsonl", format!("{whole}{{\"round\":3,\"train_lo"));
    place.sim(RESUME).succeeds();
    assert_eq!(place.read("run/round_metrics.jsonl"), whole);
}

#[test]
fn a_checkpoint_with_one_flipped_bit_is_refused_and_left_as_it_is() {
    let place = kept_run();
    let adapter = "checkpoints/round-0002/adapter_model.safetensors";
    let state = "checkpoints/round-0002/state.json";
    let kept = "clients/client-1-round-0002.safetensors";
    let bytes = |file: &str| fs::read(place.path("run").join(file)).expect("the run has written it");
    let digits = |digit: &u8| digit.is_ascii_digit();
    let round = bytes(state).iter().position(digits).expect("the state has numbers");
    for (file, place_of_bit, evidence) in [
        (adapter, bytes(adapter).len() - 4, "digest"),
        (adapter, 9, adapter),
        (state, round, "round"),
        (state, bytes(state).len() - 1, state),
        (kept, bytes(kept).len() - 4, kept),
        (kept, 9, kept),
    ] {
        let whole = bytes(file);
        let mut damaged = whole.clone();
        damaged[place_of_bit] ^= 1;
        let name = Path::new("run").join(file).to_string_lossy().into_owned();
        place.write(&name, damaged);
        let before = place.tree("run");
        place.sim(RESUME).fails(5, &["run/", evidence]);
        assert!(place.tree("run") == before, "{file}: a refused run has changed the directory");
        place.write(&name, whole);
    }
    place.sim(RESUME).succeeds();
}
