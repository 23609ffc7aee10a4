//! Logits of texts under a PEFT adapter, ours or one that `peft` made:
//!
//! ```text
//! cargo run --release -p fedlora-learner --example logits -- MODEL_DIR ADAPTER_DIR TEXTS.jsonl [mean|cls|pooler]
//! ```
//! Prints one JSON object a line, `{"text": …, "logits": […]}`, in the form that `tests/interop/peft_check.py` compares.

use std::{error::Error, fs, path::Path, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, names, read_peft};
use fedlora_learner::{
    Batch, GroupedAdapter, HEAD_WEIGHT, Inputs, Model, Pooling, Targets, TextTokenizer, device, load_pretrained,
    target_modules,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::json;

/// What `adapter_config.json` says of a LoRA adapter.
#[derive(Deserialize)]
struct PeftConfig {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, adapter, texts, pooling) = match arguments.as_slice() {
        [model, adapter, texts] => (model, adapter, texts, Pooling::Mean),
        [model, adapter, texts, pooling] => (model, adapter, texts, serde_json::from_value(json!(pooling))?),
        _ => return Err("expected MODEL_DIR ADAPTER_DIR TEXTS.jsonl [mean|cls|pooler]".into()),
    };
    let (model, preprocessor) = load_pretrained(Path::new(model), pooling, &device("cpu")?)?;
    let tokenizer = preprocessor.into_text().ok_or("the model reads images, not texts")?.truncated(128)?;
    let adapter = read(Path::new(adapter), &*model)?;
    for line in fs::read_to_string(texts)?.lines().filter(|line| !line.trim().is_empty()) {
        let Line { text } = serde_json::from_str(line)?;
        println!("{}", json!({ "text": text, "logits": logits(&*model, &tokenizer, &adapter, &text)? }));
    }
    Ok(())
}

fn read(directory: &Path, model: &dyn Model) -> Result<Adapter, Box<dyn Error>> {
    let config: PeftConfig = serde_json::from_slice(&fs::read(directory.join("adapter_config.json"))?)?;
    let weights = fs::read(directory.join("adapter_model.safetensors"))?;
    let labels = SafeTensors::deserialize(&weights)?.tensor(&names::extra(HEAD_WEIGHT))?.shape()[0];
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: config.r,
        alpha: config.lora_alpha,
        use_rslora: config.use_rslora,
        projection_seed: 0,
        modules: target_modules(model, &config.target_modules)?,
        head: model.head_spec(labels),
    };
    let spec = Arc::new(spec);
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
