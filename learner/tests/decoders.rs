//! Tiny language models against `transformers` and `peft`, whose results `golden/decoders.py` wrote to `golden/decoders/`.

mod copied;
mod near;
mod tiny_decoder;

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Int, Tensor as BurnTensor, TensorData, activation::log_softmax};
use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, HeadSpec, ModuleName, Seed, Side, names};
use fedlora_learner::{
    Batch, GroupedAdapter, LearnerError, Model, Parameter, ParameterKey, Pooling, WeightsError, device,
    load_pretrained, random_pretrained, target_modules,
};
use safetensors::SafeTensors;
use serde::Deserialize;

use self::{
    copied::{copied, replace},
    near::assert_near,
    tiny_decoder::{MODELS, adapter, batch, directory, load, spec, values},
};

#[derive(Deserialize)]
struct Reference {
    sequences: Vec<Vec<u32>>,
    /// Tokens of each sequence in which nothing is to be predicted.
    prompts: Vec<usize>,
    loss: f32,
    #[serde(skip)]
    tensors: BTreeMap<String, Vec<f32>>,
}

fn reference(name: &str) -> Reference {
    let read = |file: &str| std::fs::read(directory(name).join(file)).unwrap();
    let bytes = read("reference.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let tensors = tensors.iter().map(|(name, tensor)| (name.to_owned(), floats(tensor.data()))).collect();
    Reference { tensors, ..serde_json::from_slice(&read("reference.json")).unwrap() }
}

/// Relative to the largest value. The two sides sum in different orders: at most 32 products a sum, each rounded to 2^-24,
/// some ten sums one behind the other in two layers, forth and back, give 2 · 10 · 32 · 2^-24 = 4e-5.
const TOLERANCE: f32 = 4e-5;

fn grouped(model: &dyn Model, adapters: &[&Adapter], examples: Vec<usize>) -> GroupedAdapter {
    GroupedAdapter::new(adapters, Factors::Both, false, &model.device()).unwrap().with_examples(examples)
}

fn losses(logits: BurnTensor<2>, batch: &Batch) -> BurnTensor<2> {
    let ids: Vec<i32> = batch.targets.ids().iter().map(|id| id.cast_signed()).collect();
    let shape = [ids.len(), 1];
    let ids = BurnTensor::<2, Int>::from_data(TensorData::new(ids, shape), &logits.device());
    log_softmax(logits, 1).gather(1, ids).neg()
}

/// Gradients of all factors by the names that files have.
fn gradients(grouped: &GroupedAdapter, loss: BurnTensor<1>) -> BTreeMap<String, Vec<f32>> {
    let gradients = loss.backward();
    let one = |parameter: &Parameter| {
        let ParameterKey::Factor(module, side) = &parameter.key else { panic!("a decoder has no head") };
        (names::factor(AdapterKind::Lora, module, *side), values(parameter.value.grad(&gradients).unwrap()))
    };
    grouped.parameters().iter().map(one).collect()
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers_and_peft() {
    for name in MODELS {
        let (model, mut reference) = (load(name), reference(name));
        let batch = batch(&reference.sequences, &reference.prompts);
        let base = Adapter::zeros(spec(&*model)).unwrap();
        let base = model.forward(&batch, &grouped(&*model, &[&base], vec![3]), None);
        assert_near(
            &format!("{name}: base"),
            &values(base),
            &reference.tensors.remove("base.logits").unwrap(),
            TOLERANCE,
        );
        let grouped = grouped(&*model, &[&adapter(&*model, 0.0)], vec![3]);
        let logits = model.forward(&batch, &grouped, None);
        assert_near(
            &format!("{name}: logits"),
            &values(logits.clone()),
            &reference.tensors.remove("logits").unwrap(),
            TOLERANCE,
        );
        let loss = losses(logits, &batch).mean();
        assert_near(&format!("{name}: loss"), &values(loss.clone()), &[reference.loss], TOLERANCE);
        let found = gradients(&grouped, loss);
        // The same modules: in particular neither side adapts the output layer.
        assert_eq!(found.keys().collect::<Vec<_>>(), reference.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (factor, expected) in &reference.tensors {
            assert_near(&format!("{name}: {factor}"), &found[factor], expected, TOLERANCE);
        }
    }
}

#[test]
fn clients_in_one_pass_compute_what_each_computes_alone_to_the_bit() {
    for name in MODELS {
        let (model, reference) = (load(name), reference(name));
        let (one, other) = (adapter(&*model, 0.0), adapter(&*model, 0.7));
        let whole = batch(&reference.sequences, &reference.prompts);
        let together = grouped(&*model, &[&one, &other], vec![1, 2]);
        let logits = model.forward(&whole, &together, None);
        let found = gradients(&together, losses(logits.clone(), &whole).sum());
        let logits = values(logits);
        let (mut row, mut group) = (0, 0);
        for (adapter, examples) in [(&one, 0..1), (&other, 1..3)] {
            let own = batch(&reference.sequences[examples.clone()], &reference.prompts[examples.clone()]);
            let alone = grouped(&*model, &[adapter], vec![examples.len()]);
            let expected = model.forward(&own, &alone, None);
            let loss = losses(expected.clone(), &own).sum();
            let expected = values(expected);
            assert_eq!(logits[row..row + expected.len()], expected, "{name}");
            row += expected.len();
            for (factor, expected) in gradients(&alone, loss) {
                let own = &found[&factor][group * expected.len()..][..expected.len()];
                assert_eq!(own, expected, "{name}: {factor}");
            }
            group += 1;
        }
    }
}

#[test]
fn a_language_model_takes_no_head_and_gives_none() {
    let model = load("llama");
    assert_eq!(model.head_spec(7), HeadSpec::new());
    let spec = spec(&*model);
    model.check(&spec).unwrap();
    let head = HeadSpec::from([("classifier.bias".to_owned(), vec![2])]);
    let error = model.check(&AdapterSpec { head, ..(*spec).clone() }).unwrap_err();
    assert!(matches!(&error, LearnerError::HeadOfDecoder { found } if found.len() == 1), "{error}");
    assert_eq!(model.decoder().unwrap().vocabulary(), 64);
}

#[test]
fn every_linear_layer_but_the_output_can_be_adapted() {
    let (model, parts) = (load("qwen3"), ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]);
    let found: BTreeSet<&str> = model.adaptable().keys().map(ModuleName::as_str).collect();
    assert_eq!(found.len(), 14);
    for (layer, part) in (0..2).flat_map(|layer| parts.map(|part| (layer, part))) {
        assert!(found.contains(format!("model.layers.{layer}.{part}").as_str()), "{layer} {part}");
    }
    let error = target_modules(&*model, &["lm_head".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"), "{error}");
    let query = model.adaptable().keys().find(|name| name.as_str().ends_with("q_proj")).unwrap();
    assert_eq!(model.frozen_weight(query).unwrap().shape(), [32, 16]);
    let factors = adapter(&*model, 0.0);
    assert_eq!(factors.modules()[query].side(Side::B).shape(), [32, 4]);
}

/// A copy of a model's directory whose configuration has `from` replaced by `to`.
fn spoilt(name: &str, from: &str, to: &str) -> LearnerError {
    let copy = copied(&directory(name));
    replace(&copy.path().join("config.json"), from, to);
    load_pretrained(copy.path(), Pooling::Mean, &device("cpu").unwrap()).unwrap_err()
}

#[test]
fn what_is_not_computed_here_is_refused_by_its_name() {
    for (name, from, to, expected_key, expected_found) in [
        ("qwen3", "\"yarn\"", "\"longrope\"", "rope_type", "longrope"),
        ("llama3", "\"llama3\"", "\"dynamic\"", "rope_type", "dynamic"),
        ("llama3", "\"low_freq_factor\": 1.0,", "", "low_freq_factor", "absent"),
        ("llama3", "\"low_freq_factor\": 1.0", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor", "0.5"),
        (
            "qwen2",
            "\"rope_parameters\": {",
            "\"rope_parameters\": {\"full_attention\": {},",
            "rope_parameters",
            "different by layer",
        ),
        ("llama", "\"silu\"", "\"gelu\"", "hidden_act", "gelu"),
        ("qwen2", "\"sliding_attention\"", "\"chunked_attention\"", "layer_types", "chunked_attention"),
        ("llama", "_value_heads\": 2", "_value_heads\": 3", "num_key_value_heads", "3"),
        ("mistral", "\"num_key_value_heads\": 1,", "", "num_key_value_heads", "absent"),
        ("mistral", "\"head_dim\": 4", "\"head_dim\": 3", "head_dim", "3"),
        ("mistral", "\"sliding_window\": 4", "\"sliding_window\": 0", "sliding_window", "0"),
    ] {
        let error = spoilt(name, from, to);
        let LearnerError::Config { key, found, .. } = &error else { panic!("{error}") };
        assert_eq!((*key, found.as_str()), (expected_key, expected_found), "{error}");
    }
    // An output layer of its own that the file does not have.
    let error = spoilt("llama", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    assert!(
        matches!(&error, LearnerError::Weights(WeightsError::MissingTensor { tensor, .. }) if tensor == "lm_head.weight"),
        "{error}"
    );
}

#[test]
fn random_weights_have_the_same_shapes_and_follow_from_the_seed() {
    let reference = reference("qwen2");
    let batch = batch(&reference.sequences, &reference.prompts);
    let features = |seed| {
        let (model, _) =
            random_pretrained(&directory("qwen2"), Pooling::Mean, Seed(seed), &device("cpu").unwrap()).unwrap();
        assert_eq!(model.adaptable(), load("qwen2").adaptable());
        values(model.features(&batch, None, None))
    };
    assert_eq!(features(1), features(1));
    assert_ne!(features(1), features(2));
}
