//! The same seed gives the same bytes, however many threads work and however many clients train side by side.

use std::{collections::BTreeMap, path::PathBuf};

use crate::support::Place;

/// All that a run's results consist of.
pub(crate) type Results = (String, BTreeMap<PathBuf, Vec<u8>>);

fn results(place: &Place, out: &str, arguments: &str) -> Results {
    place.sim(&format!("run job.toml --out {out} {arguments}")).succeeds();
    (place.read(&format!("{out}/metrics_summary.json")), place.tree(&format!("{out}/adapters")))
}

pub(crate) fn does_not_depend_on_threads_and_cohorts(settings: &str) -> Results {
    let place = Place::with_digits();
    let alone = results(&place, "alone", &format!("{settings} --threads 1 --set cohort-size=1"));
    let side_by_side = results(&place, "side-by-side", &format!("{settings} --threads 2"));
    let cohorts = results(&place, "cohorts", &format!("{settings} --threads 2 --set cohort-size=4"));
    assert!(alone.1.contains_key(&PathBuf::from("global/adapter_model.safetensors")), "{:?}", alone.1.keys());
    assert!(alone == side_by_side, "two threads: {}\n{}", alone.0, side_by_side.0);
    assert!(alone == cohorts, "cohorts of four: {}\n{}", alone.0, cohorts.0);
    alone
}

#[test]
fn fedavg_gives_the_same_bytes_for_any_threads_and_cohorts() {
    does_not_depend_on_threads_and_cohorts("--set method.name=fedavg");
}

#[test]
fn fedsa_lora_gives_the_same_bytes_for_any_threads_and_cohorts() {
    let (_, adapters) = does_not_depend_on_threads_and_cohorts("--set method.name=fedsa-lora");
    assert!(adapters.contains_key(&PathBuf::from("client-5/adapter_model.safetensors")), "{:?}", adapters.keys());
}

#[test]
fn other_kinds_and_initialisations_give_the_same_bytes_for_any_threads_and_cohorts() {
    let (_, dora) = does_not_depend_on_threads_and_cohorts("--set lora.use_dora=true --set lora.loraplus_lr_ratio=4");
    let config = &dora[&PathBuf::from("global/adapter_config.json")];
    assert!(String::from_utf8_lossy(config).contains("\"use_dora\": true"));
    does_not_depend_on_threads_and_cohorts("--set lora.init_lora_weights=olora");
    let (_, xs) = does_not_depend_on_threads_and_cohorts("--set lora.peft_type=LORA_XS");
    assert!(xs.contains_key(&PathBuf::from("global/lora_xs.safetensors")), "{:?}", xs.keys());
    does_not_depend_on_threads_and_cohorts("--set method.name=fedsa-lora --set lora.init_lora_weights=orthogonal");
}

#[test]
fn lora_fair_gives_the_same_bytes_for_any_threads_and_cohorts() {
    does_not_depend_on_threads_and_cohorts("--set method.name=lora-fair");
}

#[test]
fn fedsvd_gives_the_same_bytes_for_any_threads_and_cohorts() {
    does_not_depend_on_threads_and_cohorts("--set method.name=fedsvd");
}

#[test]
fn fedsa_vera_gives_the_same_bytes_for_any_threads_and_cohorts() {
    does_not_depend_on_threads_and_cohorts("--set method.name=fedsa-vera");
}

#[test]
fn faults_fall_on_the_same_clients_for_any_threads_and_cohorts() {
    // A client takes 300 ms for its three steps; a straggler takes ten times as long and misses the deadline.
    let (summary, _) = does_not_depend_on_threads_and_cohorts(
        "--set method.name=fedsa-lora --set num-rounds=5 --set faults.dropout-rate=0.2 --set faults.straggler-rate=0.3 \
         --set round-deadline-ms=1000 --set faults.duplicate-rate=0.3 --set faults.corrupt-rate=0.2",
    );
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    for count in ["accepted", "rejected", "late", "dropped"] {
        assert!(summary[count].as_u64() > Some(0), "this seed shows no case of {count}: {summary}");
    }
}

#[test]
fn another_seed_gives_another_adapter() {
    let place = Place::with_digits();
    let digest = |out: &str, seed: u64| {
        let (summary, _) = results(&place, out, &format!("--seed {seed}"));
        let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
        summary["adapter_digest"].clone()
    };
    assert_ne!(digest("one", 1), digest("two", 2));
}

#[test]
fn several_devices_give_the_bytes_of_one_whatever_the_type_of_the_weights() {
    let place = Place::with_sentences();
    let one = results(&place, "one", "--device cpu");
    assert!(one == results(&place, "two", "--device cpu,cpu --threads 2"));
    assert!(one == results(&place, "deployed", "--device cpu,cpu --link grpc"));
    let half = results(&place, "half", "--set model.dtype=bfloat16");
    assert!(half.1 != one.1, "weights of 16 bits train something else");
    let settings = "--set model.dtype=bfloat16 --set gradient-checkpointing=true --device cpu,cpu,cpu";
    assert!(half == results(&place, "half-on-three", settings));
}

#[test]
fn the_model_that_ships_with_the_program_is_on_one_device_in_32_bits() {
    let place = Place::with_digits();
    place.sim("run job.toml --out run --set model.dtype=float16").fails(2, &["model.dtype", "float32"]);
    place.sim("run job.toml --out run --device cpu,cpu").fails(2, &["--device", "one device"]);
    assert!(!place.exists("run"));
}
