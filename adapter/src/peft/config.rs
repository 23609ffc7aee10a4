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
    let mut saved: Vec<&str> = spec.head.keys().filter_map(|name| name.split('.').next()).collect();
    saved.dedup();
    let bare = options.task_type.as_deref() == Some("FEATURE_EXTRACTION");
    let mut config = json!({
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
        AdapterKind::Lora => json!({
            "peft_type": "LORA",
            "lora_alpha": spec.alpha,
            "lora_dropout": options.dropout,
            "use_rslora": spec.use_rslora,
            "init_lora_weights": true,
        }),
        AdapterKind::Vera => json!({
            "peft_type": "VERA",
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
    let peft_type = match spec.kind {
        AdapterKind::Lora => "LORA",
        AdapterKind::Vera => "VERA",
    };
    expect(&config, "peft_type", &json!(peft_type), None)?;
    expect(&config, "r", &json!(spec.rank), None)?;
    expect(&config, "fan_in_fan_out", &json!(false), Some(&json!(false)))?;
    expect(&config, "bias", &json!("none"), Some(&json!("none")))?;
    if spec.kind == AdapterKind::Lora {
        expect(&config, "lora_alpha", &json!(spec.alpha), Some(&json!(8.0)))?;
        expect(&config, "use_rslora", &json!(spec.use_rslora), Some(&json!(false)))?;
        for key in ["use_dora", "use_qalora", "lora_bias"] {
            expect(&config, key, &json!(false), Some(&json!(false)))?;
        }
        for key in ["rank_pattern", "alpha_pattern"] {
            expect(&config, key, &json!({}), Some(&json!({})))?;
        }
        for key in ["alora_invocation_tokens", "layer_replication"] {
            expect(&config, key, &Value::Null, None)?;
        }
        refuse_changed_base(&config)?;
    }
    Ok(())
}

/// Some initialisations take their factors out of the base weights; the adapter then belongs to the base that is left.
fn refuse_changed_base(config: &Value) -> Result<(), AdapterError> {
    let found = config.get("init_lora_weights").unwrap_or(&Value::Null);
    let keeps_base = found.as_str().is_none_or(|init| ["gaussian", "eva", "orthogonal"].contains(&init));
    if keeps_base {
        return Ok(());
    }
    let expected = "an initialisation that leaves the base weights as they are".to_owned();
    Err(AdapterError::PeftConfig { key: "init_lora_weights", expected, found: found.to_string() })
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
