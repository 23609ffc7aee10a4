//! A tiny BERT against `transformers` and `peft`, whose results `golden/tiny_bert.py` wrote to `golden/tiny_bert/`.

mod copied;
mod near;
mod texts;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, AdapterUpdate, ClientId, Digest, Directive, Factors, HeadPolicy,
    LocalHyperparameters, LocalWork, Optimizer, RoundId, RoundPlan, Schedule, Seed, Tensor, names,
};
use fedlora_learner::{
    Dataset, GroupedAdapter, Job, LearnerError, LocalTrainer, Model, ParameterKey, Pooling, TextTokenizer, Tokens,
    Trainer, WeightsError, device, load_pretrained, random_pretrained, target_modules,
};
use serde::Deserialize;

use self::{
    copied::{copied, replace},
    near::assert_near,
    texts::{batch, encode, ids},
};

#[derive(Deserialize)]
struct Reference {
    texts: Vec<String>,
    labels: Vec<u32>,
    ids: Vec<Vec<u32>>,
    ids_of_5: Vec<Vec<u32>>,
    features: BTreeMap<String, Vec<f32>>,
    pairs: Vec<(String, String)>,
    pair_ids: Vec<Vec<u32>>,
    pair_segments: Vec<Vec<u8>>,
    pair_features: BTreeMap<String, Vec<f32>>,
    training: Vec<Training>,
}

#[derive(Deserialize)]
struct Training {
    use_rslora: bool,
    logits: Vec<f32>,
    losses: Vec<f64>,
    gradients: BTreeMap<String, Vec<f32>>,
    trained: BTreeMap<String, Vec<f32>>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny_bert")
}

fn reference() -> Reference {
    serde_json::from_slice(&std::fs::read(directory().join("reference.json")).unwrap()).unwrap()
}

fn load(pooling: Pooling) -> (Arc<dyn Model>, TextTokenizer) {
    let (model, preprocessor) = load_pretrained(&directory(), pooling, &device("cpu").unwrap()).unwrap();
    (model, preprocessor.into_text().unwrap())
}

fn values<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Relative to the largest value. The two sides sum in different orders: at most 40 products a sum, each rounded to 2^-24,
/// and some eight sums one behind the other in two layers give 8 · 40 · 2^-24 = 2e-5.
const TOLERANCE: f32 = 2e-5;

#[test]
fn tokens_are_those_of_the_tokenizers_library_whatever_padding_and_truncation_the_file_asks_for() {
    let (reference, (_, tokenizer)) = (reference(), load(Pooling::Mean));
    assert_eq!(ids(encode(&tokenizer, &reference.texts)), reference.ids);
    for ((one, other), (ids, segments)) in
        reference.pairs.iter().zip(reference.pair_ids.iter().zip(&reference.pair_segments))
    {
        let tokens = tokenizer.encode_pair(one, other).unwrap();
        assert_eq!((&tokens.ids, &tokens.segments), (ids, segments));
    }
    let short = tokenizer.truncated(5).unwrap();
    assert_eq!(ids(encode(&short, &reference.texts)), reference.ids_of_5);
}

#[test]
fn features_are_those_of_transformers_for_every_pooling() {
    let reference = reference();
    for (name, pooling) in [("mean", Pooling::Mean), ("cls", Pooling::Cls), ("pooler", Pooling::Pooler)] {
        let (model, tokenizer) = load(pooling);
        let texts = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
        assert_near(name, &values(model.features(&texts, None, None)), &reference.features[name], TOLERANCE);
        let pairs: Vec<Tokens> =
            reference.pairs.iter().map(|(one, other)| tokenizer.encode_pair(one, other).unwrap()).collect();
        let pairs = batch(&pairs, &[0, 0]);
        assert_near(name, &values(model.features(&pairs, None, None)), &reference.pair_features[name], TOLERANCE);
    }
}

/// The formula of `tiny_bert.py`.
fn wave(shape: &[usize], step: f64, shift: f64) -> Tensor {
    Tensor::from_fn(shape, |k| (0.3 * (step * k as f64 + shift).sin()) as f32)
}

fn adapter(model: &dyn Model, use_rslora: bool) -> Adapter {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 6.0,
        use_rslora,
        projection_seed: 0,
        modules: target_modules(model, &["query".to_owned(), "value".to_owned()]).unwrap(),
        head: model.head_spec(2),
    };
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
    // Modules by name, A before B: the order of the sorted parameter names in the script.
    let factors = modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]);
    for (index, factor) in factors.enumerate() {
        *factor = wave(factor.shape(), 0.37 + 0.05 * index as f64, index as f64);
    }
    head.insert("classifier.weight".to_owned(), wave(&[2, 24], 0.21, 0.4));
    head.insert("classifier.bias".to_owned(), Tensor::new(vec![2], vec![0.1, -0.1]).unwrap());
    Adapter::new(spec, modules, head).unwrap()
}

#[test]
fn logits_and_gradients_are_those_of_peft() {
    let reference = reference();
    let (model, tokenizer) = load(Pooling::Mean);
    let examples = batch(&encode(&tokenizer, &reference.texts), &reference.labels);
    for expected in &reference.training {
        let adapter = adapter(&*model, expected.use_rslora);
        let grouped = GroupedAdapter::new(&[&adapter], Factors::Both, true, &model.device()).unwrap();
        let grouped = grouped.with_examples(vec![reference.labels.len()]);
        let logits = model.forward(&examples, &grouped, None);
        assert_near("logits", &values(logits.clone().inner()), &expected.logits, TOLERANCE);
        let losses = log_probabilities(logits, &reference.labels);
        let gradients = losses.mean().neg().backward();
        for parameter in grouped.parameters() {
            let name = match &parameter.key {
                ParameterKey::Factor(module, side) => names::factor(AdapterKind::Lora, module, *side),
                ParameterKey::Head(name) => names::extra(name),
            };
            let found = values(parameter.value.grad(&gradients).unwrap());
            assert_near(&name, &found, &expected.gradients[&name], TOLERANCE);
        }
    }
}

fn log_probabilities(logits: burn::tensor::Tensor<2>, labels: &[u32]) -> burn::tensor::Tensor<2> {
    let labels: Vec<i32> = labels.iter().map(|label| label.cast_signed()).collect();
    let device = logits.device();
    let labels = burn::tensor::Tensor::<1, burn::tensor::Int>::from_data(labels.as_slice(), &device);
    burn::tensor::activation::log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1))
}

fn plan(adapter: &Adapter, steps: u32) -> RoundPlan {
    RoundPlan {
        run: "golden".to_owned(),
        round: RoundId(1),
        num_rounds: 1,
        directive: Directive {
            train: Factors::Both,
            upload: Factors::Both,
            download: Factors::Both,
            head: HeadPolicy::Shared,
        },
        spec: adapter.spec().digest(),
        base: Digest::of(b""),
        seed: 1,
        local: LocalHyperparameters {
            work: LocalWork::Steps(steps),
            batch_size: 5,
            learning_rate: 0.01,
            optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.1 },
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: None,
        },
    }
}

#[test]
fn six_steps_of_adamw_end_where_pytorch_ends() {
    let reference = reference();
    let (model, tokenizer) = load(Pooling::Mean);
    let names = vec!["no".to_owned(), "yes".to_owned()];
    let dataset = Dataset::tokens(&encode(&tokenizer, &reference.texts), reference.labels.clone(), names).unwrap();
    let shards = BTreeMap::from([(ClientId(0), (0..5).collect())]);
    let mut trainer = LocalTrainer::new(Arc::clone(&model), Arc::new(dataset), Arc::new(shards)).unwrap();
    for expected in &reference.training {
        let start = adapter(&*model, expected.use_rslora);
        let plan = Arc::new(plan(&start, expected.losses.len() as u32));
        let directive = plan.directive;
        let outcome = trainer.train(&[Job { client: ClientId(0), plan, start }]).remove(0).unwrap();
        let mean = expected.losses.iter().sum::<f64>() / expected.losses.len() as f64;
        // Every example is in every batch, so the order does not matter but for rounding.
        assert!((outcome.train_loss - mean).abs() < 1e-5 * mean, "{} {mean}", outcome.train_loss);
        for (name, tensor) in AdapterUpdate::select(&outcome.adapter, directive).tensors() {
            // AdamW divides by the gradient's own size: where that is near zero, rounding decides the step. Six steps of
            // 0.01 move a value by 0.06 at most; a hundredth of one step separates rounding from a wrong formula.
            for (found, expected) in tensor.values().iter().zip(&expected.trained[name]) {
                assert!((found - expected).abs() < 1e-4, "{name}: {found}, expected {expected}");
            }
        }
    }
}

/// What is said about a copy of the model directory in which `change` spoils something.
fn spoilt(change: impl FnOnce(&Path)) -> LearnerError {
    let copy = copied(&directory());
    change(copy.path());
    load_pretrained(copy.path(), Pooling::Mean, &device("cpu").unwrap()).unwrap_err()
}

#[test]
fn a_spoilt_directory_is_an_error_that_names_the_file_and_what_is_wrong() {
    let shard = "model-00002-of-00003.safetensors";
    let cut = spoilt(|directory| {
        let bytes = std::fs::read(directory.join(shard)).unwrap();
        std::fs::write(directory.join(shard), &bytes[..bytes.len() - 7]).unwrap();
    });
    assert!(
        matches!(&cut, LearnerError::Weights(WeightsError::Safetensors { file, .. }) if file.ends_with(shard)),
        "{cut}"
    );
    let lost = spoilt(|directory| std::fs::remove_file(directory.join(shard)).unwrap());
    assert!(matches!(&lost, LearnerError::Io { file, .. } if file.ends_with(shard)), "{lost}");
    let missing = spoilt(|directory| {
        let index = directory.join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&index).unwrap().replace(shard, "model-00001-of-00003.safetensors");
        std::fs::write(index, text).unwrap();
    });
    let LearnerError::Weights(WeightsError::MissingTensor { tensor, expected, .. }) = missing else {
        panic!("{missing}")
    };
    assert_eq!((tensor.as_str(), expected.as_slice()), ("encoder.layer.0.attention.self.query.weight", &[24, 24][..]));
    let shape = spoilt(|directory| {
        replace(&directory.join("config.json"), "\"intermediate_size\": 40", "\"intermediate_size\": 41");
    });
    let LearnerError::Weights(WeightsError::TensorShape { tensor, expected, found, .. }) = shape else {
        panic!("{shape}")
    };
    assert_eq!(tensor, "encoder.layer.0.intermediate.dense.weight");
    assert_eq!((expected, found), (vec![41, 24], vec![40, 24]));
    let outside =
        spoilt(|directory| replace(&directory.join("model.safetensors.index.json"), "model-00001", "../model-00001"));
    assert!(matches!(outside, LearnerError::Weights(WeightsError::ShardPath { .. })), "{outside}");
    let none = spoilt(|directory| std::fs::remove_file(directory.join("model.safetensors.index.json")).unwrap());
    assert!(matches!(none, LearnerError::Weights(WeightsError::NoFile { .. })), "{none}");
}

#[test]
fn another_architecture_or_another_models_tokenizer_is_refused() {
    let other = spoilt(|directory| replace(&directory.join("config.json"), "\"bert\"", "\"mamba\""));
    let LearnerError::Config { key, found, expected, .. } = other else { panic!("{other}") };
    assert_eq!(
        (key, found.as_str(), expected.as_str()),
        ("model_type", "mamba", "one of bert, roberta, xlm-roberta, distilbert, llama, mistral, qwen2, qwen3, vit")
    );
    let relu = spoilt(|directory| replace(&directory.join("config.json"), "\"gelu\"", "\"relu\""));
    assert!(matches!(relu, LearnerError::Config { key: "hidden_act", .. }), "{relu}");
    let heads = spoilt(|directory| replace(&directory.join("config.json"), "_heads\": 3", "_heads\": 5"));
    assert!(matches!(heads, LearnerError::Config { key: "num_attention_heads", .. }), "{heads}");
    for vocabulary in [26, 40] {
        let size = format!("\"vocab_size\": {vocabulary}");
        let other = spoilt(|directory| replace(&directory.join("config.json"), "\"vocab_size\": 27", &size));
        assert!(
            matches!(other, LearnerError::Vocabulary { tokens: 27, vocabulary: v, .. } if v == vocabulary),
            "{other}"
        );
    }
    let broken = spoilt(|directory| std::fs::write(directory.join("tokenizer.json"), "{}").unwrap());
    assert!(matches!(broken, LearnerError::Tokenizer { .. }), "{broken}");
}

#[test]
fn random_weights_have_the_same_shapes_and_follow_from_the_seed() {
    let features = |seed| {
        let (model, preprocessor) =
            random_pretrained(&directory(), Pooling::Mean, Seed(seed), &device("cpu").unwrap()).unwrap();
        let examples = batch(&encode(&preprocessor.into_text().unwrap(), &reference().texts), &[0; 5]);
        assert_eq!(model.adaptable(), load(Pooling::Mean).0.adaptable());
        values(model.features(&examples, None, None))
    };
    assert_eq!(features(1), features(1));
    assert_ne!(features(1), features(2));
}

#[test]
fn targets_are_matched_as_peft_matches_them() {
    let (model, _) = load(Pooling::Mean);
    let count = |target: &str| target_modules(&*model, &[target.to_owned()]).map(|modules| modules.len());
    assert_eq!(count("query").unwrap(), 2);
    assert_eq!(count("attention.output.dense").unwrap(), 2);
    assert_eq!(count("output.dense").unwrap(), 4);
    assert_eq!(count("encoder.layer.1.attention.self.key").unwrap(), 1);
    assert_eq!(count("all-linear").unwrap(), 12);
    let error = count("quer").unwrap_err().to_string();
    assert!(error.contains("quer") && error.contains("dense, key, query, value"), "{error}");
}
