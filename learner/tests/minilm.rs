//! The real MiniLM against reference values computed with PyTorch. Run it with
//!
//! ```text
//! FEDLORA_MINILM=DIR FEDLORA_MINILM_REFERENCE=FILE cargo test --workspace --release --test minilm -- --ignored
//! ```
//! `DIR` is a Hugging Face directory of all-MiniLM-L6-v2; `FILE` holds sentences, token ids, embeddings and a LoRA check
//! in the form that `Reference` reads.

use std::{collections::BTreeMap, env, path::PathBuf, sync::Arc};

use burn::tensor::Tensor as BurnTensor;
use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, Side, Tensor};
use fedlora_learner::{
    Batch, GroupedAdapter, Inputs, Model, ParameterKey, Pooling, Targets, TextTokenizer, Tokens, device,
    load_pretrained, target_modules,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    sentences: Vec<String>,
    input_ids: Vec<Vec<u32>>,
    embedding: Vec<Vec<f32>>,
    lora_check: LoraCheck,
}

#[derive(Deserialize)]
struct LoraCheck {
    logits: Vec<Vec<f32>>,
    loss: f64,
    #[serde(rename = "head_W_grad_norm")]
    head_norm: f64,
    grads: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    #[serde(rename = "A_grad_norm")]
    a_norm: f64,
    #[serde(rename = "B_grad_norm")]
    b_norm: f64,
    #[serde(rename = "A_grad[0,0:4]")]
    a_first: Vec<f64>,
    #[serde(rename = "B_grad[0,0:4]")]
    b_first: Vec<f64>,
}

fn path(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| panic!("set {variable}; the head of this file says how")).into()
}

fn setting() -> (Arc<dyn Model>, TextTokenizer, Reference) {
    let (model, preprocessor) =
        load_pretrained(&path("FEDLORA_MINILM"), Pooling::Mean, &device("cpu").unwrap()).unwrap();
    let reference = std::fs::read(path("FEDLORA_MINILM_REFERENCE")).unwrap();
    (model, preprocessor.into_text().unwrap(), serde_json::from_slice(&reference).unwrap())
}

fn tokens(tokenizer: &TextTokenizer, sentences: &[String]) -> Vec<Tokens> {
    sentences.iter().map(|sentence| tokenizer.encode(sentence).unwrap()).collect()
}

fn batch(examples: &[Tokens], labels: Vec<u32>) -> Batch {
    let mut tokens = Tokens::default();
    for example in examples {
        tokens.ids.extend(&example.ids);
        tokens.segments.extend(&example.segments);
    }
    let lengths = examples.iter().map(|example| example.ids.len()).collect();
    Batch { inputs: Inputs::Tokens { tokens, lengths }, targets: Targets::Labels(labels) }
}

fn values<const D: usize>(tensor: BurnTensor<D>) -> Vec<f64> {
    tensor.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
#[ignore = "needs the MiniLM directory and its reference file"]
fn token_ids_are_equal_and_embeddings_within_2e_4() {
    let (model, tokenizer, reference) = setting();
    let examples = tokens(&tokenizer, &reference.sentences);
    let ids: Vec<Vec<u32>> = examples.iter().map(|tokens| tokens.ids.clone()).collect();
    assert_eq!(ids, reference.input_ids);
    let features = values(model.features(&batch(&examples, vec![0; examples.len()]), None, None));
    let mut largest: f64 = 0.0;
    for (row, expected) in features.chunks(model.feature_width()).zip(&reference.embedding) {
        let length = norm(row);
        for (value, expected) in row.iter().zip(expected) {
            largest = largest.max((value / length - f64::from(*expected)).abs());
        }
    }
    println!("largest difference of an embedding: {largest:.2e}");
    assert!(largest < 2e-4);
}

/// The factors of the reference's formula: `layer` and the projection decide step and shift of a sine.
fn adapter(model: &dyn Model) -> Adapter {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 8,
        alpha: 16.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &["query".to_owned(), "value".to_owned()]).unwrap(),
        head: model.head_spec(2),
    };
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
    for (name, factors) in &mut modules {
        let (layer, part) = place(name.as_str());
        let (a_step, b_step, shift) = if part == "query" { (0.37, 0.21, 0.0) } else { (0.29, 0.17, 0.5) };
        let wave = |shape: &[usize], step: f64| {
            Tensor::from_fn(shape, |k| (0.02 * (step * k as f64 + layer as f64 + shift).sin()) as f32)
        };
        factors.a = wave(factors.a.shape(), a_step);
        factors.b = wave(factors.b.shape(), b_step);
    }
    head.insert("classifier.weight".to_owned(), Tensor::from_fn(&[2, 384], |k| (0.05 * (0.5 * k as f64).sin()) as f32));
    Adapter::new(spec, modules, head).unwrap()
}

/// Layer and last part of `encoder.layer.3.attention.self.query`.
fn place(module: &str) -> (usize, &str) {
    let mut parts = module.split('.');
    (parts.nth(2).unwrap().parse().unwrap(), parts.next_back().unwrap())
}

#[test]
#[ignore = "needs the MiniLM directory and its reference file"]
fn lora_loss_and_gradients_are_within_1e_4() {
    let (model, tokenizer, reference) = setting();
    let check = &reference.lora_check;
    let adapter = adapter(&*model);
    let grouped = GroupedAdapter::new(&[&adapter], Factors::Both, true, &model.device()).unwrap();
    let labels: Vec<u32> = (0..reference.sentences.len() as u32).map(|example| example % 2).collect();
    let grouped = grouped.with_examples(vec![labels.len()]);
    let examples = batch(&tokens(&tokenizer, &reference.sentences), labels.clone());
    let logits = model.forward(&examples, &grouped, None);
    let largest = values(logits.clone().inner())
        .iter()
        .zip(check.logits.concat())
        .fold(0.0_f64, |largest, (value, expected)| largest.max((value - f64::from(expected)).abs()));
    println!("largest difference of a logit: {largest:.2e}");
    // The reference is printed with six digits.
    assert!(largest < 1e-5);
    let labels: Vec<i32> = labels.iter().map(|label| label.cast_signed()).collect();
    let labels = BurnTensor::<1, burn::tensor::Int>::from_data(labels.as_slice(), &logits.device());
    let loss = burn::tensor::activation::log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)).mean().neg();
    let value = values(loss.clone())[0];
    println!("loss {value:.7}, expected {:.7}", check.loss);
    assert!((value / check.loss - 1.0).abs() < 1e-4);
    let gradients = loss.backward();
    for parameter in grouped.parameters() {
        let found = values(parameter.value.grad(&gradients).unwrap());
        match &parameter.key {
            ParameterKey::Factor(module, side) => {
                let (layer, part) = place(module.as_str());
                let expected = &check.grads[&format!("layer{layer}.{part}")];
                let (size, first) = if *side == Side::A {
                    (expected.a_norm, &expected.a_first)
                } else {
                    (expected.b_norm, &expected.b_first)
                };
                assert!((norm(&found) / size - 1.0).abs() < 1e-4, "{module} {side}: {} {size}", norm(&found));
                for (found, expected) in found.iter().zip(first) {
                    // Eight decimals are printed.
                    assert!(
                        (found - expected).abs() < 1e-4 * expected.abs() + 6e-9,
                        "{module} {side}: {found} {expected}"
                    );
                }
            }
            ParameterKey::Head(name) if name == "classifier.weight" => {
                assert!((norm(&found) / check.head_norm - 1.0).abs() < 1e-4, "{name}");
            }
            ParameterKey::Head(_) => {}
        }
    }
}
