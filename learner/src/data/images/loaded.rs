//! Everything that a configuration names, read and split, before any model's image processor has seen it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use fedlora_adapter::{Purpose, Seed};
use rayon::prelude::*;

use super::{
    LabelledImage,
    source::{Sources, source_name},
};
use crate::{
    LearnerError,
    data::{DataConfig, DataError, Dataset, Groups, files::Files, hold_out_by_group, labels, thin},
    images::ImageProcessor,
};

/// Labelled images for training and testing. Every row's label is among the label names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImages {
    train: Vec<LabelledImage>,
    test: Vec<LabelledImage>,
    label_names: Vec<String>,
    files: Option<Files>,
}

/// Images to train on with the number of the file each came from, images to test on, names of the training files.
struct Read {
    train: Vec<(LabelledImage, u32)>,
    test: Vec<LabelledImage>,
    names: Vec<String>,
}

impl LoadedImages {
    /// Reads what `config` names. The seed decides which rows `test-fraction` holds out and which rows a limit keeps.
    ///
    /// # Errors
    /// On the first file or row that cannot be understood, on a test label that training lacks, and on configurations
    /// that leave no test rows; see [`DataError`]. Files of an image folder are opened later, by
    /// [`LoadedImages::pixels`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        let read = read_all(config, seed)?;
        if read.test.is_empty() {
            return Err(DataError::NoTest { path: config.path.clone() });
        }
        let label_names = labels::ordered(read.train.iter().map(|(image, _)| image.label.as_str()));
        if let [label] = label_names.as_slice() {
            return Err(DataError::OneLabel { path: config.path.clone(), label: label.clone() });
        }
        check(&read.test, &label_names, |image| DataError::UnseenLabel {
            file: image.file.to_path_buf(),
            line: image.row,
            label: image.label.clone(),
        })?;
        Ok(Self::limited(config, seed, read, label_names))
    }

    /// As [`Self::load`] for one site of a federation: the federation's labels decide the numbers, and there may be
    /// nothing to test on.
    ///
    /// # Errors
    /// As [`Self::load`]; [`DataError::UnknownLabel`] for a row whose label the federation does not have.
    pub fn load_site(config: &DataConfig, seed: Seed, names: &[String]) -> Result<Self, DataError> {
        let read = read_all(config, seed)?;
        check(read.train.iter().map(|(image, _)| image).chain(&read.test), names, |image| DataError::UnknownLabel {
            file: image.file.to_path_buf(),
            line: image.row,
            label: image.label.clone(),
            known: names.to_vec(),
        })?;
        Ok(Self::limited(config, seed, read, names.to_vec()))
    }

    fn limited(config: &DataConfig, seed: Seed, read: Read, label_names: Vec<String>) -> Self {
        let Read { train, test, names } = read;
        let mut rng = seed.run(Purpose::Data);
        let kept = thin((0..train.len() as u32).collect(), config.max_rows, &mut rng);
        let tested = thin((0..test.len() as u32).collect(), config.max_test_rows, &mut rng);
        let (train, numbers): (Vec<_>, Vec<_>) = take(&train, &kept).into_iter().unzip();
        let files = (names.len() > 1).then(|| Files::new(names, &numbers));
        Self { train, test: take(&test, &tested), label_names, files }
    }

    /// The labels of a configuration's rows, in the order of their numbers; nothing is held out.
    ///
    /// # Errors
    /// On the first file or row that cannot be understood.
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        let all = DataConfig { test_fraction: None, ..config.clone() };
        // Without a fraction to hold out, the seed decides nothing.
        let read = read_all(&all, Seed(0))?;
        let images = read.train.iter().map(|(image, _)| image).chain(&read.test);
        Ok(labels::ordered(images.map(|image| image.label.as_str())))
    }

    /// The number of every training row's label.
    #[must_use]
    pub fn train_labels(&self) -> Vec<u32> {
        self.numbers(&self.train)
    }

    /// Rows to train on.
    #[must_use]
    pub fn train(&self) -> &[LabelledImage] {
        &self.train
    }

    /// Rows to test on.
    #[must_use]
    pub fn test(&self) -> &[LabelledImage] {
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

    /// The files that the rows come from.
    #[must_use]
    pub fn files(&self) -> BTreeSet<Arc<Path>> {
        self.train.iter().chain(&self.test).map(|image| Arc::clone(&image.file)).collect()
    }

    /// The training and the test dataset in a model's pixels; both number labels and groups alike.
    ///
    /// # Errors
    /// A file that is no image; an image of a size that the processor cannot use.
    pub fn pixels(&self, processor: &ImageProcessor) -> Result<(Dataset, Dataset), LearnerError> {
        let groups = self.group_names();
        let dataset = |rows: &[LabelledImage]| -> Result<Dataset, LearnerError> {
            let image = |row: &LabelledImage| processor.pixels(&row.image()?, &row.file);
            let levels: Vec<Vec<u8>> = rows.par_iter().map(image).collect::<Result<_, DataError>>()?;
            let (labels, names) = (self.numbers(rows), self.label_names.clone());
            let dataset = Dataset::levels(levels, processor.levels().to_vec(), labels, names)?;
            Ok(match Groups::of(rows.iter().map(|row| row.group.as_deref()), &groups) {
                Some(groups) => dataset.with_groups(groups)?,
                None => dataset,
            })
        };
        Ok((dataset(&self.train)?, dataset(&self.test)?))
    }

    /// The natural clients: those of the training rows, by number or by their bytes, then any that only test rows have.
    fn group_names(&self) -> Vec<String> {
        let of = |rows: &[LabelledImage]| labels::ordered(rows.iter().filter_map(|row| row.group.as_deref()));
        let mut names = of(&self.train);
        let only_tested: Vec<String> = of(&self.test).into_iter().filter(|name| !names.contains(name)).collect();
        names.extend(only_tested);
        names
    }

    /// Labels by number; each is among the names.
    fn numbers(&self, rows: &[LabelledImage]) -> Vec<u32> {
        let by_name: BTreeMap<&str, u32> = self.label_names.iter().map(String::as_str).zip(0..).collect();
        rows.iter().filter_map(|row| by_name.get(row.label.as_str()).copied()).collect()
    }
}

fn read_all(config: &DataConfig, seed: Seed) -> Result<Read, DataError> {
    config.check()?;
    let sources = Sources::find(config)?;
    let several = sources.train.len() > 1;
    let mut train = Vec::new();
    for (file, number) in sources.train.iter().zip(0..) {
        for mut image in sources.read_train(file, config)? {
            if several && config.group_column.is_none() {
                image.group = Some(source_name(file));
            }
            train.push((image, number));
        }
    }
    let test = sources.read_test(config)?.unwrap_or_default();
    let names = sources.train.iter().map(|file| source_name(file)).collect();
    let (train, test) = match config.test_fraction {
        Some(fraction) => split(&train, fraction, seed, &sources),
        None => (train, test),
    };
    Ok(Read { train, test, names })
}

type Numbered = Vec<(LabelledImage, u32)>;

/// Holds rows out by group and label, so that every client and label is tested.
fn split(
    rows: &[(LabelledImage, u32)],
    fraction: f64,
    seed: Seed,
    sources: &Sources,
) -> (Numbered, Vec<LabelledImage>) {
    let row = |row: u32| rows.get(row as usize);
    // Rows without a group belong to their source, which is the group where several are read.
    let group = |index: u32| match row(index) {
        Some((LabelledImage { group: Some(group), .. }, _)) => Cow::Borrowed(group.as_str()),
        Some((_, file)) => {
            Cow::Owned(sources.train.get(*file as usize).map(|file| source_name(file)).unwrap_or_default())
        }
        None => Cow::Borrowed(""),
    };
    let label = |index: u32| row(index).map(|(image, _)| image.label.as_str());
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let holdout = hold_out_by_group(&all, group, label, fraction, seed);
    let test = take(rows, &holdout.test).into_iter().map(|(image, _)| image).collect();
    (take(rows, &holdout.train), test)
}

/// Checks that every row's label has a name.
fn check<'a>(
    rows: impl IntoIterator<Item = &'a LabelledImage>,
    names: &[String],
    unknown: impl Fn(&LabelledImage) -> DataError,
) -> Result<(), DataError> {
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    match rows.into_iter().find(|row| !known.contains(row.label.as_str())) {
        Some(row) => Err(unknown(row)),
        None => Ok(()),
    }
}

fn take<T: Clone>(items: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().filter_map(|row| items.get(*row as usize).cloned()).collect()
}
