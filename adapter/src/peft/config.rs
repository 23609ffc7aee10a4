//! `adapter_config.json`: what PEFT needs to rebuild the layers around the tensors.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{AdapterError, AdapterKind, AdapterSpec, ModuleName, ModuleSpec, ModuleValues};

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

/// What a file says of single modules. The order of the keys counts, so that these are not taken through a [`Value`].
#[derive(Debug, Default, Serialize, Deserialize)]
struct Patterns {
    #[serde(skip_serializing_if = "Option::is_none")]
    rank_pattern: Option<ModuleValues<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha_pattern: Option<ModuleValues<f64>>,
}

/// A whole file.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    plain: Map<String, Value>,
    #[serde(flatten)]
    patterns: Patterns,
}

impl Patterns {
    /// The patterns of a specification: names of modules, as expressions. Each is also one for longer names that end with
    /// it, so that those are named too, and before it.
    fn of(spec: &AdapterSpec) -> Self {
        fn named<T>(
            spec: &AdapterSpec,
            is_own: impl Fn(&ModuleSpec) -> bool,
            value: impl Fn(&ModuleSpec) -> T,
        ) -> Option<ModuleValues<T>> {
            let own: Vec<&str> =
                spec.modules.iter().filter(|(_, module)| is_own(module)).map(|(name, _)| name.as_str()).collect();
            let is_end = |name: &str, end: &str| {
                name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            let mut named: Vec<_> = spec
                .modules
                .iter()
                .filter(|(name, _)| own.iter().any(|end| is_end(name.as_str(), end)))
                .map(|(name, module)| (regex::escape(name.as_str()), value(module)))
                .collect();
            named.sort_by_key(|(name, _)| Reverse(name.len()));
            (!named.is_empty()).then(|| named.into_iter().collect())
        }
        Self {
            rank_pattern: named(spec, |module| module.rank.is_some(), |module| spec.rank_of(module)),
            alpha_pattern: named(spec, |module| module.alpha.is_some(), |module| module.alpha.unwrap_or(spec.alpha)),
        }
    }
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
        // LoRA-XS comes here as the LoRA that it is folded into.
        AdapterKind::Lora | AdapterKind::Olora | AdapterKind::Dora | AdapterKind::LoraXs => json!({
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
    let plain = if let Value::Object(plain) = config { plain } else { Map::new() };
    // Unwrap safety: string keys, numbers and lists always serialise.
    serde_json::to_string_pretty(&Written { plain, patterns: Patterns::of(spec) }).unwrap_or_default() + "\n"
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
        for key in ["alora_invocation_tokens", "layer_replication"] {
            expect(&config, key, &Value::Null, None)?;
        }
        check_base(&config, spec)?;
    }
    Ok(())
}

/// Every module must have the rank and the scale that the patterns give it under the name that it has in `modules`.
pub(super) fn check_patterns(
    json: &[u8],
    spec: &AdapterSpec,
    modules: &BTreeMap<ModuleName, &ModuleName>,
) -> Result<(), AdapterError> {
    let Patterns { rank_pattern, alpha_pattern } = serde_json::from_slice(json).map_err(AdapterError::Header)?;
    let ranks = rank_pattern.unwrap_or_default().of("rank_pattern", modules.keys())?;
    let alphas = alpha_pattern.unwrap_or_default().of("alpha_pattern", modules.keys())?;
    for (name, &own_name) in modules {
        let module = &spec.modules[own_name];
        let found = ModuleSpec { rank: ranks.get(name).copied(), alpha: alphas.get(name).copied(), ..*module };
        let differ = |key, expected: String, found: String| AdapterError::PeftConfig {
            key,
            expected: format!("{expected} for {name}"),
            found,
        };
        if spec.rank_of(&found) != spec.rank_of(module) {
            let [expected, found] = [module, &found].map(|module| spec.rank_of(module).to_string());
            return Err(differ("rank_pattern", expected, found));
        }
        if spec.scaling_of(&found).to_bits() != spec.scaling_of(module).to_bits() {
            let alpha = |module: &ModuleSpec| module.alpha.unwrap_or(spec.alpha).to_string();
            return Err(differ("alpha_pattern", alpha(module), alpha(&found)));
        }
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
