//! Counts from which accuracy and F1 follow; those of batches add up.

use std::collections::BTreeMap;

/// Predictions, and per label how often it was true, predicted, and both.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    /// Sum of the predictions' losses.
    pub(super) loss: f64,
    /// Number of predictions.
    pub(super) predictions: u64,
    /// Those that are right.
    pub(super) correct: u64,
    /// Of labels only: a vocabulary is large, and nobody asks for its F1.
    labels: BTreeMap<u32, Label>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Label {
    actual: u64,
    predicted: u64,
    correct: u64,
}

impl Counts {
    /// Counts one prediction.
    pub(super) fn add(&mut self, is_right: bool, loss: f64) {
        self.loss += loss;
        self.predictions += 1;
        self.correct += u64::from(is_right);
    }

    /// Books the labels of one prediction.
    pub(super) fn add_label(&mut self, label: u32, prediction: u32) {
        self.labels.entry(label).or_default().actual += 1;
        self.labels.entry(prediction).or_default().predicted += 1;
        if label == prediction {
            self.labels.entry(label).or_default().correct += 1;
        }
    }

    /// Adds other counts.
    pub(super) fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.predictions += other.predictions;
        self.correct += other.correct;
        for (&label, counts) in &other.labels {
            let own = self.labels.entry(label).or_default();
            own.actual += counts.actual;
            own.predicted += counts.predicted;
            own.correct += counts.correct;
        }
    }

    /// Mean over the labels that occur of `2·correct / (actual + predicted)`, as scikit-learn's `f1_score` with
    /// `average="macro"`.
    pub(super) fn macro_f1(&self) -> f64 {
        let f1 = |counts: &Label| 2.0 * counts.correct as f64 / (counts.actual + counts.predicted) as f64;
        // Every label in the map was seen, so no denominator is 0; the map itself may be empty.
        self.labels.values().map(f1).sum::<f64>() / self.labels.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(u32, u32)]) -> Counts {
        let mut counts = Counts::default();
        for &(label, prediction) in pairs {
            counts.add(label == prediction, 0.5);
            counts.add_label(label, prediction);
        }
        counts
    }

    #[test]
    fn macro_f1_averages_over_labels_that_are_true_or_predicted() {
        // sklearn.metrics.f1_score([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 7], average="macro"): F1 of 0, 1, 2 and 7 is
        // 2/3, 4/5, 2/3 and 0.
        let counts = counts(&[(0, 0), (0, 1), (1, 1), (1, 1), (2, 2), (2, 7)]);
        assert!((counts.macro_f1() - (2.0 / 3.0 + 0.8 + 2.0 / 3.0) / 4.0).abs() < 1e-12);
        assert_eq!((counts.predictions, counts.correct), (6, 4));
    }

    #[test]
    fn merged_counts_are_those_of_all_examples() {
        let mut merged = counts(&[(0, 1), (3, 3)]);
        merged.merge(&counts(&[(1, 1)]));
        assert_eq!(merged, counts(&[(0, 1), (3, 3), (1, 1)]));
    }
}
