//! Central training of all weights, for models that ship with the program.

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{ClientId, LocalHyperparameters, LocalWork, Optimizer, RoundId, Schedule, Seed};

use super::{super::pass::Pass, Vit, VitConfig};
use crate::{
    Batch, Dataset, LearnerError,
    evaluate::check_labels,
    model::weights::{Deviation, RandomWeights, Recorded, Slices, Weights},
    model::{HEAD_BIAS, HEAD_WEIGHT},
    train::{Batches, GroupOptimizer, column, cross_entropy, learning_rate},
};

/// How a model is trained before it is frozen: `AdamW`, a tenth of the steps as warm-up, then half a cosine to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pretraining {
    /// Passes over the examples.
    pub epochs: u32,
    /// Examples per step, at least 1.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// No client's number: examples are shuffled from a stream that no client has.
const NOBODY: ClientId = ClientId(u64::MAX);

impl Vit {
    /// Trains all weights on a data set, with a head that is thrown away, and freezes them. Equal seeds give equal bytes.
    ///
    /// `watch` is told the number of each finished pass, from 1.
    ///
    /// # Errors
    /// Sizes that do not fit together; no examples.
    pub fn pretrain(
        config: &VitConfig,
        dataset: &Dataset,
        pretraining: &Pretraining,
        seed: Seed,
        device: &Device,
        mut watch: impl FnMut(u32),
    ) -> Result<Self, LearnerError> {
        config.check()?;
        if dataset.is_empty() {
            return Err(LearnerError::NoExamples);
        }
        let labels = dataset.label_names().len();
        let source = RandomWeights { seed, deviation: Deviation::FanIn, device: device.clone() };
        let mut first = Recorded { source, values: Vec::new() };
        Self::load_with_head(config, labels, &mut first, device)?;
        let count = first.values.len();
        let mut values = Tensor::<2>::from_data(TensorData::new(first.values, [1, count]), device);
        let local = pretraining.hyperparameters();
        let mut optimizer = GroupOptimizer::new(local.optimizer);
        let rows: Vec<u32> = (0..dataset.len() as u32).collect();
        let mut batches = Batches::new(&rows, pretraining.batch_size, seed, RoundId(0), NOBODY);
        let steps_each = rows.len().div_ceil(pretraining.batch_size.max(1));
        let steps = steps_each * pretraining.epochs as usize;
        for step in 0..steps {
            let batch = dataset.batch(batches.next_rows());
            let rate = learning_rate(&local, (step + 1) as f64 / (steps + 1) as f64);
            let gradient = Self::gradient(config, labels, &batch, values.clone(), device)?;
            values = optimizer.step(values, gradient, column([rate].into_iter(), device));
            if (step + 1).is_multiple_of(steps_each) {
                watch(((step + 1) / steps_each) as u32);
            }
        }
        Self::load(config, &mut Slices::copied(values, device.clone()), device)
    }

    /// The gradient of the batch's mean cross-entropy for all weights, `[1, N]`.
    fn gradient(
        config: &VitConfig,
        labels: usize,
        batch: &Batch,
        values: Tensor<2>,
        device: &Device,
    ) -> Result<Tensor<2>, LearnerError> {
        let leaf = values.autodiff().require_grad();
        let (model, weight, bias) = Self::load_with_head(config, labels, &mut Slices::tracked(leaf.clone()), device)?;
        let features = model.pooled(batch, Pass::training_weights);
        check_labels(batch.targets.ids(), labels)?;
        let logits = features.matmul(weight.transpose()) + bias.unsqueeze();
        let mut gradients = cross_entropy(logits, batch.targets.ids()).mean().backward();
        Ok(leaf.grad_remove(&mut gradients).unwrap_or_else(|| leaf.inner().zeros_like()))
    }

    fn load_with_head<W: Weights>(
        config: &VitConfig,
        labels: usize,
        weights: &mut W,
        device: &Device,
    ) -> Result<(Self, Tensor<2>, Tensor<1>), LearnerError> {
        let model = Self::load(config, weights, device)?;
        let weight = weights.tensor(HEAD_WEIGHT, [labels, config.hidden_size])?;
        Ok((model, weight, weights.tensor(HEAD_BIAS, [labels])?))
    }
}

impl Pretraining {
    fn hyperparameters(&self) -> LocalHyperparameters {
        LocalHyperparameters {
            work: LocalWork::Epochs(self.epochs),
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            optimizer: Optimizer::Adamw { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: self.weight_decay },
            schedule: Schedule::Cosine,
            warmup_ratio: 0.1,
            max_grad_norm: 0.0,
            lora_dropout: 0.0,
            proximal_mu: 0.0,
            loraplus_lr_ratio: 1.0,
            privacy: None,
        }
    }
}
