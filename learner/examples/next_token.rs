//! What a language model with an adapter of ours says to some texts, for `tests/interop/next_token_check.py`:
//!
//! ```text
//! cargo run --release -p fedlora-learner --example next_token -- MODEL_DIR ADAPTER_DIR TEXTS.jsonl
//! ```
//! Writes to `ADAPTER_DIR` an adapter in every linear layer, of which no value is zero. Prints one JSON object a line: the text,
//! the logits of the token behind it, and the tokens of its greedy continuation.

use std::{error::Error, fs, path::Path, sync::Arc};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, PeftOptions, Tensor, write_peft};
use fedlora_learner::{
    Generation, GroupedAdapter, KeyValueCache, LearnerError, Model, Pooling, device, generate, load_pretrained,
    target_modules,
};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Line {
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, out, texts] = arguments.as_slice() else {
        return Err("expected MODEL_DIR ADAPTER_DIR TEXTS.jsonl".into());
    };
    let (model, preprocessor) = load_pretrained(Path::new(directory), Pooling::Mean, &device("cpu")?)?;
    let decoder = model.decoder().ok_or(LearnerError::NotADecoder)?;
    let tokenizer = preprocessor.into_text().ok_or(LearnerError::NotADecoder)?;
    let adapter = waves(&*model)?;
    let task_type = Some("CAUSAL_LM".to_owned());
    write_peft(Path::new(out), &adapter, &PeftOptions { base_model: directory.clone(), task_type, dropout: 0.0 })?;
    let group = GroupedAdapter::new(&[&adapter], Factors::Neither, false, &model.device())?;
    let generation = Generation { max_new_tokens: 20, ..Generation::default() };
    for line in fs::read_to_string(texts)?.lines().filter(|line| !line.trim().is_empty()) {
        let Line { text } = serde_json::from_str(line)?;
        let prompt = tokenizer.encode(&text)?.ids;
        let logits = decoder.next(&[&prompt], &mut KeyValueCache::new(1), Some(&group));
        let logits: Vec<f32> = logits.try_into_data()?.try_into_vec()?;
        let continuation = generate(&*model, Some(&adapter), &prompt, &generation)?;
        println!("{}", json!({ "text": text, "logits": logits, "continuation": continuation }));
    }
    Ok(())
}

/// Factors that are sines, in every linear layer.
fn waves(model: &dyn Model) -> Result<Adapter, Box<dyn Error>> {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &["all-linear".to_owned()])?,
        head: model.head_spec(0),
    };
    let (spec, mut modules, head) = Adapter::zeros(Arc::new(spec))?.into_parts();
    let mut shift = 0.0;
    for factor in modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]) {
        shift += 1.0;
        *factor = Tensor::from_fn(factor.shape(), |k| 0.1 * (0.37 * k as f32 + shift).sin());
    }
    Ok(Adapter::new(spec, modules, head)?)
}
