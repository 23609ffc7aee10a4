//! Examples of causal language models.

use fedlora_adapter::Seed;
use rayon::prelude::*;

use super::{LoadedPassages, Numbered, Read, texts::read};
use crate::data::columns::Answer;
use crate::data::passage::{Cutter, Passage, Sequence};
use crate::data::{DataConfig, DataError, Dataset, Record};
use crate::{LearnerError, TextTokenizer};

impl LoadedPassages {
    /// Reads what `config` names, in a model's tokens. The seed decides which examples `test-fraction` holds out and which
    /// a limit keeps: rows of prompts and responses, or windows of running text.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood, on data of which no row fits into `max-length` tokens, and on
    /// configurations that leave no test rows.
    pub fn load(config: &DataConfig, tokenizer: &TextTokenizer, seed: Seed) -> Result<Self, LearnerError> {
        let loaded = Self::load_site(config, tokenizer, seed)?;
        if loaded.test.is_empty() {
            return Err(DataError::NoTest { path: config.path.clone() }.into());
        }
        Ok(loaded)
    }

    /// As [`Self::load`] for one site of a federation, where there may be nothing to test on.
    ///
    /// With the same seed, `test-fraction` holds out exactly what it holds out of this file or group where all sites'
    /// files are read at once. The limits `max-rows` and `max-test-rows` are the site's own.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_site(config: &DataConfig, tokenizer: &TextTokenizer, seed: Seed) -> Result<Self, LearnerError> {
        let read = read(config, Answer::Response)?;
        let rows = read.train.rows.len();
        let read = tokenize(read, &Cutter::new(tokenizer, config)?)?;
        if read.train.rows.is_empty() {
            return Err(DataError::NoRoom { path: config.path.clone(), rows }.into());
        }
        Ok(Self::limited(config, seed, read.split(config, seed), Vec::new()))
    }

    /// Rows whose prompt leaves no room for a response, of those to train on and of those to test on.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The training and the test dataset; both number groups alike.
    ///
    /// # Errors
    ///
    /// None: every example has tokens that are given and tokens that are predicted.
    pub fn datasets(&self) -> Result<(Dataset, Dataset), DataError> {
        let groups = self.group_names();
        let dataset = |rows: &[Passage]| -> Result<Dataset, DataError> {
            let sequences: Vec<Sequence> = rows.iter().map(|row| row.sequence.clone()).collect();
            let questions = rows.iter().map(|row| row.question.clone()).collect();
            Self::owned(rows, &groups, Dataset::causal(&sequences)?.with_questions(questions)?)
        };
        Ok((dataset(&self.train)?, dataset(&self.test)?))
    }
}

/// Rows in a model's tokens, in parallel; the result does not depend on threads.
fn tokenize(read: Read<Record>, cutter: &Cutter<'_>) -> Result<Read<Passage>, LearnerError> {
    let passages = |rows: &[Record]| -> Result<Vec<Vec<Passage>>, LearnerError> {
        rows.par_iter().map(|row| cutter.passages(row)).collect()
    };
    let (train, test) = (passages(&read.train.rows)?, passages(read.test.as_deref().unwrap_or_default())?);
    let left_out = train.iter().chain(&test).filter(|passages| passages.is_empty()).count();
    let files = train.iter().zip(&read.train.files).flat_map(|(own, &file)| std::iter::repeat_n(file, own.len()));
    let files = files.collect();
    let train = Numbered { rows: train.into_iter().flatten().collect(), files };
    let test = read.test.map(|_| test.into_iter().flatten().collect());
    Ok(Read { train, test, file_names: read.file_names, left_out })
}
