//! How good an adapter is on some rows: loss and accuracy, with macro F1 of labels or the perplexity of tokens, and how
//! often what a language model writes is right.

mod answer;
mod counts;
mod exact_match;

use burn::tensor::Tensor;
use fedlora_adapter::{Adapter, Factors};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, Dataset, DeviceError, GroupedAdapter, LearnerError, Model, Targets, device::is_cpu,
    evaluate::counts::Counts, train::cross_entropy,
};

pub use answer::AnswerForm;
pub use exact_match::{ExactMatch, Questions};

/// Examples of one batch together have at most about this many tokens: enough work for one pass, little memory.
const TOKENS_PER_BATCH: usize = 2048;

/// Logits in memory at a time, for each thread: 16 MiB. A batch over a large vocabulary has many times as many.
const LOGITS_AT_A_TIME: usize = 1 << 22;

/// What evaluation found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of examples.
    pub examples: u64,
    /// Number of predicted tokens; absent for classifiers, which predict one label for each example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Mean cross-entropy of the predictions, in nats: for each token, or for each example.
    pub loss: f64,
    /// Share of the predictions in which what is right has the largest logit.
    pub accuracy: f64,
    /// Unweighted mean of the F1 scores of all labels that occur among the examples or the predictions; absent for language
    /// models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// `exp(loss)`: among how many equally likely tokens a language model would be as unsure; absent for classifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Share of the questions that a language model answers rightly by what it writes; absent unless it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<f64>,
}

/// The batches of some rows, to be used for many adapters.
///
/// Rows are sorted by length, so that a batch's sequences are alike, and cut where the token budget is reached. The
/// plan, and so every digit of the result, depends on the rows only.
#[derive(Debug, Clone)]
pub struct EvaluationPlan {
    batches: Vec<Batch>,
    examples: usize,
    questions: Option<Questions>,
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
        let batches = cut(&sorted, |row| dataset.token_count(row)).map(|rows| dataset.batch(rows)).collect();
        Ok(Self { batches, examples: rows.len(), questions: None })
    }

    /// The same, by generation too.
    #[must_use]
    pub fn asking(self, questions: Questions) -> Self {
        Self { questions: Some(questions), ..self }
    }

    /// Evaluates one adapter without recording gradients; on the CPU batches run in parallel on the current rayon pool.
    ///
    /// # Errors
    /// An adapter that does not fit the model, a label that the head does not have, a read-back that failed; as
    /// [`Questions::exact_match`].
    pub fn evaluate(&self, model: &dyn Model, adapter: &Adapter) -> Result<Evaluation, LearnerError> {
        let grouped = GroupedAdapter::new(&[adapter], Factors::Neither, false, &model.device())?;
        let count = |batch| count(model, &grouped, batch, LOGITS_AT_A_TIME);
        // A GPU is busy with one batch, and has memory for one.
        let counted: Vec<Counts> = if is_cpu(&model.device()) {
            self.batches.par_iter().map(count).collect::<Result<_, _>>()?
        } else {
            self.batches.iter().map(count).collect::<Result<_, _>>()?
        };
        // Merged in batch order: floating-point sums must not depend on which batch was ready first.
        let mut total = Counts::default();
        for counts in &counted {
            total.merge(counts);
        }
        let loss = total.loss / total.predictions as f64;
        let exact_match = self.questions.as_ref().map(|questions| questions.exact_match(model, adapter)).transpose()?;
        let is_language = self.batches.iter().any(|batch| matches!(batch.targets, Targets::Tokens(_)));
        Ok(Evaluation {
            examples: self.examples as u64,
            tokens: is_language.then_some(total.predictions),
            loss,
            accuracy: total.correct as f64 / total.predictions as f64,
            macro_f1: (!is_language).then(|| total.macro_f1()),
            perplexity: is_language.then(|| loss.exp()),
            exact_match,
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

/// Counts a batch's predictions; of a language model at most `at_a_time` logits are in memory, or one row of them.
fn count(model: &dyn Model, adapter: &GroupedAdapter, batch: &Batch, at_a_time: usize) -> Result<Counts, LearnerError> {
    let adapter = adapter.clone().with_examples(vec![batch.targets.examples()]);
    let features = model.features(batch, Some(&adapter), None);
    let targets = batch.targets.ids();
    let mut counts = Counts::default();
    let rows = model.decoder().map_or(targets.len(), |decoder| at_a_time / decoder.vocabulary()).max(1);
    for (index, targets) in targets.chunks(rows).enumerate() {
        let features = features.clone().narrow(0, index * rows, targets.len());
        let logits = model.logits(features, &adapter.clone().with_examples(vec![targets.len()]));
        add(&mut counts, logits, targets, matches!(batch.targets, Targets::Labels(_)))?;
    }
    Ok(counts)
}

/// Counts predictions by their logits, one row each.
fn add(counts: &mut Counts, logits: Tensor<2>, targets: &[u32], are_labels: bool) -> Result<(), LearnerError> {
    let columns = logits.dims()[1];
    check_labels(targets, columns)?;
    let losses: Vec<f32> = read(cross_entropy(logits.clone(), targets))?;
    let logits: Vec<f32> = read(logits)?;
    for ((row, &target), loss) in logits.chunks_exact(columns).zip(targets).zip(losses) {
        let prediction = largest(row);
        counts.add(target == prediction, f64::from(loss));
        if are_labels {
            counts.add_label(target, prediction);
        }
    }
    Ok(())
}

/// Checks that the head has every label.
pub(crate) fn check_labels(labels: &[u32], head: usize) -> Result<(), LearnerError> {
    match labels.iter().find(|&&label| label as usize >= head) {
        Some(&label) => Err(LearnerError::LabelOutOfRange { label, labels: head }),
        None => Ok(()),
    }
}

/// Brings a tensor's values here, as f32 whatever they were.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
    let data = tensor.try_into_data().map_err(|error| DeviceError::failed(error.to_string()))?;
    data.convert::<f32>().try_into_vec().map_err(|error| DeviceError::failed(error.to_string()))
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
    fn a_bound_on_logits_in_memory_changes_no_count() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama");
        let device = crate::device("cpu").unwrap();
        let (model, _) = crate::load_pretrained(&directory, crate::Pooling::Mean, &device).unwrap();
        let spec = fedlora_adapter::AdapterSpec {
            kind: fedlora_adapter::AdapterKind::Lora,
            rank: 2,
            alpha: 2.0,
            use_rslora: false,
            projection_seed: 0,
            modules: crate::target_modules(&*model, &["q_proj".to_owned()]).unwrap(),
            head: model.head_spec(0),
        };
        let adapter = Adapter::zeros(std::sync::Arc::new(spec)).unwrap();
        let grouped = GroupedAdapter::new(&[&adapter], Factors::Neither, false, &device).unwrap();
        let sequences = [7, 12, 4].map(|length| crate::data::Sequence { ids: (1..=length).collect(), given: 2 });
        let batch = Dataset::causal(&sequences).unwrap().batch(&[0, 1, 2]);
        let whole = count(&*model, &grouped, &batch, usize::MAX).unwrap();
        assert_eq!((whole.predictions, whole.loss.is_finite()), (17, true));
        // Five rows at a time leave a rest of two; one row at a time is the least, however small the bound.
        for at_a_time in [5 * 64, 1] {
            assert_eq!(count(&*model, &grouped, &batch, at_a_time).unwrap(), whole);
        }
    }

    #[test]
    fn the_first_of_equal_logits_is_the_prediction() {
        assert_eq!(largest(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
