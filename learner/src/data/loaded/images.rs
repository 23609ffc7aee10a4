//! Rows of images, and from there to a model's pixels.

use fedlora_adapter::Seed;
use rayon::prelude::*;

use super::{LoadedImages, Numbered, Read};
use crate::data::{
    DataConfig, DataError, Dataset, LabelledImage,
    columns::Answer,
    images::{Sources, source_name},
    labels,
};
use crate::{LearnerError, images::ImageProcessor};

impl LoadedImages {
    /// Reads what `config` names. The seed decides which rows `test-fraction` holds out and which rows a limit keeps.
    ///
    /// # Errors
    ///
    /// On the first file or row that cannot be understood, on a test label that training lacks, and on configurations
    /// that leave no test rows; see [`DataError`]. Files of an image folder are opened later, by
    /// [`LoadedImages::pixels`].
    pub fn load(config: &DataConfig, seed: Seed) -> Result<Self, DataError> {
        Self::labelled(config, seed, read(config)?)
    }

    /// As [`Self::load`] for one site of a federation: the federation's labels decide the numbers, and there may be
    /// nothing to test on.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; [`DataError::UnknownLabel`] for a row whose label the federation does not have.
    pub fn load_site(config: &DataConfig, seed: Seed, labels: &[String]) -> Result<Self, DataError> {
        Self::labelled_as(labels, config, seed, read(config)?)
    }

    /// The labels of a configuration's rows, in the order of their numbers; nothing is held out.
    ///
    /// # Errors
    ///
    /// On the first file or row that cannot be understood.
    pub fn labels_of(config: &DataConfig) -> Result<Vec<String>, DataError> {
        Ok(read(&DataConfig { test_fraction: None, ..config.clone() })?.label_names())
    }

    /// The training and the test dataset in a model's pixels; both number labels and groups alike. Pictures are prepared
    /// in parallel; the result does not depend on threads.
    ///
    /// # Errors
    ///
    /// A file that is no image; an image of a size that the processor cannot use.
    pub fn pixels(&self, processor: &ImageProcessor) -> Result<(Dataset, Dataset), LearnerError> {
        let groups = self.group_names();
        let dataset = |rows: &[LabelledImage]| -> Result<Dataset, LearnerError> {
            let image = |row: &LabelledImage| processor.pixels(&row.image()?, &row.origin.file);
            let levels: Vec<Vec<u8>> = rows.par_iter().map(image).collect::<Result<_, DataError>>()?;
            let labels = labels::numbers(rows, &self.label_names)?;
            let dataset = Dataset::levels(levels, processor.levels().to_vec(), labels, self.label_names.clone())?;
            Ok(Self::owned(rows, &groups, dataset)?)
        };
        Ok((dataset(&self.train)?, dataset(&self.test)?))
    }
}

/// Images of a configuration's files and folders.
fn read(config: &DataConfig) -> Result<Read<LabelledImage>, DataError> {
    config.check(Answer::Label)?;
    let sources = Sources::find(config)?;
    let file_names: Vec<String> = sources.train.iter().map(|file| source_name(file)).collect();
    let train = Numbered::of(&sources.train, &file_names, |file| sources.read_train(file, config))?;
    let test = sources.read_test(config)?;
    Ok(Read { train, test, file_names, left_out: 0 })
}
