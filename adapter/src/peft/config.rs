//! `adapter_config.json`: what PEFT needs to rebuild the layers around the tensors.

use serde_json::{Value, json};

use crate::{AdapterError, AdapterKind, AdapterSpec, ModuleName};

/// What a PEFT configuration says beyond the adapter's own specification.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeftOptions {
    /// `base_model_name_or_path`.
    pub base_model: String,
    /// `task_type`: `SEQ_CLS`, `FEATURE_EXTRACTION`, …; none for models outside `transformers`.
    pub task_type: Option<String>,
    /// Dropout used in training.
    pub dropout: f64,
}

pub(super) fn to_json(spec: &AdapterSpec, options: &PeftOptions) -> String {
    // Full names rather than `query`: they match the adapted modules and nothing else.
    let targets: Vec<&str> = spec.modules.keys().map(ModuleName::as_str).collect();
    let classifier = spec.classifier();
    let mut saved: Vec<&str> = classifier.keys().filter_map(|name| name.split('.').next()).collect();
    saved.dedup();
    let bare = options.task_type.as_deref() == Some("FEATURE_EXTRACTION");
    let mut config = json!({
        "peft_type": spec.kind.row().peft_type,
        "base_model_name_or_path": options.base_model,
        "task_type": options.task_type,
        "inference_mode": true,
        "bias": "none",
        "r": spec.rank,
        "target_modules": targets,
        "fan_in_fan_out": false,
        // The bare encoder has no classifier that PEFT could wrap; its head is applied by the reader.
        "modules_to_save": if bare || saved.is_empty() { Value::Null } else { json!(saved) },
    });
    let kind = match spec.kind {
        AdapterKind::Lora | AdapterKind::Olora | AdapterKind::Dora => json!({
            "lora_alpha": spec.alpha,
            "lora_dropout": options.dropout,
            "use_rslora": spec.use_rslora,
            "use_dora": spec.kind == AdapterKind::Dora,
            // PEFT takes OLoRA's first product out of the base weights when it loads the adapter, as it is done here.
            "init_lora_weights": if spec.kind == AdapterKind::Olora { json!("olora") } else { json!(true) },
        }),
        AdapterKind::Vera => json!({
            "vera_dropout": options.dropout,
            "d_initial": 0.1,
            "projection_prng_key": spec.projection_seed,
            "save_projection": true,
        }),
    };
    if let (Value::Object(config), Value::Object(kind)) = (&mut config, kind) {
        config.extend(kind);
    }
    format!("{config:#}\n")
}

/// Refuses a configuration whose tensors would act differently here.
pub(super) fn check(json: &[u8], spec: &AdapterSpec) -> Result<(), AdapterError> {
    let config: Value = serde_json::from_slice(json).map_err(AdapterError::Header)?;
    expect(&config, "peft_type", &json!(spec.kind.row().peft_type), None)?;
    expect(&config, "r", &json!(spec.rank), None)?;
    expect(&config, "fan_in_fan_out", &json!(false), Some(&json!(false)))?;
    expect(&config, "bias", &json!("none"), Some(&json!("none")))?;
    if spec.kind.has_matrices() {
        expect(&config, "lora_alpha", &json!(spec.alpha), Some(&json!(8.0)))?;
        expect(&config, "use_rslora", &json!(spec.use_rslora), Some(&json!(false)))?;
        expect(&config, "use_dora", &json!(spec.kind == AdapterKind::Dora), Some(&json!(false)))?;
        for key in ["use_qalora", "lora_bias"] {
            expect(&config, key, &json!(false), Some(&json!(false)))?;
        }
        for key in ["rank_pattern", "alpha_pattern"] {
            expect(&config, key, &json!({}), Some(&json!({})))?;
        }
        for key in ["alora_invocation_tokens", "layer_replication"] {
            expect(&config, key, &Value::Null, None)?;
        }
        check_base(&config, spec)?;
    }
    Ok(())
}

/// Some initialisations take their factors out of the base weights; the adapter then belongs to the base that is left.
/// OLoRA's is known here, others' are not.
fn check_base(config: &Value, spec: &AdapterSpec) -> Result<(), AdapterError> {
    let found = config.get("init_lora_weights").unwrap_or(&Value::Null);
    let keeps_base = found.as_str().is_none_or(|init| ["gaussian", "eva", "orthogonal"].contains(&init));
    let is_olora = found.as_str().is_some_and(|init| init.eq_ignore_ascii_case("olora"));
    let (fits, expected) = match spec.kind {
        AdapterKind::Olora => (is_olora, "\"olora\""),
        _ => (keeps_base, "an initialisation that leaves the base weights as they are"),
    };
    if fits {
        return Ok(());
    }
    Err(AdapterError::PeftConfig { key: "init_lora_weights", expected: expected.to_owned(), found: found.to_string() })
}

/// Compares one key; numbers by value, so that 16 and 16.0 agree. An absent key and `null` mean the default.
fn expect(config: &Value, key: &'static str, expected: &Value, default: Option<&Value>) -> Result<(), AdapterError> {
    let found = config.get(key).filter(|value| !value.is_null()).or(default).unwrap_or(&Value::Null);
    let equal = match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found.to_bits() == expected.to_bits(),
        _ => found == expected,
    };
    if equal {
        return Ok(());
    }
    Err(AdapterError::PeftConfig { key, expected: expected.to_string(), found: found.to_string() })
}
