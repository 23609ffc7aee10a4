//! Tiny models on a device, examples for them, and adapters.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Seed, Tensor};
use fedlora_learner::{
    Batch, Dataset, Device, LearnerError, Model, ModelConfig, Pooling, Precision, Preprocessor, Tokens, data::Sequence,
    target_modules,
};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use serde::Deserialize;

/// Folders of the models, one of each family.
pub(crate) const FAMILIES: [&str; 9] = [
    "tiny_bert",
    "tiny_roberta",
    "tiny_distilbert",
    "tiny_vit",
    "tiny_mixer",
    "decoders/llama",
    "decoders/mistral",
    "decoders/qwen2",
    "decoders/qwen3",
];

/// Labels of the heads.
const LABELS: usize = 3;

/// A model, and what it is asked.
pub(crate) struct World {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) dataset: Arc<Dataset>,
}

/// What a reference file holds of examples.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Examples {
    texts: Vec<String>,
    labels: Vec<u32>,
    pixels: Vec<f32>,
    sequences: Vec<Vec<u32>>,
    prompts: Vec<usize>,
}

impl World {
    pub(crate) fn load(family: &str, device: &Device) -> Self {
        Self::load_as(family, Precision::Float32, device)
    }

    /// The model with matrices of a precision.
    pub(crate) fn load_as(family: &str, precision: Precision, device: &Device) -> Self {
        Self::try_load_as(family, precision, device).unwrap()
    }

    /// The same, where the device may lack the precision.
    pub(crate) fn try_load_as(family: &str, precision: Precision, device: &Device) -> Result<Self, LearnerError> {
        Self::load_from(&directory(family), family, precision, device)
    }

    /// The same in 32 bits whose weights were rounded before, in a copy of the model's files.
    pub(crate) fn load_rounded(family: &str, round: fn(f32) -> f32, device: &Device) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(directory(family)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
            let bytes = if is_weights { with_rounded_matrices(&bytes, round) } else { bytes };
            fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        Self::load_from(copy.path(), family, Precision::Float32, device).unwrap()
    }

    fn load_from(directory: &Path, family: &str, dtype: Precision, device: &Device) -> Result<Self, LearnerError> {
        // The families' own classifiers, where they have one, have more layers than others.
        let pooling = ["tiny_bert", "tiny_roberta", "tiny_distilbert"].contains(&family).then_some(Pooling::Pooler);
        let config = ModelConfig { path: directory.to_owned(), revision: None, pooling, random_weights: false, dtype };
        let (model, preprocessor) = config.locate()?.load(Seed(0), device)?;
        let examples: Examples = serde_json::from_slice(&fs::read(directory.join("reference.json")).unwrap()).unwrap();
        Ok(Self { model, dataset: Arc::new(examples.dataset(&preprocessor)) })
    }

    /// All examples as one batch.
    pub(crate) fn whole(&self) -> Batch {
        self.dataset.batch(&(0..self.dataset.len() as u32).collect::<Vec<_>>())
    }
}

impl Examples {
    fn dataset(self, preprocessor: &Preprocessor) -> Dataset {
        let names = (0..LABELS).map(|label| label.to_string()).collect();
        match preprocessor {
            Preprocessor::Text(tokenizer) => {
                let tokens: Vec<Tokens> = self.texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
                Dataset::tokens(&tokens, self.labels, names).unwrap()
            }
            Preprocessor::Images(_) => {
                let size = self.pixels.len() / self.labels.len();
                Dataset::images(self.pixels, size, self.labels, names).unwrap()
            }
            Preprocessor::Passages { .. } => {
                let sequences = self.sequences.into_iter().zip(self.prompts);
                let sequences: Vec<Sequence> = sequences.map(|(ids, given)| Sequence { ids, given }).collect();
                Dataset::causal(&sequences).unwrap()
            }
        }
    }
}

/// A weights file in 32 bits with all its matrices rounded; other tensors have the values that they had.
fn with_rounded_matrices(file: &[u8], round: fn(f32) -> f32) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let values = |view: &TensorView<'_>| -> Vec<u8> {
        let is_matrix = view.shape().len() == 2;
        widened(view)
            .into_iter()
            .flat_map(|value| (if is_matrix { round(value) } else { value }).to_le_bytes())
            .collect()
    };
    let rounded: Vec<_> = tensors.iter().map(|(name, view)| (name, view.shape().to_vec(), values(&view))).collect();
    let view = |(name, shape, values)| (name, TensorView::new(Dtype::F32, shape, values).unwrap());
    serialize(rounded.iter().map(|(name, shape, values)| view((*name, shape.clone(), values.as_slice()))), None)
        .unwrap()
}

fn widened(view: &TensorView<'_>) -> Vec<f32> {
    let halves = || view.data().as_chunks::<2>().0.iter().copied();
    match view.dtype() {
        Dtype::F32 => view.data().as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect(),
        Dtype::F16 => halves().map(|value| f16::from_le_bytes(value).to_f32()).collect(),
        Dtype::BF16 => halves().map(|value| bf16::from_le_bytes(value).to_f32()).collect(),
        other => panic!("{other}"),
    }
}

fn directory(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

/// An adapter on all linear layers, none of whose values is zero; `shift` makes others.
pub(crate) fn adapter(model: &dyn Model, kind: AdapterKind, shift: f64) -> Adapter {
    let spec = AdapterSpec {
        kind,
        rank: 2,
        alpha: 4.0,
        use_rslora: false,
        projection_seed: 7,
        modules: target_modules(model, &["all-linear".to_owned()]).unwrap(),
        head: model.head_spec(LABELS),
    };
    let (spec, mut modules, mut head) = Adapter::zeros(Arc::new(spec.with_extras())).unwrap().into_parts();
    let factors = modules.values_mut().flat_map(|factors| [&mut factors.a, &mut factors.b]);
    for (index, tensor) in factors.chain(head.values_mut()).enumerate() {
        let step = 0.37 + 0.05 * index as f64;
        *tensor =
            Tensor::from_fn(tensor.shape(), |k| (0.2 * (step * k as f64 + index as f64 + shift).sin() + 0.01) as f32);
    }
    // Magnitudes near zero would hide everything behind them.
    for (_, tensor) in head.iter_mut().filter(|(name, _)| spec.is_magnitude(name)) {
        tensor.values_mut().iter_mut().for_each(|value| *value += 1.0);
    }
    Adapter::new(spec, modules, head).unwrap()
}
