//! Tiny vision models against `transformers`, `timm` and `peft`, and prepared pictures against Pillow: what
//! `golden/tiny_vision.py` wrote to `golden/`.

#[path = "../copied/mod.rs"]
mod copied;
#[path = "../near/mod.rs"]
mod near;
mod pictures;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Factors, Tensor, names};
use fedlora_learner::{
    Batch, GroupedAdapter, Inputs, LearnerError, LoadedData, Model, ParameterKey, Pooling, Preprocessor, Targets,
    data::DataConfig, device, load_pretrained, target_modules,
};
use serde::Deserialize;

use self::{
    copied::{copied, replace},
    near::assert_near,
};

#[derive(Deserialize)]
struct Reference {
    labels: Vec<u32>,
    pixels: Vec<f32>,
    #[serde(default)]
    cls: Vec<f32>,
    /// What timm makes logits of.
    #[serde(default)]
    features: Vec<f32>,
    mean: Vec<f32>,
    #[serde(default)]
    prepared: Vec<f32>,
    logits: Vec<f32>,
    gradients: BTreeMap<String, Vec<f32>>,
}

const MODELS: [&str; 4] = ["tiny_vit", "tiny_timm_vit", "tiny_timm_vit_avg", "tiny_mixer"];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn reference(name: &str) -> Reference {
    serde_json::from_slice(&fs::read(directory(name).join("reference.json")).unwrap()).unwrap()
}

fn load(name: &str, pooling: Option<Pooling>) -> (Arc<dyn Model>, Preprocessor) {
    load_pretrained(&directory(name), pooling, &device("cpu").unwrap()).unwrap()
}

fn batch(reference: &Reference) -> Batch {
    let inputs = Inputs::Images { pixels: reference.pixels.clone(), count: reference.labels.len() };
    Batch { inputs, targets: Targets::Labels(reference.labels.clone()) }
}

fn values<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Relative to the largest value. The two sides sum in different orders: at most 48 products a sum, each rounded to 2^-24,
/// and some twelve sums one behind the other in two layers give 12 · 48 · 2^-24 = 3.5e-5.
const TOLERANCE: f32 = 3.5e-5;

#[test]
fn features_are_those_of_transformers_and_timm_for_every_pooling() {
    let vit = reference("tiny_vit");
    let features = |name, pooling, reference: &Reference| {
        let (model, _) = load(name, pooling);
        values(model.features(&batch(reference), None, None))
    };
    assert_near("class token", &features("tiny_vit", Some(Pooling::Cls), &vit), &vit.cls, TOLERANCE);
    assert_near("the usual of ViT", &features("tiny_vit", None, &vit), &vit.cls, TOLERANCE);
    assert_near("mean of patches", &features("tiny_vit", Some(Pooling::Mean), &vit), &vit.mean, TOLERANCE);
    let mixer = reference("tiny_mixer");
    assert_near("mixer", &features("tiny_mixer", None, &mixer), &mixer.mean, TOLERANCE);
    for name in ["tiny_timm_vit", "tiny_timm_vit_avg"] {
        let timm = reference(name);
        assert_near(name, &features(name, None, &timm), &timm.features, TOLERANCE);
    }
    let timm = reference("tiny_timm_vit");
    assert_near("timm's mean", &features("tiny_timm_vit", Some(Pooling::Mean), &timm), &timm.mean, TOLERANCE);
}

/// The formula of `tiny_vision.py`.
fn wave(shape: &[usize], step: f64, shift: f64) -> Tensor {
    Tensor::from_fn(shape, |k| (0.3 * (step * k as f64 + shift).sin()) as f32)
}

/// All linear modules adapted. `turn` makes adapters that differ.
fn adapter(model: &dyn Model, turn: f64) -> Adapter {
    let spec = AdapterSpec {
        kind: AdapterKind::Lora,
        rank: 2,
        alpha: 6.0,
        use_rslora: false,
        projection_seed: 0,
        modules: target_modules(model, &["all-linear".to_owned()]).unwrap(),
        head: model.head_spec(3),
    };
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec)).unwrap().into_parts();
    // Modules by name, A before B: the order of the sorted parameter names in the script.
    let factors = modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]);
    for (index, factor) in factors.enumerate() {
        *factor = wave(factor.shape(), 0.37 + 0.05 * index as f64, index as f64 + turn);
    }
    for tensor in head.values_mut() {
        *tensor = wave(tensor.shape(), 0.21, 0.4 + turn);
    }
    Adapter::new(spec, modules, head).unwrap()
}

/// Logits, and the gradient of every trained tensor of the sum of all cross-entropies over `mean_of` examples.
fn pass(
    model: &dyn Model,
    batch: &Batch,
    adapters: &[&Adapter],
    examples: Vec<usize>,
    mean_of: usize,
) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
    let grouped = GroupedAdapter::new(adapters, Factors::Both, true, &model.device()).unwrap().with_examples(examples);
    let logits = model.forward(batch, &grouped, None);
    let losses = log_probabilities(logits.clone(), batch.targets.ids());
    let gradients = losses.sum().neg().div_scalar(mean_of as f32).backward();
    let named = grouped.parameters().iter().map(|parameter| {
        let name = match &parameter.key {
            ParameterKey::Factor(module, side) => names::factor(AdapterKind::Lora, module, *side),
            ParameterKey::Head(name) => names::extra(name),
        };
        (name, values(parameter.value.grad(&gradients).unwrap()))
    });
    (values(logits.inner()), named.collect())
}

fn log_probabilities(logits: burn::tensor::Tensor<2>, labels: &[u32]) -> burn::tensor::Tensor<2> {
    let labels: Vec<i32> = labels.iter().map(|label| label.cast_signed()).collect();
    let labels = burn::tensor::Tensor::<1, burn::tensor::Int>::from_data(labels.as_slice(), &logits.device());
    burn::tensor::activation::log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1))
}

#[test]
fn logits_and_gradients_of_all_linear_modules_are_those_of_peft_under_pefts_own_names() {
    for name in MODELS {
        let (reference, (model, _)) = (reference(name), load(name, None));
        let count = reference.labels.len();
        let (logits, gradients) = pass(&*model, &batch(&reference), &[&adapter(&*model, 0.0)], vec![count], count);
        assert_near(name, &logits, &reference.logits, TOLERANCE);
        assert!(gradients.keys().eq(reference.gradients.keys()), "{name}: {:?}", gradients.keys());
        for (tensor, expected) in &reference.gradients {
            assert_near(tensor, &gradients[tensor], expected, TOLERANCE);
        }
    }
}

#[test]
fn clients_of_one_pass_get_what_each_gets_alone_also_where_a_mixer_mixes_patches() {
    for name in MODELS {
        let (reference, (model, _)) = (reference(name), load(name, None));
        let all = batch(&reference);
        let (one, other) = (adapter(&*model, 0.0), adapter(&*model, 0.9));
        let (logits, gradients) = pass(&*model, &all, &[&one, &other], vec![3, 1], 1);
        let size = reference.pixels.len() / reference.labels.len();
        for (group, client, examples) in [(0, &one, 0..3), (1, &other, 3..4)] {
            let pixels = reference.pixels[examples.start * size..examples.end * size].to_vec();
            let targets = Targets::Labels(reference.labels[examples.clone()].to_vec());
            let own = Batch { inputs: Inputs::Images { pixels, count: examples.len() }, targets };
            let (alone, own_gradients) = pass(&*model, &own, &[client], vec![examples.len()], 1);
            assert_eq!(logits[examples.start * 3..examples.end * 3], alone, "{name}: logits of group {group}");
            for (tensor, expected) in own_gradients {
                let found = &gradients[&tensor][group * expected.len()..(group + 1) * expected.len()];
                assert_eq!(found, expected, "{name}: {tensor} of group {group}");
            }
        }
    }
}

#[test]
fn gradients_example_by_example_add_up_to_those_of_the_batch() {
    for name in MODELS {
        let (reference, (model, _)) = (reference(name), load(name, None));
        let (all, adapter) = (batch(&reference), adapter(&*model, 0.0));
        let count = reference.labels.len();
        let (_, summed) = pass(&*model, &all, &[&adapter], vec![count], 1);
        let (_, single) = pass(&*model, &all, &vec![&adapter; count], vec![1; count], 1);
        for (tensor, expected) in summed {
            let each = single[&tensor].chunks_exact(expected.len());
            let total =
                (0..expected.len()).map(|index| each.clone().map(|values| values[index]).sum()).collect::<Vec<f32>>();
            assert_near(&tensor, &total, &expected, TOLERANCE);
        }
    }
}

/// A folder with these pictures, `[name, bytes]`, each under labels `a` and `b`.
fn folder(pictures: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        for label in ["a", "b"] {
            let place = folder.path().join(part).join(label);
            fs::create_dir_all(&place).unwrap();
            for (name, bytes) in pictures {
                fs::write(place.join(name), bytes).unwrap();
            }
        }
    }
    folder
}

fn png(height: u32, width: u32, levels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(levels).unwrap();
    bytes
}

#[test]
fn a_picture_is_prepared_as_the_image_processor_of_transformers_prepares_it() {
    let (reference, (_, preprocessor)) = (reference("tiny_vit"), load("tiny_vit", None));
    let levels: Vec<u8> = (0..14 * 11 * 3).map(|k| (7 * k % 256) as u8).collect();
    let folder = folder(&[("x.png", png(14, 11, &levels))]);
    let data = LoadedData::load(&DataConfig::new(folder.path()), &preprocessor, fedlora_adapter::Seed(1)).unwrap();
    let (train, _) = data.datasets(&preprocessor, 1).unwrap();
    let Inputs::Images { pixels, count } = train.batch(&[1]).inputs else { panic!("expected images") };
    assert_eq!(count, 1);
    // Values up to 3 in f32, rescaled and normalised in two steps there and in one here.
    assert_eq!(pixels.len(), reference.prepared.len());
    for (found, expected) in pixels.iter().zip(&reference.prepared) {
        assert!((found - expected).abs() <= 4.0 * 3.0 * f32::EPSILON, "{found}, expected {expected}");
    }
}

#[test]
fn a_model_of_images_refuses_texts_and_a_model_of_texts_refuses_images() {
    let (_, images) = load("tiny_vit", None);
    let (_, texts) = load("tiny_bert", None);
    let (_, passages) = load("decoders/llama", None);
    let folder = folder(&[("x.png", png(1, 1, &[1, 2, 3]))]);
    let seed = fedlora_adapter::Seed(1);
    let pictures = DataConfig::new(folder.path());
    for texts in [texts, passages] {
        let error = LoadedData::load(&pictures, &texts, seed).unwrap_err();
        assert!(matches!(error, LearnerError::OtherData { reads: "texts", found: "images" }), "{error}");
        let read = LoadedData::load(&pictures, &images, seed).unwrap();
        assert!(read.datasets(&texts, 8).unwrap_err().to_string().contains("but data.path holds images"));
    }
    let file = folder.path().join("train.csv");
    fs::write(&file, "text,label\na,0\nb,1\na,0\nb,1\n").unwrap();
    let sentences = DataConfig { test_fraction: Some(0.5), ..DataConfig::new(file) };
    for load in [LoadedData::load(&sentences, &images, seed), LoadedData::load_site(&sentences, &images, seed, &[])] {
        let error = load.unwrap_err().to_string();
        assert!(error.contains("the model reads images, but data.path holds texts"), "{error}");
    }
    let error = LoadedData::load(&DataConfig::new("nowhere"), &images, seed).unwrap_err().to_string();
    assert!(error.starts_with("cannot tell the format of nowhere"), "{error}");
}

/// What is said about a copy of a model whose file was changed.
fn spoilt(name: &str, file: &str, old: &str, new: &str) -> String {
    let copy = copied(&directory(name));
    replace(&copy.path().join(file), old, new);
    let loaded = load_pretrained(copy.path(), None::<Pooling>, &device("cpu").unwrap());
    loaded.unwrap_err().to_string().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn configurations_that_are_not_computed_here_are_refused_by_file_and_key() {
    let vit = |old, new| spoilt("tiny_vit", "config.json", old, new);
    assert_eq!(vit("\"qkv_bias\": true", "\"qkv_bias\": false"), "config.json: qkv_bias is false, expected true");
    assert_eq!(vit("\"gelu\"", "\"relu\""), "config.json: hidden_act is \"relu\", expected \"gelu\"");
    let patch = vit("\"patch_size\": 4", "\"patch_size\": 3");
    assert_eq!(patch, "config.json: patch_size is 3, expected a divisor of image_size");
    let preprocessor = |old, new| spoilt("tiny_vit", "preprocessor_config.json", old, new);
    let size = preprocessor("\"height\": 8", "\"height\": 9");
    assert_eq!(size, "preprocessor_config.json: size is 9 x 8, expected the model's size, 8 x 8");
    let filter = preprocessor("\"resample\": 2", "\"resample\": 0");
    assert_eq!(filter, "preprocessor_config.json: resample is 0, expected 2 (bilinear) or 3 (bicubic)");
    let mixer = |old, new| spoilt("tiny_mixer", "config.json", old, new);
    let other = mixer("mixer_b16_224", "resmlp_12_224");
    assert!(other.starts_with("config.json: architecture is resmlp_12_224, expected one of mixer_s32_224"), "{other}");
    let missing = mixer("\"num_blocks\": 2", "\"num_blocks\": 3");
    assert!(missing.contains("tensor blocks.2.norm1.weight of shape [10] is missing"), "{missing}");
    let unknown = mixer("\"in_chans\": 1", "\"in_chans\": 1, \"stem_norm\": true");
    assert!(unknown.contains("config.json"), "{unknown}");
    for pooling in [Pooling::Cls, Pooling::Pooler] {
        let loaded = load_pretrained(&directory("tiny_mixer"), pooling, &device("cpu").unwrap());
        assert!(loaded.unwrap_err().to_string().contains("model.pooling"));
    }
}
