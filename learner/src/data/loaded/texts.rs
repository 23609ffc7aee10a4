//! Rows of text, and labelled ones in a model's tokens.

use fedlora_adapter::Seed;
use rayon::prelude::*;

use super::{LoadedText, Numbered, Read};
use crate::data::columns::Answer;
use crate::data::layout::{self, Layout};
use crate::data::{DataConfig, DataError, Dataset, Format, Record, clinc, labels};
use crate::{LearnerError, TextTokenizer, Tokens};

impl LoadedText {
    /// Reads what `config` names. The seed decides which rows `test-fraction` holds out and which rows a limit keeps.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood, on a test label that training lacks, and on configurations that leave
    /// no test rows; see [`DataError`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        Self::labelled(config, seed, read(config, Answer::Label)?)
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
        Self::labelled_as(labels, config, seed, read(config, Answer::Label)?)
    }

    /// The labels of a configuration's rows, in the order of their numbers; nothing is held out.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood.
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        let all = DataConfig { test_fraction: None, ..config.clone() };
        Ok(read(&all, Answer::Label)?.label_names())
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

/// Rows of a configuration's files.
pub(super) fn read(config: &DataConfig, answer: Answer) -> Result<Read<Record>, DataError> {
    config.check(answer)?;
    match layout::format(&config.path, config, answer)? {
        Format::Clinc150 => read_clinc(config),
        format => read_files(format, config, answer),
    }
}

fn read_clinc(config: &DataConfig) -> Result<Read<Record>, DataError> {
    let (rows, test) = clinc::read(&config.path, config.include_oos)?;
    let test = match layout::test_path(config) {
        Some(path) => clinc::read(&path, config.include_oos)?.1,
        None => test,
    };
    let file_names = rows.iter().take(1).map(|row| layout::source_name(&row.origin.file)).collect();
    let files = vec![0; rows.len()];
    Ok(Read { train: Numbered { rows, files }, test: Some(test), file_names, left_out: 0 })
}

fn read_files(format: Format, config: &DataConfig, answer: Answer) -> Result<Read<Record>, DataError> {
    let layout = Layout::find(format, config, answer)?;
    let file_names: Vec<String> = layout.train.iter().map(|file| layout::source_name(file)).collect();
    let train = Numbered::of(&layout.train, &file_names, |file| layout.read_train(file, config))?;
    let test = layout.test.as_ref().map(|file| layout.read_test(file, config)).transpose()?;
    Ok(Read { train, test, file_names, left_out: 0 })
}
