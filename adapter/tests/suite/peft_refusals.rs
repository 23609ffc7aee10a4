//! PEFT folders that would act differently here than where they were trained.

use std::{fs, path::Path, sync::Arc};

use fedlora_adapter::{AdapterError, AdapterKind, AdapterSpec, ModuleName};
use serde_json::{Value, json};

use crate::{
    peft::{config, read, rename, written},
    support::{adapter, changed, innermost, report, spec},
};

/// Changes one key of the configuration.
fn set(folder: &Path, key: &str, value: Value) {
    let mut config = config(folder);
    config[key] = value;
    fs::write(folder.join("adapter_config.json"), config.to_string()).expect("a writable folder");
}

/// Why a written adapter is refused after a change of its folder.
fn refused(kind: AdapterKind, change: impl FnOnce(&Path)) -> AdapterError {
    let folder = written(&adapter(&spec(kind), 1.0));
    change(folder.path());
    innermost(read(folder.path(), &spec(kind)).expect_err("something is wrong"))
}

#[track_caller]
fn assert_key(spec: &Arc<AdapterSpec>, key: &str, value: &Value) {
    let folder = written(&adapter(spec, 1.0));
    set(folder.path(), key, value.clone());
    let error = read(folder.path(), spec).expect_err(key);
    let text = report(&error);
    assert!(text.contains("adapter_config.json") && text.contains(&value.to_string()), "{text}");
    let AdapterError::PeftConfig { key: named, .. } = innermost(error) else { panic!("{text}") };
    assert_eq!(named, key);
}

#[test]
fn another_kind_rank_or_scale_is_refused() {
    let (lora, vera) = (spec(AdapterKind::Lora), spec(AdapterKind::Vera));
    for (key, value) in [
        ("peft_type", json!("VERA")),
        ("peft_type", json!("ADALORA")),
        ("r", json!(4)),
        ("r", Value::Null),
        ("lora_alpha", json!(16)),
        ("use_rslora", json!(true)),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("fan_in_fan_out", json!(true)),
        ("alora_invocation_tokens", json!([1, 2])),
        ("layer_replication", json!([[0, 2]])),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
    ] {
        assert_key(&lora, key, &value);
    }
    for (key, value) in [("peft_type", json!("LORA")), ("r", json!(256)), ("bias", json!("vera_only"))] {
        assert_key(&vera, key, &value);
    }
}

#[test]
fn ranks_and_alphas_of_single_modules_are_refused_by_module() {
    // The folder is of a longer model than the specification: its patterns are for its own names.
    let spec = spec(AdapterKind::Lora);
    let folder = written(&adapter(&spec, 1.0));
    rename(folder.path(), |name| name.replace("model.encoder", "model.bert.encoder"));
    for (key, value, expected) in [
        ("rank_pattern", json!({"0.query": 8}), "rank_pattern is 8, expected 3 for bert.encoder.layer.0.query"),
        ("alpha_pattern", json!({"value": 9}), "alpha_pattern is 9, expected 8 for bert.encoder.layer.1.value"),
        ("alpha_pattern", json!({"bert.encoder.layer.1.value": 9.5}), "is 9.5, expected 8 for bert.encoder.layer.1"),
        ("alpha_pattern", json!({"(query": 9}), "alpha_pattern: \"(query\" is no expression"),
    ] {
        set(folder.path(), key, value);
        let text = report(&read(folder.path(), &spec).expect_err(key));
        assert!(text.contains("adapter_config.json") && text.contains(expected), "{text}");
        set(folder.path(), key, Value::Null);
    }
    set(folder.path(), "alpha_pattern", json!({"^encoder.*": 9}));
    read(folder.path(), &spec).expect("a pattern for none of its names");
}

#[test]
fn keys_that_say_what_is_the_default_anyway_are_accepted() {
    let spec = spec(AdapterKind::Lora);
    let adapter = adapter(&spec, 1.0);
    let folder = written(&adapter);
    for (key, value) in [
        ("lora_alpha", json!(8)),
        ("use_rslora", Value::Null),
        ("rank_pattern", json!({})),
        ("alpha_pattern", Value::Null),
        ("init_lora_weights", json!("gaussian")),
        ("alora_invocation_tokens", Value::Null),
        ("peft_version", json!("0.21.2")),
    ] {
        set(folder.path(), key, value);
        assert_eq!(read(folder.path(), &spec).expect("nothing that matters"), adapter, "{key}");
    }
}

#[test]
fn a_configuration_that_is_no_json_or_is_absent_is_refused_with_its_path() {
    let lora = spec(AdapterKind::Lora);
    let error = refused(AdapterKind::Lora, |folder| {
        fs::write(folder.join("adapter_config.json"), "{").expect("a writable folder");
    });
    assert!(matches!(error, AdapterError::Header(_)));
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let folder = written(&adapter(&lora, 1.0));
        fs::remove_file(folder.path().join(name)).expect("written");
        let error = read(folder.path(), &lora).expect_err("incomplete");
        assert!(matches!(error, AdapterError::Io { path, .. } if path.ends_with(name)));
    }
}

#[test]
fn weights_of_more_modules_than_are_applied_are_refused() {
    let small = changed(&spec(AdapterKind::Lora), |spec| {
        spec.modules.remove(&ModuleName::new("encoder.layer.1.value"));
    });
    let folder = written(&adapter(&spec(AdapterKind::Lora), 1.0));
    let error = innermost(read(folder.path(), &small).expect_err("one module too many"));
    assert!(matches!(error, AdapterError::UnexpectedTensor { name } if name.contains("layer.1.value")));
}

#[test]
fn weights_of_a_head_that_is_not_applied_are_refused() {
    let headless = changed(&spec(AdapterKind::Lora), |spec| spec.head.clear());
    let folder = written(&adapter(&spec(AdapterKind::Lora), 1.0));
    let error = innermost(read(folder.path(), &headless).expect_err("a head too many"));
    assert!(matches!(error, AdapterError::UnexpectedTensor { name } if name.contains("classifier")));
}

#[test]
fn a_missing_factor_is_named() {
    let error = refused(AdapterKind::Lora, |folder| {
        rename(folder, |name| if name.ends_with("value.lora_B.weight") { String::new() } else { name.to_owned() });
    });
    let expected = "base_model.model.encoder.layer.1.value.lora_B.weight";
    assert!(matches!(error, AdapterError::MissingTensor { name } if name == expected));
}

#[test]
fn one_file_name_cannot_serve_two_modules() {
    // Both `left.fc` and `right.fc` end in the file's `fc`; a second module has the number of tensors right.
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        let module = spec.modules.values().next().copied().expect("a module");
        spec.modules = ["left.fc", "right.fc"].map(|name| (ModuleName::new(name), module)).into();
    });
    let folder = written(&adapter(&spec, 1.0));
    rename(folder.path(), |name| name.replace("left.fc", "fc").replace("right.fc", "other"));
    let error = innermost(read(folder.path(), &spec).expect_err("right.fc is not there"));
    assert!(matches!(error, AdapterError::MissingTensor { .. }), "{error}");
}

#[test]
fn a_head_tensor_that_two_names_fit_is_ambiguous() {
    let spec = changed(&spec(AdapterKind::Lora), |spec| {
        spec.head.insert("score.weight".to_owned(), vec![2, 8]);
    });
    let folder = written(&adapter(&spec, 1.0));
    let name = |old: &str| match old {
        "base_model.model.classifier.weight" => "base_model.model.b.score.weight".to_owned(),
        "base_model.model.score.weight" => "base_model.model.a.score.weight".to_owned(),
        other => other.to_owned(),
    };
    rename(folder.path(), name);
    let error = innermost(read(folder.path(), &spec).expect_err("two fit"));
    let AdapterError::AmbiguousTensor { name, first, second } = error else { panic!("{error}") };
    let found = [name.as_str(), first.as_str(), second.as_str()];
    assert_eq!(found, ["score.weight", "base_model.model.a.score.weight", "base_model.model.b.score.weight"]);
}

#[test]
fn projections_of_another_seed_or_none_are_refused() {
    let vera = spec(AdapterKind::Vera);
    let folder = written(&adapter(&vera, 1.0));
    let other = changed(&vera, |spec| spec.projection_seed += 1);
    let error = innermost(read(folder.path(), &other).expect_err("other projections"));
    assert!(matches!(error, AdapterError::WrongProjection { name: "base_model.vera_A", seed: 12 }));
    let error = refused(AdapterKind::Vera, |folder| {
        rename(folder, |name| if name.ends_with("vera_B") { String::new() } else { name.to_owned() });
    });
    assert!(matches!(error, AdapterError::MissingTensor { name } if name == "base_model.vera_B"));
}

#[test]
fn misshapen_not_finite_or_damaged_weights_are_refused() {
    let narrow = changed(&spec(AdapterKind::Lora), |spec| {
        spec.modules.values_mut().for_each(|module| module.d_in += 1);
    });
    let folder = written(&adapter(&spec(AdapterKind::Lora), 1.0));
    let error = innermost(read(folder.path(), &narrow).expect_err("another width"));
    assert!(matches!(error, AdapterError::WrongShape { .. }));
    let path = folder.path().join("adapter_model.safetensors");
    let honest = fs::read(&path).expect("written");
    let mut poisoned = honest.clone();
    let last = poisoned.len() - 4;
    poisoned[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &poisoned).expect("a writable folder");
    let error = innermost(read(folder.path(), &spec(AdapterKind::Lora)).expect_err("not finite"));
    assert!(matches!(error, AdapterError::NotFinite { .. }));
    for length in [0, 7, 8, 100, honest.len() - 1] {
        fs::write(&path, &honest[..length]).expect("a writable folder");
        assert!(read(folder.path(), &spec(AdapterKind::Lora)).is_err(), "{length} bytes");
    }
}
