//! Which rows a site trains and tests on: those that the simulator gives the same client when it has all files.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::{ClientId, Seed};
use fedlora_learner::{Dataset, LoadedData, Preprocessor, data::split_personal};

use super::{SiteConfig, SiteError};

/// A site's rows as its files have them.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedRows {
    data: LoadedData,
    /// Training rows of [`SharedRows::data`] to train on, ascending.
    pub rows: Vec<u32>,
    /// Training rows of [`SharedRows::data`] held out to test the site's own model on, ascending.
    pub own_test: Vec<u32>,
}

/// A site's rows as a model reads them.
#[derive(Debug, Clone)]
pub struct Share {
    /// All rows but those that `test-fraction` holds out.
    pub train: Arc<Dataset>,
    /// The rows that `test-fraction` or `test-path` give to test on; may be empty.
    pub test: Dataset,
    /// Rows of `train` to train on.
    pub rows: Vec<u32>,
    /// Rows of `train` held out to test the site's own model on.
    pub own_test: Vec<u32>,
    /// The files that the rows come from.
    pub files: BTreeSet<Arc<Path>>,
    /// Rows that were left out because their prompts leave no room for a response.
    pub left_out: usize,
}

impl Share {
    /// How many rows were left out and why, for sequences of at most `max_length` tokens; none where all were used.
    #[must_use]
    pub fn left_out_words(&self, max_length: usize) -> Option<String> {
        let rows = self.left_out;
        let words = || format!("rows left out: {rows}; prompts leave no room for a response in {max_length} tokens");
        (rows > 0).then(words)
    }
}

impl SharedRows {
    /// Reads a site's files for the model of a preprocessor. The federation's seed decides what is held out, its labels
    /// decide their numbers; they mean nothing to a language model.
    ///
    /// # Errors
    /// Rows that cannot be read, that the model does not read or whose labels the federation does not have; a site
    /// without rows to train on.
    pub fn read(
        config: &SiteConfig,
        preprocessor: &Preprocessor,
        seed: Seed,
        client: ClientId,
        labels: &[String],
    ) -> Result<Self, SiteError> {
        let data = LoadedData::load_site(&config.data, preprocessor, seed, labels)?;
        let all: Vec<u32> = (0..data.train_rows() as u32).collect();
        let numbers = data.train_labels()?;
        let (rows, own_test) = split_personal(&all, &numbers, config.personal_test_fraction, seed, client)?;
        Ok(Self { data, rows, own_test })
    }

    /// All rows, split into those to train on and those that `test-fraction` or `test-path` give to test on.
    #[must_use]
    pub fn data(&self) -> &LoadedData {
        &self.data
    }

    /// The same rows as a model reads them.
    ///
    /// # Errors
    /// Rows of another kind than the model reads; a text that the tokenizer refuses; a file that is no image.
    pub fn prepare(self, preprocessor: &Preprocessor, max_length: usize) -> Result<Share, SiteError> {
        let (files, left_out) = (self.data.files(), self.data.left_out());
        let (train, test) = self.data.datasets(preprocessor, max_length)?;
        Ok(Share { train: Arc::new(train), test, rows: self.rows, own_test: self.own_test, files, left_out })
    }
}
