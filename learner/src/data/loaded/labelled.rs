//! Rows with labels, whatever is labelled.

use fedlora_adapter::Seed;

use super::{Loaded, Read};
use crate::data::{DataConfig, DataError, Row, labels};

impl<R: Row> Loaded<R> {
    /// The number of every training row's label.
    ///
    /// # Errors
    ///
    /// None for rows that have labels: each is among the label names.
    pub fn train_labels(&self) -> Result<Vec<u32>, DataError> {
        labels::numbers(&self.train, &self.label_names)
    }

    /// Rows whose own labels decide the numbers.
    pub(super) fn labelled(config: &DataConfig, seed: Seed, read: Read<R>) -> Result<Self, DataError> {
        let split = read.split(config, seed);
        if split.test.is_empty() {
            return Err(DataError::NoTest { path: config.path.clone() });
        }
        // Before any limit, so that a sample without some label still has the data's labels.
        let label_names = labels::names(&split.train.rows);
        if let [label] = label_names.as_slice() {
            return Err(DataError::OneLabel { path: config.path.clone(), label: label.clone() });
        }
        labels::numbers(&split.test, &label_names)?;
        Ok(Self::limited(config, seed, split, label_names))
    }

    /// Rows whose labels a federation numbers.
    pub(super) fn labelled_as(
        labels: &[String],
        config: &DataConfig,
        seed: Seed,
        read: Read<R>,
    ) -> Result<Self, DataError> {
        let split = read.split(config, seed);
        labels::check_known(&split.train.rows, labels)?;
        labels::check_known(&split.test, labels)?;
        Ok(Self::limited(config, seed, split, labels.to_vec()))
    }
}

impl<R: Row> Read<R> {
    /// The distinct labels of all rows.
    pub(super) fn label_names(&self) -> Vec<String> {
        labels::ordered(self.train.rows.iter().chain(self.test.iter().flatten()).map(Row::label))
    }
}
