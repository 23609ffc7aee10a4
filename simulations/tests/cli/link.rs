//! One truth: a run through a coordinator and its clients leaves the bytes of the direct one.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::support::Place;

/// What a run leaves, and what it measured but for the times.
fn results(place: &Place, out: &str, arguments: &str) -> (String, Vec<Value>, BTreeMap<PathBuf, Vec<u8>>) {
    place.sim(&format!("run job.toml --out {out} --threads 2 {arguments}")).succeeds();
    let rounds = place.read(&format!("{out}/round_metrics.jsonl"));
    let rounds = rounds.lines().map(|line| {
        let mut round: Value = serde_json::from_str(line).expect("a round as JSON");
        let fields = round.as_object_mut().expect("an object");
        for time in ["duration_s", "seconds"] {
            assert!(fields.remove(time).is_some(), "{time} is a field of {fields:?}");
        }
        round
    });
    let rounds = rounds.collect();
    (place.read(&format!("{out}/metrics_summary.json")), rounds, place.tree(&format!("{out}/adapters")))
}

pub(crate) fn links_agree(place: &Place, arguments: &str) {
    let direct = results(place, "direct", arguments);
    let grpc = results(place, "grpc", &format!("--link grpc {arguments}"));
    assert_eq!(direct.0, grpc.0, "{arguments}: summary");
    assert_eq!(direct.1, grpc.1, "{arguments}: rounds");
    assert!(direct.2 == grpc.2, "{arguments}: adapters");
}

#[test]
fn both_links_leave_the_same_bytes() {
    for method in ["fedavg", "ffa-lora", "fedsa-lora", "fedsa-vera", "lora-fair", "fedsvd"] {
        let place = Place::with_digits();
        links_agree(&place, &format!("--set method.name={method} --set evaluate-every=1"));
    }
}

#[test]
fn both_links_begin_with_what_adapters_take_from_the_frozen_weights() {
    for lora in ["use_dora=true", "init_lora_weights=olora"] {
        let place = Place::with_digits();
        links_agree(&place, &format!("--set method.name=fedsa-lora --set lora.loraplus_lr_ratio=4 --set lora.{lora}"));
    }
    for method in ["lora-fair", "fedsvd", "fedsa-lora"] {
        let place = Place::with_digits();
        let patterns = "--set lora.rank_pattern.query=2 --set lora.alpha_pattern.value=3";
        links_agree(&place, &format!("--set method.name={method} {patterns}"));
        let config = place.read("direct/adapters/global/adapter_config.json");
        assert!(config.contains("rank_pattern") && config.contains("alpha_pattern"), "{config}");
    }
    for method in ["fedavg", "local-only"] {
        let place = Place::with_digits();
        links_agree(&place, &format!("--set method.name={method} --set lora.peft_type=LORA_XS --set evaluate-every=1"));
        let adapters = place.tree("direct/adapters");
        let kept = adapters.contains_key(&PathBuf::from("client-5/lora_xs.safetensors"));
        assert_eq!(kept, method == "local-only", "{:?}", adapters.keys());
    }
}

#[test]
fn both_links_begin_with_the_directions_of_public_rows() {
    let place = Place::with_digits();
    let eva = "lora.init_lora_weights=eva --set lora.eva_config.data.path=builtin:pretraining-digits";
    links_agree(&place, &format!("--set method.name=ffa-lora --set {eva} --set lora.eva_config.examples=64"));
    let kept = |out: &str| place.tree(out)[&PathBuf::from("global/adapter_model.safetensors")].clone();
    let eva = kept("direct/adapters");
    place.sim("run job.toml --out plain --set method.name=ffa-lora").succeeds();
    assert_ne!(kept("plain/adapters"), eva, "the rows decide on A");
}

#[test]
fn both_links_draw_the_same_cohorts() {
    let place = Place::with_digits();
    links_agree(&place, "--set method.name=fedsa-lora --set num-rounds=4 --set clients-per-round=3");
}

#[test]
fn what_only_virtual_time_has_is_refused() {
    let place = Place::with_digits();
    let faults = place.sim("run job.toml --out out --link grpc --set faults.dropout-rate=0.1");
    faults.fails(2, &["--link grpc cannot be combined with injected faults"]);
    let resume = place.sim("run job.toml --out out --link grpc --resume");
    resume.fails(2, &["--link grpc cannot be combined with --resume"]);
    assert!(!place.exists("out"), "nothing was written");
}
