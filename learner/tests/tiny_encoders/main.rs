//! Tiny RoBERTa and DistilBERT models against `transformers` and `peft`, whose results `golden/tiny_encoders.py` wrote.

#[path = "../copied/mod.rs"]
mod copied;
#[path = "../near/mod.rs"]
mod near;
mod selections;
#[path = "../texts/mod.rs"]
mod texts;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, KINDS, ModuleName, Seed, Side, Tensor, names};
use fedlora_learner::{
    Dataset, GroupedAdapter, HeadForm, LearnerError, Model, ParameterKey, Pooling, TextTokenizer, device,
    input_directions, load_pretrained, target_modules,
};
use serde::Deserialize;

use self::{
    copied::{copied, replace},
    near::assert_near,
    texts::{batch, encode, ids},
};

const FAMILIES: [&str; 2] = ["tiny_roberta", "tiny_distilbert"];

#[derive(Deserialize)]
struct Reference {
    texts: Vec<String>,
    labels: Vec<u32>,
    ids: Vec<Vec<u32>>,
    features: BTreeMap<String, Vec<f32>>,
    pair: (String, String),
    pair_ids: Vec<u32>,
    pair_features: BTreeMap<String, Vec<f32>>,
    classification: Classification,
    #[serde(default)]
    unigram_ids: Vec<Vec<u32>>,
    #[serde(default)]
    selections: Vec<selections::Selected>,
    /// Classification with adapters of other kinds.
    #[serde(default)]
    kinds: BTreeMap<String, Classification>,
}

#[derive(Deserialize)]
struct Classification {
    logits: Vec<f32>,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn directory(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn reference(family: &str) -> Reference {
    serde_json::from_slice(&std::fs::read(directory(family).join("reference.json")).unwrap()).unwrap()
}

fn load(directory: &Path, pooling: Pooling) -> (Arc<dyn Model>, TextTokenizer) {
    let (model, preprocessor) = load_pretrained(directory, pooling, &device("cpu").unwrap()).unwrap();
    (model, preprocessor.into_text().unwrap())
}

fn values<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Relative to the largest value. The two sides sum in different orders: at most 24 products a sum, each rounded to 2^-24,
/// and some ten sums one behind the other in two layers and a head give 10 · 24 · 2^-24 = 1.5e-5.
const TOLERANCE: f32 = 1.5e-5;

#[test]
fn tokens_of_bytes_of_word_pieces_and_of_a_unigram_model_are_those_of_the_tokenizers_library() {
    for family in FAMILIES {
        let (reference, (_, tokenizer)) = (reference(family), load(&directory(family), Pooling::Mean));
        assert_eq!(ids(encode(&tokenizer, &reference.texts)), reference.ids, "{family}");
        let (one, other) = &reference.pair;
        assert_eq!(tokenizer.encode_pair(one, other).unwrap().ids, reference.pair_ids, "{family}");
    }
    let reference = reference("tiny_roberta");
    let tokenizer = TextTokenizer::from_file(&directory("tiny_roberta").join("unigram.json")).unwrap();
    assert_eq!(ids(encode(&tokenizer, &reference.texts)), reference.unigram_ids);
}

#[test]
fn features_are_those_of_transformers() {
    for family in FAMILIES {
        let reference = reference(family);
        for (name, pooling) in [("mean", Pooling::Mean), ("cls", Pooling::Cls)] {
            let (model, tokenizer) = load(&directory(family), pooling);
            let texts = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
            assert_near(family, &values(model.features(&texts, None, None)), &reference.features[name], TOLERANCE);
            let (one, other) = &reference.pair;
            let mut pair = tokenizer.encode_pair(one, other).unwrap();
            // Neither family has a second segment, whatever a tokenizer says.
            *pair.segments.last_mut().unwrap() = 1;
            let pair = batch(&[pair], &[0]);
            assert_near(family, &values(model.features(&pair, None, None)), &reference.pair_features[name], TOLERANCE);
        }
    }
}

#[test]
fn xlm_r_is_roberta() {
    let copy = copied(&directory("tiny_roberta"));
    replace(&copy.path().join("config.json"), "\"roberta\"", "\"xlm-roberta\"");
    let reference = reference("tiny_roberta");
    let (model, tokenizer) = load(copy.path(), Pooling::Mean);
    let texts = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
    assert_near("xlm-roberta", &values(model.features(&texts, None, None)), &reference.features["mean"], TOLERANCE);
    assert_eq!(load(copy.path(), Pooling::Pooler).0.head(), HeadForm::ROBERTA);
}

/// The formula of `tiny_bert.py`.
fn wave(shape: &[usize], index: usize) -> Tensor {
    let (step, shift) = (0.37 + 0.05 * index as f64, index as f64);
    Tensor::from_fn(shape, |k| (0.3 * (step * k as f64 + shift).sin()) as f32)
}

fn name(kind: AdapterKind, key: &ParameterKey) -> String {
    match key {
        ParameterKey::Factor(module, side) => names::factor(kind, module, *side),
        ParameterKey::Head(name) => names::extra(name),
    }
}

fn spec(model: &dyn Model, kind: AdapterKind, targets: &[&str]) -> Arc<AdapterSpec> {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let spec = AdapterSpec {
        kind,
        rank: 2,
        alpha: 6.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &targets).unwrap(),
        head: model.head_spec(3),
    };
    Arc::new(spec.with_extras())
}

/// An adapter whose tensors follow the formula, in the order of their names in files.
fn adapter(spec: Arc<AdapterSpec>) -> Adapter {
    let (spec, mut modules, mut head) = Adapter::zeros(spec).unwrap().into_parts();
    let mut tensors = BTreeMap::new();
    for (module, factors) in &mut modules {
        tensors.insert(names::factor(spec.kind, module, Side::A), &mut factors.a);
        tensors.insert(names::factor(spec.kind, module, Side::B), &mut factors.b);
    }
    tensors.extend(head.iter_mut().map(|(name, tensor)| (names::extra(name), tensor)));
    for (index, (name, tensor)) in tensors.into_iter().enumerate() {
        *tensor = wave(tensor.shape(), index);
        if name.ends_with("magnitude_vector") {
            tensor.values_mut().iter_mut().for_each(|value| *value += 1.0);
        }
    }
    Adapter::new(spec, modules, head).unwrap()
}

/// Holds logits and the gradient of every trained tensor against PEFT's.
fn assert_classifies(family: &str, kind: AdapterKind, targets: &[&str], expected: &Classification) {
    let (model, _) = load(&directory(family), Pooling::Pooler);
    assert_spec_classifies(family, spec(&*model, kind, targets), expected);
}

fn assert_spec_classifies(family: &str, spec: Arc<AdapterSpec>, expected: &Classification) {
    let (reference, (model, tokenizer)) = (reference(family), load(&directory(family), Pooling::Pooler));
    let examples = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
    let kind = spec.kind;
    let adapter = adapter(spec);
    model.check(adapter.spec()).unwrap();
    let grouped = GroupedAdapter::new(&[&adapter], Factors::Both, true, &model.device()).unwrap();
    let grouped = grouped.with_examples(vec![reference.labels.len()]);
    let logits = model.forward(&examples, &grouped, None);
    assert_near(family, &values(logits.clone().inner()), &expected.logits, TOLERANCE);
    let gradients = log_probabilities(logits, &reference.labels).mean().neg().backward();
    assert_eq!(grouped.parameters().len(), expected.gradients.len());
    for parameter in grouped.parameters() {
        let name = name(kind, &parameter.key);
        let found = values(parameter.value.grad(&gradients).unwrap());
        assert_near(&format!("{family} {kind:?} {name}"), &found, &expected.gradients[&name], TOLERANCE);
    }
}

#[test]
fn logits_and_gradients_are_those_of_peft_in_the_familys_own_classifier() {
    for family in FAMILIES {
        assert_classifies(family, AdapterKind::Lora, &["all-linear"], &reference(family).classification);
    }
}

#[test]
fn dora_and_olora_are_those_of_peft() {
    let expected = reference("tiny_distilbert").kinds;
    for (name, kind) in [("dora", AdapterKind::Dora), ("olora", AdapterKind::Olora)] {
        assert_classifies("tiny_distilbert", kind, &["q_lin", "lin1"], &expected[name]);
    }
}

/// What `golden/more_kinds.py` wrote.
fn more_kinds() -> BTreeMap<String, Classification> {
    let file = directory("tiny_distilbert").join("more_kinds.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn lora_xs_is_pefts_lora_with_a_constant_in_its_b() {
    assert_classifies("tiny_distilbert", AdapterKind::LoraXs, &["q_lin", "lin1"], &more_kinds()["lora-xs"]);
}

#[test]
fn ranks_and_alphas_of_single_modules_are_those_of_peft() {
    let (model, _) = load(&directory("tiny_distilbert"), Pooling::Pooler);
    let plain = (*spec(&*model, AdapterKind::Lora, &["q_lin", "lin1"])).clone();
    let ranks = serde_json::from_str(r#"{"layer\\.1\\..*": 3, "0.attention.q_lin": 1, "lin1": 4}"#).unwrap();
    let alphas = serde_json::from_str(r#"{"lin1": 5, "q_lin|x": 2.5}"#).unwrap();
    let spec = plain.with_patterns(&ranks, &alphas).unwrap();
    let ranks: Vec<usize> = spec.modules.values().map(|module| spec.rank_of(module)).collect();
    assert_eq!(ranks, [1, 4, 3, 3]);
    assert_spec_classifies("tiny_distilbert", Arc::new(spec), &more_kinds()["patterns"]);
}

#[test]
fn first_directions_of_inputs_are_those_of_peft_and_of_a_dense_decomposition() {
    let (reference, (model, tokenizer)) =
        (reference("tiny_distilbert"), load(&directory("tiny_distilbert"), Pooling::Mean));
    let texts = encode(&tokenizer, &reference.texts);
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let dataset = Dataset::tokens(&texts, reference.labels.clone(), names).unwrap();
    let rows: Vec<u32> = (0..reference.labels.len() as u32).collect();
    let plain = spec(&*model, AdapterKind::Lora, &["q_lin", "lin1"]);
    let spec = AdapterSpec { rank: 2, ..(*plain).clone() };
    let found = input_directions(&*model, &dataset, &rows, &spec).unwrap();
    let file = directory("tiny_distilbert").join("eva.json");
    let expected: BTreeMap<String, BTreeMap<String, Vec<f32>>> =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(found.len(), expected["dense"].len());
    for (name, directions) in &found {
        // The reference's model has a classifier, after whose class the encoder in it is called.
        let name = &name.replace(".model.transformer.", ".model.distilbert.transformer.");
        assert_near(name, directions, &expected["dense"][name], TOLERANCE);
        // The sign of a singular vector means nothing, and peft leaves it as it comes.
        let width = directions.len() / 2;
        for (direction, peft) in directions.chunks(width).zip(expected["peft"][name].chunks(width)) {
            let along: f32 = direction.iter().zip(peft).map(|(one, other)| one * other).sum();
            assert_near(
                name,
                direction,
                &peft.iter().map(|value| value * along.signum()).collect::<Vec<_>>(),
                TOLERANCE,
            );
        }
    }
}

#[test]
fn lora_xs_folded_into_a_plain_lora_computes_the_same() {
    let (reference, (model, tokenizer)) =
        (reference("tiny_distilbert"), load(&directory("tiny_distilbert"), Pooling::Mean));
    let texts = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
    let adapter = adapter(spec(&*model, AdapterKind::LoraXs, &["all-linear"]));
    let logits = |adapter: &Adapter| {
        let grouped = GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device()).unwrap();
        values(model.forward(&texts, &grouped.with_examples(vec![reference.labels.len()]), None))
    };
    let folded = adapter.folded().unwrap();
    model.check(folded.spec()).unwrap();
    assert_near("folded", &logits(&folded), &logits(&adapter), TOLERANCE);
}

#[test]
fn every_kind_starts_at_the_base_model() {
    for (family, targets) in [("tiny_distilbert", ["q_lin", "lin2"]), ("tiny_roberta", ["query", "output.dense"])] {
        let (reference, (model, tokenizer)) = (reference(family), load(&directory(family), Pooling::Mean));
        let texts = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
        for row in KINDS {
            let weight = |module: &ModuleName| model.frozen_weight(module);
            let adapter = Adapter::initial_over(spec(&*model, row.kind, &targets), Seed(3), &weight).unwrap();
            let grouped = GroupedAdapter::new(&[&adapter], Factors::Neither, false, &model.device()).unwrap();
            let grouped = grouped.with_examples(vec![reference.labels.len()]);
            let found = values(model.features(&texts, Some(&grouped), None));
            assert_near(row.name, &found, &reference.features["mean"], TOLERANCE);
        }
    }
}

fn log_probabilities(logits: burn::tensor::Tensor<2>, labels: &[u32]) -> burn::tensor::Tensor<2> {
    let labels: Vec<i32> = labels.iter().map(|label| label.cast_signed()).collect();
    let device = logits.device();
    let labels = burn::tensor::Tensor::<1, burn::tensor::Int>::from_data(labels.as_slice(), &device);
    burn::tensor::activation::log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1))
}

#[test]
fn no_text_has_more_tokens_than_the_model_has_positions() {
    // RoBERTa's rows of position up to the padding token's, which is 1, are no position's: 40 rows are 38 positions.
    for (family, positions) in [("tiny_roberta", 38), ("tiny_distilbert", 40)] {
        let (model, tokenizer) = load(&directory(family), Pooling::Mean);
        let long = tokenizer.truncated(1000).unwrap().encode(&"cat ".repeat(100)).unwrap();
        assert_eq!(long.ids.len(), positions, "{family}");
        assert_eq!(model.features(&batch(&[long], &[0]), None, None).dims(), [1, 16]);
    }
    let none = copied(&directory("tiny_roberta"));
    replace(&none.path().join("config.json"), "_embeddings\": 40", "_embeddings\": 2");
    let error = load_pretrained(none.path(), Pooling::Mean, &device("cpu").unwrap()).unwrap_err();
    assert!(matches!(error, LearnerError::Config { key: "max_position_embeddings", .. }), "{error}");
}

#[test]
fn a_head_of_another_form_is_refused() {
    let (model, _) = load(&directory("tiny_roberta"), Pooling::Pooler);
    let linear = load(&directory("tiny_roberta"), Pooling::Cls).0;
    let spec = AdapterSpec { head: linear.head_spec(3), ..(*spec(&*model, AdapterKind::Lora, &["query"])).clone() };
    let error = model.check(&spec).unwrap_err().to_string();
    assert!(error.contains("classifier.out_proj.weight"), "{error}");
}
