//! Which rows a site trains and tests on: those that the simulator gives the same client when it has all files.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::{ClientId, Seed};
use fedlora_learner::{
    Dataset, LoadedPassages, LoadedText, TextTokenizer,
    data::{Record, split_personal},
};

use super::{SiteConfig, SiteError};

/// A site's rows as text.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedText {
    text: LoadedText,
    /// Rows of [`SharedText::train`] to train on, ascending.
    pub rows: Vec<u32>,
    /// Rows of [`SharedText::train`] held out to test the site's own model on, ascending.
    pub own_test: Vec<u32>,
}

/// A site's rows in a model's tokens.
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
    /// Reads a site's files for a causal language model. The federation's seed decides what is held out.
    ///
    /// # Errors
    /// Rows that cannot be read; a site without rows to train on.
    pub fn read_passages(
        config: &SiteConfig,
        tokenizer: &TextTokenizer,
        seed: Seed,
        client: ClientId,
    ) -> Result<Self, SiteError> {
        let text = LoadedPassages::load_site(&config.data, tokenizer, seed)?;
        let all: Vec<u32> = (0..text.train().len() as u32).collect();
        let (rows, own_test) = split_personal(&all, &[], config.personal_test_fraction, seed, client)?;
        let files = text.train().iter().chain(text.test()).map(|row| Arc::clone(&row.file)).collect();
        let (train, test) = text.datasets()?;
        Ok(Self { train: Arc::new(train), test, rows, own_test, files, left_out: text.left_out() })
    }
}

impl SharedText {
    /// Reads a site's files. The federation's seed decides what is held out, its labels decide their numbers.
    ///
    /// # Errors
    /// Rows that cannot be read or whose labels the federation does not have; a site without rows to train on.
    pub fn read(config: &SiteConfig, seed: Seed, client: ClientId, labels: &[String]) -> Result<Self, SiteError> {
        let text = LoadedText::load_site(&config.data, seed, labels)?;
        let numbers: Vec<u32> = text.train_labels()?;
        let all: Vec<u32> = (0..numbers.len() as u32).collect();
        let (rows, own_test) = split_personal(&all, &numbers, config.personal_test_fraction, seed, client)?;
        Ok(Self { text, rows, own_test })
    }

    /// All rows but those that `test-fraction` holds out.
    #[must_use]
    pub fn train(&self) -> &[Record] {
        self.text.train()
    }

    /// The same rows in a model's tokens.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn tokenize(self, tokenizer: &TextTokenizer, max_length: usize) -> Result<Share, SiteError> {
        let files = self.text.train().iter().chain(self.text.test()).map(|row| Arc::clone(&row.file)).collect();
        let (train, test) = self.text.tokenize(tokenizer, max_length)?;
        Ok(Share { train: Arc::new(train), test, rows: self.rows, own_test: self.own_test, files, left_out: 0 })
    }
}
