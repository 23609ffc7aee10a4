//! Logits of texts under a PEFT adapter, ours or one that `peft` made:
//!
//! ```text
//! cargo run --release -p fedlora-learner --example logits -- MODEL_DIR ADAPTER_DIR TEXTS.jsonl [mean|cls|pooler [OUT_DIR]]
//! ```
//! With `OUT_DIR`, the adapter is written there as we write it.
//!
//! Prints one JSON object a line, `{"text": …, "logits": […]}`, in the form that `tests/interop/peft_check.py` compares.

use std::{error::Error, fs, path::Path, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, Factors, ModulePatterns, ModuleValues, Seed, names, read_peft, write_peft,
};
use fedlora_learner::{
    Batch, GroupedAdapter, HeadForm, Inputs, Model, ModelConfig, Precision, Targets, TextTokenizer, device,
    selected_modules,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::json;

/// What `adapter_config.json` says of an adapter.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    /// None for VeRA, whose seed of the projections is not LoRA's.
    #[serde(default)]
    lora_alpha: Option<f64>,
    #[serde(default)]
    projection_prng_key: u64,
    #[serde(default)]
    rank_pattern: ModuleValues<usize>,
    #[serde(default)]
    alpha_pattern: ModuleValues<f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    init_lora_weights: serde_json::Value,
    target_modules: ModulePatterns,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, adapter, texts, rest @ ..] = arguments.as_slice() else {
        return Err("expected MODEL_DIR ADAPTER_DIR TEXTS.jsonl [mean|cls|pooler [OUT_DIR]]".into());
    };
    let pooling = rest.first().map(|pooling| serde_json::from_value(json!(pooling))).transpose()?;
    let config =
        ModelConfig { path: model.into(), revision: None, pooling, random_weights: false, dtype: Precision::Float32 };
    let base = config.locate()?;
    let (model, preprocessor) = base.load(Seed(0), &device("cpu")?)?;
    let tokenizer = preprocessor.into_text().ok_or("the model reads images, not texts")?.truncated(128)?;
    let adapter = read(Path::new(adapter), &*model)?;
    if let Some(out) = rest.get(1) {
        write_peft(Path::new(out), &adapter, &base.peft(0.0))?;
    }
    for line in fs::read_to_string(texts)?.lines().filter(|line| !line.trim().is_empty()) {
        let Line { text } = serde_json::from_str(line)?;
        println!("{}", json!({ "text": text, "logits": logits(&*model, &tokenizer, &adapter, &text)? }));
    }
    Ok(())
}

fn read(directory: &Path, model: &dyn Model) -> Result<Adapter, Box<dyn Error>> {
    let config: PeftConfig = serde_json::from_slice(&fs::read(directory.join("adapter_config.json"))?)?;
    let weights = fs::read(directory.join("adapter_model.safetensors"))?;
    let [head_weight, _] = HeadForm::tensors(model.head().output);
    let labels = SafeTensors::deserialize(&weights)?.tensor(&names::extra(&head_weight))?.shape()[0];
    let kind = match (config.peft_type.as_str(), config.use_dora, config.init_lora_weights.as_str()) {
        ("VERA", ..) => AdapterKind::Vera,
        (_, true, _) => AdapterKind::Dora,
        (_, false, Some("olora")) => AdapterKind::Olora,
        (_, false, _) => AdapterKind::Lora,
    };
    let spec = AdapterSpec {
        kind,
        rank: config.r,
        alpha: config.lora_alpha.unwrap_or(config.r as f64),
        use_rslora: config.use_rslora,
        projection_seed: config.projection_prng_key,
        modules: selected_modules(model, &config.target_modules.into())?,
        head: model.head_spec(labels),
    };
    let spec = spec.with_patterns(&config.rank_pattern, &config.alpha_pattern)?;
    let spec = Arc::new(spec.with_extras());
    Ok(read_peft(directory, &spec, &Adapter::zeros(Arc::clone(&spec))?)?)
}

fn logits(
    model: &dyn Model,
    tokenizer: &TextTokenizer,
    adapter: &Adapter,
    text: &str,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let tokens = tokenizer.encode(text)?;
    let lengths = vec![tokens.ids.len()];
    let batch = Batch { inputs: Inputs::Tokens { tokens, lengths }, targets: Targets::Labels(vec![0]) };
    let grouped = GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device())?;
    Ok(model.forward(&batch, &grouped, None).try_into_data()?.try_into_vec()?)
}
