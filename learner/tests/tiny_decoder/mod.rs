//! The tiny language models of `golden/decoders.py`, and adapters for them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Tensor};
use fedlora_learner::{
    Batch, Inputs, Model, NextTokens, Pooling, Targets, Tokens, device, load_pretrained, target_modules,
};

pub(crate) const MODELS: [&str; 5] = ["llama", "llama3", "mistral", "qwen2", "qwen3"];

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders").join(name)
}

pub(crate) fn load(name: &str) -> Arc<dyn Model> {
    load_pretrained(&directory(name), Pooling::Mean, &device("cpu").unwrap()).unwrap().0
}

/// Sequences of which the tokens behind the prompts are to be predicted.
pub(crate) fn batch(sequences: &[Vec<u32>], prompts: &[usize]) -> Batch {
    let (mut next, mut start) = (NextTokens::default(), 0);
    for (ids, &prompt) in sequences.iter().zip(prompts) {
        next.rows.extend((prompt - 1..ids.len() - 1).map(|row| (start + row) as u32));
        next.ids.extend(&ids[prompt..]);
        next.counts.push(ids.len() - prompt);
        start += ids.len();
    }
    let lengths = sequences.iter().map(Vec::len).collect();
    Batch {
        inputs: Inputs::Tokens { tokens: Tokens::from(sequences.concat()), lengths },
        targets: Targets::Tokens(next),
    }
}

pub(crate) fn values<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

pub(crate) fn spec(model: &dyn Model) -> Arc<AdapterSpec> {
    Arc::new(AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &["all-linear".to_owned()]).unwrap(),
        head: model.head_spec(2),
    })
}

/// The factors by the formula of `decoders.py`, moved by `shift` for another client's.
pub(crate) fn adapter(model: &dyn Model, shift: f64) -> Adapter {
    let (spec, mut modules, head) = Adapter::zeros(spec(model)).unwrap().into_parts();
    // Modules by name, A before B: the order of the sorted parameter names in the script.
    let factors = modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]);
    for (index, factor) in factors.enumerate() {
        let (step, start) = (0.37 + 0.05 * index as f64, index as f64 + shift);
        *factor = Tensor::from_fn(factor.shape(), |k| (0.2 * (step * k as f64 + start).sin()) as f32);
    }
    Adapter::new(spec, modules, head).unwrap()
}
