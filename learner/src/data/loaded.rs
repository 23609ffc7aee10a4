//! Everything a configuration names, read and split, before any model's tokenizer has seen it.

use std::{borrow::Cow, collections::BTreeSet};

use fedlora_adapter::{Purpose, Seed};
use rayon::prelude::*;

use super::files::Files;
use super::layout::{self, Layout};
use super::{DataConfig, DataError, Dataset, Format, Groups, Record, clinc, hold_out_by_group, labels, thin};
use crate::{LearnerError, TextTokenizer, Tokens};

/// Labelled texts for training and testing. Every row's label is among the label names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedText {
    train: Vec<Record>,
    test: Vec<Record>,
    label_names: Vec<String>,
    files: Option<Files>,
}

/// Rows with the number of the file each came from.
struct Rows {
    records: Vec<Record>,
    files: Vec<u32>,
}

impl LoadedText {
    /// Reads what `config` names. The seed decides which rows `test-fraction` holds out and which rows a limit keeps.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood, on a test label that training lacks, and on configurations that leave
    /// no test rows; see [`DataError`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        let (train, test, file_names) = read_all(config, seed)?;
        if test.is_empty() {
            return Err(DataError::NoTest { path: config.path.clone() });
        }
        // Before any limit, so that a sample without some label still has the data's labels.
        let label_names = labels::names(&train.records);
        if let [label] = label_names.as_slice() {
            return Err(DataError::OneLabel { path: config.path.clone(), label: label.clone() });
        }
        labels::numbers(&test, &label_names)?;
        Ok(Self::limited(config, seed, &train, &test, label_names, file_names))
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
        let (train, test, file_names) = read_all(config, seed)?;
        labels::check_known(&train.records, labels)?;
        labels::check_known(&test, labels)?;
        Ok(Self::limited(config, seed, &train, &test, labels.to_vec(), file_names))
    }

    fn limited(
        config: &DataConfig,
        seed: Seed,
        train: &Rows,
        test: &[Record],
        label_names: Vec<String>,
        file_names: Vec<String>,
    ) -> Self {
        let mut rng = seed.run(Purpose::Data);
        let kept = thin(positions(&train.records), config.max_rows, &mut rng);
        let tested = thin(positions(test), config.max_test_rows, &mut rng);
        let files = (file_names.len() > 1).then(|| Files::new(file_names, &take(&train.files, &kept)));
        Self { train: take(&train.records, &kept), test: take(test, &tested), label_names, files }
    }

    /// The labels of a configuration's training rows, in the order of their numbers; nothing is held out.
    ///
    /// # Errors
    ///
    /// On the first row that cannot be understood.
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        let all = DataConfig { test_fraction: None, ..config.clone() };
        // Without a fraction to hold out, the seed decides nothing.
        let (train, test, _) = read_all(&all, Seed(0))?;
        Ok(labels::names(&[train.records, test].concat()))
    }

    /// The number of every training row's label.
    ///
    /// # Errors
    ///
    /// None: every row's label is among the label names.
    pub fn train_labels(&self) -> Result<Vec<u32>, DataError> {
        labels::numbers(&self.train, &self.label_names)
    }

    /// Rows to train on.
    #[must_use]
    pub fn train(&self) -> &[Record] {
        &self.train
    }

    /// Rows to test on.
    #[must_use]
    pub fn test(&self) -> &[Record] {
        &self.test
    }

    /// Names of the labels, in the order of their numbers.
    #[must_use]
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Where the training data are several files: each file's rows, as positions in [`Self::train`].
    #[must_use]
    pub fn clients(&self) -> Option<&[Vec<u32>]> {
        self.files.as_ref().map(Files::rows)
    }

    /// Names of [`Self::clients`], after their files.
    #[must_use]
    pub fn client_names(&self) -> Option<&[String]> {
        self.files.as_ref().map(Files::names)
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
            let dataset = Dataset::tokens(&sequences, labels, self.label_names.clone())?;
            Ok(match Groups::of(rows.iter().map(|row| row.group.as_deref()), &groups) {
                Some(groups) => dataset.with_groups(groups)?,
                None => dataset,
            })
        };
        Ok((dataset(&self.train)?, dataset(&self.test)?))
    }

    /// The natural clients: those of the training rows in order of their bytes, then any that only test rows have.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        let distinct = |rows: &[Record]| rows.iter().filter_map(|row| row.group.clone()).collect::<BTreeSet<_>>();
        let (train, test) = (distinct(&self.train), distinct(&self.test));
        let only_tested: Vec<String> = test.difference(&train).cloned().collect();
        train.into_iter().chain(only_tested).collect()
    }
}

type Read = (Rows, Option<Vec<Record>>, Vec<String>);

/// Rows to train on and to test on, split but not limited, and the names of the training files.
fn read_all(config: &DataConfig, seed: Seed) -> Result<(Rows, Vec<Record>, Vec<String>), DataError> {
    config.check()?;
    let format = layout::format(&config.path, config)?;
    let (train, test, file_names) = match format {
        Format::Clinc150 => read_clinc(config)?,
        _ => read_files(format, config)?,
    };
    let (train, test) = match (test, config.test_fraction) {
        (_, Some(fraction)) => split(&train, fraction, seed),
        (test, None) => (train, test.unwrap_or_default()),
    };
    Ok((train, test, file_names))
}

fn read_clinc(config: &DataConfig) -> Result<Read, DataError> {
    let (train, test) = clinc::read(&config.path, config.include_oos)?;
    let test = match layout::test_path(config) {
        Some(path) => clinc::read(&path, config.include_oos)?.1,
        None => test,
    };
    let files = vec![0; train.len()];
    Ok((Rows { records: train, files }, Some(test), Vec::new()))
}

fn read_files(format: Format, config: &DataConfig) -> Result<Read, DataError> {
    let layout = Layout::find(format, config)?;
    let several = layout.train.len() > 1;
    let mut train = Rows { records: Vec::new(), files: Vec::new() };
    for (file, number) in layout.train.iter().zip(0..) {
        let mut records = layout.read_train(file, config)?;
        if several && config.group_column.is_none() {
            let name = layout::source_name(file);
            for record in &mut records {
                record.group = Some(name.clone());
            }
        }
        train.files.extend(records.iter().map(|_| number));
        train.records.append(&mut records);
    }
    let test = layout.test.as_ref().map(|file| layout.read_test(file, config)).transpose()?;
    let names = layout.train.iter().map(|file| layout::source_name(file)).collect();
    Ok((train, test, names))
}

/// Holds rows out by group and label, so that every client and label is tested.
fn split(rows: &Rows, fraction: f64, seed: Seed) -> (Rows, Vec<Record>) {
    // Rows without a group belong to their file, which is the group where several files are read.
    let group = |row: u32| {
        let record = rows.records.get(row as usize);
        record.map_or(Cow::Borrowed(""), |record| match &record.group {
            Some(group) => Cow::Borrowed(group.as_str()),
            None => Cow::Owned(layout::source_name(&record.file)),
        })
    };
    let label = |row: u32| rows.records.get(row as usize).map(|record| record.label.as_str());
    let holdout = hold_out_by_group(&positions(&rows.records), group, label, fraction, seed);
    let files = take(&rows.files, &holdout.train);
    (Rows { records: take(&rows.records, &holdout.train), files }, take(&rows.records, &holdout.test))
}

fn positions<T>(items: &[T]) -> Vec<u32> {
    (0..items.len() as u32).collect()
}

fn take<T: Clone>(items: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().filter_map(|row| items.get(*row as usize).cloned()).collect()
}

fn encode(tokenizer: &TextTokenizer, row: &Record) -> Result<Tokens, LearnerError> {
    match &row.pair {
        Some(pair) => tokenizer.encode_pair(&row.text, pair),
        None => tokenizer.encode(&row.text),
    }
}
