//! Everything a configuration names, read and split.

mod images;
mod labelled;
mod passages;
mod texts;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use fedlora_adapter::{Purpose, Seed};

use super::{
    DataConfig, DataError, Dataset, Groups, LabelledImage, Passage, Record, Row, files::Files, hold_out_by_group,
    labels, thin,
};

/// Labelled texts for training and testing, before any model's tokenizer has seen them. Every row's label is among the
/// label names.
pub type LoadedText = Loaded<Record>;

/// Examples of a causal language model for training and testing, in its tokens.
pub type LoadedPassages = Loaded<Passage>;

/// Labelled images for training and testing, before any model's image processor has seen them. Every row's label is
/// among the label names.
pub type LoadedImages = Loaded<LabelledImage>;

/// Rows for training and testing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<R> {
    train: Vec<R>,
    test: Vec<R>,
    label_names: Vec<String>,
    clients: Option<Files>,
    left_out: usize,
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
        self.clients.as_ref().map(Files::rows)
    }

    /// Names of [`Self::clients`], after their files.
    #[must_use]
    pub fn client_names(&self) -> Option<&[String]> {
        self.clients.as_ref().map(Files::names)
    }

    /// The files that the rows come from.
    #[must_use]
    pub fn files(&self) -> BTreeSet<Arc<Path>> {
        self.train.iter().chain(&self.test).map(|row| Arc::clone(&row.origin().file)).collect()
    }

    /// The natural clients: those of the training rows, in the order of labels, then any that only test rows have.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        let of = |rows: &[R]| labels::ordered(rows.iter().filter_map(Row::group));
        let mut names = of(&self.train);
        let only_tested: Vec<String> = of(&self.test).into_iter().filter(|name| !names.contains(name)).collect();
        names.extend(only_tested);
        names
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
        let kept = thin(positions(&train.rows), config.max_rows, &mut rng);
        let tested = thin(positions(&test), config.max_test_rows, &mut rng);
        let clients = (file_names.len() > 1).then(|| Files::new(file_names, &take(&train.files, &kept)));
        Self { train: take(&train.rows, &kept), test: take(&test, &tested), label_names, clients, left_out }
    }
}

/// Rows with the number of the file each came from.
struct Numbered<R> {
    rows: Vec<R>,
    files: Vec<u32>,
}

impl<R: Row> Numbered<R> {
    /// The rows of files, one file after the other. Where there are several, those that belong to no natural client yet
    /// belong to their file's.
    fn of(
        files: &[PathBuf],
        names: &[String],
        read: impl Fn(&Path) -> Result<Vec<R>, DataError>,
    ) -> Result<Self, DataError> {
        let several = files.len() > 1;
        let mut all = Self { rows: Vec::new(), files: Vec::new() };
        for ((file, name), number) in files.iter().zip(names).zip(0..) {
            let mut rows = read(file)?;
            for row in rows.iter_mut().filter(|_| several) {
                row.origin_mut().group.get_or_insert_with(|| name.clone());
            }
            all.files.extend(rows.iter().map(|_| number));
            all.rows.append(&mut rows);
        }
        Ok(all)
    }
}

/// Rows as the files have them, with the names of the training files.
struct Read<R> {
    train: Numbered<R>,
    test: Option<Vec<R>>,
    file_names: Vec<String>,
    /// Rows that became none.
    left_out: usize,
}

/// Rows to train on and to test on, all of them.
struct Split<R> {
    train: Numbered<R>,
    test: Vec<R>,
    file_names: Vec<String>,
    left_out: usize,
}

impl<R: Row> Read<R> {
    /// Holds out the share that the configuration asks for, else takes the test rows that there are.
    fn split(self, config: &DataConfig, seed: Seed) -> Split<R> {
        let (train, test) = match (self.test, config.test_fraction) {
            (_, Some(fraction)) => hold_out(&self.train, &self.file_names, fraction, seed),
            (test, None) => (self.train, test.unwrap_or_default()),
        };
        Split { train, test, file_names: self.file_names, left_out: self.left_out }
    }
}

/// Holds rows out by group and label, so that every client and label is tested.
fn hold_out<R: Row>(all: &Numbered<R>, names: &[String], fraction: f64, seed: Seed) -> (Numbered<R>, Vec<R>) {
    // Rows without a group belong to their file, which is the group where several files are read.
    let of_file = |row: usize| all.files.get(row).and_then(|file| names.get(*file as usize));
    let group = |row: u32| {
        let own = all.rows.get(row as usize).and_then(Row::group);
        Cow::Borrowed(own.or_else(|| of_file(row as usize).map(String::as_str)).unwrap_or_default())
    };
    let label = |row: u32| all.rows.get(row as usize).map(Row::label);
    let holdout = hold_out_by_group(&positions(&all.rows), group, label, fraction, seed);
    let files = take(&all.files, &holdout.train);
    (Numbered { rows: take(&all.rows, &holdout.train), files }, take(&all.rows, &holdout.test))
}

fn positions<T>(items: &[T]) -> Vec<u32> {
    (0..items.len() as u32).collect()
}

fn take<T: Clone>(items: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().filter_map(|row| items.get(*row as usize).cloned()).collect()
}
