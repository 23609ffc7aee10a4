//! Tiny decoders that predict labels against `transformers` and `peft`, whose results `golden/classifiers.py` wrote to
//! `golden/classifiers/`.

mod near;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::{Int, Tensor as BurnTensor, activation::log_softmax};
use fedlora_adapter::{
    Adapter, AdapterKind, AdapterSpec, Factors, HeadSpec, Seed, Tensor, names, read_peft, write_peft,
};
use fedlora_learner::{
    Batch, GroupedAdapter, Inputs, Model, ModelConfig, ParameterKey, Pooling, Precision, Preprocessor, Targets, Tokens,
    device, load_pretrained, target_modules,
};
use safetensors::SafeTensors;
use serde::Deserialize;

use self::near::assert_near;

const MODELS: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

#[derive(Deserialize)]
struct Reference {
    sequences: Vec<Vec<u32>>,
    labels: Vec<u32>,
    loss: f32,
    #[serde(skip)]
    tensors: BTreeMap<String, Vec<f32>>,
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/classifiers").join(name)
}

fn reference(name: &str) -> Reference {
    let read = |file: &str| fs::read(directory(name).join(file)).unwrap();
    let bytes = read("reference.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let tensors = tensors.iter().map(|(name, tensor)| (name.to_owned(), floats(tensor.data()))).collect();
    Reference { tensors, ..serde_json::from_slice(&read("reference.json")).unwrap() }
}

fn load(name: &str) -> (Arc<dyn Model>, Preprocessor) {
    load_pretrained(&directory(name), None, &device("cpu").unwrap()).unwrap()
}

fn batch(sequences: &[Vec<u32>], labels: &[u32]) -> Batch {
    let lengths = sequences.iter().map(Vec::len).collect();
    let inputs = Inputs::Tokens { tokens: Tokens::from(sequences.concat()), lengths };
    Batch { inputs, targets: Targets::Labels(labels.to_vec()) }
}

/// The adapter of `classifiers.py`; `turn` makes another client's.
fn adapter(model: &dyn Model, turn: f64) -> Adapter {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 4,
        alpha: 8.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &["all-linear".to_owned()]).unwrap(),
        head: model.head_spec(3),
    };
    let wave = |shape: &[usize], step: f64, shift: f64| {
        Tensor::from_fn(shape, |k| (0.2 * (step * k as f64 + shift).sin()) as f32)
    };
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
    let factors = modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]);
    for (index, factor) in factors.enumerate() {
        *factor = wave(factor.shape(), 0.37 + 0.05 * index as f64, index as f64 + turn);
    }
    for tensor in head.values_mut() {
        *tensor = wave(tensor.shape(), 0.21, 0.4 + turn);
    }
    Adapter::new(spec, modules, head).unwrap()
}

/// Logits, the sum of the losses, and its gradients under the names that files have.
fn pass(
    model: &dyn Model,
    batch: &Batch,
    adapters: &[&Adapter],
    examples: Vec<usize>,
) -> (Vec<f32>, f32, BTreeMap<String, Vec<f32>>) {
    let grouped = GroupedAdapter::new(adapters, Factors::Both, true, &model.device()).unwrap().with_examples(examples);
    let logits = model.forward(batch, &grouped, None);
    let labels: Vec<i32> = batch.targets.ids().iter().map(|label| label.cast_signed()).collect();
    let labels = BurnTensor::<1, Int>::from_data(labels.as_slice(), &logits.device());
    let loss = log_softmax(logits.clone(), 1).gather(1, labels.unsqueeze_dim(1)).sum().neg();
    let gradients = loss.backward();
    let named = grouped.parameters().iter().map(|parameter| {
        let name = match &parameter.key {
            ParameterKey::Factor(module, side) => names::factor(AdapterKind::Lora, module, *side),
            ParameterKey::Head(name) => names::extra(name),
        };
        (name, values(parameter.value.grad(&gradients).unwrap()))
    });
    let named = named.collect();
    (values(logits.inner()), values(loss.inner())[0], named)
}

fn values<const D: usize>(tensor: BurnTensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Relative to the largest value; the bound is that of `decoders.rs`, whose models have the same sizes.
const TOLERANCE: f32 = 4e-5;

#[test]
fn logits_loss_and_gradients_are_those_of_transformers_and_peft_under_their_names() {
    for name in MODELS {
        let (mut reference, (model, preprocessor)) = (reference(name), load(name));
        assert!(model.decoder().is_none() && matches!(preprocessor, Preprocessor::Text(_)), "{name}");
        let batch = batch(&reference.sequences, &reference.labels);
        let (logits, loss, gradients) = pass(&*model, &batch, &[&adapter(&*model, 0.0)], vec![3]);
        assert_near(name, &logits, &reference.tensors.remove("logits").unwrap(), TOLERANCE);
        assert_near(name, &[loss / 3.0], &[reference.loss], TOLERANCE);
        assert!(gradients.keys().eq(reference.tensors.keys()), "{name}: {:?}", gradients.keys());
        for (tensor, expected) in &reference.tensors {
            let mean: Vec<f32> = gradients[tensor].iter().map(|value| value / 3.0).collect();
            assert_near(&format!("{name}: {tensor}"), &mean, expected, TOLERANCE);
        }
    }
}

#[test]
fn clients_of_one_pass_get_what_each_gets_alone_to_the_bit() {
    for name in MODELS {
        let (reference, (model, _)) = (reference(name), load(name));
        let (one, other) = (adapter(&*model, 0.0), adapter(&*model, 0.9));
        let whole = batch(&reference.sequences, &reference.labels);
        let (logits, _, gradients) = pass(&*model, &whole, &[&one, &other], vec![1, 2]);
        for (group, client, examples) in [(0, &one, 0..1), (1, &other, 1..3)] {
            let own = batch(&reference.sequences[examples.clone()], &reference.labels[examples.clone()]);
            let (alone, _, own) = pass(&*model, &own, &[client], vec![examples.len()]);
            assert_eq!(logits[examples.start * 3..examples.end * 3], alone, "{name}: group {group}");
            for (tensor, expected) in own {
                assert_eq!(
                    gradients[&tensor][group * expected.len()..][..expected.len()],
                    expected,
                    "{name}: {tensor}"
                );
            }
        }
    }
}

#[test]
fn what_was_asked_for_decides_what_a_decoder_predicts_and_without_a_word_its_file_does() {
    let base = |path: PathBuf, pooling| {
        let config = ModelConfig { path, revision: None, pooling, random_weights: false, dtype: Precision::Float32 };
        let base = config.locate().unwrap();
        let predicts_tokens = base.load(Seed(0), &device("cpu").unwrap()).unwrap().0.decoder().is_some();
        (predicts_tokens, base.peft(0.0).task_type.unwrap(), base.digest().unwrap())
    };
    let language = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama3");
    let (tokens, task, digest) = base(language.clone(), None);
    assert_eq!((tokens, task.as_str()), (true, "CAUSAL_LM"));
    // As `AutoModelForSequenceClassification` does with a base model: its output layer is left.
    let (tokens, task, other) = base(language, Some(Pooling::Pooler));
    assert_eq!((tokens, task.as_str()), (false, "SEQ_CLS"));
    assert_ne!(digest, other);
    let (tokens, task, _) = base(directory("llama"), None);
    assert_eq!((tokens, task.as_str()), (false, "SEQ_CLS"));
    // Its file has no output layer for tokens.
    let error = load_pretrained(&directory("llama"), Pooling::Mean, &device("cpu").unwrap()).unwrap_err().to_string();
    assert!(error.contains("lm_head.weight"), "{error}");
}

#[test]
fn adapters_have_the_head_of_peft_and_come_back_from_its_files() {
    let (model, _) = load("qwen2");
    assert_eq!(model.head_spec(5), HeadSpec::from([("score.weight".to_owned(), vec![5, 16])]));
    let adapter = adapter(&*model, 0.0);
    model.check(adapter.spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig {
        path: directory("qwen2"),
        revision: None,
        pooling: None,
        random_weights: false,
        dtype: Precision::Float32,
    };
    write_peft(folder.path(), &adapter, &config.locate().unwrap().peft(0.0)).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&json["task_type"], &json["modules_to_save"]), (&"SEQ_CLS".into(), &serde_json::json!(["score"])));
    let back = read_peft(folder.path(), adapter.spec(), &Adapter::zeros(Arc::clone(adapter.spec())).unwrap()).unwrap();
    assert_eq!(back, adapter);
    let headless = AdapterSpec { head: HeadSpec::new(), ..AdapterSpec::clone(adapter.spec()) };
    let error = model.check(&headless).unwrap_err().to_string();
    assert!(error.contains("score.weight over 16 features"), "{error}");
}
