//! A pretrained vision model as a Hugging Face directory.

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::Device;
use fedlora_adapter::Seed;
use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

use super::{Architecture, Pretraining, Progress, Trained, accuracy, train};
use crate::{
    Dataset, HeadForm, ImageProcessor, LearnerError, VisionConfig, WeightsError, evaluate::read, images::PREPROCESSOR,
};

/// All weights of a vision model and its classifier after central training.
#[derive(Debug)]
pub struct PretrainedVision {
    config: VisionConfig,
    labels: Vec<String>,
    trained: Trained,
    device: Device,
}

/// Trains all weights of a vision model and a classifier on a data set. Equal seeds give equal bytes. `watch` is told of
/// every step.
///
/// # Errors
/// Sizes that do not fit together; no examples; a loss that is not finite.
pub fn pretrain(
    config: &VisionConfig,
    dataset: &Dataset,
    pretraining: &Pretraining,
    seed: Seed,
    device: &Device,
    watch: impl FnMut(Progress),
) -> Result<PretrainedVision, LearnerError> {
    let trained = match config {
        VisionConfig::Vit(config) => train(config, dataset, pretraining, seed, device, watch),
        VisionConfig::TimmVit(config) => train(config, dataset, pretraining, seed, device, watch),
        VisionConfig::MlpMixer(config) => train(config, dataset, pretraining, seed, device, watch),
    }?;
    let labels = dataset.label_names().to_vec();
    Ok(PretrainedVision { config: config.clone(), labels, trained, device: device.clone() })
}

impl PretrainedVision {
    /// Share of a data set's examples whose label the model finds, between 0 and 1.
    ///
    /// # Errors
    /// A device that failed.
    pub fn accuracy(&self, dataset: &Dataset) -> Result<f64, LearnerError> {
        fn of(
            architecture: &impl Architecture,
            pretrained: &PretrainedVision,
            dataset: &Dataset,
        ) -> Result<f64, LearnerError> {
            accuracy(architecture, &pretrained.trained, dataset, &pretrained.device)
        }
        match &self.config {
            VisionConfig::Vit(config) => of(config, self, dataset),
            VisionConfig::TimmVit(config) => of(config, self, dataset),
            VisionConfig::MlpMixer(config) => of(config, self, dataset),
        }
    }

    /// Number of values of all weights, the classifier's included.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.trained.values.dims()[1]
    }

    /// Writes a directory that [`load_pretrained`](crate::load_pretrained) reads, and `transformers` (a vision
    /// transformer) or `timm` (an MLP-Mixer, or a vision transformer in its words) with it: weights, `preprocessor_config.json` and, last, `config.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), LearnerError> {
        let write = |name: &str, content: &[u8]| {
            let file = directory.join(name);
            fs::write(&file, content).map_err(|source| LearnerError::Io { file, source })
        };
        fs::create_dir_all(directory).map_err(|source| LearnerError::Io { file: directory.into(), source })?;
        write("model.safetensors", &self.weights()?)?;
        let preprocessor = ImageProcessor::plain_file(self.config.channels(), self.config.side());
        write(PREPROCESSOR, preprocessor.as_bytes())?;
        write("config.json", format!("{:#}\n", self.config.to_json(&self.labels)).as_bytes())
    }

    /// The weights as a safetensors file.
    fn weights(&self) -> Result<Vec<u8>, LearnerError> {
        let values = read(self.trained.values.clone())?;
        let mut rest = values.as_slice();
        let mut tensors: BTreeMap<String, RawTensor> = BTreeMap::new();
        for (name, shape) in &self.trained.layout {
            let (own, later) = rest.split_at(shape.iter().product());
            let bytes = own.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(self.name(name), (shape.clone(), bytes));
            rest = later;
        }
        let file = || "model.safetensors".into();
        Ok(serialise(&tensors).map_err(|source| WeightsError::Safetensors { file: file(), source })?)
    }

    /// A weight's name in the library that the file is for.
    fn name(&self, own: &str) -> String {
        match (&self.config, own.strip_prefix(HeadForm::LINEAR.output)) {
            (VisionConfig::Vit(_), None) => format!("vit.{own}"),
            (VisionConfig::MlpMixer(_) | VisionConfig::TimmVit(_), Some(rest)) => {
                format!("{}{rest}", HeadForm::TIMM.output)
            }
            _ => own.to_owned(),
        }
    }
}

/// Shape and little-endian values.
type RawTensor = (Vec<usize>, Vec<u8>);

fn serialise(tensors: &BTreeMap<String, RawTensor>) -> Result<Vec<u8>, SafeTensorError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, (shape, bytes)) in tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    // What transformers asks for before it reads a file.
    let format = [("format".to_owned(), "pt".to_owned())];
    safetensors::serialize(views, Some(format.into()))
}
