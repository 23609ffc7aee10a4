//! Labelled texts.

use fedlora_adapter::Seed;
use rayon::prelude::*;

use super::{LoadedText, read};
use crate::data::columns::Answer;
use crate::data::{DataConfig, DataError, Dataset, Record, labels};
use crate::{LearnerError, TextTokenizer, Tokens};

impl LoadedText {
    /// Reads what `config` names. The seed decides which rows `test-fraction` holds out and which rows a limit keeps.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood, on a test label that training lacks, and on configurations that leave
    /// no test rows; see [`DataError`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        let split = read(config, Answer::Label)?.split(config, seed);
        if split.test.is_empty() {
            return Err(DataError::NoTest { path: config.path.clone() });
        }
        // Before any limit, so that a sample without some label still has the data's labels.
        let label_names = labels::names(&split.train.records);
        if let [label] = label_names.as_slice() {
            return Err(DataError::OneLabel { path: config.path.clone(), label: label.clone() });
        }
        labels::numbers(&split.test, &label_names)?;
        Ok(Self::limited(config, seed, split, label_names))
    }

    /// As [`Self::load`] for one site of a federation: the federation's labels decide the numbers, not those that the
    /// site happens to have, and there may be nothing to test on.
    ///
    /// With the same seed, `test-fraction` holds out exactly the rows that it holds out of this file or group where
    /// all sites' files are read at once. The limits `max-rows` and `max-test-rows` are the site's own.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; [`DataError::UnknownLabel`] for a row whose label the federation does not have.
    pub fn load_site(config: &DataConfig, seed: Seed, labels: &[String]) -> Result<Self, DataError> {
        let split = read(config, Answer::Label)?.split(config, seed);
        labels::check_known(&split.train.records, labels)?;
        labels::check_known(&split.test, labels)?;
        Ok(Self::limited(config, seed, split, labels.to_vec()))
    }

    /// The labels of a configuration's training rows, in the order of their numbers; nothing is held out.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood.
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        let all = DataConfig { test_fraction: None, ..config.clone() };
        // Without a fraction to hold out, the seed decides nothing.
        let split = read(&all, Answer::Label)?.split(&all, Seed(0));
        Ok(labels::names(&[split.train.records, split.test].concat()))
    }

    /// The number of every training row's label.
    ///
    /// # Errors
    ///
    /// None: every row's label is among the label names.
    pub fn train_labels(&self) -> Result<Vec<u32>, DataError> {
        labels::numbers(&self.train, &self.label_names)
    }

    /// The training and the test dataset in a model's tokens, each text cut to `max_length` tokens.
    ///
    /// Both number labels and groups alike. Texts are encoded in parallel; the result does not depend on threads.
    ///
    /// # Errors
    ///
    /// Where the tokenizer refuses a text.
    pub fn tokenize(&self, tokenizer: &TextTokenizer, max_length: usize) -> Result<(Dataset, Dataset), LearnerError> {
        let groups = self.group_names();
        let tokenizer = &tokenizer.clone().truncated(max_length)?;
        let dataset = |rows: &[Record]| -> Result<Dataset, LearnerError> {
            let sequences: Vec<Tokens> = rows.par_iter().map(|row| encode(tokenizer, row)).collect::<Result<_, _>>()?;
            let labels = labels::numbers(rows, &self.label_names)?;
            Ok(Self::owned(rows, &groups, Dataset::tokens(&sequences, labels, self.label_names.clone())?)?)
        };
        Ok((dataset(&self.train)?, dataset(&self.test)?))
    }
}

fn encode(tokenizer: &TextTokenizer, row: &Record) -> Result<Tokens, LearnerError> {
    match &row.pair {
        Some(pair) => tokenizer.encode_pair(&row.text, pair),
        None => tokenizer.encode(&row.text),
    }
}
