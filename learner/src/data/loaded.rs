//! Everything a configuration names, read and split.

mod labelled;
mod passages;

use std::{borrow::Cow, collections::BTreeSet, path::Path, sync::Arc};

use fedlora_adapter::{Purpose, Seed};

use super::columns::Answer;
use super::layout::{self, Layout};
use super::{DataConfig, DataError, Dataset, Format, Groups, Passage, Record, clinc, hold_out_by_group, thin};

/// Labelled texts for training and testing, before any model's tokenizer has seen them. Every row's label is among the
/// label names.
pub type LoadedText = Loaded<Record>;

/// Examples of a causal language model for training and testing, in its tokens.
pub type LoadedPassages = Loaded<Passage>;

/// Rows for training and testing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<R> {
    train: Vec<R>,
    test: Vec<R>,
    label_names: Vec<String>,
    files: Option<Files>,
    left_out: usize,
}

/// Training files as clients.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    names: Vec<String>,
    rows: Vec<Vec<u32>>,
}

/// What splitting asks of a row.
pub trait Row: Clone {
    /// The natural client that it belongs to.
    fn group(&self) -> Option<&str>;
    /// The user whom it is about.
    fn user(&self) -> Option<&str>;
    /// The label that train and test rows are to have alike; empty for rows without labels.
    fn label(&self) -> &str;
    /// The file that it was read from.
    fn file(&self) -> &Arc<Path>;
}

impl Row for Record {
    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn file(&self) -> &Arc<Path> {
        &self.file
    }
}

impl Row for Passage {
    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn label(&self) -> &'static str {
        ""
    }

    fn file(&self) -> &Arc<Path> {
        &self.file
    }
}

impl<R: Row> Loaded<R> {
    /// Rows to train on.
    #[must_use]
    pub fn train(&self) -> &[R] {
        &self.train
    }

    /// Rows to test on.
    #[must_use]
    pub fn test(&self) -> &[R] {
        &self.test
    }

    /// Names of the labels, in the order of their numbers; none for rows without labels.
    #[must_use]
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// Where the training data are several files: each file's rows, as positions in [`Self::train`].
    #[must_use]
    pub fn clients(&self) -> Option<&[Vec<u32>]> {
        self.files.as_ref().map(|files| files.rows.as_slice())
    }

    /// Names of [`Self::clients`], after their files.
    #[must_use]
    pub fn client_names(&self) -> Option<&[String]> {
        self.files.as_ref().map(|files| files.names.as_slice())
    }

    /// The natural clients: those of the training rows in order of their bytes, then any that only test rows have.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        let distinct =
            |rows: &[R]| rows.iter().filter_map(|row| row.group().map(str::to_owned)).collect::<BTreeSet<_>>();
        let (train, test) = (distinct(&self.train), distinct(&self.test));
        let only_tested: Vec<String> = test.difference(&train).cloned().collect();
        train.into_iter().chain(only_tested).collect()
    }

    /// Says whose the examples made of some rows are: natural clients numbered by `groups`, users by themselves.
    fn owned(rows: &[R], groups: &[String], dataset: Dataset) -> Result<Dataset, DataError> {
        let dataset = match Groups::of(rows.iter().map(Row::group), groups) {
            Some(groups) => dataset.with_groups(groups)?,
            None => dataset,
        };
        let users: BTreeSet<&str> = rows.iter().filter_map(Row::user).collect();
        let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
        match Groups::of(rows.iter().map(Row::user), &users).filter(|_| !rows.is_empty()) {
            Some(users) => dataset.with_users(users),
            None => Ok(dataset),
        }
    }

    /// What the limits leave of rows that are split already.
    fn limited(config: &DataConfig, seed: Seed, split: Split<R>, label_names: Vec<String>) -> Self {
        let mut rng = seed.run(Purpose::Data);
        let Split { train, test, file_names, left_out } = split;
        let kept = thin(positions(&train.records), config.max_rows, &mut rng);
        let tested = thin(positions(&test), config.max_test_rows, &mut rng);
        let files = (file_names.len() > 1).then(|| by_file(&train, &kept, file_names));
        Self { train: take(&train.records, &kept), test: take(&test, &tested), label_names, files, left_out }
    }
}

/// Rows with the number of the file each came from.
struct Rows<R> {
    records: Vec<R>,
    files: Vec<u32>,
}

/// Rows as the files have them, with the names of the training files.
struct Read<R> {
    train: Rows<R>,
    test: Option<Vec<R>>,
    file_names: Vec<String>,
    /// Rows that became none.
    left_out: usize,
}

/// Rows to train on and to test on, all of them.
struct Split<R> {
    train: Rows<R>,
    test: Vec<R>,
    file_names: Vec<String>,
    left_out: usize,
}

impl<R: Row> Read<R> {
    /// Holds out the share that the configuration asks for, else takes the test rows that there are.
    fn split(self, config: &DataConfig, seed: Seed) -> Split<R> {
        let (train, test) = match (self.test, config.test_fraction) {
            (_, Some(fraction)) => hold_out(&self.train, fraction, seed),
            (test, None) => (self.train, test.unwrap_or_default()),
        };
        Split { train, test, file_names: self.file_names, left_out: self.left_out }
    }
}

/// Rows of a configuration's files.
fn read(config: &DataConfig, answer: Answer) -> Result<Read<Record>, DataError> {
    config.check(answer)?;
    match layout::format(&config.path, config, answer)? {
        Format::Clinc150 => read_clinc(config),
        format => read_files(format, config, answer),
    }
}

fn read_clinc(config: &DataConfig) -> Result<Read<Record>, DataError> {
    let (records, test) = clinc::read(&config.path, config.include_oos)?;
    let test = match layout::test_path(config) {
        Some(path) => clinc::read(&path, config.include_oos)?.1,
        None => test,
    };
    let files = vec![0; records.len()];
    Ok(Read { train: Rows { records, files }, test: Some(test), file_names: Vec::new(), left_out: 0 })
}

fn read_files(format: Format, config: &DataConfig, answer: Answer) -> Result<Read<Record>, DataError> {
    let layout = Layout::find(format, config, answer)?;
    let several = layout.train.len() > 1;
    let mut train = Rows { records: Vec::new(), files: Vec::new() };
    for (file, number) in layout.train.iter().zip(0..) {
        let mut records = layout.read_train(file, config)?;
        if several {
            let name = layout::source_name(file);
            for record in &mut records {
                record.group.get_or_insert_with(|| name.clone());
            }
        }
        train.files.extend(records.iter().map(|_| number));
        train.records.append(&mut records);
    }
    let test = layout.test.as_ref().map(|file| layout.read_test(file, config)).transpose()?;
    let file_names = layout.train.iter().map(|file| layout::source_name(file)).collect();
    Ok(Read { train, test, file_names, left_out: 0 })
}

/// Holds rows out by group and label, so that every client and label is tested.
fn hold_out<R: Row>(rows: &Rows<R>, fraction: f64, seed: Seed) -> (Rows<R>, Vec<R>) {
    // Rows without a group belong to their file, which is the group where several files are read.
    let group = |row: u32| {
        let record = rows.records.get(row as usize);
        record.map_or(Cow::Borrowed(""), |record| match record.group() {
            Some(group) => Cow::Borrowed(group),
            None => Cow::Owned(layout::source_name(record.file())),
        })
    };
    let label = |row: u32| rows.records.get(row as usize).map(Row::label);
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

/// Positions among the kept rows, by file.
fn by_file<R>(rows: &Rows<R>, kept: &[u32], names: Vec<String>) -> Files {
    let mut held = vec![Vec::new(); names.len()];
    for (file, position) in take(&rows.files, kept).into_iter().zip(0..) {
        held[file as usize].push(position);
    }
    Files { names, rows: held }
}
