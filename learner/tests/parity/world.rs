//! Tiny models on a device, examples for them, and adapters.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Adapter, AdapterKind, AdapterSpec, Tensor};
use fedlora_learner::{
    Batch, Dataset, Device, Model, Pooling, Preprocessor, Tokens, data::Sequence, load_pretrained, target_modules,
};
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
        let directory = directory(family);
        // The families' own classifiers, where they have one, have more layers than others.
        let pooling = ["tiny_bert", "tiny_roberta", "tiny_distilbert"].contains(&family).then_some(Pooling::Pooler);
        let (model, preprocessor) = load_pretrained(&directory, pooling, device).unwrap();
        let examples: Examples =
            serde_json::from_slice(&std::fs::read(directory.join("reference.json")).unwrap()).unwrap();
        Self { model, dataset: Arc::new(examples.dataset(&preprocessor)) }
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
