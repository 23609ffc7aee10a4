//! Central training of all weights: bases that ship with the program or that a simulation makes for itself.

mod files;

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{ClientId, LocalHyperparameters, LocalWork, Optimizer, RoundId, Schedule, Seed};

use super::{
    HEAD_BIAS, HEAD_WEIGHT,
    weights::{Deviation, RandomWeights, Recorded, Slices, Weights},
};
use crate::{
    Batch, Dataset, LearnerError,
    evaluate::{check_labels, largest, read},
    train::{Batches, GroupOptimizer, column, cross_entropy, learning_rate},
};

pub use files::{PretrainedVision, pretrain};

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

/// A step that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Its number, from 1.
    pub step: usize,
    /// Steps of a pass over the examples.
    pub steps_each: usize,
    /// Mean cross-entropy of its batch before it, in nats.
    pub loss: f64,
}

/// No client's number: examples are shuffled from a stream that no client has.
const NOBODY: ClientId = ClientId(u64::MAX);
/// Images of a batch when nothing is trained.
const TESTED_TOGETHER: usize = 64;

/// A model that can be made of any source of weights.
pub(super) trait Architecture {
    type Model;

    /// Checks that its sizes fit together.
    fn check(&self) -> Result<(), LearnerError>;

    /// Width of the features that the head sees.
    fn feature_width(&self) -> usize;

    /// The model; it asks for its weights in the same order every time.
    fn load<W: Weights>(&self, weights: &mut W, device: &Device) -> Result<Self::Model, LearnerError>;

    /// Features of a batch, with gradients for the weights.
    fn training_features(model: &Self::Model, batch: &Batch) -> Tensor<2>;
}

/// All weights of a model and its head after training.
#[derive(Debug)]
pub(super) struct Trained {
    /// `[1, N]`.
    pub(super) values: Tensor<2>,
    /// Names and shapes of the weights, in their order.
    pub(super) layout: Vec<(String, Vec<usize>)>,
}

/// Trains all weights and a head on a data set. Equal seeds give equal bytes. `watch` is told of every step.
pub(super) fn train<A: Architecture>(
    architecture: &A,
    dataset: &Dataset,
    pretraining: &Pretraining,
    seed: Seed,
    device: &Device,
    mut watch: impl FnMut(Progress),
) -> Result<Trained, LearnerError> {
    architecture.check()?;
    if dataset.is_empty() {
        return Err(LearnerError::NoExamples);
    }
    let labels = dataset.label_names().len();
    let source = RandomWeights { seed, deviation: Deviation::FanIn, device: device.clone() };
    let mut first = Recorded { source, values: Vec::new(), layout: Vec::new() };
    load_with_head(architecture, labels, &mut first, device)?;
    let count = first.values.len();
    let mut values = Tensor::<2>::from_data(TensorData::new(first.values, [1, count]), device);
    let local = pretraining.hyperparameters();
    let mut optimizer = GroupOptimizer::new(local.optimizer);
    let rows: Vec<u32> = (0..dataset.len() as u32).collect();
    let mut batches = Batches::new(&rows, pretraining.batch_size, seed, RoundId(0), NOBODY);
    let steps_each = rows.len().div_ceil(pretraining.batch_size.max(1));
    let steps = steps_each * pretraining.epochs as usize;
    for step in 1..=steps {
        let batch = dataset.batch(batches.next_rows());
        let rate = learning_rate(&local, step as f64 / (steps + 1) as f64);
        let (loss, gradient) = gradient(architecture, labels, &batch, values.clone(), device)?;
        if !loss.is_finite() {
            return Err(LearnerError::PretrainingDiverged { step });
        }
        values = optimizer.step(values, gradient, column([rate].into_iter(), device));
        watch(Progress { step, steps_each, loss });
    }
    Ok(Trained { values, layout: first.layout })
}

/// Share of a data set's examples whose label a trained model and its head find.
pub(super) fn accuracy<A: Architecture>(
    architecture: &A,
    trained: &Trained,
    dataset: &Dataset,
    device: &Device,
) -> Result<f64, LearnerError> {
    let labels = dataset.label_names().len();
    let weights = &mut Slices::tracked(trained.values.clone());
    let (model, weight, bias) = load_with_head(architecture, labels, weights, device)?;
    let rows: Vec<u32> = (0..dataset.len() as u32).collect();
    let mut correct = 0;
    for rows in rows.chunks(TESTED_TOGETHER) {
        let features = A::training_features(&model, &dataset.batch(rows));
        let logits = read(features.matmul(weight.clone().transpose()) + bias.clone().unsqueeze())?;
        let right = |(logits, row): &(&[f32], &u32)| largest(logits) == dataset.labels()[**row as usize];
        correct += logits.chunks_exact(labels).zip(rows).filter(right).count();
    }
    Ok(correct as f64 / dataset.len().max(1) as f64)
}

/// The batch's mean cross-entropy and its gradient for all weights, `[1, N]`.
fn gradient<A: Architecture>(
    architecture: &A,
    labels: usize,
    batch: &Batch,
    values: Tensor<2>,
    device: &Device,
) -> Result<(f64, Tensor<2>), LearnerError> {
    let leaf = values.autodiff().require_grad();
    let (model, weight, bias) = load_with_head(architecture, labels, &mut Slices::tracked(leaf.clone()), device)?;
    let features = A::training_features(&model, batch);
    check_labels(batch.targets.ids(), labels)?;
    let logits = features.matmul(weight.transpose()) + bias.unsqueeze();
    let loss = cross_entropy(logits, batch.targets.ids()).mean();
    let mut gradients = loss.backward();
    let loss = read(loss.inner())?.first().copied().map_or(f64::NAN, f64::from);
    Ok((loss, leaf.grad_remove(&mut gradients).unwrap_or_else(|| leaf.inner().zeros_like())))
}

fn load_with_head<A: Architecture, W: Weights>(
    architecture: &A,
    labels: usize,
    weights: &mut W,
    device: &Device,
) -> Result<(A::Model, Tensor<2>, Tensor<1>), LearnerError> {
    let model = architecture.load(weights, device)?;
    let weight = weights.tensor(HEAD_WEIGHT, [labels, architecture.feature_width()])?;
    Ok((model, weight, weights.tensor(HEAD_BIAS, [labels])?))
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
