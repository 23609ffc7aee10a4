//! The real stories260K, a language model of 260,032 parameters, against reference values computed with PyTorch. Run it with
//!
//! ```text
//! FEDLORA_STORIES=DIR FEDLORA_STORIES_REFERENCE=FILE cargo test --workspace --release --test stories -- --ignored
//! ```
//! `DIR` is a Hugging Face directory of stories260K; `FILE` holds a prompt, its greedy continuation, logits and losses in the
//! form that `Reference` reads.

use std::{env, path::PathBuf, sync::Arc};

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors};
use fedlora_learner::{
    Batch, Generation, GroupedAdapter, Inputs, KeyValueCache, Model, NextTokens, Pooling, Targets, TextTokenizer,
    Tokens, device, generate, load_pretrained, target_modules,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids_60: Vec<u32>,
    greedy_text: String,
    last_logits_first8: Vec<f32>,
    top5: Vec<(u32, f32)>,
    nll: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    text: String,
    ids: Vec<u32>,
    mean_nll_per_token: f32,
}

fn path(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| panic!("set {variable}; the head of this file says how")).into()
}

fn setting() -> (Arc<dyn Model>, TextTokenizer, Reference) {
    let (model, preprocessor) =
        load_pretrained(&path("FEDLORA_STORIES"), Pooling::Mean, &device("cpu").unwrap()).unwrap();
    let reference = std::fs::read(path("FEDLORA_STORIES_REFERENCE")).unwrap();
    (model, preprocessor.into_text().unwrap(), serde_json::from_slice(&reference).unwrap())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

#[test]
#[ignore = "needs the stories260K directory and its reference file"]
fn tokens_and_logits_of_the_prompt_are_equal() {
    let (model, tokenizer, reference) = setting();
    assert_eq!(tokenizer.encode(&reference.prompt).unwrap().ids, reference.prompt_ids);
    let logits = values(model.decoder().unwrap().next(&[&reference.prompt_ids], &mut KeyValueCache::new(1), None));
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&left, &right| logits[right as usize].total_cmp(&logits[left as usize]));
    let best: Vec<u32> = reference.top5.iter().map(|(token, _)| *token).collect();
    assert_eq!(order[..5], best);
    let first = (0..).zip(reference.last_logits_first8.iter().copied());
    let mut largest: f32 = 0.0;
    for (token, expected) in first.chain(reference.top5.iter().copied()) {
        largest = largest.max((logits[token as usize] - expected).abs());
    }
    println!("largest difference of a logit: {largest:.2e}");
    // Four decimals are printed, and sums of some 200 terms of size 20 differ in their order: 5e-5 + 20 · 200^½ · 2^-24 · 2.
    assert!(largest < 1e-4);
}

#[test]
#[ignore = "needs the stories260K directory and its reference file"]
fn the_greedy_story_is_equal_token_by_token() {
    let (model, tokenizer, reference) = setting();
    let generation = Generation { max_new_tokens: 60, ..Generation::default() };
    let story = generate(&*model, None, &reference.prompt_ids, &generation).unwrap();
    assert_eq!(story, reference.greedy_ids_60);
    let text = tokenizer.decode(&[reference.prompt_ids.as_slice(), &story].concat()).unwrap();
    println!("{text}");
    assert_eq!(text.trim_start(), reference.greedy_text);
}

#[test]
#[ignore = "needs the stories260K directory and its reference file"]
fn losses_of_texts_are_equal() {
    let (model, tokenizer, reference) = setting();
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 1,
        alpha: 1.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(&*model, &["q_proj".to_owned()]).unwrap(),
        head: model.head_spec(0),
    };
    let base = Adapter::zeros(Arc::new(spec)).unwrap();
    let adapters = GroupedAdapter::new(&[&base], Factors::Neither, false, &model.device()).unwrap();
    for text in &reference.nll {
        let ids = tokenizer.encode(&text.text).unwrap().ids;
        assert_eq!(ids, text.ids);
        let count = ids.len() - 1;
        let next = NextTokens { rows: (0..count as u32).collect(), ids: ids[1..].to_vec(), counts: vec![count] };
        let targets: Vec<i32> = next.ids.iter().map(|id| id.cast_signed()).collect();
        let inputs = Inputs::Tokens { lengths: vec![ids.len()], tokens: Tokens::from(ids) };
        let logits = model.forward(&Batch { inputs, targets: Targets::Tokens(next) }, &adapters, None);
        let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [count, 1]), &logits.device());
        let loss = values(log_softmax(logits, 1).gather(1, targets).mean().neg())[0];
        println!("loss {loss:.5}, expected {:.5}", text.mean_nll_per_token);
        // Five decimals are printed; logits differ by 1e-5.
        assert!((loss - text.mean_nll_per_token).abs() < 2e-5);
    }
}
