//! How good an adapter is on some rows: loss, accuracy and macro F1.

mod counts;

use burn::tensor::Tensor;
use fedlora_adapter::{Adapter, Factors};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, Dataset, GroupedAdapter, Inputs, LearnerError, Model, evaluate::counts::Counts, train::cross_entropy,
};

/// Examples of one batch together have at most about this many tokens: enough work for one pass, little memory.
const TOKENS_PER_BATCH: usize = 2048;

/// Images have a length in pixels, of which a model makes some dozen tokens.
const TOKENS_PER_IMAGE: usize = 32;

/// What evaluation found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of examples.
    pub examples: u64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Share of examples whose label has the largest logit.
    pub accuracy: f64,
    /// Unweighted mean of the F1 scores of all labels that occur among the examples or the predictions.
    pub macro_f1: f64,
}

/// The batches of some rows, to be used for many adapters.
///
/// Rows are sorted by length, so that a batch's sequences are alike, and cut where the token budget is reached. The
/// plan, and so every digit of the result, depends on the rows only.
#[derive(Debug, Clone)]
pub struct EvaluationPlan {
    batches: Vec<Batch>,
    examples: usize,
}

impl EvaluationPlan {
    /// Plans the evaluation of some rows of a data set.
    ///
    /// # Errors
    /// [`LearnerError::NoExamples`] without rows, [`LearnerError::RowOutOfRange`] for a row that the data set lacks.
    pub fn new(dataset: &Dataset, rows: &[u32]) -> Result<Self, LearnerError> {
        check_rows(dataset, rows)?;
        if rows.is_empty() {
            return Err(LearnerError::NoExamples);
        }
        let mut sorted = rows.to_vec();
        sorted.sort_by_key(|&row| dataset.length(row));
        let images = matches!(dataset.batch(&sorted[..1]).inputs, Inputs::Images { .. });
        let tokens = |row| if images { TOKENS_PER_IMAGE } else { dataset.length(row) };
        let batches = cut(&sorted, tokens).map(|rows| dataset.batch(rows)).collect();
        Ok(Self { batches, examples: rows.len() })
    }

    /// Evaluates one adapter, batches in parallel on the current rayon pool, without recording gradients.
    ///
    /// # Errors
    /// An adapter that does not fit the model, a label that the head does not have, a read-back that failed.
    pub fn evaluate(&self, model: &dyn Model, adapter: &Adapter) -> Result<Evaluation, LearnerError> {
        let grouped = GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device())?;
        let counted: Vec<Counts> =
            self.batches.par_iter().map(|batch| count(model, &grouped, batch)).collect::<Result<_, _>>()?;
        // Merged in batch order: floating-point sums must not depend on which batch was ready first.
        let mut total = Counts::default();
        for counts in &counted {
            total.merge(counts);
        }
        Ok(Evaluation {
            examples: self.examples as u64,
            loss: total.loss / self.examples as f64,
            accuracy: total.correct() as f64 / self.examples as f64,
            macro_f1: total.macro_f1(),
        })
    }
}

/// Evaluates an adapter on some rows; an [`EvaluationPlan`] is faster for many adapters on the same rows.
///
/// # Errors
/// As [`EvaluationPlan::new`] and [`EvaluationPlan::evaluate`].
pub fn evaluate(
    model: &dyn Model,
    adapter: &Adapter,
    dataset: &Dataset,
    rows: &[u32],
) -> Result<Evaluation, LearnerError> {
    EvaluationPlan::new(dataset, rows)?.evaluate(model, adapter)
}

/// Checks that every row is one of the data set's.
pub(crate) fn check_rows(dataset: &Dataset, rows: &[u32]) -> Result<(), LearnerError> {
    match rows.iter().find(|&&row| row as usize >= dataset.len()) {
        Some(&row) => Err(LearnerError::RowOutOfRange { row, rows: dataset.len() }),
        None => Ok(()),
    }
}

/// Cuts rows into runs of at most the token budget, at least one row each.
fn cut<'a>(rows: &'a [u32], length: impl Fn(u32) -> usize + 'a) -> impl Iterator<Item = &'a [u32]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|&&row| {
            tokens += length(row);
            tokens <= TOKENS_PER_BATCH
        });
        let (batch, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

fn count(model: &dyn Model, adapter: &GroupedAdapter, batch: &Batch) -> Result<Counts, LearnerError> {
    let adapter = adapter.clone().with_examples(vec![batch.targets.examples()]);
    let logits = model.forward(batch, &adapter, None);
    let labels = logits.dims()[1];
    let targets = batch.targets.ids();
    check_labels(targets, labels)?;
    let losses = cross_entropy(logits.clone(), targets);
    let losses: Vec<f32> = read(losses)?;
    let logits: Vec<f32> = read(logits)?;
    let mut counts = Counts::default();
    for ((row, &label), loss) in logits.chunks_exact(labels).zip(targets).zip(losses) {
        counts.add(label, largest(row), f64::from(loss));
    }
    Ok(counts)
}

/// Checks that the head has every label.
pub(crate) fn check_labels(labels: &[u32], head: usize) -> Result<(), LearnerError> {
    match labels.iter().find(|&&label| label as usize >= head) {
        Some(&label) => Err(LearnerError::LabelOutOfRange { label, labels: head }),
        None => Ok(()),
    }
}

/// Brings a tensor's values here.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, LearnerError> {
    let data = tensor.try_into_data().map_err(|error| LearnerError::Device(error.to_string()))?;
    data.try_into_vec().map_err(|error| LearnerError::Device(error.to_string()))
}

/// Index of the largest logit, the first of equals.
pub(crate) fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_within_the_token_budget_and_lose_no_row() {
        let lengths = [1000, 1000, 100, 3000, 5, 2043, 1];
        let rows: Vec<u32> = (0..7).collect();
        let batches: Vec<_> = cut(&rows, |row| lengths[row as usize]).collect();
        assert_eq!(batches, [&[0, 1][..], &[2], &[3], &[4, 5], &[6]]);
    }

    #[test]
    fn the_first_of_equal_logits_is_the_prediction() {
        assert_eq!(largest(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
